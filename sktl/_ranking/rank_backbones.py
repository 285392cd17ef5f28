"""`rank_backbones`: compare pretrained networks on the same images, with one pass through each."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from sklearn.base import clone

from sktl._backbones.backbone import Backbone
from sktl._backbones.resolve_backbone import BackboneName, Weights, resolve_backbone
from sktl._backbones.taps import StageLayout
from sktl._backbones.user_networks import qualified_name
from sktl._backbones.weight_downloads import one_outage
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._features.extractor import FeatureExtractor
from sktl._features.frozen_trunk import chunk_size
from sktl._images.image_reader import ImageReader
from sktl._images.samples import Sample
from sktl._short_text import LONGEST_REASON, error_words, shown_value
from sktl._storage.cache import NO_CACHE
from sktl._targets.base_targets import Targets
from sktl._targets.number_targets import NumberTargets, number_columns, suggesting_classification, suggesting_regression
from sktl._targets.sample_groups import distinct_groups
from sktl._training.json_values import plain
from sktl._utils.devices import check_precision, resolve_device
from sktl._utils.process_errors import is_from_signal_handler, raise_process_error
from sktl._utils.settings_isolation import isolated
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

from .cv_and_scoring import Splits, check_scorer, check_splits, default_scoring
from .features_estimator import FeaturesEstimator
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
_NAMES = ("backbone", "weights", "image_size", "n_stages")
_MEGA = 1e6
_TASKS: dict[str, type[PretrainedImageClassifier | PretrainedImageRegressor]] = {
    "classification": PretrainedImageClassifier,
    "regression": PretrainedImageRegressor,
}


@dataclass(frozen=True)
class _Trial:
    """Images, folds and scorer that all networks are measured with.

    Parameters
    ----------
    template : PretrainedImagePredictor
        An estimator with the parameters that all networks share.
    device : torch.device
    samples : list of Sample
    columns : float64 array of shape (n_samples, n_columns)
        What LogME explains.
    y : array
        What the scorer compares predictions with.
    groups : array of shape (n_samples,) or None
        What the choice of features and penalty keeps together.
    splits : list of (rows to train on, rows to score)
    scorer : callable
    """

    template: PretrainedImagePredictor
    device: torch.device
    samples: list[Sample]
    columns: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    splits: Splits
    scorer: Callable[..., float]

    def measure(self, row: RankedBackbone, backbone: Backbone) -> RankedBackbone:
        """Return the row of a network with its measurements, or with the reason why it could not be measured."""
        try:
            network = backbone.build()
            size = sum(parameter.numel() for parameter in network.parameters())
            n_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
            del network
            extractor = self.template._extractor(backbone, self.device, self.template.engine, self.template.precision)
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
            logme=log_evidence(own, self.columns),
            seconds_per_image=seconds,
            million_parameters=size / _MEGA,
            megabytes=n_bytes / _MEGA,
            n_features=own.shape[1],
            status=OK,
        )

    def _scores(self, features: np.ndarray, layout: StageLayout) -> np.ndarray:
        seeds = self.template._seeds()
        workers = n_threads(self.template.n_jobs)
        layer = FeaturesEstimator(type(self.template)(), layout, (seeds.head, seeds.choice), workers)
        scores = []
        for train, test in self.splits:
            groups = None if self.groups is None else self.groups[train]
            fitted = clone(layer).fit(features[train], self.y[train], groups)
            scores.append(self.scorer(fitted, features[test], self.y[test]))
        return np.array(scores, dtype=np.float64)


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
    task: str = "classification",
    cv: Any = 5,
    scoring: str | Callable[..., float] = "auto",
    groups: Any = None,
    image_shape: Sequence[int] | None = None,
    image_reader: ImageReader | None = None,
    device: str | torch.device = "auto",
    engine: str = "auto",
    precision: str = "float32",
    cache: str | os.PathLike[str] | Literal[False] = "auto",
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> BackboneRanking:
    """Compare pretrained networks on your images; each network embeds each image once.

    For each network, the output layer of ``PretrainedImageClassifier(trainable_stages=0)``, or of
    :class:`PretrainedImageRegressor`, is cross-validated on the same folds. The ranking also contains LogME [1]_, the
    evidence of the labels or numbers given the features, which needs no training and no folds. Features are cached, and
    later fits with the same network reuse them.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
    y : array-like of shape (n_samples,) or (n_samples, n_columns)
        Labels of at least two classes; a table of 0 and 1 with one column per label; or, with `task="regression"`,
        numbers.
    backbones : iterable of str, callable, (backbone, weights) pairs or mappings, default=None
        The networks: values of the parameter `backbone`, with or without `weights`, or mappings with the key
        `"backbone"` and, optionally, `"weights"`, `"image_size"` and `"n_stages"`. Random weights, as in
        ``("efficientnet_lite0", None)``, are a control that shows how much pretraining helps. None compares
        `"efficientnet_lite0"`, `"efficientnet_lite1"`, `"efficientnet_lite2"`, `"resnet50"`, `"convnext_tiny"` and
        `"timm/vit_small_patch16_224"`. All of these except the first need another package or are downloaded once, 300
        MB in total.
    task : {"classification", "regression"}, default="classification"
        Whether `y` contains classes or labels, or numbers. Integers are classes unless you choose `"regression"`.
    cv : int, cross-validation generator or iterable, default=5
        Folds. An integer is the number of folds. For classes without groups, they are stratified k-fold splits without
        shuffling. Otherwise, they are random; they have similar proportions of each class or label, and groups stay
        together. A fold must not score images that it trains on.
    scoring : str or callable, default="auto"
        Name of a scikit-learn scorer, or a callable (estimator, features, y) that returns a number; higher is better.
        `"auto"` is `"accuracy"` for classes, `"average_precision"` for several labels and `"r2"` for numbers.
    groups : array-like of shape (n_samples,), default=None
        Groups of images that stay together, such as patients: in the folds, unless `cv` is a generator that ignores
        groups, and in the choice of features and penalty within each fold. Missing values raise an error.
    image_shape : tuple of int, default=None
        Shape of one image, if `X` contains flattened rows.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read, as in :class:`PretrainedImageClassifier`.
    device : str or torch.device, default="auto"
        Where the networks run.
    engine : {"auto", "torch", "openvino"}, default="auto"
        Library that runs the networks on a CPU, as in :class:`PretrainedImageClassifier`.
    precision : {"float32", "bfloat16"}, default="float32"
        The precision in which the networks compute features, as in :class:`PretrainedImageClassifier`.
    cache : "auto", path, URL or False, default="auto"
        Where features are cached, as in :class:`PretrainedImageClassifier`. Each image passes through each network
        once, even without a cache.
    n_jobs : int, default=None
        Number of threads of a pass. None uses the number that torch uses; -1 uses all cores.
    random_state : int, RandomState or None, default=None
        Controls the initial output layers, the folds that choose `feature_stages` and `weight_decay`, and random
        weights. All networks use the same random draws.
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
        If `X`, `y` or `groups` is not in a supported format, or images cannot be read.
    DeviceError
        If the device is unavailable, or if `precision="bfloat16"` and the device has no native bfloat16.

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
    if not isinstance(task, str) or task not in _TASKS:
        raise InvalidParameterError(f'task={shown_value(task)} must be "classification" or "regression".')
    template = _TASKS[task](
        image_shape=image_shape, image_reader=image_reader, device=device, engine=engine,
        precision=precision, cache=cache, n_jobs=n_jobs, verbose=verbose, random_state=random_state,
    )  # fmt: skip
    template._check_parameters()
    found = resolve_device(device)
    check_precision(precision, found)
    if not isinstance(random_state, Integral):  # a generator or None would draw other seeds for each network
        template.random_state = template._draw_seeds(1)[0]
    seeds = template._seeds()
    resolved = [_resolve(params, seeds.backbone) for params in entries]
    samples = template._as_samples(X, reset=True)
    with suggesting_regression(y) if task == "classification" else suggesting_classification():
        targets = template._check_targets(y, None, len(samples))
    plain = _plain(targets, y)
    names, numbers = distinct_groups(groups, len(samples)) or (None, None)
    splits = check_splits(cv, targets, plain, None if names is None else names[numbers], seeds.split)
    if isinstance(scoring, str) and scoring == "auto":
        scoring = default_scoring(targets)
    of_noise = FeaturesEstimator(type(template)(), StageLayout.of_output(2))
    scorer = check_scorer(scoring, of_noise, plain, splits)
    trial = _Trial(template, found, samples, _columns(targets), plain, numbers, splits, scorer)
    with one_outage():
        rows = [row if backbone is None else trial.measure(row, backbone) for row, backbone in resolved]
    return BackboneRanking(rows, scoring if isinstance(scoring, str) else "score")


