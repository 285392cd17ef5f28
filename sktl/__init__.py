"""Transfer learning for images as ordinary scikit-learn estimators."""

from . import datasets, exceptions
from ._backbones.catalogue import BackboneInfo, list_backbones
from ._estimators.classifier import PretrainedImageClassifier
from ._estimators.encoder import PretrainedImageEncoder
from ._estimators.loading import load
from ._features.checking import check_images
from ._hub.sharing import load_from_hub, push_to_hub, save_to_folder
from ._images.decoding import set_pixel_limit
from ._images.preprocessing import Preprocessing
from ._inspection.feature_map import FeatureMapDisplay
from ._inspection.predictions import PredictionsDisplay
from ._inspection.saliency import SaliencyDisplay
from ._inspection.training_curve import TrainingCurveDisplay
from ._selection.rank_backbones import rank_backbones
from ._selection.ranking import BackboneRanking, RankedBackbone
from ._storage.cache import CacheInfo, cache_info, clear_cache, set_cache_limit
from ._version import __version__

__all__ = [
    "BackboneInfo",
    "BackboneRanking",
    "CacheInfo",
    "FeatureMapDisplay",
    "PredictionsDisplay",
    "Preprocessing",
    "PretrainedImageClassifier",
    "PretrainedImageEncoder",
    "RankedBackbone",
    "SaliencyDisplay",
    "TrainingCurveDisplay",
    "__version__",
    "cache_info",
    "check_images",
    "clear_cache",
    "datasets",
    "exceptions",
    "list_backbones",
    "load",
    "load_from_hub",
    "push_to_hub",
    "rank_backbones",
    "save_to_folder",
    "set_cache_limit",
    "set_pixel_limit",
]
