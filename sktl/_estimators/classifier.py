"""`PretrainedImageClassifier`: predict classes or several labels of images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktl._backbones.resolve_backbone import BackboneName, Weights
from sktl._images.augmentation import Transform
from sktl._images.image_reader import ImageReader
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets, check_classes
from sktl._targets.label_checks import check_labels, warn_of_unknown_labels
from sktl._targets.label_targets import LabelTargets, check_indicator, indicator_of
from sktl._targets.outputs import ClassOutputs, LabelOutputs
from sktl._targets.target_tables import is_table
from sktl._utils.settings_isolation import isolated
from sktl._utils.sklearn_compat import Interval, StrOptions, with_callbacks

from .predictor import PretrainedImagePredictor


class PretrainedImageClassifier(ClassifierMixin, PretrainedImagePredictor):
    """Predict the class, or several labels, of each image with a pretrained network and a new output layer.

    The network starts from pretrained weights. The output layer has one logit per class in `classes_` and starts from
    random weights. `fit` trains the output layer on the features that the network computes. If `trainable_stages` is
    not 0, `fit` then trains the last stages of the network together with the output layer. The other stages are frozen:
    training leaves them unchanged, bit for bit. Their outputs are cached, so that each image passes through them once
    across folds, candidates, calls to `predict` and worker processes, and, without augmentation, across epochs.

    If `y` is a table of zeros and ones, each image can have several labels, or none. The output layer then has one
    logit per label, and each label has its own probability.

    The parameters are listed in four groups:

    - Model, from `backbone` to `image_reader`: the pretrained network and its input.
    - Output layer, from `feature_stages` to `n_iter_no_change`: features, optimizer, regularization and early stopping.
      If stages are trained, these parameters also apply to the stages, except where their descriptions say otherwise.
    - Fine-tuning, from `trainable_stages` to `compile`: how many stages are trained, and how. With
      `trainable_stages=0`, the default, the other parameters of this group have no effect.
    - Running, from `invalid_images` to `net_params`: unusable images, devices, caching, reproducibility, progress and
      callbacks.

    Parameters
    ----------
    backbone : str or callable, default="efficientnet_lite0"
        The pretrained network. `"efficientnet_lite0"` is bundled with sktl; `"efficientnet_lite1"` and
        `"efficientnet_lite2"` need the `lite` extra. All classification models of torchvision are available by name,
        such as `"resnet50"`, and all models of timm as `"timm/<name>"`. :func:`list_backbones` lists names, and
        :func:`rank_backbones` compares networks on your images. A callable takes no arguments and returns a
        `torch.nn.Module` that maps images of shape (n, 3, H, W) to features of shape (n, n_features). The module's
        attribute `preprocessing`, a :class:`Preprocessing`, describes the input that the module expects. Without this
        attribute, images are prepared as most ImageNet networks expect them, with a warning.
    weights : str, path, torchvision weights enum member or None, default="default"
        `"default"` loads the best published weights. A name such as `"IMAGENET1K_V1"` or an enum member selects other
        weights of torchvision. The path of a `.safetensors` or `.pth` file, or of a model that `save` wrote, loads your
        own weights, with or without an output layer; if a checkpoint also has averaged weights, these are used. None
        starts from random weights, drawn with `random_state`, either to train all stages from scratch or to serve as a
        control. With a callable `backbone`, None declares that the weights of the returned module are random.
    image_size : int, default=None
        Height and width of the network's input, in pixels. None uses the default size for these weights.
    n_stages : int or "all", default="all"
        Number of stages of the network to use, counted from its input. A number removes the later stages: the network
        becomes smaller and faster, and saved files shrink. The features are then the output of the last stage that
        remains, averaged over the positions in the image. The tokens of a transformer are pooled in the same way as in
        the whole network. `feature_stages` and `trainable_stages` count from this stage. `"all"`, or the number of all
        stages, uses the whole network.
    image_shape : tuple of int, default=None
        Shape of one image, (H, W), (H, W, C) or (C, H, W), if each row of `X` is a flattened image.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None chooses a reader by their content: pydicom for DICOM, pillow-heif for HEIC,
        tifffile for some TIFF files, and Pillow otherwise. A name selects the reader of that format for all files, for
        instance for DICOM files without a header. A callable takes a path or, for bytes in `X`, the bytes. It returns a
        PIL image, or an array of shape (H, W), (H, W, C) or (C, H, W), of uint8 or of floats in [0, 1]. It is called in
        threads, and must return the same pixels each time. With a callable, features are cached by these pixels, so
        files are read again in each call. Arrays and PIL images in `X` are not affected.
    feature_stages : int, "auto" or "all", default="auto"
        The features that the output layer receives. 1 selects the input of the network's own output layer. 2 or more
        adds the mean and the standard deviation of the output of each block in that many stages, counted from the
        output, over the positions in the image [9]_. `"all"` selects all stages. `"auto"` chooses 1, 2 or all by
        cross-validation within `fit`, together with `weight_decay`. Values above 1 help on images unlike the photos
        that the network was pretrained on, such as X-rays or surfaces. All features come from the same pass. If stages
        are trained, only trained stages contribute features: `"auto"` chooses 2 if this lowers the log loss by more
        than 10 %, and is 1 with `trainable_stages=1` and with `weights=None`; a number above `trainable_stages` raises
        an error.
    weight_decay : float, default="auto"
        Strength of the regularization of the output layer's weights, at least 0: an L2 penalty, or decoupled weight
        decay for `"adamw"` [1]_. `"auto"` chooses it by cross-validation within `fit`. With `trainable_stages=0`, the
        candidates are eleven values from 3 to 0.00003. Before stages are trained, they are 1, 0.3, 0.1 and 0.03,
        because a weakly regularized output layer is sensitive to every change in the features. `"auto"` is 0.03 if the
        output layer is trained with gradient descent before the stages, and always 1 for `"adamw"`. With
        `trainable_stages=0` and at most 384 images, `"auto"` also divides the logits by a temperature below 1 [12]_ if
        this clearly lowers the log loss of held-out images: with few images, a strong penalty often leads to the best
        predictions, but to probabilities that are too close to each other. `recipe_.temperature` is its value. The
        weights of stages are decayed toward their initial values by decoupled weight decay of the same strength [5]_;
        with `weights=None`, they are decayed toward zero. Biases and the parameters of normalization layers are not
        decayed.
    optimizer : {"auto", "sgd", "adamw", "lbfgs"} or subclass of torch.optim.Optimizer, default="auto"
        The optimizer. `"lbfgs"` [10]_ uses all samples in each iteration and finds the optimum regardless of the random
        initialization. It does not train stages, and `lr`, `lr_schedule`, `batch_size`, `dropout` and `early_stopping`
        cannot be set with it. `"sgd"` uses Nesterov momentum 0.9. With `trainable_stages=0`, `"auto"` is `"sgd"` if one
        of these parameters, `max_epochs` or an option of an optimizer is set, and `"lbfgs"` otherwise. If stages are
        trained, `"auto"` is `"sgd"` for the output layer and `"adamw"` for pretrained stages. All other values apply to
        both. If `optimizer` is a class, the `"auto"` value of `lr` is 0.001 and, if stages are trained and the class is
        not AdamW, the `"auto"` value of `weight_decay` is 0.03. The class must accept the options `lr` and
        `weight_decay`. `fit` first tries it on small parameters, and raises an error with the reason if it fails, as
        Muon does on biases.
    lr : float, default="auto"
        Peak learning rate of the output layer, above 0, for standardized features. `"auto"` is 0.03 for the optimizers
        `"auto"` and `"sgd"` and 0.001 for all others, multiplied by 1280 / n_features if there are more than 1280
        features. `"lbfgs"` has no learning rate. If pretrained stages are trained with `optimizer="auto"`, the output
        layer learns at a tenth of `lr` while the stages are trained, because their batches are small.
    lr_schedule : {"auto", "cosine", "constant"}, default="auto"
        `"cosine"` decays the learning rate to zero over the course of training [2]_. If stages are trained, the
        learning rate first rises to its peak, over the first three tenths of the steps, or over the first tenth with
        `weights=None`. `"constant"` does not change the learning rate. `"auto"` is `"cosine"`.
    max_epochs : int, default="auto"
        Maximum number of epochs. With `trainable_stages=0`, an epoch is a pass over the features, or an iteration of
        `"lbfgs"`; `"auto"` is 500 for `"lbfgs"`, which usually stops earlier, and 50 for other optimizers. If stages
        are trained, an epoch is a pass over the images in which the stages are trained; `"auto"` is 12, or 40 with
        `weights=None`.
    batch_size : int, default="auto"
        Number of images per optimization step. `"auto"` is 16 for stages; for the output layer alone, it is a twentieth
        of the images, but at least 16. If stages are trained, a number does not apply to the first phase, in which the
        output layer is trained alone.
    label_smoothing : float, default=0.0
        Fraction of the target probability that is spread evenly over all classes [3]_, in [0, 1). With several labels,
        the targets are `label_smoothing / 2` and `1 - label_smoothing / 2` instead of 0 and 1.
    dropout : float, default=0.0
        Fraction of the features that each step drops before the output layer, in [0, 1).
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, `{label: weight}`. `"balanced"` makes the weight of a class inversely proportional to
        the total weight of its samples. With several labels, each label has its own weights: `{label: weight}` weights
        the images that have the label, a list contains a dict `{0: weight, 1: weight}` for each label, and `"balanced"`
        gives the same total weight to the images with the label and to the images without it. The weights of a label
        are divided by their mean over the images, so they do not affect other labels. Validation images of early
        stopping are weighted in the same way.
    early_stopping : bool, default=False
        If True, `fit` measures the loss on validation images after each epoch, returns the weights of the epoch with
        the lowest loss, and stops when the loss has not improved for `n_iter_no_change` epochs. The initial weights
        count as epoch 0: if no epoch is better, `fit` returns them, with a `ConvergenceWarning`. If stages are trained,
        epoch 0 is the pretrained network with an output layer trained alone. With `weight_decay="auto"`, this output
        layer may have a weaker penalty than the output layer from which the stages start. The validation images are
        `X_val` of `fit`, or a stratified part of `X`, which is held out. If a part is held out and stages are trained,
        `fit` then trains a second time on all of `X`, which takes about as long as the first. Instead of running for
        `max_epochs`, it ends after the last epoch whose loss was near the lowest: not higher by more than two standard
        errors of the difference. It does not train again if `net_params` contains callbacks, because they may need
        validation images. If the output layer is trained alone, early stopping without `X_val` lowers its accuracy,
        because it is trained on fewer images.
    validation_fraction : float, default=0.1
        Fraction of the images that early stopping holds out, in (0, 1). Ignored if `X_val` is passed.
    n_iter_no_change : int or "auto", default="auto"
        Number of epochs without improvement after which early stopping stops, at least 1. The initial weights count as
        epoch 0. `"auto"` is 5 with `lr_schedule="constant"`. With `"cosine"`, `"auto"` trains all epochs, because the
        loss falls most during the small steps at the end.
    trainable_stages : int or "all", default=0
        Number of stages of the network, counted from its output, that are trained with the output layer. 0 trains the
        output layer alone, and `"all"` trains the whole network. `backbone_.stages` lists the stages; a larger number
        raises an error that lists them. Training starts with the output layer alone, on the features that
        `feature_stages` selects. With hundreds of images or more, `"all"` is the most accurate and the slowest.
    freeze_epochs : int, default="auto"
        Number of epochs in which the output layer is trained alone, before stages are trained with it [4]_. These
        epochs cost almost nothing, because they use features of unaugmented images, which are computed once. `"auto"`
        trains the output layer to its optimum with L-BFGS. If you set `dropout`, an optimizer or an option of an
        optimizer, `"auto"` is 50 epochs. With `weights=None`, it is 0. A number counts epochs of the output layer's
        optimizer.
    backbone_lr_ratio : float, default="auto"
        Learning rate of the last stage as a fraction of `lr`, above 0. `"auto"` is 1/75 with `optimizer="auto"`, and
        1/300 if there is no augmentation: with the default `lr` of 0.03, the last stage learns at 0.0004 or 0.0001.
        `"auto"` is 1/30 for `"sgd"`, 1/2 for `"adamw"` and 1/10 for all others. With fewer than 200 images, these
        values are multiplied by n_samples / 200. If features of several stages lower the `"auto"` value of `lr`, this
        `"auto"` value rises in proportion, so that the stages learn at the same rate. With `weights=None`, it is 1.
    layer_decay : float, default="auto"
        Learning rate of each stage as a fraction of the next stage's learning rate, in (0, 1]. `"auto"` is 0.8 for
        pretrained stages with `optimizer="auto"`, and 1 otherwise.
    augmentation : {"auto", "light", "strong", "trivial"}, callable or None, default="auto"
        Random changes of the images while stages are trained, drawn anew in each epoch. `"light"` crops an image to at
        least 60 % of its area, with an aspect ratio from 3/4 to 4/3, and mirrors it with probability 1/2. `"strong"`
        crops to at least 20 %. `"trivial"` crops to at least 35 % and then applies one operation of TrivialAugment
        [6]_, such as a rotation, a shear, or a change of contrast or color. If no such crop fits into an elongated
        image, the crop is its central square. A callable takes a PIL image and returns a PIL image, array or tensor; a
        transform of torchvision.transforms.v2 without normalization is one example (in a grid, wrap it in
        ``v2.Compose([transform])``, because scikit-learn mistakes some transforms for estimators). `fit` first calls it
        with the first image, and raises an error if it fails or does not return an image. It runs in threads, with the
        global random generators seeded. None leaves images unchanged; stages are then trained on cached activations,
        which is many times faster if only a few stages are trained.

        With pretrained weights, `"auto"` is `"trivial"`, or None if None is clearly better in a short trial within
        `fit`: if its log loss is lower by more than the standard error of the difference. The trial uses at most 1,000
        images and holds out a fifth of them for the comparison. It trains the last two stages, or the last one with
        `trainable_stages=1`, for six epochs with each of the two settings; for `"trivial"`, it uses four fixed views of
        each image. With fewer than 50 images, or with `augmentation_views`, there is no trial and `"auto"` is
        `"trivial"`. With `weights=None`, it is `"light"`. Pass None or your own function if a label depends on
        orientation or color (text, left and right lungs, ripeness). This parameter, `augmentation_views` and
        `mixup_alpha` have no effect with ``trainable_stages=0``, because the output layer is trained on features of
        unchanged images.
    augmentation_views : int, default=None
        Number of random views of each image, at least 1. The views are drawn once, and the epochs use them in turn.
        None draws a new view in each epoch. The activations of views are cached, so that the frozen stages process each
        image `augmentation_views` times in training instead of `max_epochs` times. Views depend on `random_state` and
        on the content of the image: folds and candidates share them if `random_state` is an integer and `augmentation`
        is not a callable. With `trainable_stages="all"`, views save no time.
    mixup_alpha : float, default=0.0
        Mixes pairs of images and their losses [7]_, with mixing weights drawn from Beta(mixup_alpha, mixup_alpha). 0
        turns mixup off.
    amp : {"auto", False}, default="auto"
        `"auto"` trains stages in bfloat16 where that is safe, on CUDA devices that support it. False never uses
        bfloat16.
    compile : bool, default=False
        Whether `torch.compile` compiles the stages before training. Compilation needs a C++ compiler and takes minutes,
        which pays off on a GPU with many images.
    invalid_images : {"raise", "skip"}, default="raise"
        What `fit` does if images of `X` cannot be used. `"raise"` raises an error that lists all of them, before any
        training starts. `"skip"` leaves them out together with their labels and weights, warns once, and records them
        in `invalid_images_`; a class without usable images raises an error. `fit` finds unusable images while it
        computes features, including images whose features are not finite. If stages are trained, however, `fit` first
        decodes all images. Unusable images in `X_val`, or among images to predict, always raise an error.
        :func:`check_images` lists unusable images before a fit.
    device : str or torch.device, default="auto"
        Where the network runs: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"` or `"xpu"`. `"auto"` uses the first accelerator
        that is available, and otherwise the CPU. The output layer alone is trained on the CPU, in float64.
    engine : {"auto", "torch", "openvino"}, default="auto"
        Library that runs the frozen part of the network on a CPU. `"auto"` uses OpenVINO if it is installed (the extra
        `sktl[openvino]`) and its features differ from torch's by at most 1e-4 of the largest feature; otherwise it uses
        torch. `"openvino"` raises an error whenever `"auto"` would use torch. Stages are always trained with torch.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision in which the network computes features, if no stages are trained. `"bfloat16"` takes less time on
        processors and GPUs that compute in bfloat16, such as x86 processors with AVX-512 BF16 and NVIDIA GPUs since
        Ampere, and raises an error on others. Features change by up to a tenth of the largest feature, and accuracy
        by a few tenths of a point: :doc:`/guide/speed_and_cache` has measurements. Features are cached separately, as
        float32. `amp` sets the precision in which stages are trained.
    cache : "auto", path, URL or False, default="auto"
        Where features and activations are cached, by image content. `"auto"` uses a private temporary folder, which
        worker processes share and which is removed when this process ends. A path is a permanent folder, which is
        shared by all processes of this user. A URL such as `"redis://:$REDIS_PASSWORD@host:6379/0"` selects a Redis
        server, which workers on several machines can share (it needs the `sktl[redis]` extra); `$REDIS_PASSWORD` stands
        for the environment variable of this name, so that the parameter contains no password. False turns the cache
        off. Results do not depend on the cache. See :func:`cache_info`, :func:`clear_cache` and
        :func:`set_cache_limit`.
    checkpoint : str or os.PathLike, default=None
        Folder in which the state of the training is saved after each epoch. After a crash, the same call to `fit`
        resumes from there, and its result equals the result of an uninterrupted fit bit for bit. Files are named after
        a digest of images, labels, parameters and versions, so that folds and candidates of a search can share a
        folder, and finished fits are not repeated. With a checkpoint, ``cache="auto"`` also caches features in this
        folder. A checkpoint needs an integer `random_state` and ``net_params=None``; `augmentation` and `optimizer`
        must not be functions or classes. Training by L-BFGS, which takes seconds, starts over. sktl never deletes
        checkpoints: remove the folder when you are done. None saves nothing.
    n_jobs : int, default=None
        Number of threads that read images and, on a CPU, run the network. None uses the number that torch uses in the
        calling thread, which is lower in joblib's worker processes, so that they share the cores. -1 uses all cores.
        Results do not depend on it.
    random_state : int, RandomState or None, default=None
        Controls the initial output layer, the order of the images, the folds that choose `weight_decay` and
        `feature_stages`, augmentation, dropout, stochastic depth, the images that early stopping holds out, and random
        `weights`. With an int, results repeat bit for bit on a CPU. None draws from the operating system:
        `np.random.seed` and `torch.manual_seed` have no effect.
    verbose : int, default=0
        1 shows the progress of passes over the images and of training stages, unless scikit-learn's `ProgressBar`
        shows it. 2 prints a line per epoch.
    net_params : dict, default=None
        Further arguments of the skorch nets: `{"callbacks": [...], "optimizer__<name>": ...}`. Each phase of training
        has its own net with copies of the callbacks, and each optimizer receives the options that it accepts. Scores,
        such as ``EpochScoring("accuracy")``, are computed with the labels of `y`, without augmentation, and with the
        weights that `fit` would return after the epoch: on the validation set of `early_stopping`, or with
        ``on_train=True`` on the training set. Callbacks that cannot work raise an error before any image is read.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or (n_labels,)
        Labels, sorted. With several labels, they are in the order of the columns of `y`: the column names of a data
        frame or a table of PyArrow, or else the numbers from 0 to n_labels - 1, with dtype object.
    multilabel_ : bool
        True if each image can have several labels, because `y` was a table.
    class_count_ : int64 ndarray of shape (n_classes,) or (n_labels,)
        Number of images of each class or label in `X`, including images that early stopping held out and excluding
        images that were left out as invalid.
    backbone_ : Backbone
        The network before training: `name`, `weights`, `preprocessing`, `stages` with their names and numbers of
        parameters, and `build()`, which returns the network.
    device_ : torch.device
        Where the network ran.
    feature_stages_ : int
        Number of stages whose features the output layer receives.
    selection_ : dict of ndarray of shape (n_candidates,)
        Results of the cross-validation within `fit`, in the format of scikit-learn's `cv_results_`: for each candidate,
        `"param_feature_stages"`, `"param_weight_decay"`, `"temperature"`, `"mean_log_loss"` and `"mean_accuracy"`, both
        weighted as in training, and the log loss of each fold, `"split0_log_loss"` and so on. With several labels, both
        are means over the labels; a label is left out where the other folds contain no image with this label or no
        image without it. A loss is NaN where a stronger penalty was already clearly better. With at most 384 images,
        candidates whose best temperature is below 1 have a second row with this temperature. `"refined"` is True in the
        last rows if there are more than 4,096 images; the penalty with the lowest loss in these rows is chosen. All
        losses are NaN if no image could be held out; the default values are then used. Exists only if there was a
        choice.
    engine_ : {"torch", "openvino"}
        Library that ran the frozen part of the network in `fit`. Predictions use the same engine. On a machine without
        OpenVINO, and in a process forked from one that has used OpenVINO, they use torch instead, and features differ
        by at most 1e-4 of the largest feature.
    precision_ : {"float32", "bfloat16"}
        Precision in which the frozen part of the network computes features. Predictions use the same precision.
    net_ : skorch.NeuralNet
        The net of the last phase of training; `net_.module_.output` is the output layer.
    module_ : torch.nn.Module
        Network and output layer as one module, in float32. It maps normalized float32 images of shape (n, 3, H, W) to
        float64 logits of shape (n, n_classes) or (n, n_labels); `backbone_.preprocessing` turns a PIL image into its
        input. The module shares trained weights with `net_` and the estimator: deepcopy it before you change it.
    history_ : skorch.history.History
        Loss and time of each epoch. If stages were trained, `"phase"` is `"output layer"`, then `"stages"`. With early
        stopping, `"valid_loss"` is the loss on the validation images, `"valid_loss_best"` is True if it was the
        lowest loss of the phase so far, and `"valid_loss_near_best"` if it was near the lowest, as described for
        `early_stopping`. In the last phase, `"valid_loss"` is measured with the weights that `fit` would
        return after the epoch, and the first row describes epoch 0 of `early_stopping`, without `"train_loss"`. Its
        `"epoch"` is the number of epochs before the phase. If early stopping trained again on all images, `history_`
        describes the first training.
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
    UnknownBackboneError, WeightsError
        By `fit`, if the network or its weights are unavailable.
    DeviceError
        By `fit`, if the device is unavailable, or if `precision="bfloat16"` and the device has no native bfloat16.
    EngineError
        By `fit`, if `engine="openvino"` and OpenVINO is not installed, does not support the device, or cannot run the
        network; or if `precision="bfloat16"` changes the outputs of the network by more than a quarter of the largest.
    CheckpointError
        By `fit`, if a checkpoint is damaged or was renamed.
    TrainingError
        By `fit`, if the loss is no longer finite.

    See Also
    --------
    PretrainedImageRegressor : Predict numbers for images.
    PretrainedImageEncoder : Compute the same features for other estimators.
    sktl.datasets.load_image_folder : Paths and labels of a folder with one subfolder per class.

    Notes
    -----
    `X` is a list, 1-d array, Series, single column or (n, 1) array of paths, URLs, encoded bytes, arrays or PIL images;
    another sequence of such images, such as :class:`sktl.datasets.LazyImages`, which is read item by item; an array of
    shape (n, H, W), (n, H, W, C) or (n, C, H, W), of uint8 or of floats in [0, 1]; or, with `image_shape`, an array
    whose rows are flattened images. You can fit on one format and predict on another. With ``trainable_stages=0``, `X`
    can also be :class:`sktl.datasets.ImageFeatures` of the same network, which :func:`sktl.datasets.load_features`
    returns: the images are then not needed.

    If the features of the training images take more than 256 MiB, they are read in blocks during training. If they are
    in a file, training takes little memory for any number of images.

    `score` returns the accuracy. With several labels, this is the share of images whose labels are all predicted
    correctly, as in scikit-learn, so it is low if there are many labels. ``scoring="average_precision"`` measures each
    label separately.

    A label that all or none of the images have cannot be learned. `fit` warns, and predicts a probability close to 1 or
    0 for all images: for n images, (n + 1) / (n + 2) or 1 / (n + 2).

    The cross-validation within `fit` is stratified 5-fold cross-validation on at most 4,096 images of at most 64
    classes or labels. More images need a weaker penalty: if there are more, a fifth of at most 16,384 images is held
    out, and the penalty with the lowest loss is chosen from the first choice and weaker penalties. Images that occur
    more than once, as after oversampling, are in one fold, so repeating an image is like giving it more weight. With
    several labels, iterative stratification [11]_ gives each label a similar share in all folds, and in the images that
    early stopping holds out; all labels share the chosen `weight_decay` and `feature_stages`. The choice depends on
    `random_state` and, because of the folds, on the order of the images. If fewer than two classes have two images (or
    images of two groups), or if no label does, nothing can be compared, so `weight_decay` is 0.03 and `feature_stages`
    is 1.

    Stages are trained in mini-batches, starting from the trained output layer, with gradients clipped to norm 5.
    BatchNorm keeps the statistics of the pretrained network, except with `weights=None`. The weights that `fit` returns
    lie three quarters of the way from the weights at the start of this phase to the weights at its end [8]_, for the
    stages and for the output layer. With `weights=None`, `fit` returns the weights at the end.

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
    .. [11] K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.
    .. [12] C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageClassifier
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> clf = PretrainedImageClassifier(image_shape=(8, 8), random_state=0)
    >>> clf.fit(X[:30] / 16, y[:30]).predict(X[:3] / 16)
    array([0, 1, 2])

    If `y` is a table, each image can have several labels:

    >>> import pandas as pd
    >>> table = pd.DataFrame({"round": y == 0, "straight": y == 1, "curved": y != 1})
    >>> clf.fit(X[:30] / 16, table[:30]).predict(X[:3] / 16)
    array([[1, 0, 1],
           [0, 1, 0],
           [0, 0, 1]])
    >>> clf.classes_
    array(['round', 'straight', 'curved'], dtype=object)
    """

    _parameter_constraints = PretrainedImagePredictor._parameter_constraints | {
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    classes_: np.ndarray
    class_count_: np.ndarray
    multilabel_: bool

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
        optimizer: str | type[torch.optim.Optimizer] = "auto",
        lr: float | str = "auto",
        lr_schedule: str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None = None,
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
        """Train the output layer, and `trainable_stages` stages of the network, on images and their labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels: strings, integers or booleans, all of one type. For several labels per image, a table of 0 and 1, or
            of booleans, with one column per label and at least two columns: an array, a sparse matrix, a data frame of
            pandas or polars, a table of PyArrow, or a list of rows. A missing label (None, NaN, an empty string, a
            masked or null value) raises an error that names its position.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples. None weights all samples equally. Images of weight 0 must be readable,
            but training ignores them. A class of such images alone stays in `classes_`, with a warning.
        groups : array-like of shape (n_samples,), default=None
            Group of each image, such as the patient. Within `fit`, neither the cross-validation that chooses
            `weight_decay` and `feature_stages` nor early stopping splits a group between training and validation. If
            there is only one group, or fewer than two classes have images of several groups, nothing can be chosen, and
            a warning says which values are used. In a search or a cross-validation, pass groups to `fit` through
            metadata routing: ``set_fit_request(groups=True)``. Missing values raise an error.
        X_val : array-like of shape (n_validation_samples, ...), default=None
            Validation images for early stopping, instead of a part of `X`. Only with `early_stopping=True`. In
            a search, their number must differ from `n_samples`, because scikit-learn splits arguments of this length.
        y_val : array-like of shape (n_validation_samples,) or (n_validation_samples, n_labels), default=None
            Labels of the validation images. All of them must occur in `y`. A table must have the same columns as `y`.
        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation images.

        Returns
        -------
        self : PretrainedImageClassifier
            The fitted estimator. If `fit` raises an exception, including KeyboardInterrupt, the estimator stays as it
            was before.
        """
        return self._fit_draft(X, y, sample_weight, groups, (X_val, y_val, sample_weight_val))

    def _check_targets(
        self, y: Any, sample_weight: Any, n_samples: int, rows: np.ndarray | None = None, groups: Any = None
    ) -> Targets:
        check = check_indicator if is_table(y) else check_classes
        return check(y, sample_weight, self.class_weight, n_samples, rows, groups)

    def _set_outputs(self, targets: Targets) -> None:
        assert isinstance(targets, ClassTargets | LabelTargets)
        self.classes_, self.class_count_ = targets.outputs.classes, targets.counts()
        self.multilabel_ = isinstance(targets, LabelTargets)

    @property
    def _meaning(self) -> ClassOutputs | LabelOutputs:
        """What the outputs of the output layer mean."""
        check_is_fitted(self)
        return LabelOutputs(self.classes_) if self.multilabel_ else ClassOutputs(self.classes_)

    @isolated()
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of the classes or labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        scores : float64 ndarray of shape (n_samples, n_classes), (n_samples, n_labels), or (n_samples,) for two classes
            Logits in the order of `classes_`. For two classes, the logit of `classes_[1]` minus the logit of
            `classes_[0]`. With several labels, even with two, there is a logit for each label.
        """
        return self._meaning.decision(self._outputs(X))

    @isolated()
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class, or the probable labels, of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted labels, in the dtype of `classes_`. With several labels, an int64 table, which is 1 where the
            probability of a label is above 0.5, and 0 elsewhere.
        """
        return self._meaning.predict(self._outputs(X))

    @isolated()
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class or label.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        probabilities : float64 ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Probabilities in the order of `classes_`. With several labels, each label has its own probability, so the
            probabilities of an image do not add up to 1.
        """
        return self._meaning.probabilities(self._outputs(X))

    @isolated()
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probability of each class or label.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        log_probabilities : float64 ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Logarithms of probabilities in the order of `classes_`.
        """
        return self._meaning.log_probabilities(self._outputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of images whose class, or all of whose labels, are predicted correctly.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, in any format that `fit` accepts. A data frame must have the same columns as in `fit`, in the same
            order.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

        Returns
        -------
        score : float
            Accuracy, in [0, 1].

        Warns
        -----
        InputWarning
            If labels look like classes of the model, but are not. Their images count as wrong.
        """
        return float(super().score(X, self._true_values(y), sample_weight))

    def _true_values(self, y: Any) -> np.ndarray:
        meaning = self._meaning
        if isinstance(meaning, LabelOutputs):
            return indicator_of(y, meaning, "y", "the estimator").astype(np.int64)
        labels = check_labels(y, warns=False)  # as scikit-learn's `score`
        warn_of_unknown_labels(labels, self.classes_)
        return labels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
