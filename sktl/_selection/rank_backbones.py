"""`rank_backbones`: compare pretrained networks on the same images, with one pass through each."""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv, cross_val_score

from sktl._backbones.backbone import Backbone, BackboneName, Weights, qualified_name, resolve_backbone
from sktl._backbones.downloads import one_outage
from sktl._backbones.taps import StageLayout
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.resolved_parameters import choose, resolve_recipe
from sktl._features.extractor import FeatureExtractor
from sktl._features.trunk import chunk_size
from sktl._head.head_net import random_layer
from sktl._head.train_head import output_values, train_head
from sktl._images.samples import Sample
from sktl._storage.cache import NO_CACHE
from sktl._targets.class_targets import ClassTargets, check_classes
from sktl._targets.labels import check_complete, shortened, shown
from sktl._targets.split import Labelled, Split
from sktl._training.training_run import Run
from sktl._utils.devices import resolve_device
from sktl._utils.isolation import isolated
from sktl._utils.threads import n_threads
from sktl.exceptions import (
    BackboneError,
    DeviceMemoryError,
    EngineError,
    InvalidParameterError,
    TrainingError,
    UnknownBackboneError,
    WeightsError,
)

from .logme import log_evidence
from .ranking_table import OK, BackboneRanking, RankedBackbone

Entry: TypeAlias = BackboneName | tuple[BackboneName, Weights] | Mapping[str, Any]

DEFAULT_BACKBONES = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet50",
    "convnext_tiny",
    "timm/vit_small_patch16_224",
)
_NAMES = ("backbone", "weights", "image_size")
_MEGA = 1e6


class _OutputLayer(ClassifierMixin, BaseEstimator):
    """The output layer of a `PretrainedImageClassifier` with default parameters, on features instead of images."""

    def __init__(self, layout: StageLayout, seeds: tuple[int, int] = (0, 0), n_workers: int = 1):
        self.layout = layout
        self.seeds = seeds
        self.n_workers = n_workers

    def fit(self, X: np.ndarray, y: np.ndarray) -> _OutputLayer:
        # Not check_classes: y was checked as a whole, and warnings about single folds would only confuse.
        classes, codes = np.unique(y, return_inverse=True)
        targets, classifier = ClassTargets(classes, codes, np.ones(len(y))), PretrainedImageClassifier()
        chosen = choose(classifier, Labelled(X, targets), self.layout, self.seeds[1], self.n_workers)
        sizes = [size for _, size in self.layout.groups_of(chosen.n_stages)]
        seen = np.ascontiguousarray(X[:, : sum(sizes)])
        recipe = resolve_recipe(classifier, 0, len(seen), seen.shape[1], torch.device("cpu"), chosen)
        net = train_head(Split(Labelled(seen, targets)), recipe, Run(self.seeds[0]), sizes)
        self.classes_, self.layer_ = targets.classes, net.module_.output
        return self

    def guessing(self, X: np.ndarray, y: np.ndarray) -> _OutputLayer:
        """Return the layer itself with random weights for the classes of `y`."""
        self.classes_ = np.unique(y)
        self.layer_ = random_layer(X.shape[1], len(self.classes_), self.seeds[0])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(self._logits(X), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self._logits(X).argmax(axis=1)]

    def _logits(self, X: np.ndarray) -> np.ndarray:
        return output_values(self.layer_, X[:, : self.layer_.in_features])


