"""Transfer learning for images as ordinary scikit-learn estimators."""

from . import datasets, exceptions
from ._cache import CacheInfo, cache_info, clear_cache
from ._classifier import PretrainedImageClassifier
from ._encoder import PretrainedImageEncoder
from ._preprocessing import Preprocessing

__version__ = "0.1.0.dev0"

__all__ = [
    "CacheInfo",
    "Preprocessing",
    "PretrainedImageClassifier",
    "PretrainedImageEncoder",
    "cache_info",
    "clear_cache",
    "datasets",
    "exceptions",
]
