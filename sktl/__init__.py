"""Transfer learning for images as ordinary scikit-learn estimators."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from ._utils.locks import fork_safe_lock
from ._version import __version__ as __version__

# PyTorch and scikit-learn take seconds to import: each name is imported when it is first used.
_HOMES = {
    "_audit.audit_images": ("audit_images",),
    "_audit.audit_result": ("ImageAudit",),
    "_backbones.list_backbones": ("BackboneInfo", "list_backbones"),
    "_deployment.export": ("export",),
    "_deployment.export_report": ("ExportReport",),
    "_estimators.classifier": ("PretrainedImageClassifier",),
    "_estimators.encoder": ("PretrainedImageEncoder",),
    "_estimators.loading": ("load",),
    "_estimators.regressor": ("PretrainedImageRegressor",),
    "_features.checking_pass": ("check_images",),
    "_hub.sharing": ("load_from_hub", "push_to_hub", "save_to_folder"),
    "_images.problems": ("set_pixel_limit",),
    "_images.preprocessing": ("Preprocessing",),
    "_inspection.feature_map_display": ("FeatureMapDisplay",),
    "_inspection.predictions_display": ("PredictionsDisplay",),
    "_inspection.saliency_display": ("SaliencyDisplay",),
    "_inspection.training_curve_display": ("TrainingCurveDisplay",),
    "_reports.evaluation_report": ("EvaluationReport", "evaluation_report"),
    "_ranking.rank_backbones": ("rank_backbones",),
    "_ranking.ranking_table": ("BackboneRanking", "RankedBackbone"),
    "_storage.cache": ("CacheInfo", "cache_info", "clear_cache", "set_cache_limit"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("datasets", "exceptions", "runtime")

if TYPE_CHECKING:  # the same names, where type checkers and editors look for them
    from . import datasets as datasets
    from . import exceptions as exceptions
    from . import runtime as runtime
    from ._audit.audit_images import audit_images as audit_images
    from ._audit.audit_result import ImageAudit as ImageAudit
    from ._backbones.list_backbones import BackboneInfo as BackboneInfo
    from ._backbones.list_backbones import list_backbones as list_backbones
    from ._deployment.export import export as export
    from ._deployment.export_report import ExportReport as ExportReport
    from ._estimators.classifier import PretrainedImageClassifier as PretrainedImageClassifier
    from ._estimators.encoder import PretrainedImageEncoder as PretrainedImageEncoder
    from ._estimators.loading import load as load
    from ._estimators.regressor import PretrainedImageRegressor as PretrainedImageRegressor
    from ._features.checking_pass import check_images as check_images
    from ._hub.sharing import load_from_hub as load_from_hub
    from ._hub.sharing import push_to_hub as push_to_hub
    from ._hub.sharing import save_to_folder as save_to_folder
    from ._images.preprocessing import Preprocessing as Preprocessing
    from ._images.problems import set_pixel_limit as set_pixel_limit
    from ._inspection.feature_map_display import FeatureMapDisplay as FeatureMapDisplay
    from ._inspection.predictions_display import PredictionsDisplay as PredictionsDisplay
    from ._inspection.saliency_display import SaliencyDisplay as SaliencyDisplay
    from ._inspection.training_curve_display import TrainingCurveDisplay as TrainingCurveDisplay
    from ._ranking.rank_backbones import rank_backbones as rank_backbones
    from ._ranking.ranking_table import BackboneRanking as BackboneRanking
    from ._ranking.ranking_table import RankedBackbone as RankedBackbone
    from ._reports.evaluation_report import EvaluationReport as EvaluationReport
    from ._reports.evaluation_report import evaluation_report as evaluation_report
    from ._storage.cache import CacheInfo as CacheInfo
    from ._storage.cache import cache_info as cache_info
    from ._storage.cache import clear_cache as clear_cache
    from ._storage.cache import set_cache_limit as set_cache_limit
else:  # type checkers would take whatever __getattr__ is asked for, misspelled names too
    __all__ = sorted([*_HOME_OF, *_MODULES, "__version__"])

    # Modules of scikit-learn import each other in circles: threads that start at different ones would deadlock.
    _one_at_a_time = fork_safe_lock(threading.RLock)

    def __getattr__(name: str) -> Any:
        with _one_at_a_time:
            return _imported(name)

    def _imported(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _HOME_OF:
            module = sys.modules[__name__]
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=module)
        try:
            home = importlib.import_module(f"{__name__}.{_HOME_OF[name]}")
        except ModuleNotFoundError as error:
            from ._utils.optional import lacking_package
            from .exceptions import MissingPackageError

            if (package := lacking_package(error)) is None:
                raise
            raise MissingPackageError(
                f"sktl.{name} needs {package}, which is not installed. Install sktl with its dependencies, or "
                "predict with an exported model and sktl.runtime."
            ) from error
        return globals().setdefault(name, getattr(home, name))

    def __dir__() -> list[str]:
        return __all__