def _plain(targets: Targets, y: Any) -> np.ndarray:
    """Return `y` as an array, of whatever container it was."""
    if not isinstance(targets, NumberTargets):
        return targets.outputs.observed(targets.values())
    numbers = number_columns(y, "y")  # exactly, while the standardized numbers are rounded
    return numbers[:, 0] if targets.units.is_vector else numbers


def _columns(targets: Targets) -> np.ndarray:
    """Return the labels or numbers as columns, of zeros and ones for classes."""
    values = targets.values()
    if values.ndim == 2:
        return values
    columns = np.zeros((len(values), len(targets.outputs)))
    columns[np.arange(len(values)), values] = 1
    return columns


def _check_entries(backbones: Any) -> list[dict[str, Any]]:
    """Return the parameters of the networks in `backbones`."""
    if isinstance(backbones, str | Mapping | os.PathLike) or not isinstance(backbones, Iterable):
        raise InvalidParameterError(
            f"backbones={shown_value(backbones)} must be a list of networks: pass [{shown_value(backbones)}]."
        )
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
            f"backbones[{position}]={shown_value(entry)} is not a network: pass a name, a callable, a pair (backbone, "
            "weights) or a mapping with the key 'backbone' and, optionally, 'weights', 'image_size' and 'n_stages'."
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
        n_stages = plain(params.get("n_stages", "all"))
        backbone = resolve_backbone(wanted, weights, params.get("image_size"), seed, n_stages)
    except (UnknownBackboneError, InvalidParameterError):
        raise
    except (BackboneError, WeightsError) as error:
        status = str(error)
    except Exception as error:  # a callable may raise anything, which must not end the comparison of the other networks
        if isinstance(wanted, str) or is_from_signal_handler(error):
            raise_process_error(error)
            raise
        status = f"The callable raised {error_words(error, LONGEST_REASON)}"
    else:
        status = OK
    name = wanted if isinstance(wanted, str) else _name_of(wanted)
    if status != OK:
        return RankedBackbone(backbone=name, weights=str(weights), status=status, params=params), None
    named = RankedBackbone(backbone=name, weights=backbone.weights, status=OK, params=params)
    return replace(named, image_size=backbone.preprocessing.crop, n_stages=backbone.first_stages or "all"), backbone


def _name_of(function: Any) -> str:
    """Return the name of a callable; for a partial function, the name of the inner function."""
    while isinstance(function, functools.partial):
        function = function.func
    return qualified_name(function)
