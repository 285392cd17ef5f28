"""The parameters `cv` and `scoring`: folds and a scorer, checked before any image passes through a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv

from sktl._short_text import count, one_line, shown_value, type_of
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl.exceptions import InvalidParameterError

from .features_estimator import FeaturesEstimator

# Rows to train on, and rows to score.
Splits: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
_FOLDS = 5


def default_scoring(targets: Targets) -> str:
    """Return the name of the usual scorer for classes, labels or numbers."""
    if isinstance(targets, ClassTargets):
        return "accuracy"
    return "average_precision" if isinstance(targets, LabelTargets) else "r2"


def check_scorer(scoring: Any, layer: FeaturesEstimator, y: np.ndarray, splits: Splits) -> Callable[..., float]:
    """Return the scorer, after a trial with random features on each fold.

    Parameters
    ----------
    scoring : str or callable
    layer : FeaturesEstimator
        For features of any number.
    y : array
    splits : list of (rows to train on, rows to score)

    Raises
    ------
    InvalidParameterError
        If it is not a scorer, or cannot score these folds.
    """
    if not isinstance(scoring, str) and not callable(scoring):
        raise InvalidParameterError(f"scoring={shown_value(scoring)} must be the name of one scorer, or one callable.")
    noise = np.random.default_rng(0).random((len(y), 2), dtype=np.float32)
    fold = "this y"
    try:
        scorer = check_scoring(layer, scoring)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about predictions from noise say nothing about the images
            scores = []
            for number, (train, test) in enumerate(splits):
                fold = f"this y in fold {number}"
                scores.append(scorer(clone(layer).guess(noise, y[train]), noise[test], y[test]))
    except Exception as error:  # a callable may raise any exception
        raise InvalidParameterError(
            f"scoring={shown_value(scoring)} is not possible with {fold}: {one_line(error, 500)}"
        ) from error
    _check_scores(scoring, scores)
    return scorer


def _check_scores(scoring: Any, scores: Sequence[Any]) -> None:
    for number, score in enumerate(scores):
        if not isinstance(score, Real | np.number):
            raise InvalidParameterError(
                f"scoring={shown_value(scoring)} returned {type_of(score)}; it must return a number."
            )
        if not np.isfinite(float(score)):
            raise InvalidParameterError(
                f"scoring={shown_value(scoring)} returned {score} for fold {number}. Choose another scorer, or a cv "
                "whose folds have all classes or labels, and several images."
            )


def check_splits(cv: Any, targets: Targets, y: np.ndarray, groups: np.ndarray | None, seed: int) -> Splits:
    """Return the folds, which are the same for all networks.

    Parameters
    ----------
    cv : int, cross-validation generator, iterable or None
    targets : Targets
    y : array
        The same targets, for generators.
    groups : array of shape (n_samples,) or None
    seed : int
        Seed of the folds of several labels, of numbers and of groups.

    Raises
    ------
    InvalidParameterError
        If `cv` and `groups` do not suit `y`.
    """
    try:
        rows = np.arange(len(y))
        splits = [(rows[train], rows[test]) for train, test in _folds(cv, targets, y, groups, seed)]
        if not splits:
            raise ValueError("it has no folds.")
        for number, (train, test) in enumerate(splits):
            _check_fold(targets, groups, number, train, test)
    except (ValueError, TypeError, IndexError) as error:
        given = "this y" if groups is None else "this y and these groups"
        raise InvalidParameterError(f"cv={shown_value(cv)} is not possible with {given}: {error}") from error
    return splits


def _folds(cv: Any, targets: Targets, y: np.ndarray, groups: np.ndarray | None, seed: int) -> Iterable[tuple[Any, Any]]:
    of_classes, is_number = isinstance(targets, ClassTargets), cv is None or isinstance(cv, Integral)
    if is_number and (groups is not None or not of_classes):
        return _dealt(_FOLDS if cv is None else int(cv), targets, groups, seed)
    strata = targets.codes if isinstance(targets, ClassTargets) else y
    return check_cv(cv, strata, classifier=of_classes).split(np.zeros(len(y)), strata, groups)


def _dealt(n_folds: int, targets: Targets, groups: np.ndarray | None, seed: int) -> Iterable[tuple[Any, Any]]:
    """Return random folds with similar proportions of each class or label, in which groups stay together.

    Without groups, scikit-learn's folds of labels and numbers would be consecutive images: sorted images would then be
    trained on one end of the scale and scored on the other.
    """
    if n_folds < 2:
        raise ValueError("pass at least 2 folds.")
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
    dealt = targets.with_changes(groups=numbers).deal(n_folds, seed)
    if dealt.n_folds < n_folds and groups is not None:
        advice = f": pass cv={dealt.n_folds}" if dealt.n_folds > 1 else ", and folds do not split groups"
        raise ValueError(f"groups has only {count(dealt.n_folds, 'group')}{advice}.")
    if dealt.n_folds < n_folds:
        raise ValueError(f"only {dealt.n_folds} folds are possible.")
    held_out = [dealt.of_sample == fold for fold in range(n_folds)]
    return [(np.flatnonzero(~some), np.flatnonzero(some)) for some in held_out]


def _check_fold(targets: Targets, groups: np.ndarray | None, number: int, train: np.ndarray, test: np.ndarray) -> None:
    if not len(test):
        raise ValueError(f"fold {number} scores no images.")
    if len(both := np.intersect1d(train, test)):
        raise ValueError(f"fold {number} scores images that it trains on, such as X[{both[0]}].")
    if isinstance(targets, ClassTargets) and len(np.unique(targets.codes[train])) < 2:
        splits_groups = groups is None or bool(np.isin(groups[train], groups[test]).any())
        advice = "Shuffle, or stratify by class" if splits_groups else "Each class needs groups in at least two folds"
        raise ValueError(f"fold {number} trains on fewer than two classes. {advice}.")
    if len(train) < 2:
        raise ValueError(f"fold {number} trains on fewer than two images.")
