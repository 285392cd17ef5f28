"""Figures of a regressor that predicts one or more numbers for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .comparisons import NumberComparison
from .confidence_intervals import Mean, unit_of
from .group_figures import GroupFigure, Groups
from .metrics import NumberMetrics

_SHARES = (0.5, 0.9, 1.0)


@dataclass(frozen=True)
class NumberFigure:
    """Figures of one number.

    Parameters
    ----------
    name : str
    r2 : float or None
        Coefficient of determination; None if all true numbers are equal.
    error : Mean
        Mean absolute error.
    root_mean_square : float
        Root of the mean squared error, in which large errors weigh more.
    bias : Mean
        Mean of predicted minus true numbers.
    guess : float
        Mean absolute error of the best constant answer, the median of the true numbers.
    within : tuple of (float, float)
        Shares of images, and the error that is not exceeded for them.
    """

    name: str
    r2: float | None
    error: Mean
    root_mean_square: float
    bias: Mean
    guess: float
    within: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class NumberFigures:
    """Figures of a regressor of one or more numbers for each image.

    Parameters
    ----------
    numbers : tuple of str
        Names of the numbers.
    y_true, y_pred : float64 array of shape (n_images, n_numbers)
    r2 : float or None
        Mean over the numbers whose true values differ.
    of_numbers : tuple of NumberFigure
    of_groups : tuple of GroupFigure
        Mean absolute error of each group, the surely high ones first. Errors of several numbers are divided by the
        standard deviation of the number and averaged.
    """

    numbers: tuple[str, ...]
    y_true: np.ndarray
    y_pred: np.ndarray
    r2: float | None
    of_numbers: tuple[NumberFigure, ...]
    of_groups: tuple[GroupFigure, ...]

    @classmethod
    def of(cls, numbers: Sequence[str], y_true: np.ndarray, y_pred: np.ndarray, groups: Groups | None = None) -> Self:
        """Compare predictions with true numbers, of shape (n_images, n_numbers)."""
        metrics = NumberMetrics(numbers, np.arange(len(y_true)), y_true, y_pred)
        of_each = None if groups is None else groups.codes
        columns = zip(numbers, metrics.r2s(), y_true.T, y_pred.T, strict=True)
        figures = [_number_figure(*column, of_each) for column in columns]
        errors = np.abs(y_pred - y_true)
        if len(figures) > 1:
            errors = errors / NumberComparison.of(len(y_true), y_true, y_pred).scale
        of_groups = () if groups is None else groups.means(errors.mean(axis=1))
        return cls(tuple(numbers), y_true, y_pred, metrics.r2, tuple(figures), of_groups)

    def worst(self) -> np.ndarray:
        """Return the rows of the images with errors, the largest first, in standard deviations of each number."""
        return NumberComparison.of(len(self.y_true), self.y_true, self.y_pred).errors()


def _number_figure(
    name: str, r2: float | None, true: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None
) -> NumberFigure:
    differences = predicted - true
    errors = np.abs(differences)
    unit, scale = unit_of(true), unit_of(errors)
    error, bias = Mean.of(errors, groups), Mean.of(differences, groups)
    return NumberFigure(
        name, r2,
        error=Mean(error.value, max(0.0, error.low), error.high),
        root_mean_square=scale * math.sqrt(float(((errors / scale) ** 2).mean())),
        bias=bias,
        guess=unit * float(np.abs(true / unit - np.median(true / unit)).mean()),
        within=tuple((share, float(np.quantile(errors, share, method="higher"))) for share in _SHARES),
    )  # fmt: skip
