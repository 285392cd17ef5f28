"""Figures of accuracy: a cross-validated estimate after a fit, and the agreement of predictions with labels.

Commands import this module when they run, because it imports scikit-learn, which would delay help and usage errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import classification_report, confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold, cross_val_score

import sktl

from .command_messages import shown

_FOLDS = 5
# No estimate is computed if it would take longer than the fit and longer than this.
_SECONDS = 10.0


def estimate(classifier: sktl.PretrainedImageClassifier, paths: np.ndarray, target: np.ndarray, seconds: float) -> str:
    """Return a sentence with the cross-validated accuracy, or advice if the estimate would take longer than the fit.

    Parameters
    ----------
    classifier : PretrainedImageClassifier
        Fitted on these images.
    paths, target : array of str of shape (n_samples,)
    seconds : float
        Duration of the fit.

    Raises
    ------
    SktlError
        If a fold cannot be fitted.
    """
    n_folds = min(_FOLDS, int(classifier.class_count_.min()))
    if n_folds < 2:
        alone = shown(str(classifier.classes_[classifier.class_count_.argmin()]))
        return f"The accuracy is unknown, because the class {alone} has only one image. Add images of it."
    expected = n_folds * sum(row.get("dur", 0.0) for row in classifier.history_)  # the start of a phase has no duration
    # Without a cache, or with new random weights in each fit, all images would pass through the network in each fold.
    is_new = classifier.cache is False or (classifier.weights is None and classifier.random_state is None)
    if classifier.trainable_stages != 0 or is_new or expected > max(seconds, _SECONDS):
        return "To measure the accuracy, run `sktl evaluate` with images that were not used for training."
    used = np.delete(np.arange(len(paths)), [failure.position for failure in classifier.invalid_images_])
    copy = clone(classifier).set_params(verbose=0, checkpoint=None, cache=classifier._cache_place())
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit has already issued them
        scores = cross_val_score(copy, paths[used], target[used], cv=folds, scoring="accuracy", error_score="raise")
    return (
        f"Estimated accuracy on new images: {scores.mean():.3f} ({n_folds}-fold cross-validation, from "
        f"{scores.min():.3f} to {scores.max():.3f}).\nThe estimate is too high if the folder "
        "contains nearly equal images, such as several images of one subject."
    )


@dataclass(frozen=True)
class Agreement:
    """Agreement of predictions with true classes.

    Parameters
    ----------
    truth, predictions : array of str of shape (n_samples,)
    """

    truth: np.ndarray
    predictions: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """All classes, sorted."""
        return np.unique(np.concatenate([self.truth, self.predictions]))

    @property
    def accuracy(self) -> float:
        """Fraction of images whose prediction is correct."""
        return float((self.truth == self.predictions).mean())

    def confusion(self) -> list[list[int]]:
        """Return the confusion matrix: true classes in rows, predictions in columns."""
        counts: list[list[int]] = confusion_matrix(self.truth, self.predictions, labels=self.labels).tolist()
        return counts

    def of_classes(self) -> dict[str, Any]:
        """Return precision, recall, F1 and number of images by class.

        Not from classification_report, whose dictionary has keys such as "accuracy" that a class may have as its name.
        """
        figures = precision_recall_fscore_support(self.truth, self.predictions, labels=self.labels, zero_division=0.0)
        names = ("precision", "recall", "f1-score", "support")
        rows = zip(*(column.tolist() for column in figures), strict=True)
        return {str(label): dict(zip(names, row, strict=True)) for label, row in zip(self.labels, rows, strict=True)}

    def report(self, names: Sequence[str]) -> str:
        """Return scikit-learn's table of these figures, with names for `labels`."""
        table: str = classification_report(
            self.truth, self.predictions, labels=self.labels, target_names=names, zero_division=0.0, digits=3
        )
        return table
