"""One or more numbers for each sample: convert `y` to standardized values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.model_selection import train_test_split

from sktl.exceptions import InvalidInputError

from .base_targets import Targets
from .label_targets import canonical_rank
from .outputs import NumberOutputs
from .sample_groups import check_groups
from .sample_weights import check_sample_weight
from .target_cells import as_numbers, cell_of
from .target_tables import Table, columns_of, has_rows

# The median absolute deviation of a normal distribution, times this, is its standard deviation.
MAD_TO_STD = 1.4826


@dataclass(frozen=True)
class NumberTargets(Targets):
    """The numbers of each sample, standardized so that penalties and learning rates suit any unit.

    Parameters
    ----------
    standardized : float64 array of shape (n_samples, n_numbers)
    units : NumberOutputs
        The way back to the numbers of `y`.
    loss_name : {"squared_error", "huber"}
    weights : float64 array of shape (n_samples,)
    groups : int array of shape (n_samples,) or None
    """

    standardized: np.ndarray
    units: NumberOutputs
    loss_name: str
    weights: np.ndarray
    groups: np.ndarray | None = None

    @property
    def loss(self) -> str:
        return self.loss_name

    @property
    def outputs(self) -> NumberOutputs:
        return self.units

    @property
    def rank(self) -> np.ndarray:
        return canonical_rank(self.standardized[self.counted()])

    def values(self) -> np.ndarray:
        return self.standardized

    def _of_samples(self, rows: np.ndarray | slice) -> dict[str, Any]:
        return {"standardized": self.standardized[rows]}

    def ordered(self) -> Self:
        return self._columns(np.argsort(self.rank))

    def narrowed(self, n_columns: int, rng: np.random.RandomState) -> tuple[np.ndarray, Self]:
        drawn = rng.permutation(self.standardized.shape[1])[:n_columns]
        return np.flatnonzero(self.weights > 0), self._columns(np.sort(drawn))

    def _columns(self, columns: np.ndarray) -> Self:
        standardized = np.ascontiguousarray(self.standardized[:, columns])
        return replace(self, standardized=standardized, units=self.units.take(columns))

    def _strata(self) -> np.ndarray:
        return np.zeros(len(self), dtype=np.int64)

    def _hold_out_samples(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        train, held_out = train_test_split(np.arange(len(self)), test_size=fraction, random_state=seed)
        return train, held_out

    def of_validation(self, y: Any, sample_weight: Any, n_samples: int) -> Self:
        numbers = numbers_of(y, self.units, "y_val", "y")
        if len(numbers) != n_samples:
            raise InvalidInputError(f"X_val has {n_samples} images but y_val has {len(numbers)} rows. Pass one each.")
        weights = check_sample_weight(sample_weight, n_samples, "X_val")
        standardized = _standardized(numbers, self.outputs.center, self.outputs.scale)
        return replace(self, standardized=standardized, weights=weights, groups=None)


def check_numbers(
    y: Any, sample_weight: Any, loss: str, n_samples: int, rows: np.ndarray | None = None, groups: Any = None
) -> NumberTargets:
    """Check numbers and weights of `n_samples` images. Return the targets of the images in `rows`, or of all images.

    Raises
    ------
    InvalidInputError
        If `y` is not one finite number, or one row of finite numbers, for each image, or weights or groups do not
        match.
    """
    numbers = number_columns(y, "y")
    if len(numbers) != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has {len(numbers)} values (inconsistent numbers of samples). Pass one "
            "number, or one row of numbers, for each image."
        )
    weights, groups = check_sample_weight(sample_weight, n_samples), check_groups(groups, n_samples)
    if rows is not None:
        numbers, weights, groups = numbers[rows], weights[rows], None if groups is None else groups[rows]
    center, scale = _center_and_scale(numbers[weights > 0], weights[weights > 0], loss)
    units = NumberOutputs(center, scale, not has_rows(y, "number"), string_names(columns_of(y)))
    return NumberTargets(_standardized(numbers, center, scale), units, loss, weights, groups)


def _center_and_scale(numbers: np.ndarray, weights: np.ndarray, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what is subtracted from the numbers of each column, and what they are then divided by."""
    with np.errstate(over="ignore"):
        if not np.isfinite(np.ptp(numbers, axis=0)).all():
            raise InvalidInputError(
                f"y has numbers up to {np.abs(numbers).max():g}, whose differences are beyond float64. Scale them to "
                "about 1."
            )
    return _robust_scale(numbers, weights) if loss == "huber" else _scale(numbers, weights)


