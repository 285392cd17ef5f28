"""`PretrainedImageRegressor`: predict numbers for images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktl._backbones.resolve_backbone import BackboneName, Weights
from sktl._images.augmentation import Transform
from sktl._images.image_reader import ImageReader
from sktl._targets.base_targets import Targets
from sktl._targets.number_targets import NumberTargets, check_numbers, numbers_of
from sktl._targets.outputs import NumberOutputs
from sktl._utils.settings_isolation import isolated
from sktl._utils.sklearn_compat import StrOptions, with_callbacks

from .predictor import PretrainedImagePredictor


class PretrainedImageRegressor(RegressorMixin, PretrainedImagePredictor):
    """Predict one or more numbers for each image with a pretrained network and a new output layer.

    Examples are an age, a degree of ripeness, a count, or the defective share of a surface. `fit` trains the output
    layer on the features that the network computes and, with `trainable_stages`, also the last stages of the network.
    Numbers are standardized within `fit`, so their unit does not matter. Predictions are in the unit of `y`.

    The parameters are the same as for :class:`PretrainedImageClassifier`, whose documentation describes them in full,
    except that `loss` replaces `class_weight` and `label_smoothing`.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network.
    weights : str, path, torchvision weights enum member or None, default="default"
        The weights that the network starts from.
    image_size : int, default=None
        Height and width of the network's input, in pixels. None uses the default size for these weights.
    n_stages : int or "all", default="all"
        Number of stages of the network to use, counted from its input; later stages are removed.
    image_shape : tuple of int, default=None
        Shape of one image, if each row of `X` is a flattened image.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None chooses a reader by their content.
    feature_stages : int, "auto" or "all", default="auto"
        Number of stages of the network whose features the output layer receives. `"auto"` chooses 1, 2 or
        all by cross-validation within `fit`, together with `weight_decay`. If stages are trained, only trained stages
        contribute features, and `"auto"` chooses 1 or 2.
    weight_decay : float, default="auto"
        Strength of the regularization of the output layer's weights, at least 0, for standardized features and numbers.
        `"auto"` chooses it by cross-validation within `fit`, among ten values from 30 to 0.001.
    loss : {"squared_error", "huber"}, default="squared_error"
        `"squared_error"` predicts means. `"huber"` penalizes large errors linearly [1]_, so that a few wrong numbers in
        `y` do little harm: the penalty is linear beyond 1.345 times the standard deviation of `y`, which is estimated
        from the median absolute deviation.
    optimizer : {"auto", "sgd", "adamw", "lbfgs"} or subclass of torch.optim.Optimizer, default="auto"
        The optimizer.
    lr : float, default="auto"
        Peak learning rate of the output layer, above 0, for standardized features and numbers. If stochastic gradient
        descent trains the output layer alone, `"auto"` is a rate that is stable for any images, 1 / (1 + n_features / 2
        + weight_decay), which is 0.0016 for 1280 features. Batches of fewer than 16 images, `dropout` and uneven
        `sample_weight` lower it. In all other cases, including when stages are trained together with the output layer,
        it is the same as for the classifier.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        How the learning rate changes over the course of training.
    max_epochs : int, default="auto"
        Maximum number of epochs.
    batch_size : int, default="auto"
        Number of images per optimization step.
    dropout : float, default=0.0
        Fraction of the features that each step drops before the output layer, in [0, 1).
    early_stopping : bool, default=False
        If True, `fit` returns the weights of the epoch with the lowest loss on validation images. If these are a part
        of `X` and stages are trained, it then trains again on all of `X`, up to the last epoch whose loss was near the
        lowest: not higher by more than two standard errors of the difference.
    validation_fraction : float, default=0.1
        Fraction of the images that early stopping holds out, in (0, 1). Ignored if `X_val` is passed.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without improvement after which early stopping stops.
    trainable_stages : int or "all", default=0
        Number of stages of the network, counted from its output, that are trained with the output layer.
    freeze_epochs : int, default="auto"
        Number of epochs in which the output layer is trained alone, before stages are trained with it.
    backbone_lr_ratio : float, default="auto"
        Learning rate of the last stage as a fraction of `lr`, above 0.
    layer_decay : float, default="auto"
        Learning rate of each stage as a fraction of the next stage's learning rate, in (0, 1].
    augmentation : {"auto", "light", "strong", "trivial"}, callable or None, default="auto"
        How images are randomly changed while stages are trained. A change must not affect the number: for example, a
        crop changes the defective share of a surface, a rotation changes an angle, and a change of brightness changes
        how ripe a fruit looks. `"auto"` compares `"trivial"` with None in a short trial within `fit`, which detects
        only large effects. Pass None or your own function if the number depends on size, position or color. This
        parameter, `augmentation_views` and `mixup_alpha` have no effect with ``trainable_stages=0``.
    augmentation_views : int, default=None
        Number of random views of each image, which the epochs use in turn. None draws a new view in each epoch.
    mixup_alpha : float, default=0.0
        Mixes pairs of images and their losses, with mixing weights drawn from Beta(mixup_alpha, mixup_alpha). 0 turns
        mixup off.
    amp : {"auto", False}, default="auto"
        Whether stages are trained in bfloat16 where that is safe.
    compile : bool, default=False
        Whether `torch.compile` compiles the stages before training.
    invalid_images : {"raise", "skip"}, default="raise"
        Whether unusable images of `X` raise an error, or are left out with a warning.
    device : str or torch.device, default="auto"
        Where the network runs.
    engine : {"auto", "torch", "openvino"}, default="auto"
        Library that runs the frozen part of the network on a CPU.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision in which the network computes features, if no stages are trained, as in
        :class:`PretrainedImageClassifier`.
    cache : "auto", path, URL or False, default="auto"
        Where features and activations are cached, by image content, as in :class:`PretrainedImageClassifier`.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is saved after each epoch.
    n_jobs : int, default=None
        Number of threads that read images and, on a CPU, run the network.
    random_state : int, RandomState or None, default=None
        Controls everything that is random. With an int, results repeat bit for bit on a CPU. None draws from the
        operating system: `np.random.seed` and `torch.manual_seed` have no effect.
    verbose : int, default=0
        1 shows the progress of passes over the images and of training stages; 2 prints a line per epoch.
    net_params : dict, default=None
        Further arguments of the skorch nets, such as callbacks.

    Attributes
    ----------
    n_outputs_ : int
        Number of values that are predicted for each image.
    output_names_ : ndarray of str
        Names of the columns of `y`. Exists only if `y` was a data frame or a table of PyArrow whose columns are
        named by strings.
    backbone_ : Backbone
        The network before training.
    device_ : torch.device
        Where the network ran.
    feature_stages_ : int
        Number of stages whose features the output layer receives.
    selection_ : dict of ndarray of shape (n_candidates,)
        Results of the cross-validation within `fit`, as for the classifier: `"mean_loss"` is the loss of standardized
        numbers, and `"mean_r2"` the coefficient of determination, averaged over the numbers that are not constant. Both
        are weighted as in training. Exists only if there was a choice.
    engine_ : {"torch", "openvino"}
        Library that ran the frozen part of the network.
    precision_ : {"float32", "bfloat16"}
        Precision in which the frozen part of the network computes features.
    net_ : skorch.NeuralNet
        The net of the last phase of training; `net_.module_.output` is the output layer, which gives numbers in the
        unit of `y`.
    module_ : torch.nn.Module
        Network and output layer as one module. It maps normalized float32 images of shape (n, 3, H, W) to float64
        numbers of shape (n, n_outputs).
    history_ : skorch.history.History
        Loss, for standardized numbers, and time of each epoch.
    n_iter_ : int
        Number of epochs of both phases in `history_`, or of iterations of `"lbfgs"`.
    recipe_ : Recipe
        The training parameters with all values resolved.
    invalid_images_ : tuple of ImageFailure
        Position in `X`, name and reason of each image that was left out, in the order of `X`.
    n_features_in_ : int
        Number of columns of `X`: the number of values of an image if `X` was flattened, and otherwise 1.
    feature_names_in_ : ndarray of str
        Names of the columns of `X`. Exists only if `X` was a data frame whose column names are strings. A data frame
        that you pass to `predict` must have the same columns.

    Raises
    ------
    InvalidParameterError
        By `fit`, if a parameter has an invalid value.
    InvalidInputError
        If `X`, `y` or `sample_weight` is not in a supported format.
    InvalidImageError
        If images cannot be read. The attribute `failures` of the error lists all of them.
    TrainingError
        By `fit`, if the loss is no longer finite.

    See Also
    --------
    PretrainedImageClassifier : Predict classes, or several labels, for images.
    PretrainedImageEncoder : Compute the same features for other estimators.

    Notes
    -----
    :class:`PretrainedImageClassifier` describes the formats of `X`, the cross-validation within `fit` (the regressor's
    folds are random), and the training of stages.

    References
    ----------
    .. [1] P. Huber and E. Ronchetti, "Robust Statistics", second edition, Wiley 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageRegressor
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> reg = PretrainedImageRegressor(image_shape=(8, 8), random_state=0)
    >>> reg.fit(X[:60] / 16, y[:60]).predict(X[60:63] / 16).round().astype(int)
    array([1, 0, 2])
    """

    _parameter_constraints = PretrainedImagePredictor._parameter_constraints | {
        "loss": [StrOptions({"squared_error", "huber"})],
    }

    n_outputs_: int
    output_names_: np.ndarray
    _is_vector: bool

    def __init__(
        self,
        *,
        backbone: BackboneName = "efficientnet_lite0",
        weights: Weights = "default",
        image_size: int | None = None,
        n_stages: int | str = "all",
        image_shape: Sequence[int] | None = None,
        image_reader: ImageReader | None = None,
        feature_stages: int | str = "auto",
        weight_decay: float | str = "auto",
        loss: str = "squared_error",
        optimizer: str | type[torch.optim.Optimizer] = "auto",
        lr: float | str = "auto",
        lr_schedule: str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        dropout: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | Literal["auto"] = "auto",
        trainable_stages: int | str = 0,
        freeze_epochs: int | str = "auto",
        backbone_lr_ratio: float | str = "auto",
        layer_decay: float | str = "auto",
        augmentation: str | Transform | None = "auto",
        augmentation_views: int | None = None,
        mixup_alpha: float = 0.0,
        amp: str | bool = "auto",
        compile: bool = False,
        invalid_images: str = "raise",
        device: str | torch.device = "auto",
        engine: str = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | Literal[False] = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.n_stages = n_stages
        self.image_shape = image_shape
        self.image_reader = image_reader
        self.feature_stages = feature_stages
        self.weight_decay = weight_decay
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.dropout = dropout
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.trainable_stages = trainable_stages
        self.freeze_epochs = freeze_epochs
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.augmentation = augmentation
        self.augmentation_views = augmentation_views
        self.mixup_alpha = mixup_alpha
        self.amp = amp
        self.compile = compile
        self.invalid_images = invalid_images
        self.device = device
        self.engine = engine
        self.precision = precision
        self.cache = cache
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @with_callbacks
    @isolated()
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the output layer, and `trainable_stages` stages of the network, on images and their numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers. A missing or infinite number raises an error that names its position.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples. None weights all samples equally. Images of weight 0 must be readable,
            but training ignores them, so their numbers can be placeholders for missing numbers.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as the patient; `fit` does not split groups between training and validation. With
            only one group, `weight_decay` and `feature_stages` cannot be chosen, and a warning says which values are
            used.
        X_val : array-like of shape (n_validation_samples, ...), default=None
            Validation images for early stopping, instead of a part of `X`. Only with `early_stopping=True`. In
            a search, their number must differ from `n_samples`, because scikit-learn splits arguments of this length.
        y_val : array-like of shape (n_validation_samples,) or (n_validation_samples, n_outputs), default=None
            Numbers of the validation images.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation images.

        Returns
        -------
        self : PretrainedImageRegressor
            The fitted estimator. If `fit` raises an exception, including KeyboardInterrupt, the estimator stays as it
            was before.
        """
        return self._fit_draft(X, y, sample_weight, groups, (X_val, y_val, sample_weight_val))

    def _check_targets(
        self, y: Any, sample_weight: Any, n_samples: int, rows: np.ndarray | None = None, groups: Any = None
    ) -> Targets:
        return check_numbers(y, sample_weight, self.loss, n_samples, rows, groups)

    def _set_outputs(self, targets: Targets) -> None:
        """Fold the way back to the unit of `y` into the output layer."""
        assert isinstance(targets, NumberTargets)
        layer, units = self.net_.module_.output, targets.units
        center, scale = torch.from_numpy(units.center), torch.from_numpy(units.scale)
        with torch.no_grad():
            layer.weight.mul_(scale[:, None])
            layer.bias.mul_(scale).add_(center)
        self.n_outputs_, self._is_vector = len(units), units.is_vector
        if units.column_names is not None:
            self.output_names_ = np.array(units.column_names, dtype=object)

    @property
    def _meaning(self) -> NumberOutputs:
        """What the outputs of the output layer mean, which are in the unit of `y`."""
        check_is_fitted(self)
        names = [*getattr(self, "output_names_", ())] or None
        return NumberOutputs(np.zeros(self.n_outputs_), np.ones(self.n_outputs_), self._is_vector, names)

    @isolated()
    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted number or numbers for each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.

        Returns
        -------
        numbers : float64 ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in the unit and with the number of columns of `y`.
        """
        numbers = self._outputs(X)
        return numbers[:, 0] if self._is_vector else numbers

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the coefficient of determination; for several numbers, the mean of their R².

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, in any format that `fit` accepts. A data frame must have the same columns as in `fit`, in the same
            order.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        score : float
            R², at most 1. It is 0 for a regressor that predicts the mean of `y` for each image.
        """
        return float(super().score(X, numbers_of(y, self._meaning, "y", "the estimator"), sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
