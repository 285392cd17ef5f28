"""Predictions for each image by models that were not trained on it, without another pass through the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from sktl._backbones.taps import StageLayout
from sktl._estimators.auto_parameters import Chosen, TrainingSet, choose, resolve_recipe
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._evaluation.predicted_values import of_ones
from sktl._head.held_out_outputs import held_out_outputs
from sktl._ranking.features_estimator import FeaturesEstimator
from sktl._targets.base_targets import Targets
from sktl._targets.folds import Folds
from sktl._targets.labeled_samples import Labeled
from sktl._targets.outputs import LogitOutputs
from sktl._utils.threads import n_threads
from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning, InvalidParameterError

# For more images, folds share the principal axes of the features, which takes a fraction of the time. This costs about
# a point of precision among the most suspicious labels.
_MOST_ONE_BY_ONE = 4096
# Images that a model needs to learn from.
_FEWEST = 2
_OWN_FITS = (PretrainedImageClassifier.fit, PretrainedImageRegressor.fit)


@dataclass(frozen=True)
class OutOfFold:
    """Predictions by models that were fitted without the image's fold.

    Attributes
    ----------
    values : float64 array of shape (n_samples, n_columns)
        Probabilities of classes or labels, or numbers; NaN for images that no fold held out.
    folds : int64 array of shape (n_samples,)
        Fold that held the image out; -1 for none.
    learned : bool array of shape (n_samples, n_columns)
        Whether all models that predicted the image could learn the class, label or number.
    """

    values: np.ndarray
    folds: np.ndarray
    learned: np.ndarray


@dataclass(frozen=True)
class Learner:
    """How predictions are made: by the estimator's output layer on features, or by the whole estimator on images.

    Parameters
    ----------
    estimator : estimator
        Not fitted here; clones of it are.
    given : callable
        Returns some of the usable images, by their positions, in a container like the one in which they were passed.
    features : float32 array of shape (n_samples, n_features) or None
        Features of the estimator, if its output layer is all that a fit trains.
    layout : StageLayout or None
        Layout of the features.
    seeds : (int, int)
        Seeds of the output layer, and of the folds that choose its penalty.
    groups : int array or None
        Groups by the positions of training images, for fits of whole estimators, which may hold out images themselves.
    """

    estimator: Any
    given: Callable[[np.ndarray], Any]
    features: np.ndarray | None
    layout: StageLayout | None
    seeds: tuple[int, int]
    groups: np.ndarray | None = None

    def tuned(self, targets: Targets, rows: np.ndarray) -> Learner:
        """Choose features and penalty once for all folds, on the training images; groups stay together."""
        if self.features is None or self.layout is None:
            return self
        predictor, n_workers = clone(self.estimator), n_threads(self.estimator.n_jobs)
        seen = _rows_of(self.features, rows)
        # Models of many images are trained along the axes of the first choice, whose penalty is therefore the best one.
        # A penalty that is the best at a temperature would be too strong for these models, which have none.
        chosen = choose(predictor, Labeled(seen, targets), self.layout, self.seeds[1], n_workers, in_full=False)
        n_features = self.layout.length(chosen.n_stages)
        recipe = resolve_recipe(predictor, 0, TrainingSet.of(targets), n_features, torch.device("cpu"), chosen)
        predictor.set_params(feature_stages=chosen.n_stages, weight_decay=recipe.weight_decay)
        return replace(self, estimator=predictor, features=self.features[:, :n_features])

    def with_stages(self, tuned: Learner) -> Learner:
        """Return the learner with the number of stages that another one has chosen, and with its own penalty."""
        if self.features is None:
            return self
        stages = tuned.estimator.feature_stages
        return replace(self, estimator=clone(self.estimator).set_params(feature_stages=stages))

    def held_out_values(
        self, targets: Targets, rows: np.ndarray, folds: Folds, trusted: np.ndarray
    ) -> np.ndarray | None:
        """Return predictions for many images, or None if the models of the folds are trained one by one.

        Parameters
        ----------
        targets : Targets
            Targets of the images.
        rows : int array of shape (n_samples,)
            Positions of the images.
        folds : Folds
        trusted : bool array of shape (n_samples,)
            Images to learn from.
        """
        if self.features is None or self.layout is None or len(rows) <= _MOST_ONE_BY_ONE:
            return None
        n_stages = self.layout.count(self.estimator.feature_stages)
        sizes = [size for _, size in self.layout.groups_of(n_stages)]
        chosen = Chosen(n_stages, self.estimator.weight_decay, {})
        cpu, n_features = torch.device("cpu"), sum(sizes)
        recipe = resolve_recipe(self.estimator, 0, TrainingSet.of(targets), n_features, cpu, chosen)
        if recipe.optimizer != "lbfgs":
            return None
        labeled = Labeled(_rows_of(self.features[:, :n_features], rows), targets)
        values = held_out_outputs(labeled, sizes, recipe, folds, trusted, n_threads(self.estimator.n_jobs))
        outputs = targets.outputs
        found = outputs.probabilities(values) if isinstance(outputs, LogitOutputs) else outputs.predict(values)
        return np.asarray(found, dtype=np.float64).reshape(len(rows), -1)

    def predict(self, train: np.ndarray, y: np.ndarray, wanted: np.ndarray, targets: Targets) -> np.ndarray:
        """Fit on some images and return predictions for others, of shape (n_wanted, n_columns).

        Parameters
        ----------
        train, wanted : int array
            Positions of images.
        y : array
            Labels or numbers of the images in `train`.
        targets : Targets
            Targets of all training images. Classes that no image in `train` has get the probability 0.
        """
        if self.features is not None:
            assert self.layout is not None
            n_workers = n_threads(self.estimator.n_jobs)
            layer = FeaturesEstimator(self.estimator, self.layout, self.seeds, n_workers).fit(self.features[train], y)
            return _in_columns(layer, self.features[wanted], targets)
        return _in_columns(self._fitted(train, y), self.given(wanted), targets)

    def _fitted(self, train: np.ndarray, y: np.ndarray) -> Any:
        """Return the estimator fitted on some images, with their groups if it can use them."""
        X = self.given(train)
        if self.groups is None or not has_fit_parameter(self.estimator, "groups"):
            return clone(self.estimator).fit(X, y)
        try:
            return clone(self.estimator).fit(X, y, groups=self.groups[train])
        except InvalidParameterError:
            fitted = clone(self.estimator).fit(X, y)  # raises errors again that have nothing to do with groups
        warn(
            "Early stopping cannot hold out whole groups of the images that a fold's model learns from, so this model "
            "was fitted without groups. Pass an estimator with early_stopping=False.",
            InputWarning,
        )
        return fitted


def learner_of(
    estimator: Any,
    given: Callable[[np.ndarray], Any],
    features: np.ndarray,
    layout: StageLayout,
    seeds: tuple[int, int],
    groups: np.ndarray | None = None,
) -> Learner:
    """Return the learner for an estimator; features are only used if a fit trains nothing but an output layer."""
    if not trains_output_layer_alone(estimator):
        return Learner(estimator, given, None, None, seeds, groups)
    return Learner(estimator, given, features, layout, seeds, groups)


def trains_output_layer_alone(estimator: Any) -> bool:
    """Return True if a fit of an estimator is the training of an output layer on all its features."""
    if not isinstance(estimator, PretrainedImagePredictor) or type(estimator).fit not in _OWN_FITS:
        return False
    return estimator.trainable_stages == 0 and not estimator.early_stopping and not estimator.net_params


def _rows_of(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return features of distinct images in order, without a copy if they are all images."""
    return features if len(rows) == len(features) else features[rows]


