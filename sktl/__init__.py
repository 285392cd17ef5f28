"""Transfer learning for images as ordinary scikit-learn estimators."""

from . import datasets, exceptions
from ._cache import CacheInfo, cache_info, clear_cache, set_cache_limit
from ._catalogue import BackboneInfo, list_backbones
from ._checking import check_images
from ._classifier import PretrainedImageClassifier
from ._encoder import PretrainedImageEncoder
from ._feature_map import FeatureMapDisplay
from ._hub import load_from_hub, push_to_hub, save_to_folder
from ._loading import load
from ._pixels import set_pixel_limit
from ._predictions import PredictionsDisplay
from ._preprocessing import Preprocessing
from ._ranking import BackboneRanking, RankedBackbone
from ._saliency import SaliencyDisplay
from ._selection import rank_backbones
from ._training_curve import TrainingCurveDisplay
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
