"""Figures of a classifier that predicts several labels for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.metrics import precision_recall_curve

from .calibration import Calibration
from .comparisons import LabelComparison
from .confidence_intervals import Rate
from .group_figures import GroupFigure, Groups
from .metrics import LabelMetrics
from .selective_classification import threshold_between


@dataclass(frozen=True)
class LabelFigure:
    """Figures of one label.

    Parameters
    ----------
    name : str
    n_trained : int or None
        Number of training images with the label, if the model knows it.
    average_precision : float or None
        None if no image has the label.
    precision : Rate
        Share of the images that have the label among those for which it is predicted.
    recall : Rate
        Share of the images for which the label is predicted among those that have it.
    best_threshold, best_f1 : float or None
        The threshold with the highest F1 score for these images, and this score; None if no image has the label.
    """

    name: str
    n_trained: int | None
    average_precision: float | None
    precision: Rate
    recall: Rate
    best_threshold: float | None
    best_f1: float | None

    @property
    def f1(self) -> float:
        """F1 score of `predict`; NaN if no image has the label and it is never predicted."""
        n = self.precision.n + self.recall.n
        return 2 * self.recall.n_hits / n if n else math.nan


@dataclass(frozen=True, eq=False)
class LabelFigures:
    """Figures of a classifier of several labels for each image.

    Parameters
    ----------
    labels : tuple of str
    y_true : int64 array of shape (n_images, n_labels)
        1 for each label that an image has.
    y_pred : int64 array of shape (n_images, n_labels)
        1 for each label that `predict` returns: whose probability is above 0.5, or above a threshold of the estimator.
    proba : float64 array of shape (n_images, n_labels)
    macro, micro : float or None
        Average precision: the mean over the labels that some image has, and over all pairs of image and label.
    example_f1 : float
        Mean over images of the F1 score of their labels.
    all_right : Rate
        Share of images of which all labels are right.
    of_labels : tuple of LabelFigure
    of_groups : tuple of GroupFigure
        Share of images of which all labels are right in each group, the surely low ones
        first.
    calibration : Calibration
        Of all pairs of an image and a label.
    """

    labels: tuple[str, ...]
    y_true: np.ndarray
    y_pred: np.ndarray
    proba: np.ndarray
    macro: float | None
    micro: float | None
    example_f1: float
    all_right: Rate
    of_labels: tuple[LabelFigure, ...]
    of_groups: tuple[GroupFigure, ...]
    calibration: Calibration

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        y_true: np.ndarray,
        proba: np.ndarray,
        groups: Groups | None = None,
        n_trained: Sequence[int] | None = None,
        predicted: np.ndarray | None = None,
    ) -> Self:
        """Compare predictions with a table of 0 and 1. None in `predicted` means probabilities above 0.5."""
        metrics = LabelMetrics(labels, y_true, proba, predicted)
        predicted, of_each = metrics.predictions, None if groups is None else groups.codes
        right = (predicted == y_true).all(axis=1)
        counts = [*(n_trained or [])]
        rows = zip(labels, metrics.average_precisions(), y_true.T, predicted.T, proba.T, strict=True)
        figures = [
            _label_figure(name, counts[k] if counts else None, average, columns, of_each)
            for k, (name, average, *columns) in enumerate(rows)
        ]
        # Pairs of one image are not independent.
        images = np.repeat(np.arange(len(y_true)) if of_each is None else of_each, y_true.shape[1])
        return cls(
            tuple(labels), y_true, predicted, proba, metrics.macro, metrics.micro, metrics.example_f1,
            all_right=Rate.of(right, of_each),
            of_labels=tuple(figures),
            of_groups=() if groups is None else groups.rates(right),
            calibration=Calibration.of(proba.ravel(), y_true.ravel() > 0, images),
        )  # fmt: skip

    def worst(self) -> np.ndarray:
        """Return the rows of the images with wrong labels, those with most wrong labels first."""
        proba_true, proba_pred = (np.where(has > 0, self.proba, 1 - self.proba) for has in (self.y_true, self.y_pred))
        names = np.array(self.labels, dtype=object)
        return LabelComparison(self.y_true, self.y_pred, proba_true, proba_pred, names).errors()

    def missed(self, label: int, n: int) -> list[int]:
        """Return the rows of at most `n` images that have a label that is not predicted, the least probable first."""
        rows = np.flatnonzero((self.y_true[:, label] > 0) & (self.y_pred[:, label] == 0))
        return [int(row) for row in rows[np.argsort(self.proba[rows, label], kind="stable")][:n]]


def _label_figure(
    name: str,
    n_trained: int | None,
    average_precision: float | None,
    columns: Sequence[np.ndarray],
    groups: np.ndarray | None,
) -> LabelFigure:
    has, predicted, proba = columns
    right = (has > 0) & (predicted > 0)
    threshold, score = _best_threshold(has, proba) if has.any() else (None, None)
    return LabelFigure(
        name, n_trained, average_precision,
        precision=Rate.of_rows(right, predicted > 0, groups),
        recall=Rate.of_rows(right, has > 0, groups),
        best_threshold=threshold,
        best_f1=score,
    )  # fmt: skip


def _best_threshold(has: np.ndarray, proba: np.ndarray) -> tuple[float, float]:
    """Return the threshold with the highest F1 score, and the score. A probability of at least it is a prediction."""
    precision, recall, thresholds = precision_recall_curve(has, proba)
    total = precision + recall
    scores = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)[:-1]
    best = int(np.argmax(scores))
    below = thresholds[best - 1] if best else -math.inf
    return threshold_between(below, thresholds[best]), float(scores[best])
