"""`PretrainedImageEncoder`: images to features, as a transformer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from sktl._backbones.backbone import BackboneName, Weights
from sktl._training.json import plain
from sktl._utils.callbacks import fit_task
from sktl._utils.isolation import isolated
from sktl._utils.sklearn_compat import Interval, StrOptions, with_callbacks

from .base import PretrainedImageBase
from .features import PretrainedFeatures


class PretrainedImageEncoder(PretrainedImageBase):
    """Turn images into the features of a pretrained network, for any other estimator.

    By default, the features are what enters the network's own output layer. `feature_stages` adds features of earlier
    stages. Each image passes through the network once, whatever `feature_stages` is, so that cross-validating a
    pipeline computes each image once.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network, as in :class:`PretrainedImageClassifier`.
    weights : str, path, torchvision weights enum member or None, default="default"
        Its weights; None draws random ones from `random_state`.
    image_size : int, default=None
        Height and width in pixels of what the network sees; None is the size of its weights.
    feature_stages : int or "all", default=1
        How many of the network's last stages give features. 1 is the input of the network's own output layer. With
        2 or more, the outputs of all blocks of so many stages follow, each averaged over the places of the image
        (tokens of a transformer as the network itself reads them). Earlier stages hold texture and color, which may
        help on images unlike the photos of the pretraining. "all" is every stage.
    image_shape : tuple of int, default=None
        (H, W), (H, W, C) or (C, H, W) of one image, for `X` with one flattened image per row.
    device : str or torch.device, default="auto"
        Where the network runs; `"auto"` is the first accelerator that is there, else the CPU.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the network; `"auto"` is OpenVINO on a CPU where it is installed and can, else torch.
    cache : "auto", path or False, default="auto"
        Where features are kept, as in :class:`PretrainedImageClassifier`.
    n_jobs : int, default=None
        Threads of the pass; None is the number that torch uses, -1 is all cores. Results do not depend on it.
    random_state : int, RandomState or None, default=None
        For `weights=None` only.
    verbose : int, default=0
        1 shows the progress of the images.

    Attributes
    ----------
    backbone_ : Backbone
        The resolved network: `name`, `weights`, `preprocessing`, and `build()` to make it.
    device_ : torch.device
        Where the network runs.
    engine_ : {"torch", "openvino"}
        What runs it, with which `transform` stays unless OpenVINO is missing when the estimator is loaded.
    feature_stages_ : int
        How many stages give features.
    n_features_in_ : int
        Only if `X` was flattened.
    feature_names_in_ : ndarray of str
        Only if `X` was a data frame of flattened images.

    Raises
    ------
    InvalidParameterError, UnknownBackboneError, WeightsError, DeviceError
        By `fit`, if a parameter has an invalid value, or the network has fewer stages than `feature_stages`.
    EngineError
        By `fit`, if `engine="openvino"` is not installed or cannot run the network.
    InvalidInputError, InvalidImageError
        If `X` has no legal form, or images cannot be read.

    See Also
    --------
    PretrainedImageClassifier : A classifier on these features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageEncoder
    >>> images = load_digits().images[:4] / 16
    >>> PretrainedImageEncoder().fit_transform(images).shape
    (4, 1280)
    >>> PretrainedImageEncoder(feature_stages="all").fit_transform(images).shape
    (4, 3120)
    """

    feature_stages: int | str
    feature_stages_: int

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PretrainedImageBase._parameter_constraints,
        "feature_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"all"})],
    }

    def __init__(
        self,
        *,
        backbone: BackboneName = "efficientnet_lite0",
        weights: Weights = "default",
        image_size: int | None = None,
        feature_stages: int | str = 1,
        image_shape: Sequence[int] | None = None,
        device: str | torch.device = "auto",
        engine: str = "auto",
        cache: str | os.PathLike[str] | Literal[False] = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.feature_stages = feature_stages
        self.image_shape = image_shape
        self.device = device
        self.engine = engine
        self.cache = cache
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @isolated()
    def fit(self, X: Any, y: Any = None) -> PretrainedImageEncoder:
        """Resolve the network; nothing is learned from the images, and they are not opened.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that :class:`PretrainedImageClassifier` names.
        y : None
            Not used.

        Returns
        -------
        self : PretrainedImageEncoder
            Fitted.
        """
        self._check_parameters()
        with fit_task(self, X, y), self._draft() as draft:
            draft._fit(X)
        return self

    @with_callbacks
    @isolated()
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Resolve the network, and return the features of images.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that :class:`PretrainedImageClassifier` names.
        y : None
            Not used.

        Returns
        -------
        features : float32 ndarray of shape (n_samples, n_features)
            Those of `transform`.
        """
        self._check_parameters()
        with fit_task(self, X, y):
            with self._draft() as draft:
                draft._fit(X)
            return self.transform(X)

    def _fit(self, X: Any) -> None:
        self._as_samples(X, reset=True)
        (seed,) = self._draw_seeds(1)
        self.backbone_, self.device_ = self._resolve(seed)
        extractor = self._extractor(self.backbone_, self.device_, self.engine)
        self.feature_stages_ = extractor.count_feature_stages(plain(self.feature_stages))
        self._features = PretrainedFeatures(self.feature_stages_, extractor.layout.groups_of(self.feature_stages_))
        self.engine_ = extractor.engine_name
