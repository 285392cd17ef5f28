"""Figures of a classifier that predicts one class for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from .calibration import Calibration
from .comparisons import ClassComparison
from .confidence_intervals import Rate
from .group_figures import GroupFigure, Groups
from .selective_classification import Coverage

# The lowest probability in the logarithm of the log loss, as in scikit-learn: a single 0 would make it infinite.
_LOWEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ClassFigure:
    """Figures of one class.

    Parameters
    ----------
    name : str
    known : bool
        Whether the model can predict the class.
    n_trained : int or None
        Number of training images, if the model knows it.
    precision : Rate
        Share of right predictions among the images for which the class is predicted.
    recall : Rate
        Share of right predictions among the images of the class.
    """

    name: str
    known: bool
    n_trained: int | None
    precision: Rate
    recall: Rate

    @property
    def f1(self) -> float:
        """F1 score: 0 if no prediction of the class is right, NaN if the class has neither images nor predictions."""
        n = self.precision.n + self.recall.n
        return 2 * self.recall.n_hits / n if n else float("nan")


@dataclass(frozen=True, eq=False)
class ClassFigures:
    """Figures of a classifier of one class for each image.

    Parameters
    ----------
    classes : tuple of str
        Names of the classes: first those of the model, in its order, then those that only `y` has.
    y_true, y_pred : int64 array of shape (n_images,)
        Positions in `classes`; `y_pred` is what `predict` returns.
    proba_true, proba_pred : float64 array of shape (n_images,)
        Predicted probabilities of both; 0 for classes that the model does not know.
    accuracy : Rate
    log_loss : float or None
        Log loss for the images of known classes; None without any.
    of_classes : tuple of ClassFigure
        In the order of `classes`.
    of_groups : tuple of GroupFigure
        Accuracy of each group, the surely low ones first.
    calibration : Calibration
    coverage : Coverage
    """

    classes: tuple[str, ...]
    y_true: np.ndarray
    y_pred: np.ndarray
    proba_true: np.ndarray
    proba_pred: np.ndarray
    accuracy: Rate
    log_loss: float | None
    of_classes: tuple[ClassFigure, ...]
    of_groups: tuple[GroupFigure, ...]
    calibration: Calibration
    coverage: Coverage

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        codes: np.ndarray,
        proba: np.ndarray,
        groups: Groups | None = None,
        n_trained: Sequence[int] | None = None,
        predicted: np.ndarray | None = None,
    ) -> Self:
        """Compare predictions with the positions of the true classes.

        Parameters
        ----------
        classes : sequence of str
            Names of all classes, those of the model first.
        codes : int64 array of shape (n_images,)
            Positions of the true classes.
        proba : float64 array of shape (n_images, n_known)
            Probabilities of the classes of the model.
        groups : Groups or None
        n_trained : sequence of int or None
            Numbers of training images of the classes of the model.
        predicted : int64 array of shape (n_images,) or None
            Positions of the predicted classes. None for the most probable ones.
        """
        n_known, rows = proba.shape[1], np.arange(len(codes))
        predicted = proba.argmax(axis=1) if predicted is None else predicted
        known = codes < n_known
        proba_true = np.where(known, proba[rows, np.where(known, codes, 0)], 0.0)
        hits, of_each = predicted == codes, None if groups is None else groups.codes
        counts = [*(n_trained or [])]
        figures = [
            ClassFigure(
                name,
                k < n_known,
                counts[k] if k < len(counts) else None,
                precision=Rate.of_rows(hits, predicted == k, of_each),
                recall=Rate.of_rows(hits, codes == k, of_each),
            )
            for k, name in enumerate(classes)
        ]
        proba_pred = proba[rows, predicted]
        return cls(
            tuple(classes), codes, predicted, proba_true, proba_pred,
            accuracy=Rate.of(hits, of_each),
            log_loss=float(-np.log(proba_true[known].clip(_LOWEST)).mean()) if known.any() else None,
            of_classes=tuple(figures),
            of_groups=() if groups is None else groups.rates(hits),
            calibration=Calibration.of(proba_pred, hits, of_each),
            coverage=Coverage.of(proba_pred, hits, of_each),
        )  # fmt: skip

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that images have."""
        return float(np.mean([figure.recall.value for figure in self.of_classes if figure.recall.n]))

    @property
    def most_frequent(self) -> ClassFigure:
        """The class with most images: the best constant answer."""
        return max(self.of_classes, key=lambda figure: figure.recall.n)

    @cached_property
    def cells(self) -> dict[tuple[int, int], int]:
        """Number of images for each pair of true and predicted class that occurs, the most frequent pairs first.

        There are at most as many pairs as images, whereas the whole matrix of many classes takes gigabytes.
        """
        pairs, counts = np.unique(np.column_stack([self.y_true, self.y_pred]), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return dict(zip(map(tuple, pairs[order].tolist()), counts[order].tolist(), strict=True))

    def examples(self, true: int, predicted: int, n: int) -> list[int]:
        """Return the rows of at most `n` images of one cell of the confusion matrix, the surest first."""
        rows = np.flatnonzero((self.y_true == true) & (self.y_pred == predicted))
        return [int(row) for row in rows[np.argsort(-self.proba_pred[rows], kind="stable")][:n]]

    def worst(self) -> np.ndarray:
        """Return the rows of the images with wrong predictions, the surest first."""
        return ClassComparison(self.y_true, self.y_pred, self.proba_true, self.proba_pred).errors()
