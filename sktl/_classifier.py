"""`PretrainedImageClassifier`: parameters, and `fit` as a sequence of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._augmentation import AUGMENTATIONS, Transform
from ._backbones import BackboneName, Weights, tensors_digest
from ._base import PretrainedImageBase
from ._features import TailExtractor
from ._labels import check_targets, check_validation_targets, hold_out
from ._nets import History, NeuralNet, Recipe, TailRecipe
from ._recipes import check_combinations, resolve_recipe
from ._training import train_head
from ._transfer import Labelled, train_stages
from .exceptions import InvalidInputError, InvalidParameterError

_BLOCK = 1024


class PretrainedImageClassifier(ClassifierMixin, PretrainedImageBase):
    """Classify images with a pretrained network and an output layer of your own classes.

    Every layer but the output layer starts from pretrained weights and stays as it is; the output layer starts from
    random weights, is sized to `classes_`, and is trained on the features that the network computes. No image passes
    through the network twice in a process: not over epochs, folds, candidates of a search or calls of `predict`.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network. `"efficientnet_lite0"` comes with sktl; any classification model of torchvision goes by
        its name, such as `"resnet50"`, and any model of timm as `"timm/<name>"`. A callable without arguments returns
        a `torch.nn.Module` that maps images (n, 3, H, W) to features (n, n_features); its attribute `preprocessing`, a
        :class:`Preprocessing`, says what it expects (default: what most ImageNet networks expect, with a warning).
    weights : str, path, torchvision weights enum member or None, default="default"
        `"default"` are the best published weights; a name such as `"IMAGENET1K_V1"` or an enum member picks others of
        torchvision's; the path of a `.safetensors` or `.pth` file gives your own, with or without an output layer.
        None starts from random weights, drawn from `random_state`, as a control.
    image_size : int, default=None
        Height and width in pixels of what the network sees; None is the size of its weights.
    image_shape : tuple of int, default=None
        (H, W), (H, W, C) or (C, H, W) of one image, for `X` with one flattened image per row.
    trainable_stages : {0}, default=0
        How many stages of the network, counted from its output, are trained with the output layer. This version trains
        the output layer only.
    max_epochs : int, default="auto"
        Passes over the features, or the most iterations of `"lbfgs"`. `"auto"` is 50, for `"lbfgs"` 500.
    lr : float, default="auto"
        Learning rate of the output layer, larger than 0, for standardised features. `"auto"` is 0.03 for `"sgd"` and
        0.001 for all others, times 1280 / n_features for networks with more than 1280 features.
    weight_decay : float, default="auto"
        Strength of the pull of the weights towards zero, at least 0; the intercept is exempt. Decoupled for `"adamw"`
        [1]_, for which `"auto"` is 1; for all others an L2 penalty, for which it is 0.03.
    optimizer : {"auto", "sgd", "adamw", "lbfgs"} or subclass of torch.optim.Optimizer, default="auto"
        `"auto"` is `"sgd"`, with Nesterov momentum 0.9. `"lbfgs"` sees all samples at once and takes no `lr`,
        `lr_schedule`, `batch_size` or `dropout`. Of a class, `"auto"` values are `lr=0.001` and, unless it is AdamW,
        `weight_decay=0.03`.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        `"cosine"`, which is `"auto"`, decays the learning rate to zero over the training [2]_.
    batch_size : int, default="auto"
        Images of one optimisation step; `"auto"` is a twentieth of them, at least 16.
    label_smoothing : float, default=0.0
        Share of the probability that the target spreads evenly over all classes [3]_, in [0, 1).
    dropout : float, default=0.0
        Share of the features that each step leaves out, in [0, 1).
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, `{label: weight}`; `"balanced"` makes them inversely proportional to their total
        weight.
    device : str or torch.device, default="auto"
        Where the network runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, `"xpu"`; `"auto"` is the first accelerator that
        is there, else the CPU. The output layer trains on the CPU, in float64.
    cache : {"auto", False}, default="auto"
        `"auto"` keeps features in memory for the rest of the process, up to 1 GiB; see :func:`cache_info`.
    n_jobs : int, default=None
        Threads that read images and, on a CPU, run the network. None is the number that torch uses in the calling
        thread, which joblib's worker processes lower to their share of the cores; -1 is all cores. Results do not
        depend on it.
    random_state : int, RandomState or None, default=None
        For the start of the output layer, the order of the images, dropout, and random `weights`. With an int, results
        repeat bit for bit on a CPU.
    verbose : int, default=0
        1 shows the progress of the images, 2 also a line per epoch.
    net_params : dict, default=None
        Further arguments of the skorch net: `{"callbacks": [...], "optimizer__<name>": ...}`. There is no validation
        set: callbacks monitor `"train_loss"`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    backbone_ : Backbone
        The resolved network: `name`, `weights`, `preprocessing`, and `build()` to make it.
    device_ : torch.device
        Where the network ran.
    net_ : skorch.NeuralNet
        The trained net; `net_.module_.output` is the output layer.
    module_ : torch.nn.Module
        Network and output layer as one module, from normalised float32 images (n, 3, H, W) to float64 logits
        (n, n_classes); `backbone_.preprocessing` turns a PIL image into its input. It shares the output layer with
        `net_` and the estimator: deepcopy it before changing it.
    history_ : skorch.history.History
        Loss and time of each epoch.
    n_iter_ : int
        Epochs that were trained, or iterations of `"lbfgs"`.
    recipe_ : Recipe
        The training parameters with all values resolved.
    n_features_in_ : int
        Only if `X` was flattened.
    feature_names_in_ : ndarray of str
        Only if `X` was a data frame of flattened images.

    Raises
    ------
    InvalidParameterError
        By `fit`, if a parameter has a value that it cannot have.
    InvalidInputError
        If `X`, `y` or `sample_weight` has no legal form.
    InvalidImageError
        If images cannot be read; its attribute `failures` lists all of them.
    UnknownBackboneError, WeightsError
        By `fit`, if the network or its weights are not to be had.
    DeviceError
        By `fit`, if the device is not there.
    TrainingError
        By `fit`, if the loss is no longer finite.

    See Also
    --------
    PretrainedImageEncoder : The same features for other estimators.
    sktl.datasets.load_image_folder : Paths and labels of a folder with one sub-folder per class.

    Notes
    -----
    `X` is a list, 1-d array, Series, single column or (n, 1) array of paths, encoded bytes, arrays or PIL images; or an
    array of shape (n, H, W), (n, H, W, C) or (n, C, H, W) of uint8 or of floats in [0, 1]; or flattened rows, with
    `image_shape`. Fitting on one form and predicting on another is legal.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    .. [2] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
    .. [3] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageClassifier
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> clf = PretrainedImageClassifier(image_shape=(8, 8), random_state=0)
    >>> clf.fit(X[:30] / 16, y[:30]).predict(X[:3] / 16)
    array([0, 1, 2])
    """

    _parameter_constraints = PretrainedImageBase._parameter_constraints | {
        "trainable_stages": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "backbone_lr_ratio": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions({"auto", "sgd", "adamw", "lbfgs"}), type],
        "lr_schedule": [StrOptions({"auto", "cosine", "constant"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "augmentation": [StrOptions({"auto", *AUGMENTATIONS}), callable, None],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "amp": [StrOptions({"auto"}), Options(bool, {False})],
        "compile": ["boolean"],
        "net_params": [dict, None],
    }

    classes_: np.ndarray
    net_: NeuralNet
    n_iter_: int
    recipe_: Recipe

    def __init__(
        self,
        *,
        backbone: BackboneName = "efficientnet_lite0",
        weights: Weights = "default",
        image_size: int | None = None,
        image_shape: Sequence[int] | None = None,
        trainable_stages: int | str = 0,
        freeze_epochs: int | str = "auto",
        max_epochs: int | str = "auto",
        lr: float | str = "auto",
        backbone_lr_ratio: float | str = "auto",
        layer_decay: float = 1.0,
        weight_decay: float | str = "auto",
        optimizer: str | type[torch.optim.Optimizer] = "auto",
        lr_schedule: str = "auto",
        batch_size: int | str = "auto",
        augmentation: str | Transform | None = "auto",
        mixup_alpha: float = 0.0,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        device: str | torch.device = "auto",
        amp: str | bool = "auto",
        compile: bool = False,
        cache: str | bool = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.image_shape = image_shape
        self.trainable_stages = trainable_stages
        self.freeze_epochs = freeze_epochs
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.mixup_alpha = mixup_alpha
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.amp = amp
        self.compile = compile
        self.cache = cache
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> PretrainedImageClassifier:
        """Train the output layer, and as many stages as `trainable_stages` says, on images and their labels.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.
        y : array-like of shape (n_samples,)
            Labels: strings, integers or booleans.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative; None is equal weights.
        X_val : images, default=None
            On which early stopping finds the best epoch, instead of a part of `X`.
        y_val : array-like, default=None
            Their labels.
        sample_weight_val : array-like, default=None
            Their weights.

        Returns
        -------
        self : PretrainedImageClassifier
            If fitting raises, KeyboardInterrupt included, the estimator stays as it was before.
        """
        self._check_parameters()
        check_combinations(self)
        draft = self._draft()
        samples = draft._as_samples(X, reset=True)
        targets = check_targets(y, sample_weight, self.class_weight, len(samples))
        backbone_seed, head_seed, stages_seed, split_seed = self._seeds(4)
        validation = draft._check_validation(X_val, y_val, sample_weight_val, targets.classes)
        training, validation = self._split(Labelled(samples, targets), validation, split_seed)
        draft.backbone_, draft.device_ = self._resolve(backbone_seed)
        n_trainable = draft.backbone_.count_trainable(self.trainable_stages)
        extractor = self._extractor(draft.backbone_, draft.device_)
        recipe = resolve_recipe(self, n_trainable, len(training.samples), extractor.n_features, draft.device_)
        if isinstance(recipe, TailRecipe):
            net = train_stages(extractor, training, validation, recipe, (head_seed, stages_seed), self.net_params)
            draft.net_, draft.n_iter_ = net, len(net.history)
            draft._trained_digest = tensors_digest(net.module_.cut.network)
        else:
            parts = [extractor(part.samples) for part in (training, validation) if part is not None]
            held_out = None if validation is None else (parts[1], validation.targets)
            draft.net_, draft.n_iter_ = train_head(
                parts[0], training.targets, recipe, head_seed, self.net_params, held_out
            )
        draft.recipe_, draft.classes_ = recipe, targets.classes
        return self._commit(draft)

    def _check_validation(self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray) -> Labelled | None:
        """Return the validation set that the user passed, if any."""
        if X is None and y is None and sample_weight is None:
            return None
        if not self.early_stopping:
            raise InvalidParameterError(
                "X_val and y_val are for early stopping: set early_stopping=True, or drop them."
            )
        if X is None or y is None:
            raise InvalidInputError("X_val and y_val go together: pass both, or neither.")
        samples = self._as_samples(X, reset=False)
        return Labelled(samples, check_validation_targets(y, sample_weight, classes, len(samples)))

    def _split(self, everything: Labelled, validation: Labelled | None, seed: int) -> tuple[Labelled, Labelled | None]:
        """Return what is trained on, and what early stopping watches if it is wanted."""
        if validation is not None or not self.early_stopping:
            return everything, validation
        parts = hold_out(everything.targets, self.validation_fraction, seed)
        samples, targets = everything.samples, everything.targets
        training, held_out = (Labelled([samples[i] for i in rows], targets.take(rows)) for rows in parts)
        return training, held_out

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of images.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.

        Returns
        -------
        scores : float64 ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes, how much the logit of `classes_[1]` exceeds the other.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each image.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            In the dtype of `classes_`.
        """
        winners = self._logits(X).argmax(axis=1)
        return self.classes_[winners]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.

        Returns
        -------
        probabilities : float64 ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.

        Returns
        -------
        log_probabilities : float64 ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return log_softmax(self._logits(X), axis=1)

    @cached_property
    def module_(self) -> nn.Module:
        check_is_fitted(self)
        network = self.backbone_.build()
        if isinstance(self.recipe_, TailRecipe):
            network.load_state_dict(self.net_.module_.cut.network.state_dict(keep_vars=True), assign=True)
        return _Classifier(network, self.net_.module_.output).eval()

    @property
    def history_(self) -> History:
        check_is_fitted(self)
        return self.net_.history

    @property
    def _n_features_out(self) -> int:
        return int(self.net_.module_.output.in_features)

    def _features(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        samples = self._as_samples(X, reset=False)
        if not isinstance(self.recipe_, TailRecipe):
            return self._extractor(self.backbone_, self.device_)(samples)
        cut = self.net_.module_.cut
        if not cut.split:
            trained = self.backbone_.with_network(cut.network, self._trained_digest)
            return self._extractor(trained, self.device_)(samples)
        trunk = replace(self._extractor(self.backbone_, self.device_), n_trainable=self.recipe_.n_trainable)
        return TailExtractor(trunk, cut)(samples)

    def _logits(self, X: Any) -> np.ndarray:
        features = self._features(X)
        layer = self.net_.module_.output
        weight, bias = (p.detach().numpy(force=True) for p in (layer.weight, layer.bias))
        logits = np.empty((len(features), len(bias)))
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            # Not a matrix product: the bits of a BLAS row depend on how many rows there are.
            logits[rows] = np.einsum("nd,kd->nk", features[rows].astype(np.float64), weight) + bias
        return logits

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "module_"}


class _Classifier(nn.Module):
    """Backbone and output layer as one module."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))