def _in_columns(model: Any, X: Any, targets: Targets) -> np.ndarray:
    """Return predictions with one column for each class, label or number of the targets."""
    if not isinstance(targets.outputs, LogitOutputs):
        return np.asarray(model.predict(X), dtype=np.float64).reshape(len(X), -1)
    found = model.predict_proba(X)
    if isinstance(found, list):  # one array for each label, as forests return them
        found = of_ones(found, model.classes_)
    values = np.zeros((len(X), len(targets.outputs)))
    if found.shape[1] == values.shape[1]:
        return np.asarray(found, dtype=np.float64)
    columns = {label: column for column, label in enumerate(targets.outputs.names())}
    values[:, [columns[label] for label in np.asarray(model.classes_).tolist()]] = found
    return values


def out_of_fold(
    learner: Learner,
    targets: Targets,
    plain: np.ndarray,
    rows: np.ndarray,
    cv: Any,
    seed: int,
    trusted: np.ndarray | None = None,
) -> OutOfFold:
    """Return predictions for images by models that were fitted without their folds.

    Parameters
    ----------
    learner : Learner
    targets : Targets
        Targets of the usable training images, whose groups an integer `cv` does not split.
    plain : array
        The same targets in the form of `y`.
    rows : int array of shape (n_samples,)
        Positions of these images.
    cv : int or list of (rows to learn from, rows held out)
    seed : int
    trusted : bool array of shape (n_samples,) or None
        Images to learn from. Predictions are made for all images.
    """
    trusted = np.ones(len(rows), dtype=bool) if trusted is None else trusted
    dealt = targets.deal(int(cv), seed) if isinstance(cv, Integral) else None
    splits = [(train[trusted[train]], held_out) for train, held_out in (cv if dealt is None else _splits(dealt))]
    folds, learned = np.full(len(rows), -1), np.ones((len(rows), len(targets.outputs)), dtype=bool)
    for fold, (train, held_out) in enumerate(splits):
        folds[held_out] = fold
        weights = np.zeros(len(rows))
        weights[train] = targets.weights[train]
        learned[held_out] &= targets.learnable(weights)
    values = None if dealt is None else learner.held_out_values(targets, rows, dealt, trusted)
    if values is None:
        values = _held_out_one_by_one(learner, targets, plain, rows, splits)
    return OutOfFold(values, folds, learned)


def _held_out_one_by_one(
    learner: Learner, targets: Targets, plain: np.ndarray, rows: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the mean prediction for each image by a model for each fold that held it out."""
    values, n_times = np.zeros((len(rows), len(targets.outputs))), np.zeros(len(rows))
    for train, held_out in splits:
        # Images of a fold may be unusable; the other class may have a single image, which is held out.
        if not len(held_out) or len(train) < _FEWEST:
            continue
        if targets.loss == "cross_entropy" and len(np.unique(plain[train])) == 1:
            continue
        values[held_out] += learner.predict(rows[train], plain[train], rows[held_out], targets)
        n_times[held_out] += 1
    values[n_times == 0] = np.nan
    return np.asarray(values / np.maximum(n_times, 1)[:, None])


def _splits(folds: Folds) -> list[tuple[np.ndarray, np.ndarray]]:
    held_out = [folds.of_sample == fold for fold in np.unique(folds.of_sample)]
    return [(np.flatnonzero(~some), np.flatnonzero(some)) for some in held_out if not some.all()]