@dataclass(frozen=True)
class _Trial:
    """Images, folds and scorer that all networks are measured with.

    Parameters
    ----------
    template : PretrainedImageClassifier
        A classifier with the parameters that all networks share.
    device : torch.device
    samples : list of Sample
    targets : ClassTargets
    splits : list of (rows to train on, rows to score)
    scorer : callable
    """

    template: PretrainedImageClassifier
    device: torch.device
    samples: list[Sample]
    targets: ClassTargets
    splits: list[tuple[np.ndarray, np.ndarray]]
    scorer: Callable[..., float]

    def measure(self, row: RankedBackbone, backbone: Backbone) -> RankedBackbone:
        """Return the row of a network with its measurements, or with the reason why it could not be measured."""
        try:
            network = backbone.build()
            size = sum(parameter.numel() for parameter in network.parameters())
            n_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
            del network
            extractor = self.template._extractor(backbone, self.device, self.template.engine)
            height, width = backbone.preprocessing.crop
            title = f"{row.backbone} ({row.weights}, {height}x{width})"  # entries may differ only in one of these
            features, seconds = _timed(replace(extractor, title=title, feature_stages="auto"), self.samples)
            scores = self._scores(features, extractor.layout)
            own = features[:, : extractor.layout.length(1)]
        except (BackboneError, DeviceMemoryError, EngineError, TrainingError, WeightsError) as error:
            return replace(row, status=str(error))
        return replace(
            row,
            mean_score=float(scores.mean()),
            std_score=float(scores.std()),
            logme=log_evidence(own, self.targets.codes),
            seconds_per_image=seconds,
            million_parameters=size / _MEGA,
            megabytes=n_bytes / _MEGA,
            n_features=own.shape[1],
            status=OK,
        )

    def _scores(self, features: np.ndarray, layout: StageLayout) -> np.ndarray:
        seeds = self.template._seeds()
        labels = self.targets.classes[self.targets.codes]
        layer = _OutputLayer(layout, (seeds.head, seeds.choice), n_threads(self.template.n_jobs))
        return cross_val_score(layer, features, labels, scoring=self.scorer, cv=self.splits, error_score="raise")


def _timed(extractor: FeatureExtractor, samples: Sequence[Sample]) -> tuple[np.ndarray, float]:
    """Return the features of samples, and the seconds per image of this pass, or of an extra pass over a few images."""
    few = samples[: chunk_size(extractor.device) * n_threads(extractor.n_jobs)]
    n_missing = extractor.count_missing(samples)
    if n_missing < len(few):  # too few images for a reliable time
        features = extractor(samples)
        apart = replace(extractor, cache=NO_CACHE, verbose=0)
        return features, _seconds(apart, few, apart.count_missing(few))[1]
    return _seconds(extractor, samples, n_missing)


def _seconds(extractor: FeatureExtractor, samples: Sequence[Sample], n_images: int) -> tuple[np.ndarray, float]:
    """Return the features of samples, and the seconds per image if `n_images` of them pass through the network."""
    extractor.open()
    started = time.perf_counter()
    features = extractor(samples)
    return features, (time.perf_counter() - started) / n_images


