"""`PretrainedImageClassifier`: parameters, and `fit` as a sequence of stages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktl._backbones.backbone import BackboneName, Weights, tensors_digest
from sktl._features.checking import find_failures
from sktl._features.extractor import FeatureExtractor
from sktl._fine_tuning.phases import Images, open_checkpoint, train_stages
from sktl._fine_tuning.trial import choose_augmentation
from sktl._head.training import output_logits, train_head
from sktl._images.augmentation import AUGMENTATIONS, Change, Transform
from sktl._targets.columns import first_shown
from sktl._targets.labelled import Labelled, Split
from sktl._targets.targets import Targets, check_targets, check_validation_targets, hold_out
from sktl._training.callbacks import History, count_epochs, kept_start
from sktl._training.json import plain
from sktl._training.net import NeuralNet
from sktl._training.net_params import check_scores
from sktl._training.recipe import Recipe, TailRecipe
from sktl._training.run import Run
from sktl._utils.callbacks import fit_task
from sktl._utils.isolation import isolated
from sktl._utils.paths import user_path
from sktl._utils.sklearn_compat import Interval, Options, StrOptions, with_callbacks
from sktl._utils.threads import n_threads
from sktl._utils.warnings import warn
from sktl.exceptions import (
    ImageFailure,
    InvalidImageError,
    InvalidImageWarning,
    InvalidInputError,
    InvalidParameterError,
)

from .auto import augmentations, check_combinations, choose, resolve_recipe
from .base import PretrainedImageBase
from .features import PretrainedFeatures, TunedFeatures

# Of the samples that are trained on, and perhaps of those that are held out.
_Rows: TypeAlias = tuple[np.ndarray | slice, ...]


class Seeds(NamedTuple):
    """What the parts of a fit draw from; further ones are added at the end, so that the others stay what they are."""

    backbone: int
    head: int
    stages: int
    split: int
    choice: int


class PretrainedImageClassifier(ClassifierMixin, PretrainedImageBase):
    """Classify images with a pretrained network and an output layer of your own classes.

    All layers start from pretrained weights but the output layer, which starts from random ones and is sized to
    `classes_`. It is trained on the features that the network computes; then, if `trainable_stages` says so, the last
    stages of the network with it. What is not trained stays as it is, to the last bit, and no image passes through it
    twice: not over epochs (without augmentation), folds, candidates, calls of `predict` or worker processes.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network. `"efficientnet_lite0"` comes with sktl, `"efficientnet_lite1"` and
        `"efficientnet_lite2"` with its extra `lite`; any classification model of torchvision goes by its name, such as
        `"resnet50"`, and any model of timm as `"timm/<name>"`. :func:`rank_backbones` measures which suits your images,
        :func:`list_backbones` lists names. A callable without arguments returns
        a `torch.nn.Module` that maps images (n, 3, H, W) to features (n, n_features); its attribute `preprocessing`, a
        :class:`Preprocessing`, says what it expects (default: what most ImageNet networks expect, with a warning).
    weights : str, path, torchvision weights enum member or None, default="default"
        `"default"` are the best published weights; a name such as `"IMAGENET1K_V1"` or an enum member picks others of
        torchvision's; the path of a `.safetensors` or `.pth` file, or of a model that `save` wrote, gives your own,
        with or without an output layer.
        None starts from random weights, drawn from `random_state`, to train all stages from scratch or as a control; of
        a callable it says that what it returns has random weights.
    image_size : int, default=None
        Height and width in pixels of what the network sees; None is the size of its weights.
    image_shape : tuple of int, default=None
        (H, W), (H, W, C) or (C, H, W) of one image, for `X` with one flattened image per row.
    trainable_stages : int or "all", default=0
        How many stages of the network, counted from its output, are trained with the output layer. 0 trains the output
        layer alone, `"all"` the whole network. `backbone_.stages` lists the stages; a number beyond theirs is an error
        that does. For a classification with hundreds of images or more, `"all"` is the most accurate and the slowest.
    freeze_epochs : int, default="auto"
        Epochs that train the output layer alone before stages are trained with it [4]_, on features without
        augmentation, so that they cost next to nothing. `"auto"` is as many iterations of `"lbfgs"` as it takes to the
        optimum; 50 where `dropout`, another optimizer or an option of one is given; 0 with `weights=None`. A number is
        one of epochs of the optimizer of the output layer. Without effect for `trainable_stages=0`.
    max_epochs : int, default="auto"
        Passes over the images in which stages are trained, `"auto"` being 12, and 40 with `weights=None`. For
        `trainable_stages=0`, passes over the features, which are the iterations of `"lbfgs"`; `"auto"` is as many as
        `"lbfgs"` takes, at most 500, and 50 for the others.
    lr : float, default="auto"
        Highest learning rate of the output layer, larger than 0, for standardised features. `"auto"` is 0.03 for the
        optimizers `"auto"` and `"sgd"`, 0.001 for all others, times 1280 / n_features for more than 1280 features;
        `"lbfgs"` has none. With pretrained stages and the optimizer `"auto"`, whose batches are small, the output layer
        learns at a tenth of it.
    backbone_lr_ratio : float, default="auto"
        Learning rate of the last stage as a share of `lr`, larger than 0. `"auto"` is 1/75 for the optimizer `"auto"`,
        and 1/300 where there is no augmentation; 1/30 for `"sgd"`, 1/2 for `"adamw"`, 1/10 for all others, times
        n_samples / 200 for fewer than 200 images; and 1 with `weights=None`. Without effect for `trainable_stages=0`,
        as are the parameters that say so.
    layer_decay : float, default="auto"
        The learning rate of each stage as a share of that of the stage behind it, in (0, 1]. `"auto"` is 0.8 for
        pretrained stages and the optimizer `"auto"`, and 1 otherwise. Without effect for 0 stages.
    weight_decay : float, default="auto"
        Strength of the pull of the weights of the output layer towards zero, at least 0: an L2 penalty, and decoupled
        for `"adamw"` [1]_. `"auto"` is chosen by cross-validation within `fit` for `trainable_stages=0`, among nine
        values from 0.3 to 0.00003; it is 1 for `"adamw"` and, where stages are trained, 0.03 for all others. Weights of
        stages are pulled, with the same strength and decoupled, to where they began [5]_, with `weights=None` to zero.
        Biases and the parameters of normalisation layers are exempt.
    feature_stages : int, "auto" or "all", default="auto"
        The features that the output layer sees. 1 is what the network's own output layer would see. 2 or more adds what
        the blocks of that many stages, counted from the output, hold on average over the places of the image [9]_;
        `"all"` is all stages. `"auto"` is 1 or 2, chosen by cross-validation within `fit`, together with the penalty:
        2 helps on images unlike those of the pretraining, such as X-rays or surfaces. All come from the same pass. With
        stages to train it is 1.
    optimizer : {"auto", "sgd", "adamw", "lbfgs"} or subclass of torch.optim.Optimizer, default="auto"
        What trains. `"lbfgs"` [10]_ sees all samples at once and finds the optimum, whatever the random start; it takes
        no `lr`, `lr_schedule`, `batch_size`, `dropout` or `early_stopping`, and trains no stages. `"auto"` is
        `"lbfgs"` for `trainable_stages=0` unless one of these parameters, `max_epochs` or an option of an optimizer is
        given, and `"sgd"`, with Nesterov momentum 0.9, if one is; with stages to train, it is `"sgd"` for the output
        layer and `"adamw"` for pretrained stages. All others train both. Of a class, `"auto"` values are `lr=0.001`
        and, unless it is AdamW or there are no stages to train, `weight_decay=0.03`. A class needs the options `lr` and
        `weight_decay`; `fit` tries it on small parameters first, and refuses it with the reason if it fails there, as
        Muon does on biases.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        `"cosine"`, which is `"auto"`, decays the learning rate to zero over the training [2]_. When stages are trained
        it rises to its highest over the first three tenths of the steps, with `weights=None` over the first tenth.
    batch_size : int, default="auto"
        Images of one optimisation step. `"auto"` is 16 for stages, and for the output layer alone a twentieth of the
        images, at least 16.
    augmentation : {"auto", "light", "strong", "trivial"}, callable or None, default="auto"
        How images are changed at random, anew in each epoch, while stages are trained. `"light"`, which is `"auto"`
        with `weights=None`, crops at least 60 % of the area, of aspect ratio 3/4 to 4/3, and mirrors every other image;
        `"strong"` crops at least 20 %; `"trivial"` at least 35 %, and follows with one operation of TrivialAugment
        [6]_, such as turning, shearing, or changing contrast or colours. With pretrained weights `"auto"` is
        `"trivial"` or None, whichever does better in a trial within `fit`: the last two stages are trained both ways
        for six epochs, on four fixed views of each image, and the log loss on a fifth of the images, held out from
        that, decides. With fewer than 50 images, or with `augmentation_views`, it is `"trivial"` without a trial. A
        callable takes a PIL image and returns a PIL image, array or tensor, such as a transform of
        torchvision.transforms.v2 that does not normalise; it runs in threads, with the global random generators seeded.
        None changes nothing, and stages are then trained on kept activations, which is many times faster when they are
        few. Turn it off, or pass your own, where mirror images, slants or colours mean something else (text, left and
        right lungs, ripeness). Without effect for 0 stages.
    augmentation_views : int, default=None
        How many random views of each image there are, at least 1, drawn once and taken by the epochs in turn; None
        draws anew in each epoch. The activations of views are kept, so that in the second phase the frozen stages see
        each image `augmentation_views` times instead of `max_epochs` times. Views follow from `random_state` and the
        content of the image: folds and candidates share them if `random_state` is an integer, unless `augmentation` is
        a callable. Without effect for 0 stages; for `"all"` stages it saves no time.
    mixup_alpha : float, default=0.0
        Mixes pairs of images and their losses [7]_, with shares from Beta(mixup_alpha, mixup_alpha); 0 mixes none.
        Without effect for 0 stages.
    label_smoothing : float, default=0.0
        Share of the probability that the target spreads evenly over all classes [3]_, in [0, 1).
    dropout : float, default=0.0
        Share of the features that each step leaves out before the output layer, in [0, 1).
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, `{label: weight}`; `"balanced"` makes them inversely proportional to their total
        weight.
    early_stopping : bool, default=False
        Whether training returns the weights of the epoch with the lowest loss on validation images, and stops when that
        has not improved for `n_iter_no_change` epochs. The start counts as epoch 0: if no epoch is better, the start is
        returned, with a `ConvergenceWarning`. The start of stages is the output layer trained alone for all of
        `freeze_epochs`, with the pretrained network. Validation images are a stratified part of `X`, which is then not
        trained on, or `X_val` of `fit`. Without `X_val` it lowers the accuracy of the output layer alone, which has
        fewer images to learn from.
    validation_fraction : float, default=0.1
        Share of the images that early stopping holds out, in (0, 1), unless `X_val` is passed.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without improvement after which early stopping stops, at least 1, counted from the start.
        `"auto"` is 5 with `lr_schedule="constant"`; with `"cosine"`, whose small last steps gain most, all epochs are
        trained.
    invalid_images : {"raise", "skip"}, default="raise"
        What `fit` does about images of `X` that cannot be used. `"raise"` is an error that lists all of them, before
        any training; `"skip"` leaves them out together with their labels and weights, warns once, and records them in
        `invalid_images_`; a class of which nothing is left is an error. Images of `X_val`, and those to predict, always
        raise. :func:`check_images` lists them beforehand.
    device : str or torch.device, default="auto"
        Where the network runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, `"xpu"`; `"auto"` is the first accelerator that
        is there, else the CPU. The output layer alone trains on the CPU, in float64.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the frozen part of the network on a CPU. `"auto"` is OpenVINO where it is installed (the extra
        `sktl[openvino]`) and its features are those of torch to 1e-4 of the largest, else torch; `"openvino"` is an
        error where `"auto"` would be torch. Stages are always trained by torch.
    amp : {"auto", False}, default="auto"
        `"auto"` trains stages in bfloat16 where that is safe, on CUDA devices that have it; False never does.
    compile : bool, default=False
        Whether torch.compile translates the stages before they are trained: worth its minutes on a GPU with many
        images. Needs a C++ compiler. Without effect for 0 stages.
    cache : "auto", path or False, default="auto"
        Where features and activations are kept, found again by the content of the image: `"auto"` in a private folder
        for temporary files, shared with worker processes and removed when this process ends; a path in that folder, for
        good, shared by all processes that name it; False nowhere. See :func:`cache_info`, :func:`clear_cache` and, for
        their bound, :func:`set_cache_limit`. Results do not depend on it.
    checkpoint : str or os.PathLike, default=None
        A folder in which each epoch leaves the state of the training, so that the same call to `fit` goes on after a
        crash, and ends with the same bits as without it. Files are named by a digest of images, labels, parameters and
        versions: folds and candidates of a search lie side by side, and what is finished is not trained again. With it,
        ``cache="auto"`` keeps features in the folder, too. Needs an integer `random_state`; nothing is ever deleted:
        remove the folder when you are done. None keeps nothing.
    n_jobs : int, default=None
        Threads that read images and, on a CPU, run the network. None is the number that torch uses in the calling
        thread, which joblib's worker processes lower to their share of the cores; -1 is all cores. Results do not
        depend on it.
    random_state : int, RandomState or None, default=None
        For the start of the output layer, the order of the images, the folds that choose `weight_decay` and
        `feature_stages`, augmentation, dropout, stochastic depth, the images that early stopping holds out, and random
        `weights`. With an int, results repeat bit for bit on a CPU.
    verbose : int, default=0
        1 shows the progress of the images, where scikit-learn's `ProgressBar` does not, 2 also a line per epoch.
    net_params : dict, default=None
        Further arguments of the skorch nets: `{"callbacks": [...], "optimizer__<name>": ...}`. Each phase of training
        has a net and copies of the callbacks; each optimizer takes the options that it has. Scores, such as
        ``EpochScoring("accuracy")``, are computed with the labels of `y` and without augmentation, on the validation
        set of `early_stopping`, or with ``on_train=True`` on the training set, with the weights that `fit` would return
        after the epoch. `fit` refuses callbacks that cannot work before it reads images.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    class_count_ : int64 ndarray of shape (n_classes,)
        Images of each class in `X`, without those left out, with those that early stopping held out.
    backbone_ : Backbone
        The network before training: `name`, `weights`, `preprocessing`, `stages` with their names and numbers of
        parameters, and `build()` to make it.
    device_ : torch.device
        Where the network ran.
    feature_stages_ : int
        How many stages give the features that the output layer sees.
    selection_ : dict of ndarray of shape (n_candidates,)
        What cross-validation within `fit` found, in the manner of scikit-learn's `cv_results_`: for each candidate
        `"param_feature_stages"`, `"param_weight_decay"`, `"mean_log_loss"` and `"mean_accuracy"`, both weighted like
        the training, and the log loss of each fold, `"split0_log_loss"` and so on; NaN where a stronger penalty was
        clearly better already. Only where something was chosen.
    engine_ : {"torch", "openvino"}
        What ran the frozen part of the network. Predictions stay with it; only where the estimator is loaded without
        OpenVINO at hand does torch stand in, whose features differ by at most 1e-4 of the largest.
    net_ : skorch.NeuralNet
        The net of the last phase of training; `net_.module_.output` is the output layer.
    module_ : torch.nn.Module
        Network and output layer as one module, from normalised float32 images (n, 3, H, W) to float64 logits
        (n, n_classes); `backbone_.preprocessing` turns a PIL image into its input. It shares what was trained with
        `net_` and the estimator: deepcopy it before changing it.
    history_ : skorch.history.History
        Loss and time of each epoch; if stages were trained, `"phase"` is `"output layer"`, then `"stages"`. With early
        stopping, `"valid_loss"` is the loss on the validation images, in the last phase that of the weights that `fit`
        would return after the epoch, and `"valid_loss_best"` tells whether it was the lowest of the phase so far. The
        last phase begins with a row for its start, without `"train_loss"`: its `"epoch"` is 0, or the number of epochs
        before.
    n_iter_ : int
        Epochs that were trained, of both phases, or iterations of `"lbfgs"`.
    recipe_ : Recipe
        The training parameters with all values resolved.
    invalid_images_ : tuple of ImageFailure
        Position in `X`, name and reason of each image that was left out, in their order.
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
    EngineError
        By `fit`, if `engine="openvino"` is not installed, not possible on the device, or cannot run the network.
    CheckpointError
        By `fit`, if a checkpoint is damaged, or was renamed.
    TrainingError
        By `fit`, if the loss is no longer finite, or one image is too much for the memory of the device.

    See Also
    --------
    PretrainedImageEncoder : The same features for other estimators.
    sktl.datasets.load_image_folder : Paths and labels of a folder with one sub-folder per class.

    Notes
    -----
    `X` is a list, 1-d array, Series, single column or (n, 1) array of paths, encoded bytes, arrays or PIL images; or an
    array of shape (n, H, W), (n, H, W, C) or (n, C, H, W) of uint8 or of floats in [0, 1]; or flattened rows, with
    `image_shape`. Fitting on one form and predicting on another is legal.

    What is chosen by cross-validation follows from `random_state` and, as folds do, from the order of the images: a
    stratified 5-fold, with at most 4,096 images of at most 64 classes. Where no class has two images, or two groups,
    nothing can be compared, and `weight_decay` is 0.03 and `feature_stages` 1.

    Stages are trained in mini-batches, starting with the trained output layer, with gradients no longer than 5.
    BatchNorm keeps the statistics of the pretrained network, except with `weights=None`. The result is then moved half
    of the way back to where the stages and the output layer began [8]_, whose probabilities were better than those of
    either end in cross-validation; with `weights=None` it is not.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    .. [2] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
    .. [3] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.
    .. [4] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR
       2022.
    .. [5] X. Li, Y. Grandvalet and F. Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional
       Networks", ICML 2018.
    .. [6] S. G. Müller and F. Hutter, "TrivialAugment: Tuning-Free Yet State-of-the-Art Data Augmentation", ICCV 2021.
    .. [7] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    .. [8] M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022.
    .. [9] U. Evci et al., "Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning", ICML 2022.
    .. [10] J. Nocedal and S. Wright, "Numerical Optimization", second edition, Springer 2006.

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
        "layer_decay": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "feature_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto", "all"})],
        "optimizer": [StrOptions({"auto", "sgd", "adamw", "lbfgs"}), torch.optim.Optimizer, callable],
        "lr_schedule": [StrOptions({"auto", "cosine", "constant"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "augmentation": [StrOptions({"auto", *AUGMENTATIONS}), callable, None],
        "augmentation_views": [Interval(Integral, 1, None, closed="left"), None],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "invalid_images": [StrOptions({"raise", "skip"})],
        "amp": [StrOptions({"auto"}), Options(bool, {False})],
        "compile": ["boolean"],
        "checkpoint": [str, os.PathLike, None],
        "net_params": [dict, None],
    }

    classes_: np.ndarray
    class_count_: np.ndarray
    selection_: dict[str, np.ndarray]
    net_: NeuralNet
    n_iter_: int
    recipe_: Recipe
    invalid_images_: tuple[ImageFailure, ...]

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
        layer_decay: float | str = "auto",
        weight_decay: float | str = "auto",
        feature_stages: int | str = "auto",
        optimizer: str | type[torch.optim.Optimizer] = "auto",
        lr_schedule: str = "auto",
        batch_size: int | str = "auto",
        augmentation: str | Transform | None = "auto",
        augmentation_views: int | None = None,
        mixup_alpha: float = 0.0,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int | Literal["auto"] = "auto",
        invalid_images: str = "raise",
        device: str | torch.device = "auto",
        engine: str = "auto",
        amp: str | bool = "auto",
        compile: bool = False,
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
        self.image_shape = image_shape
        self.trainable_stages = trainable_stages
        self.freeze_epochs = freeze_epochs
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.feature_stages = feature_stages
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.augmentation_views = augmentation_views
        self.mixup_alpha = mixup_alpha
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.invalid_images = invalid_images
        self.device = device
        self.engine = engine
        self.amp = amp
        self.compile = compile
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
    ) -> PretrainedImageClassifier:
        """Train the output layer, and as many stages as `trainable_stages` says, on images and their labels.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that the class names.
        y : array-like of shape (n_samples,)
            Labels: strings, integers or booleans, all of one type. A missing label (None, NaN, an empty string, a
            masked or null value) is an error that names its position.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative; None is equal weights.
        groups : array-like of shape (n_samples,), default=None
            Groups of images that are not split between training and validation within `fit`, such as those of one
            patient: neither by the cross-validation that chooses `weight_decay` and `feature_stages`, nor by early
            stopping. In a search or a cross-validation, they reach `fit` by metadata routing:
            ``set_fit_request(groups=True)``. Missing values raise an error.
        X_val : images, default=None
            On which early stopping finds the best epoch, instead of a part of `X`; only with `early_stopping=True`.
        y_val : array-like, default=None
            Their labels, all of which `y` has.
        sample_weight_val : array-like, default=None
            Their weights.

        Returns
        -------
        self : PretrainedImageClassifier
            If fitting raises, KeyboardInterrupt included, the estimator stays as it was before.
        """
        self._check_parameters()
        check_combinations(self)
        with fit_task(self, X, y, sample_weight), self._draft() as draft:
            draft._fit(X, y, sample_weight, groups, (X_val, y_val, sample_weight_val))
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, validation: tuple[Any, Any, Any]) -> None:
        samples = self._as_samples(X, reset=True, lenient=self.invalid_images == "skip")
        targets = check_targets(y, sample_weight, self.class_weight, len(samples), groups=groups)
        check_scores(self.net_params, targets.classes)
        seeds = self._seeds()
        watched = self._check_validation(*validation, targets.classes)
        self.backbone_, self.device_ = self._resolve(seeds.backbone)
        extractor = self._extractor(self.backbone_, self.device_, self.engine)
        images = self._without_invalid(Labelled(samples, targets), sample_weight, groups, extractor)
        rows = self._split(images.targets, watched, seeds.split)
        if self.backbone_.count_trainable(self.trainable_stages):
            self._fit_stages(images, rows, watched, extractor, seeds)
        else:
            self._fit_output_layer(images, rows, watched, extractor, seeds)
        self.classes_ = images.targets.classes
        self.class_count_ = np.bincount(images.targets.codes)

    def _fit_output_layer(
        self, images: Images, rows: _Rows, watched: Images | None, extractor: FeatureExtractor, seeds: Seeds
    ) -> None:
        """Train the output layer on features of the images, and perhaps stop early by those held out or passed."""
        # Before anything else wants the network, so that images are decoded while it is opened.
        rows_of = replace(extractor, feature_stages=plain(self.feature_stages))
        features = Labelled(rows_of(images.samples), images.targets)
        layout, n_workers = extractor.layout, n_threads(self.n_jobs)
        chosen = choose(self, features.take(rows[0]), layout, seeds.choice, n_workers)
        if chosen.selection:
            self.selection_ = chosen.selection
        extractor = replace(extractor, feature_stages=chosen.n_stages)
        groups = layout.groups_of(chosen.n_stages)
        sizes = [size for _, size in groups]
        split = _split(features, rows, None).map(lambda some: np.ascontiguousarray(some[:, : sum(sizes)]))
        if watched is not None:
            with _as_argument("X_val"):
                split = replace(split, validation=Labelled(extractor(watched.samples), watched.targets))
        self.engine_, self.feature_stages_ = extractor.engine_name, chosen.n_stages
        self._features = PretrainedFeatures(chosen.n_stages, groups)
        n_samples, n_features = split.training.samples.shape
        self.recipe_ = resolve_recipe(self, 0, n_samples, n_features, self.device_, chosen)
        states = open_checkpoint(
            self.checkpoint, _split(images, rows, watched), extractor, self.recipe_, (seeds.head, seeds.choice)
        )
        run = Run(seeds.head, self.net_params, states and states.of_phase("output layer"))
        self.net_ = train_head(split, self.recipe_, run, sizes)
        self.n_iter_ = count_epochs(self.net_.history)

    def _fit_stages(
        self, images: Images, rows: _Rows, watched: Images | None, extractor: FeatureExtractor, seeds: Seeds
    ) -> None:
        """Train the output layer, then the last stages with it."""
        split = _split(images, rows, watched)
        self.engine_, self.feature_stages_ = extractor.engine_name, 1
        if self.engine_ == "torch":  # then so it is for a part of the network
            extractor = replace(extractor, engine="torch")
        # Else the pass over features names them, before any training and by their positions in X.
        if split.validation is not None or self.weights is None or len(augmentations(self)) > 1:
            self._check_images(images, extractor, "X")
            if watched is not None:
                self._check_images(watched, extractor, "X_val")
        recipe = self.recipe_ = self._stage_recipe(split.training, extractor, seeds)
        states = open_checkpoint(self.checkpoint, split, extractor, recipe, (seeds.head, seeds.stages))
        probing = Run(seeds.head, self.net_params, states and states.of_phase("output layer"))
        tuning = Run(seeds.stages, self.net_params, states and states.of_phase("stages"))
        net = self.net_ = train_stages(extractor, split, recipe, probing, tuning)
        self.n_iter_, cut, groups = count_epochs(net.history), net.module_.cut, extractor.layout.groups_of(1)
        if kept_start(net.history):  # no stage was changed
            self._features = PretrainedFeatures(1, groups)
        else:
            self._features = TunedFeatures(cut, recipe.n_trainable, tensors_digest(cut.network), groups)
        if (recipe.augmentation is None or recipe.n_views) and cut.split:
            self.engine_ = replace(extractor, n_tail_stages=recipe.n_trainable).engine_name

    def _stage_recipe(self, training: Images, extractor: FeatureExtractor, seeds: Seeds) -> TailRecipe:
        """Return how stages are trained, whether images are changed at random being tried on them if that is open."""
        n_trainable = self.backbone_.count_trainable(self.trainable_stages)

        def recipe_of(change: Change | None, n_samples: int) -> TailRecipe:
            n_features = extractor.n_features
            recipe = resolve_recipe(self, n_trainable, n_samples, n_features, self.device_, augmentation=change)
            assert isinstance(recipe, TailRecipe)
            return recipe

        change, *others = augmentations(self)
        if others:
            runs = Run(seeds.head), Run(seeds.stages)
            change = choose_augmentation(extractor, training, [change, *others], recipe_of, runs)
        return recipe_of(change, len(training.samples))

    def _seeds(self) -> Seeds:
        """Draw the seeds of a fit."""
        return Seeds(*self._draw_seeds(len(Seeds._fields)))

    def _cache_place(self) -> str | os.PathLike[str] | Literal[False]:
        # The features of a fit that was killed are to be found again, too.
        if self.cache == "auto" and self.checkpoint is not None:
            return Path(user_path(self.checkpoint), "features")
        return self.cache

    def _find_failures(self, images: Images, extractor: FeatureExtractor) -> list[ImageFailure]:
        preprocessing = self.backbone_.preprocessing
        return find_failures(images.samples, preprocessing, extractor.cache, self.n_jobs, self.verbose)

    def _check_images(self, images: Images, extractor: FeatureExtractor, argument: str) -> None:
        """Raise `InvalidImageError` before training if images cannot be decoded."""
        if failures := self._find_failures(images, extractor):
            raise InvalidImageError(failures, argument)

    def _without_invalid(self, images: Images, sample_weight: Any, groups: Any, extractor: FeatureExtractor) -> Images:
        """Return the images without those that cannot be used, if these are to be skipped; warn if there are any."""
        failures = self._find_failures(images, extractor) if self.invalid_images == "skip" else []
        self.invalid_images_ = tuple(failures)
        if not failures:
            return images
        kept = np.setdiff1d(np.arange(len(images.samples)), [failure.position for failure in failures])
        classes, codes = images.targets.classes, images.targets.codes
        if len(lost := np.setdiff1d(codes, codes[kept])):
            names = first_shown(classes[lost].tolist())
            raise InvalidImageError(
                [failure for failure in failures if codes[failure.position] in lost],
                lead=f"invalid_images='skip' would leave no image of class {names}: add good ones, or drop the class.",
            )
        warn(
            f"{len(failures)} of {len(images.samples)} images of X cannot be used and were left out; the attribute "
            f"invalid_images_ lists them. The first: {failures[0]}",
            InvalidImageWarning,
        )
        targets = check_targets(classes[codes], sample_weight, self.class_weight, len(images.samples), kept, groups)
        return Labelled([images.samples[i] for i in kept], targets)

    def _check_validation(self, X: Any, y: Any, sample_weight: Any, classes: np.ndarray) -> Images | None:
        """Return the validation set that the user passed, if any."""
        if X is None and y is None and sample_weight is None:
            return None
        if not self.early_stopping:
            raise InvalidParameterError(
                "X_val and y_val are for early stopping: set early_stopping=True, or drop them."
            )
        if X is None or y is None:
            raise InvalidInputError("X_val and y_val go together: pass both, or neither.")
        with _as_argument("X_val"):
            samples = self._as_samples(X, reset=False)
        return Labelled(samples, check_validation_targets(y, sample_weight, classes, len(samples)))

    def _split(self, targets: Targets, validation: Images | None, seed: int) -> _Rows:
        """Return the rows that are trained on, and those that early stopping watches if it has to hold out some."""
        if validation is not None or not self.early_stopping:
            return (slice(None),)
        return hold_out(targets, float(self.validation_fraction), seed)

    @isolated()
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

    @isolated()
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

    @isolated()
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

    @isolated()
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
    @isolated()
    def module_(self) -> nn.Module:
        check_is_fitted(self)
        return _Classifier(*self._features.modules(self.backbone_), self.net_.module_.output).eval()

    @property
    def history_(self) -> History:
        check_is_fitted(self)
        return self.net_.history

    def _logits(self, X: Any) -> np.ndarray:
        features = self._transform(X)
        return output_logits(self.net_.module_.output, features)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "module_"}


@contextmanager
def _as_argument(argument: str) -> Iterator[None]:
    """Let errors about images say which argument holds them."""
    try:
        yield
    except InvalidImageError as error:
        raise InvalidImageError(error.failures, argument, error.lead) from error.__cause__


def _split(labelled: Labelled[Any], rows: _Rows, validation: Labelled[Any] | None) -> Split[Any]:
    """Return the samples that are trained on, and those held out or passed for validation, if any."""
    training, *held_out = (labelled.take(some) for some in rows)
    return Split(training, next(iter(held_out), validation))


class _Classifier(nn.Module):
    """Backbone and output layer as one module."""

    def __init__(self, backbone: nn.Module, features: nn.Module, head: nn.Linear):
        super().__init__()
        self.backbone = backbone
        self.head = head
        # No module of its own: it runs the backbone, whose parameters would have two names.
        self.__dict__["features"] = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.__dict__["features"](images)
        return self.head(features[:, : self.head.in_features])