def _standardized(numbers: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    # Numbers of images of weight zero may stand for missing values, and leave the range of float64.
    with np.errstate(over="ignore"):
        return np.asarray((numbers - center) / scale)


def numbers_of(y: Any, outputs: NumberOutputs, name: str, owner: str) -> np.ndarray:
    """Return the numbers that `outputs` predicts, as a float64 array of shape (n_samples, n_numbers).

    Raises
    ------
    InvalidInputError
        If `y` is not finite numbers, or has other columns than `outputs`. `name` is the name of `y` in the message, and
        `owner` the owner of the outputs.
    """
    numbers = number_columns(y, name)
    outputs.check_columns(numbers.shape[1], string_names(columns_of(y)), name, owner)
    return numbers


def number_columns(y: Any, name: str) -> np.ndarray:
    """Return numbers as a float64 array of shape (n_samples, n_numbers).

    Raises
    ------
    InvalidInputError
        If they are not finite numbers, one or one row for each image. `name` is their name in the message.
    """
    rule = "each image needs a finite number"
    if y is None:
        raise InvalidInputError(f"The regressor requires y to be passed, but the target {name} is None. Pass numbers.")
    if has_rows(y, "number", name):
        return Table.of(y, name).numbers(name, rule)
    column = as_numbers(y, name)
    if column.ndim != 1:
        raise InvalidInputError(f"{name} has shape {column.shape}. Pass shape (n_samples,) or (n_samples, n_numbers).")
    if len(wrong := np.flatnonzero(~np.isfinite(column))):
        found = "a missing value (NaN)" if np.isnan(column[wrong[0]]) else "infinite (infinity)"
        raise InvalidInputError(f"{cell_of(name, wrong[0])} is {found}, but {rule}. Drop this image.")
    return column[:, None]


@contextmanager
def suggesting_regression(y: Any, remedy: str = 'pass task="regression"') -> Iterator[None]:
    """Let an error about labels suggest regression if `y` has fractions, or a table has other numbers than 0 and 1.

    `remedy` is what the caller offers instead of another estimator.
    """
    try:
        yield
    except InvalidInputError as error:
        text = str(error).replace("use PretrainedImageRegressor", remedy)
        error.args = (f"{text} For numbers, {remedy}." if text == str(error) and _has_no_labels(y) else text,)
        raise


@contextmanager
def suggesting_classification(remedy: str = 'pass task="classification"') -> Iterator[None]:
    """Let an error about numbers suggest what the caller offers for classes instead of another estimator."""
    try:
        yield
    except InvalidInputError as error:
        error.args = (str(error).replace("use PretrainedImageClassifier", remedy),)
        raise


def _has_no_labels(y: Any) -> bool:
    try:
        numbers = number_columns(y, "y")
    except InvalidInputError:
        return False
    return not (np.isin(numbers, (0, 1)) if numbers.shape[1] > 1 else numbers == np.floor(numbers)).all()


def units_of(numbers: np.ndarray) -> np.ndarray:
    """Return the largest absolute number of each column, or 1 if all are 0.

    Squares of very large or very small numbers leave the range of float64, unless the numbers are divided by it first.
    """
    largest = np.abs(numbers).max(axis=0, initial=0.0)
    return np.where(largest > 0, largest, 1.0)


def _scale(numbers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and standard deviation of each column; a constant column has scale 1."""
    unit = units_of(numbers)
    # Not by a BLAS, in which the bits of a column depend on its position.
    shares = (weights / weights.sum())[:, None]
    center = (shares * (numbers / unit)).sum(axis=0)
    deviation = np.sqrt((shares * (numbers / unit - center) ** 2).sum(axis=0))
    varies = deviation > 10 * np.finfo(np.float64).eps * np.abs(center)
    return center * unit, np.where(varies, deviation * unit, 1.0)


def _robust_scale(numbers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted median and median absolute deviation of each column, or the deviation if most are equal."""
    center = _median(numbers, weights)
    deviation = MAD_TO_STD * _median(np.abs(numbers - center), weights)
    return center, np.where(deviation > 0, deviation, _scale(numbers, weights)[1])


def _median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted median of each column, between the two values in the middle if there are two."""
    order = np.argsort(values, axis=0, kind="stable")
    below = np.cumsum(weights[order], axis=0)
    # With a tolerance, so that rounding errors of the sums of weights do not decide.
    rows = [(below < below[-1] / 2 * factor).sum(axis=0) for factor in (1 - 1e-9, 1 + 1e-9)]
    lower, upper = np.take_along_axis(np.take_along_axis(values, order, axis=0), np.stack(rows), axis=0)
    return lower + (upper - lower) / 2


def string_names(names: Sequence[Any] | None) -> list[str] | None:
    """Return the names of columns if all of them are strings, as scikit-learn names features; otherwise None."""
    return [str(name) for name in names] if names and all(isinstance(name, str) for name in names) else None
