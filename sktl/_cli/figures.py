"""Figures of accuracy: what cross-validation expects of a fitted classifier, and how predictions agree with classes.

Imported by the commands that print them, once they are under way.
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

from .words import shown

_FOLDS = 5
# An estimate that takes longer than the fit itself is not made, unless it takes a few seconds.
_SECONDS = 10.0


def estimate(classifier: sktl.PretrainedImageClassifier, paths: np.ndarray, target: np.ndarray, seconds: float) -> str:
    """Return what cross-validation says of the accuracy, where that takes less time than the fit did.

    Parameters
    ----------
    classifier : PretrainedImageClassifier
        Fitted to these images.
    paths, target : array of str of shape (n_samples,)
    seconds : float
        What the fit took.

    Raises
    ------
    SktlError
        If the images of some folds cannot be fitted.
    """
    n_folds = min(_FOLDS, int(classifier.class_count_.min()))
    if n_folds < 2:
        alone = shown(str(classifier.classes_[classifier.class_count_.argmin()]))
        return f"Its accuracy is unknown: the class {alone} has one image. Add images of it."
    expected = n_folds * sum(row.get("dur", 0.0) for row in classifier.history_)  # the start of a phase takes none
    # What is not kept, or drawn anew each time, would pass through the network once for each fold.
    is_new = classifier.cache is False or (classifier.weights is None and classifier.random_state is None)
    if classifier.trainable_stages != 0 or is_new or expected > max(seconds, _SECONDS):
        return "To measure its accuracy, run `sktl evaluate` with images that it was not trained on."
    used = np.delete(np.arange(len(paths)), [failure.position for failure in classifier.invalid_images_])
    copy = clone(classifier).set_params(verbose=0, checkpoint=None, cache=classifier._cache_place())
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit has said the same
        scores = cross_val_score(copy, paths[used], target[used], cv=folds, scoring="accuracy", error_score="raise")
    return (
        f"Estimated accuracy on new images: {scores.mean():.3f} ({n_folds}-fold cross-validation, from "
        f"{scores.min():.3f} to {scores.max():.3f}).\nIt is too high if the folder has nearly equal images, such as "
        "several of one subject."
    )


@dataclass(frozen=True)
class Agreement:
    """Predictions as well as the classes that images really have.

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
        """Share of the images whose prediction is right."""
        return float((self.truth == self.predictions).mean())

    def confusion(self) -> list[list[int]]:
        """Return how often which class, by row, was taken for which, by column."""
        counts: list[list[int]] = confusion_matrix(self.truth, self.predictions, labels=self.labels).tolist()
        return counts

    def of_classes(self) -> dict[str, Any]:
        """Return precision, recall, F1 and number of images by class, whatever the classes are called."""
        figures = precision_recall_fscore_support(self.truth, self.predictions, labels=self.labels, zero_division=0.0)
        names = ("precision", "recall", "f1-score", "support")
        rows = zip(*(column.tolist() for column in figures), strict=True)
        return {str(label): dict(zip(names, row, strict=True)) for label, row in zip(self.labels, rows, strict=True)}

    def report(self, names: Sequence[str]) -> str:
        """Return these figures as scikit-learn's table, with names for `labels`."""
        table: str = classification_report(
            self.truth, self.predictions, labels=self.labels, target_names=names, zero_division=0.0, digits=3
        )
        return table
