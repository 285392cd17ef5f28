"""A cross-validated estimate after a fit: accuracy for classes, average precision for labels, R² for numbers.

Commands import this module when they run, because it imports scikit-learn, which would delay help and usage errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold

from sktl._targets.folds import deal

from .command_messages import printable
from .metrics_text import LabelMetrics, NumberMetrics
from .model_outputs import kind_of, names_of, number_names
from .predictions import values_of

_FOLDS = 5
# No estimate is computed if it would take longer than the fit and longer than this.
_SECONDS = 10.0


@dataclass(frozen=True)
class _Images:
    """Paths of images, what they show, and their groups if they have any."""

    paths: np.ndarray
    target: np.ndarray
    groups: np.ndarray | None

    def take(self, rows: np.ndarray) -> _Images:
        """Return some of the images."""
        return _Images(self.paths[rows], self.target[rows], None if self.groups is None else self.groups[rows])

    def folds(self, kind: str, n_folds: int) -> Any:
        """Return folds with similar proportions of each class or label, in which images of a group stay together."""
        if kind == "labels" or self.groups is not None:
            strata = np.zeros(len(self.paths), np.int64) if kind == "numbers" else self.target
            strata = np.unique(strata, return_inverse=True)[1] if strata.ndim == 1 else strata
            return PredefinedSplit(deal(strata, self.groups, n_folds, seed=0).of_sample)
        return (KFold if kind == "numbers" else StratifiedKFold)(n_folds, shuffle=True, random_state=0)


def estimate(
    estimator: Any, paths: np.ndarray, target: np.ndarray, seconds: float, groups: np.ndarray | None = None
) -> str:
    """Return a sentence with cross-validated figures, or advice if the estimate would take longer than the fit.

    Parameters
    ----------
    estimator : PretrainedImageClassifier or PretrainedImageRegressor
        Fitted on these images.
    paths : array of str of shape (n_samples,)
    target : array of shape (n_samples,) or (n_samples, n_columns)
    seconds : float
        Duration of the fit.
    groups : array of shape (n_samples,), default=None
        Groups of images, which folds do not split.

    Raises
    ------
    SktlError
        If a fold cannot be fitted.
    """
    used = np.delete(np.arange(len(paths)), [failure.position for failure in estimator.invalid_images_])
    images, kind = _Images(paths, target, groups).take(used), kind_of(estimator)
    n_folds = min(_FOLDS, int(estimator.class_count_.min()) if kind == "classes" else len(used))
    if n_folds < 2 and kind == "classes":
        alone = estimator.classes_[estimator.class_count_ < 2]
        name, n, why = printable(str(alone[0])), len(alone), "The accuracy is unknown, because"
        if n == 1:
            return f"{why} the class {name} has only one image. Add images of it."
        return f"{why} {n} classes, such as {name}, have only one image each. Add images of them."
    if n_folds < 2:
        return "The accuracy is unknown, because there is only one image. Add images."
    if images.groups is not None and (n_folds := min(n_folds, len(np.unique(images.groups)))) < 2:
        return "The accuracy is unknown, because there is only one group. Add images of others."
    expected = n_folds * sum(row.get("dur", 0.0) for row in estimator.history_)  # the start of a phase has no duration
    # Without a cache, or with new random weights in each fit, all images would pass through the network in each fold.
    is_new = estimator.cache is False or (estimator.weights is None and estimator.random_state is None)
    if estimator.trainable_stages != 0 or is_new or expected > max(seconds, _SECONDS):
        return "To measure the accuracy, run `sktl evaluate` with images that were not used for training."
    copy = clone(estimator).set_params(verbose=0, checkpoint=None, cache=estimator._cache_place())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit has already issued them
        estimated = {"classes": _accuracy, "labels": _average_precision, "numbers": _r2}[kind]
        figures = estimated(copy, images, images.folds(kind, n_folds), names_of(estimator))
    several = (
        ", or several images of one subject, which --labels TABLE --groups COLUMN keeps in one fold"
        if groups is None
        else ""
    )
    where = " across groups" if groups is not None else ""
    return f"{figures}\nThe estimate is too high if there are copies{where}, which `sktl audit` finds{several}."


def _accuracy(copy: Any, images: _Images, folds: Any, names: list[str]) -> str:
    found = _held_out(copy, images, folds, lambda fitted, paths: fitted.predict(paths))
    right, balanced = found == images.target, balanced_accuracy_score(images.target, found)
    scores = np.array([right[test].mean() for _, test in folds.split(images.paths, images.target)])
    classes, counts = np.unique(images.target, return_counts=True)
    of_each = f" Balanced accuracy, the mean over classes: {balanced:.3f}." if counts.max() > 2 * counts.min() else ""
    return (
        f"Estimated accuracy on new images: {scores.mean():.3f} ({_of(folds)}, from {scores.min():.3f} to "
        f"{scores.max():.3f}); always answering {printable(str(classes[counts.argmax()]))} gives "
        f"{counts.max() / counts.sum():.3f}.{of_each}"
    )


def _of(folds: Any) -> str:
    return f"{folds.get_n_splits()}-fold cross-validation"


def _average_precision(copy: Any, images: _Images, folds: Any, names: list[str]) -> str:
    target = images.target
    metrics = LabelMetrics(names, target, _held_out(copy, images, folds, values_of))
    if metrics.macro is None:
        return "The average precision is unknown, because no image has a label."
    present = target.any(axis=0)
    n_labels = f"{len(names)} labels" if present.all() else "the labels that some image has"
    return (
        f"Estimated average precision on new images: {metrics.macro:.3f} (mean over {n_labels}, {_of(folds)}); "
        f"guessing gives {target[:, present].mean():.3f}."
    )


def _r2(copy: Any, images: _Images, folds: Any, names: list[str]) -> str:
    truth = images.target.reshape(len(images.target), -1)
    headings = number_names(names, truth.shape[1])
    metrics = NumberMetrics(headings, images.paths, truth, _held_out(copy, images, folds, values_of))
    if metrics.r2 is None:
        return "R2 is unknown, because all images have the same number."
    means = "mean over the numbers, " if len(headings) > 1 else ""
    errors = [f"{error:.3g}" for error in metrics.mean_absolute_errors]
    of_each = ", ".join(f"{printable(name)} {error}" for name, error in zip(headings, errors, strict=True))
    return (
        f"Estimated R2 on new images: {metrics.r2:.3f} ({means}{_of(folds)}); mean absolute error: "
        f"{errors[0] if len(errors) == 1 else of_each}."
    )


def _held_out(copy: Any, images: _Images, folds: Any, predict: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
    """Return the predictions for each image by an estimator that was not trained on its fold.

    They are scored together, because a fold may have no image of a class or with a label, or only one number.
    """
    rows, found = [], []
    for train, test in folds.split(images.paths, images.target):
        training = images.take(train)
        fitted = clone(copy).fit(training.paths, training.target, groups=training.groups)
        rows.append(test)
        found.append(predict(fitted, images.paths[test]))
    return np.asarray(np.concatenate(found)[np.argsort(np.concatenate(rows))])
