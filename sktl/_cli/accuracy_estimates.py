"""A cross-validated estimate after a fit: accuracy for classes, average precision for labels, R² for numbers.

Commands import this module when they run, because it imports scikit-learn, which would delay help and usage errors.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold, cross_val_score

from sktl._targets.folds import deal

from .command_messages import shown
from .metrics_text import LabelMetrics, NumberMetrics
from .model_outputs import kind_of, names_of, number_names
from .predictions import values_of

_FOLDS = 5
# No estimate is computed if it would take longer than the fit and longer than this.
_SECONDS = 10.0


def estimate(estimator: Any, paths: np.ndarray, target: np.ndarray, seconds: float) -> str:
    """Return a sentence with cross-validated figures, or advice if the estimate would take longer than the fit.

    Parameters
    ----------
    estimator : PretrainedImageClassifier or PretrainedImageRegressor
        Fitted on these images.
    paths : array of str of shape (n_samples,)
    target : array of shape (n_samples,) or (n_samples, n_columns)
    seconds : float
        Duration of the fit.

    Raises
    ------
    SktlError
        If a fold cannot be fitted.
    """
    used = np.delete(np.arange(len(paths)), [failure.position for failure in estimator.invalid_images_])
    kind = kind_of(estimator)
    n_folds = min(_FOLDS, int(estimator.class_count_.min()) if kind == "classes" else len(used))
    if n_folds < 2 and kind == "classes":
        alone = shown(str(estimator.classes_[estimator.class_count_.argmin()]))
        return f"The accuracy is unknown, because the class {alone} has only one image. Add images of it."
    if n_folds < 2:
        return "The accuracy is unknown, because there is only one image. Add images."
    expected = n_folds * sum(row.get("dur", 0.0) for row in estimator.history_)  # the start of a phase has no duration
    # Without a cache, or with new random weights in each fit, all images would pass through the network in each fold.
    is_new = estimator.cache is False or (estimator.weights is None and estimator.random_state is None)
    if estimator.trainable_stages != 0 or is_new or expected > max(seconds, _SECONDS):
        return "To measure the accuracy, run `sktl evaluate` with images that were not used for training."
    copy = clone(estimator).set_params(verbose=0, checkpoint=None, cache=estimator._cache_place())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit has already issued them
        estimated = {"classes": _accuracy, "labels": _average_precision, "numbers": _r2}[kind]
        figures = estimated(copy, paths[used], target[used], n_folds, names_of(estimator))
    return (
        f"{figures}\nThe estimate is too high if some images are nearly equal, such as several images of one subject; "
        "`sktl audit` finds them."
    )


def _accuracy(copy: Any, paths: np.ndarray, target: np.ndarray, n_folds: int, names: list[str]) -> str:
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    scores = cross_val_score(copy, paths, target, cv=folds, scoring="accuracy", error_score="raise")
    return (
        f"Estimated accuracy on new images: {scores.mean():.3f} ({n_folds}-fold cross-validation, from "
        f"{scores.min():.3f} to {scores.max():.3f})."
    )


def _average_precision(copy: Any, paths: np.ndarray, target: np.ndarray, n_folds: int, names: list[str]) -> str:
    folds = PredefinedSplit(deal(target, None, n_folds, seed=0).of_sample)
    metrics = LabelMetrics(names, target, _held_out_values(copy, paths, target, folds))
    if metrics.macro is None:
        return "The average precision is unknown, because no image has a label."
    present = target.any(axis=0)
    n_labels = f"{len(names)} labels" if present.all() else "the labels that some image has"
    return (
        f"Estimated average precision on new images: {metrics.macro:.3f} (mean over {n_labels}, {n_folds}-fold "
        f"cross-validation); guessing gives {target[:, present].mean():.3f}."
    )


def _r2(copy: Any, paths: np.ndarray, target: np.ndarray, n_folds: int, names: list[str]) -> str:
    folds = KFold(n_folds, shuffle=True, random_state=0)
    truth = target.reshape(len(target), -1)
    headings = number_names(names, truth.shape[1])
    metrics = NumberMetrics(headings, paths, truth, _held_out_values(copy, paths, target, folds))
    if metrics.r2 is None:
        return "R2 is unknown, because all images have the same number."
    means = "mean over the numbers, " if len(headings) > 1 else ""
    errors = [f"{error:.3g}" for error in metrics.mean_absolute_errors]
    of_each = ", ".join(f"{shown(name)} {error}" for name, error in zip(headings, errors, strict=True))
    return (
        f"Estimated R2 on new images: {metrics.r2:.3f} ({means}{n_folds}-fold cross-validation); mean absolute "
        f"error: {errors[0] if len(errors) == 1 else of_each}."
    )


def _held_out_values(copy: Any, paths: np.ndarray, target: np.ndarray, folds: Any) -> np.ndarray:
    """Return the predictions for each image by an estimator that was not trained on its fold.

    They are scored together, because a fold may have no image with a label, or only one number.
    """
    values = np.empty((len(paths), target[0].size))
    for train, test in folds.split(paths):
        values[test] = values_of(clone(copy).fit(paths[train], target[train]), paths[test])
    return values
