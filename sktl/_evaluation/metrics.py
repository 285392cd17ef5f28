"""Metrics of predictions for a test set: classes, several labels or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
)

from sktl._targets.number_targets import units_of

FIGURES = ("precision", "recall", "f1-score", "support")
_LARGEST = 5


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of predicted classes.

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
        n, labels = len(self.labels), self.labels
        cells = np.searchsorted(labels, self.truth) * n + np.searchsorted(labels, self.predictions)
        # scikit-learn's function would warn of a single class.
        counts: list[list[int]] = np.bincount(cells, minlength=n * n).reshape(n, n).tolist()
        return counts

    def of_classes(self) -> dict[str, Any]:
        """Return precision, recall, F1 and number of images by class.

        Not from classification_report, whose dictionary has keys such as "accuracy" that a class may have as its name.
        """
        figures = precision_recall_fscore_support(self.truth, self.predictions, labels=self.labels, zero_division=0.0)
        rows = zip(*(column.tolist() for column in figures), strict=True)
        return {str(label): dict(zip(FIGURES, row, strict=True)) for label, row in zip(self.labels, rows, strict=True)}

    def figures(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return {"accuracy": self.accuracy, "classes": self.of_classes(), "confusion": self.confusion()}


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of predictions of several labels.

    Parameters
    ----------
    names : list of str
    truth : int array of shape (n_samples, n_labels)
        1 for each label that an image has.
    probabilities : float64 array of shape (n_samples, n_labels)
    predicted : int array of shape (n_samples, n_labels) or None
        1 for each predicted label. None for those with a probability above 0.5.
    """

    names: Sequence[str]
    truth: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray | None = None

    @property
    def predictions(self) -> np.ndarray:
        """1 for each predicted label."""
        return (self.probabilities > 0.5).astype(np.int64) if self.predicted is None else self.predicted

    def average_precisions(self) -> list[float | None]:
        """Return the average precision of each label; None for labels that no image has."""
        pairs = zip(self.truth.T, self.probabilities.T, strict=True)
        return [float(average_precision_score(truth, scores)) if truth.any() else None for truth, scores in pairs]

    @property
    def macro(self) -> float | None:
        """Mean average precision of the labels that some image has."""
        return _mean(self.average_precisions())

    @property
    def micro(self) -> float | None:
        """Average precision of all pairs of an image and a label."""
        if not self.truth.any():
            return None
        return float(average_precision_score(self.truth.ravel(), self.probabilities.ravel()))

    @property
    def example_f1(self) -> float:
        """Mean over images of the F1 score of their labels; 1 for images without labels, predicted or true."""
        return float(f1_score(self.truth, self.predictions, average="samples", zero_division=1.0))

    def of_labels(self) -> dict[str, Any]:
        """Return average precision, precision, recall, F1 and number of images by label."""
        figures = precision_recall_fscore_support(self.truth, self.predictions, average=None, zero_division=0.0)
        rows = zip(self.average_precisions(), *(column.tolist() for column in figures), strict=True)
        keys = ("average_precision", *FIGURES)
        return {name: dict(zip(keys, row, strict=True)) for name, row in zip(self.names, rows, strict=True)}

    def figures(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return {
            "macro_average_precision": self.macro,
            "micro_average_precision": self.micro,
            "example_f1": self.example_f1,
            "labels": self.of_labels(),
        }


@dataclass(frozen=True)
class NumberMetrics:
    """Metrics of predicted numbers.

    Parameters
    ----------
    names : list of str
        Names of the columns.
    images : array of str of shape (n_samples,)
    truth, predictions : float64 array of shape (n_samples, n_columns)
    """

    names: Sequence[str]
    images: np.ndarray
    truth: np.ndarray
    predictions: np.ndarray

    def r2s(self) -> list[float | None]:
        """Return the coefficient of determination of each column; None for columns whose true numbers are all equal."""
        scales = units_of(self.truth)
        truth, errors = self.truth / scales, (self.predictions - self.truth) / scales
        totals, rests = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0), (errors**2).sum(axis=0)
        constant = (self.truth == self.truth[:1]).all(axis=0)
        return [
            None if no else float(1 - rest / total) for no, rest, total in zip(constant, rests, totals, strict=True)
        ]

    @property
    def r2(self) -> float | None:
        """Mean coefficient of determination of the columns whose true numbers differ."""
        return _mean(self.r2s())

    @property
    def mean_absolute_errors(self) -> np.ndarray:
        """Mean absolute error of each column."""
        return np.abs(self.predictions - self.truth).mean(axis=0)

    def of_numbers(self) -> dict[str, Any]:
        """Return the figures of each column."""
        rows = zip(self.names, self.r2s(), self.mean_absolute_errors.tolist(), strict=True)
        return {name: {"r2": r2, "mean_absolute_error": mae} for name, r2, mae in rows}

    def largest_errors(self) -> list[dict[str, Any]]:
        """Return the largest errors, relative to the mean absolute error of their column."""
        errors, means = np.abs(self.predictions - self.truth), self.mean_absolute_errors
        relative = np.divide(errors, means, out=np.zeros_like(errors), where=means > 0)
        order = np.argsort(-relative, axis=None, kind="stable")[:_LARGEST]
        return [
            {
                "image": str(self.images[row]),
                "number": self.names[column],
                "true": float(self.truth[row, column]),
                "prediction": float(self.predictions[row, column]),
            }
            for row, column in zip(*np.unravel_index(order, errors.shape), strict=True)
        ]

    def figures(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return {"r2": self.r2, "numbers": self.of_numbers(), "largest_errors": self.largest_errors()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
