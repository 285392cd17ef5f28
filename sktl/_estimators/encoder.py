"""`PretrainedImageEncoder`: a transformer from images to features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sktl._backbones.resolve_backbone import BackboneName, Weights
from sktl._images.image_reader import ImageReader
from sktl._training.json_values import plain
from sktl._utils.fit_tasks import fit_task
from sktl._utils.settings_isolation import isolated
from sktl._utils.sklearn_compat import Interval, StrOptions, with_callbacks
from sktl._utils.warnings import warn
from sktl.exceptions import InvalidImageWarning

from .base import PretrainedImageBase
from .fitted_features import PretrainedFeatures
from .invalid_images import offering


class PretrainedImageEncoder(PretrainedImageBase):
    """Turn images into features of a pretrained network, for other estimators.

    By default, the features are the input of the network's own output layer. `feature_stages` adds features of earlier
    stages. Each image passes through the network only once for all values of `feature_stages`, even when you
    cross-validate a pipeline or search over `feature_stages`.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network, as in :class:`PretrainedImageClassifier`.
    weights : str, path, torchvision weights enum member or None, default="default"
        Weights of the network, as in :class:`PretrainedImageClassifier`. None draws random weights from `random_state`.
    image_size : int, default=None
        Height and width of the network's input, in pixels. None uses the default size for these weights.
    n_stages : int or "all", default="all"
        Number of stages of the network to use, counted from its input; later stages are removed. The features are then
        the output of the last stage that remains, as in :class:`PretrainedImageClassifier`.
    feature_stages : int or "all", default=1
        Number of the network's last stages that provide features. 1 selects the input of the network's own output
        layer. 2 or more adds the mean and the standard deviation of the output of each block in that many stages, over
        the positions in the image. The tokens of a transformer are pooled as the network itself pools them. Earlier
        stages represent texture and color, and standard deviations represent small details. Both may help on images
        unlike the photos that the network was pretrained on. `"all"` selects all stages.
    image_shape : tuple of int, default=None
        Shape of one image, (H, W), (H, W, C) or (C, H, W), if each row of `X` is a flattened image.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read, as in :class:`PretrainedImageClassifier`.
    invalid_images : {"raise", "nan"}, default="raise"
        What `transform` does if images cannot be used. `"raise"` raises an error that lists all of them. `"nan"`
        returns a row of NaN for each of them, with one warning, for estimators that accept missing values, such as
        :class:`~sklearn.impute.SimpleImputer`. Missing values in a column of paths count as images that cannot be used.
    device : str or torch.device, default="auto"
        Where the network runs. `"auto"` uses the first accelerator that is available, and otherwise the CPU.
    engine : {"auto", "torch", "openvino"}, default="auto"
        Library that runs the network. `"auto"` uses OpenVINO on a CPU if it is installed and can run the network, and
        otherwise torch.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision in which the network computes, as in :class:`PretrainedImageClassifier`. Features are float32 in
        either case.
    cache : "auto", path, URL or False, default="auto"
        Where features are cached, as in :class:`PretrainedImageClassifier`.
    n_jobs : int, default=None
        Number of threads that read images and, on a CPU, run the network. None uses the number that torch uses; -1 uses
        all cores. Results do not depend on it.
    random_state : int, RandomState or None, default=None
        Controls the random weights if `weights=None`.
    verbose : int, default=0
        1 shows the progress of passes over the images.

    Attributes
    ----------
    backbone_ : Backbone
        The resolved network: `name`, `weights`, `preprocessing`, and `build()`, which returns the network.
    device_ : torch.device
        Where the network runs.
    engine_ : {"torch", "openvino"}
        Library that runs the network. `transform` keeps using it, unless the estimator is loaded on a machine without
        OpenVINO.
    precision_ : {"float32", "bfloat16"}
        Precision in which the network computes. `transform` keeps using it.
    feature_stages_ : int
        Number of stages that provide features.
    n_features_in_ : int
        Number of columns of `X`: the number of values of an image if `X` was flattened, and otherwise 1.
    feature_names_in_ : ndarray of str
        Names of the columns of `X`. Exists only if `X` was a data frame whose column names are strings. A data frame
        that you pass to `transform` must have the same columns.

    Raises
    ------
    InvalidParameterError, UnknownBackboneError, WeightsError, DeviceError
        By `fit`, if a parameter has an invalid value, if the network has fewer stages than `feature_stages`, or if the
        network, its weights or the device is unavailable, or the device does not support bfloat16.
    EngineError
        By `fit`, if `engine="openvino"` and OpenVINO is not installed or cannot run the network, or if
        `precision="bfloat16"` changes its outputs by more than a quarter of the largest.
    InvalidInputError, InvalidImageError
        If `X` is not in a supported format, or images cannot be read.

    See Also
    --------
    PretrainedImageClassifier : A classifier on these features.
    PretrainedImageRegressor : A regressor on these features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageEncoder
    >>> images = load_digits().images[:4] / 16
    >>> PretrainedImageEncoder().fit_transform(images).shape
    (4, 1280)
    >>> PretrainedImageEncoder(feature_stages="all").fit_transform(images).shape
    (4, 6240)
    """

    feature_stages: int | str
    invalid_images: str = "raise"  # of pickles of versions without this parameter
    _features: PretrainedFeatures

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PretrainedImageBase._parameter_constraints,
        "feature_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"all"})],
        "invalid_images": [StrOptions({"raise", "nan"})],
    }

    def __init__(
        self,
        *,
        backbone: BackboneName = "efficientnet_lite0",
        weights: Weights = "default",
        image_size: int | None = None,
        n_stages: int | str = "all",
        feature_stages: int | str = 1,
        image_shape: Sequence[int] | None = None,
        image_reader: ImageReader | None = None,
        invalid_images: str = "raise",
        device: str | torch.device = "auto",
        engine: str = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | Literal[False] = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.n_stages = n_stages
        self.feature_stages = feature_stages
        self.image_shape = image_shape
        self.image_reader = image_reader
        self.invalid_images = invalid_images
        self.device = device
        self.engine = engine
        self.precision = precision
        self.cache = cache
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @isolated()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Resolve the network; the images are not read, because nothing is learned from them.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : None
            Ignored.

        Returns
        -------
        self : PretrainedImageEncoder
            The fitted estimator.
        """
        self._check_parameters()
        with fit_task(self, X, y), self._draft() as draft:
            draft._fit(X)
        return self

    @with_callbacks
    @isolated()
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Resolve the network and return the features of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : None
            Ignored.

        Returns
        -------
        features : float32 ndarray of shape (n_samples, n_features)
            Features, equal to the result of `transform`.
        """
        self._check_parameters()
        with fit_task(self, X, y):
            with self._draft() as draft:
                draft._fit(X)
            return self.transform(X)

    def _transform(self, X: Any) -> np.ndarray:
        with offering("nan", self):
            return self._with_nan(X) if self.invalid_images == "nan" else super()._transform(X)

    def _with_nan(self, X: Any) -> np.ndarray:
        """Return the features of images, and NaN for images that cannot be used."""
        check_is_fitted(self)
        samples = self._inputs(X, reset=False, lenient=True)
        found, failures = self._features.usable(samples, self._fitted_extractor())
        if not failures:
            return found
        warn(
            f"{len(failures)} of {len(samples)} images of X cannot be used, and their rows are NaN. "
            f"sktl.check_images(X) lists them. The first: {failures[0]}",
            InvalidImageWarning,
        )
        features = np.full((len(samples), self._n_features_out), np.nan, np.float32)
        if len(found):
            features[np.delete(np.arange(len(samples)), [failure.position for failure in failures])] = found
        return features

    def _fit(self, X: Any) -> None:
        with offering("nan", self):
            self._inputs(X, reset=True, lenient=self.invalid_images == "nan")
        (seed,) = self._draw_seeds(1)
        self.backbone_, self.device_ = self._resolve(seed)
        extractor = self._extractor(self.backbone_, self.device_, self.engine, self.precision)
        self.feature_stages_ = extractor.count_feature_stages(plain(self.feature_stages))
        self._features = PretrainedFeatures(self.feature_stages_, extractor.layout.groups_of(self.feature_stages_))
        self.engine_, self.precision_ = extractor.engine_name, extractor.precision