@isolated()
def rank_backbones(
    X: Any,
    y: Any,
    backbones: Iterable[Entry] | None = None,
    *,
    cv: Any = 5,
    scoring: str | Callable[..., float] = "accuracy",
    groups: Any = None,
    image_shape: Sequence[int] | None = None,
    device: str | torch.device = "auto",
    engine: str = "auto",
    cache: str | os.PathLike[str] | Literal[False] = "auto",
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> BackboneRanking:
    """Compare pretrained networks on your images, with one pass of the images through each network.

    For each network, the output layer of ``PretrainedImageClassifier(trainable_stages=0)`` is cross-validated on the
    same folds. The ranking also contains LogME [1]_, the evidence of the labels given the features, which needs no
    training and no folds. Features are cached, and later fits with the same network reuse them.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
    y : array-like of shape (n_samples,)
        Labels of at least two classes.
    backbones : iterable of str, callable, (backbone, weights) pairs or mappings, default=None
        The networks: values of the parameter `backbone`, with or without `weights`, or mappings with the key
        `"backbone"` and, optionally, `"weights"` and `"image_size"`. Random weights, as in
        ``("efficientnet_lite0", None)``, are a control that shows what pretraining is worth. None compares
        `"efficientnet_lite0"`, `"efficientnet_lite1"`, `"efficientnet_lite2"`, `"resnet50"`, `"convnext_tiny"` and
        `"timm/vit_small_patch16_224"`. All of these except the first need another package or are downloaded once; the
        downloads are 300 MB in total.
    cv : int, cross-validation generator or iterable, default=5
        Folds. An integer is the number of folds of a stratified k-fold without shuffling. A fold must not score images
        that it trains on.
    scoring : str or callable, default="accuracy"
        Name of a scikit-learn scorer, or a callable (estimator, features, y) that returns a number; higher is better.
    groups : array-like of shape (n_samples,), default=None
        Groups of images that stay together, such as patients, for a `cv` that uses groups. Missing values raise an
        error.
    image_shape : tuple of int, default=None
        Shape of one image, if `X` contains flattened rows.
    device : str or torch.device, default="auto"
        Where the networks run.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the networks on a CPU, as in :class:`PretrainedImageClassifier`.
    cache : "auto", path or False, default="auto"
        Where features are cached. Each image passes through each network once, even without a cache.
    n_jobs : int, default=None
        Number of threads of a pass. None uses the number that torch uses; -1 uses all cores.
    random_state : int, RandomState or None, default=None
        Controls the initial output layers, the folds that choose `feature_stages` and `weight_decay`, and random
        weights. All networks share the same draws.
    verbose : int, default=0
        1 shows the progress of each pass, with the name of the network.

    Returns
    -------
    ranking : BackboneRanking
        A sequence of :class:`RankedBackbone`, best first. It prints as a table, and `to_frame` returns it as a pandas
        data frame. Networks that could not be measured, for instance because their weights could not be downloaded,
        come last, and their `status` contains the reason.

    Raises
    ------
    InvalidParameterError
        If a parameter or an entry of `backbones` has an invalid value.
    UnknownBackboneError
        If an entry names a network or weights that do not exist. It is raised before any image is read.
    InvalidInputError, InvalidImageError
        If `X` or `y` is not in a supported format, or images cannot be read.
    DeviceError
        If the device is unavailable.

    References
    ----------
    .. [1] K. You, Y. Liu, J. Wang and M. Long, "LogME: Practical Assessment of Pre-trained Models for Transfer
       Learning", ICML 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import rank_backbones
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> networks = ["efficientnet_lite0", ("efficientnet_lite0", None)]
    >>> ranking = rank_backbones(X[:60] / 16, y[:60], networks, image_shape=(8, 8), cv=3, random_state=0)
    >>> [(row.rank, row.n_features, row.status) for row in ranking]
    [(1, 1280, 'ok'), (2, 1280, 'ok')]
    """
    entries = _check_entries(DEFAULT_BACKBONES if backbones is None else backbones)
    template = PretrainedImageClassifier(
        image_shape=image_shape, device=device, engine=engine, cache=cache, n_jobs=n_jobs, verbose=verbose,
        random_state=random_state,
    )  # fmt: skip
    template._check_parameters()
    if not isinstance(random_state, Integral):  # a generator or None would draw other seeds for each network
        template.random_state = template._draw_seeds(1)[0]
    backbone_seed = template._seeds().backbone
    resolved = [_resolve(params, backbone_seed) for params in entries]
    samples = template._as_samples(X, reset=True)
    targets = check_classes(y, None, None, len(samples))
    splits = _splits(cv, targets, groups)
    scorer = _check_scoring(scoring, targets, splits)
    trial = _Trial(template, resolve_device(device), samples, targets, splits, scorer)
    with one_outage():
        rows = [row if backbone is None else trial.measure(row, backbone) for row, backbone in resolved]
    return BackboneRanking(rows, scoring if isinstance(scoring, str) else "score")


def _check_entries(backbones: Any) -> list[dict[str, Any]]:
    """Return the parameters of the networks in `backbones`."""
    if isinstance(backbones, str | Mapping | os.PathLike) or not isinstance(backbones, Iterable):
        raise InvalidParameterError(f"backbones={backbones!r} must be a list of networks: pass [{backbones!r}].")
    entries = [_check_entry(entry, position) for position, entry in enumerate(backbones)]
    if not entries:
        raise InvalidParameterError("backbones is empty: pass at least one network, or None for the default networks.")
    return entries


def _check_entry(entry: Any, position: int) -> dict[str, Any]:
    if isinstance(entry, str) or callable(entry):
        params = {"backbone": entry}
    elif isinstance(entry, tuple | list) and len(entry) == 2:
        params = dict(zip(_NAMES, entry, strict=False))
    elif isinstance(entry, Mapping) and "backbone" in entry and set(entry) <= set(_NAMES):
        params = dict(entry)
    else:
        raise InvalidParameterError(
            f"backbones[{position}]={entry!r} is not a network: pass a name, a callable, a pair (backbone, weights) or "
            "a mapping with the key 'backbone' and, optionally, 'weights' and 'image_size'."
        )
    try:
        PretrainedImageClassifier(**params)._check_parameters()
    except InvalidParameterError as error:
        raise InvalidParameterError(f"backbones[{position}]: {error}") from None
    return params


def _resolve(params: dict[str, Any], seed: int) -> tuple[RankedBackbone, Backbone | None]:
    """Return the row of a network before it is measured, and the network, or None if it is unavailable."""
    wanted, weights = params["backbone"], params.get("weights", "default")
    try:
        backbone = resolve_backbone(wanted, weights, params.get("image_size"), seed)
    except (UnknownBackboneError, InvalidParameterError):
        raise
    except (BackboneError, WeightsError) as error:
        status = str(error)
    except Exception as error:  # a callable may raise anything, which must not end the comparison of the other networks
        if isinstance(wanted, str):
            raise
        status = f"The callable raised {type(error).__name__}: {error}"
    else:
        status = OK
    name = wanted if isinstance(wanted, str) else _name_of(wanted)
    if status != OK:
        return RankedBackbone(backbone=name, weights=str(weights), status=status, params=params), None
    named = RankedBackbone(backbone=name, weights=backbone.weights, status=OK, params=params)
    return replace(named, image_size=backbone.preprocessing.crop), backbone


def _name_of(function: Any) -> str:
    """Return the name of a callable; for a partial function, the name of the inner function."""
    while isinstance(function, functools.partial):
        function = function.func
    return qualified_name(function)


def _check_scoring(
    scoring: Any, targets: ClassTargets, splits: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Callable[..., float]:
    """Return the scorer, after a trial with random features on each fold, before any image passes through a network."""
    if not isinstance(scoring, str) and not callable(scoring):
        raise InvalidParameterError(f"scoring={shown(scoring)} must be the name of one scorer, or one callable.")
    labels = targets.classes[targets.codes]
    noise = np.random.default_rng(0).random((len(labels), 2), dtype=np.float32)
    fold = "this y"
    try:
        layer = _OutputLayer(StageLayout.of_output(noise.shape[1]))
        scorer = check_scoring(layer, scoring)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about predictions from noise say nothing about the images
            scores = []
            for number, (train, test) in enumerate(splits):
                fold = f"this y in fold {number}"
                scores.append(scorer(clone(layer).guessing(noise, labels[train]), noise[test], labels[test]))
    except Exception as error:  # a callable may raise any exception
        raise InvalidParameterError(
            f"scoring={shown(scoring)} is not possible with {fold}: {shortened(str(error), 500)}"
        ) from error
    for number, score in enumerate(scores):
        if not isinstance(score, Real | np.number):
            raise InvalidParameterError(
                f"scoring={shown(scoring)} returned a {type(score).__name__}; it must return a number."
            )
        if not np.isfinite(float(score)):
            raise InvalidParameterError(
                f"scoring={shown(scoring)} returned {score} for fold {number}. Choose another scorer, or a cv "
                "whose folds have all classes."
            )
    return scorer


def _splits(cv: Any, targets: ClassTargets, groups: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the folds, which are the same for all networks."""
    n_images = len(targets.codes)
    groups = None if groups is None else check_complete(groups, "groups")
    if groups is not None and len(groups) != n_images:
        raise InvalidParameterError(f"groups has shape {groups.shape}: pass one group for each of {n_images} images.")
    try:
        folds = check_cv(cv, targets.codes, classifier=True)
        given = folds.split(np.zeros(n_images), targets.codes, groups)
        splits = [(np.arange(n_images)[train], np.arange(n_images)[test]) for train, test in given]
        if not splits:
            raise ValueError("it has no folds.")
        for number, (train, test) in enumerate(splits):
            _check_fold(targets.codes, number, train, test)
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidParameterError(f"cv={shown(cv)} is not possible with this y: {error}") from error
    return splits


def _check_fold(codes: np.ndarray, number: int, train: np.ndarray, test: np.ndarray) -> None:
    if not len(test):
        raise ValueError(f"fold {number} scores no images.")
    if len(both := np.intersect1d(train, test)):
        raise ValueError(f"fold {number} scores images that it trains on, such as X[{both[0]}].")
    if len(np.unique(codes[train])) < 2:
        raise ValueError(f"fold {number} trains on fewer than two classes. Shuffle, or stratify by class.")
