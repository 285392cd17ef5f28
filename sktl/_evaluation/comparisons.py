"""Predictions compared with `y`: which are wrong, which are worst, and what the title of an image says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np

from sktl._short_text import fitted, percent, rounded, with_percent
from sktl._targets.class_codes import codes_of
from sktl._targets.label_checks import check_labels
from sktl._targets.label_targets import zeros_and_ones
from sktl._targets.number_targets import number_columns, string_names, units_of
from sktl._targets.target_tables import Table, check_column_names, columns_of
from sktl.exceptions import InvalidInputError

# Tolerance around 0 and 1, because probabilities may be means of float32 values.
_ROUNDING = 1e-6
# Titles have at most this many lines.
_MOST_LINES = 6


class Comparison(ABC):
    """Predictions of images, compared with `y`."""

    @abstractmethod
    def errors(self) -> np.ndarray:
        """Return the positions of the images with wrong predictions, worst first."""

    @abstractmethod
    def losses(self) -> np.ndarray:
        """Return the positions of all images, highest loss first."""

    @abstractmethod
    def is_wrong(self, i: int) -> bool:
        """Return True if the title of an image must stand out."""

    @abstractmethod
    def title(self, i: int, letters: int) -> str:
        """Return the title of an image in lines of about `letters` letters."""

    @abstractmethod
    def n_lines(self) -> int:
        """Return how many lines titles need."""

    def take(self, rows: np.ndarray) -> Self:
        """Return the comparison of a subset of the images."""
        fields = {name: value[rows] for name, value in vars(self).items() if name.startswith(("y_", "proba_"))}
        return replace(cast(Any, self), **fields)


@dataclass(frozen=True)
class ClassComparison(Comparison):
    """One class for each image.

    Parameters
    ----------
    y_true, y_pred : array of shape (n_images,)
    proba_true, proba_pred : float64 array of shape (n_images,)
        Predicted probabilities of both.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    proba_true: np.ndarray
    proba_pred: np.ndarray

    @classmethod
    def of(cls, n_images: int, y_true: Any, y_proba: Any, classes: Any, predicted: np.ndarray | None = None) -> Self:
        """Compare predictions with labels.

        Parameters
        ----------
        n_images : int
        y_true : array-like of shape (n_images,)
        y_proba : array-like of shape (n_images, n_classes)
        classes : array-like of shape (n_classes,)
        predicted : int64 array of shape (n_images,) or None
            Positions of the predicted classes in `classes`. None for the most probable ones.

        Raises
        ------
        InvalidInputError
            If they do not match, or are not labels and probabilities.
        """
        labels, classes, proba = check_labels(y_true, "y_true"), np.asarray(classes), _probabilities(y_proba)
        if labels.shape != (n_images,):
            raise InvalidInputError(
                f"There are {n_images} images, but the labels have shape {labels.shape}. Pass one label for each image."
            )
        _check_shape(
            proba, n_images, len(classes), "classes", "Pass classes=estimator.classes_ if a class has no images."
        )
        remedy = "Pass labels as in fit, or leave these images out"
        codes = codes_of(labels.tolist(), classes, "y_true", "the estimator", remedy)
        predicted, rows = proba.argmax(axis=1) if predicted is None else predicted, np.arange(n_images)
        return cls(classes[codes], classes[predicted], proba[rows, codes], proba[rows, predicted])

    def errors(self) -> np.ndarray:
        wrong = np.flatnonzero(self.y_pred != self.y_true)
        return wrong[np.argsort(-self.proba_pred[wrong], kind="stable")]

    def losses(self) -> np.ndarray:
        return np.argsort(self.proba_true, kind="stable")

    def is_wrong(self, i: int) -> bool:
        return bool(self.y_pred[i] != self.y_true[i])

    def title(self, i: int, letters: int) -> str:
        guess = with_percent(self.y_pred[i], self.proba_pred[i], letters)
        if not self.is_wrong(i):
            return guess
        return f"{guess}\n{with_percent(f'true: {self.y_true[i]}', self.proba_true[i], letters)}"

    def n_lines(self) -> int:
        return 3 if np.array_equal(self.y_pred, self.y_true) else 4


@dataclass(frozen=True)
class LabelComparison(Comparison):
    """Several labels for each image.

    Parameters
    ----------
    y_true, y_pred : int64 array of shape (n_images, n_labels)
        1 if an image has a label, and if it is predicted.
    proba_true, proba_pred : float64 array of shape (n_images, n_labels)
        Predicted probabilities that each label is as in `y_true` and in `y_pred`.
    names : array of shape (n_labels,)
        Names of the labels.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    proba_true: np.ndarray
    proba_pred: np.ndarray
    names: np.ndarray

    @classmethod
    def of(cls, n_images: int, y_true: Any, y_proba: Any, names: Any, predicted: np.ndarray | None = None) -> Self:
        """Compare predictions with a table of labels.

        Parameters
        ----------
        n_images : int
        y_true : table of 0 and 1 of shape (n_images, n_labels)
        y_proba : array-like of shape (n_images, n_labels)
        names : array-like of shape (n_labels,) or None
        predicted : int64 array of shape (n_images, n_labels) or None
            1 for each predicted label. None for those with a probability above 0.5.

        Raises
        ------
        InvalidInputError
            If they do not match, or are not zeros and ones, and probabilities.
        """
        table = Table.of(y_true, "y_true")
        indicator, proba = zeros_and_ones(table, "y_true").astype(np.int64), check_label_probabilities(y_proba)
        if len(indicator) != n_images:
            raise InvalidInputError(
                f"There are {n_images} images, but y_true has {len(indicator)} rows. Pass one row for each image."
            )
        _check_shape(
            proba, n_images, indicator.shape[1], "labels", "Pass the columns that the estimator was fitted on."
        )
        found = (proba > 0.5).astype(np.int64) if predicted is None else predicted
        proba_true, proba_pred = (np.where(has, proba, 1 - proba) for has in (indicator, found))
        return cls(indicator, found, proba_true, proba_pred, _names_of(table, names))

    def errors(self) -> np.ndarray:
        wrong = self.y_pred != self.y_true
        surest = np.where(wrong, self.proba_pred, 0).max(axis=1, initial=0)
        worst_first = np.lexsort((-surest, -wrong.sum(axis=1)))
        return worst_first[: np.count_nonzero(wrong.any(axis=1))]

    def losses(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.argsort(np.log(self.proba_true).sum(axis=1), kind="stable")

    def is_wrong(self, i: int) -> bool:
        return bool((self.y_pred[i] != self.y_true[i]).any())

    def title(self, i: int, letters: int) -> str:
        has, found = self.y_true[i] > 0, self.y_pred[i] > 0
        proba = np.where(has, self.proba_true[i], 1 - self.proba_true[i])
        lines = []
        for word, some in (("wrong: ", found & ~has), ("missed: ", has & ~found), ("", has & found)):
            positions = np.flatnonzero(some)
            for k in positions[np.argsort(-proba[positions], kind="stable")]:
                suffix = f" ({percent(proba[k], 0)})"
                lines.append(fitted(f"{word}{self.names[k]}", max(letters - len(suffix), 8)) + suffix)
        return "\n".join(_at_most(lines) or ["no label"])

    def n_lines(self) -> int:
        n_shown = ((self.y_true > 0) | (self.y_pred > 0)).sum(axis=1).max(initial=1)
        return min(int(n_shown), _MOST_LINES) + 1


@dataclass(frozen=True)
class NumberComparison(Comparison):
    """One or more numbers for each image.

    Parameters
    ----------
    y_true, y_pred : float64 array of shape (n_images,) or (n_images, n_numbers)
    scale : float64 array of shape (n_numbers,)
        Standard deviations of the numbers, by which errors are compared.
    names : array of shape (n_numbers,) or None
        Names of several numbers.
    """

    y_true: np.ndarray
    y_pred: np.ndarray
    scale: np.ndarray
    names: np.ndarray | None = None

    @classmethod
    def of(cls, n_images: int, y_true: Any, y_pred: Any, names: Sequence[str] | None = None) -> Self:
        """Compare predictions with numbers. `names` are the names of the predicted numbers, if they have names.

        Raises
        ------
        InvalidInputError
            If they do not match, or are not finite numbers.
        """
        true, predicted = number_columns(y_true, "y_true"), number_columns(y_pred, "y_pred")
        if len(true) != n_images:
            raise InvalidInputError(
                f"There are {n_images} images, but y_true has {len(true)} rows. Pass one number, or one row of "
                "numbers, for each image."
            )
        if predicted.shape != true.shape:
            raise InvalidInputError(
                f"Predictions have {len(predicted)} rows and {predicted.shape[1]} columns, but y_true has {len(true)} "
                f"rows and {true.shape[1]} columns. Pass one prediction for each number."
            )
        check_column_names(string_names(columns_of(y_true)), names, "y_true", "the estimator")
        scale = _deviations(true)
        if true.shape[1] == 1:
            return cls(true[:, 0], predicted[:, 0], scale)
        return cls(true, predicted, scale, _objects(names or columns_of(y_true) or range(true.shape[1])))

    def _relative_errors(self) -> np.ndarray:
        """Return the errors in standard deviations, of shape (n_images, n_numbers)."""
        with np.errstate(over="ignore"):
            return np.abs(self.y_pred - self.y_true).reshape(-1, len(self.scale)) / self.scale

    def errors(self) -> np.ndarray:
        largest = self._relative_errors().max(axis=1)
        return np.argsort(-largest, kind="stable")[: np.count_nonzero(largest)]

    def losses(self) -> np.ndarray:
        # The root of the sum of squares, without squares that leave the range of float64.
        return np.argsort(-np.hypot.reduce(self._relative_errors(), axis=1), kind="stable")

    def is_wrong(self, i: int) -> bool:
        return False  # no prediction is exact

    def title(self, i: int, letters: int) -> str:
        true, predicted = self.y_true[i].reshape(-1), self.y_pred[i].reshape(-1)
        columns = np.arange(len(self.scale))
        if len(columns) > _MOST_LINES:
            columns = np.argsort(-self._relative_errors()[i], kind="stable")
        lines = []
        for k in columns.tolist():
            right, guess = rounded(true[k], self.scale[k]), rounded(predicted[k], self.scale[k])
            if self.names is None:
                lines.append(f"true {right}, predicted {guess}")
                continue
            numbers = f": {guess} (true {right})"
            lines.append(fitted(self._name(k), max(letters - len(numbers), 8)) + numbers)
        return "\n".join(_at_most(lines))

    def _name(self, column: int) -> str:
        assert self.names is not None
        name = self.names[column]
        return f"number {name}" if isinstance(name, int) else str(name)

    def n_lines(self) -> int:
        return min(len(self.scale), _MOST_LINES) + 1


def _deviations(numbers: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column; 1 for columns whose numbers are all equal."""
    unit = units_of(numbers)
    deviations = (numbers / unit).std(axis=0) * unit
    return np.where(np.ptp(numbers / unit, axis=0) > 0, deviations, 1.0)


def _probabilities(y_proba: Any) -> np.ndarray:
    try:
        proba = np.asarray(y_proba, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"Probabilities must be numbers: {error}. Pass the result of predict_proba, not of predict."
        ) from error
    legal = (proba >= -_ROUNDING) & (proba <= 1 + _ROUNDING)  # also False for NaN
    if not legal.all():
        position = np.argwhere(~legal)[0]
        raise InvalidInputError(
            f"y_proba{position.tolist()} is {proba[tuple(position)]}, but probabilities lie in [0, 1]: pass the result "
            'of predict_proba, not of decision_function; for predicted numbers, pass task="regression".'
        )
    return proba.clip(0, 1)


def check_label_probabilities(y_proba: Any) -> np.ndarray:
    """Return the probability of each label as an array, whatever form `predict_proba` returned them in.

    Raises
    ------
    InvalidInputError
        If they are not probabilities.
    """
    return _probabilities(_of_each_label(y_proba))


def _of_each_label(y_proba: Any) -> Any:
    """Return the probability of each label; scikit-learn's meta-estimators return a list of both probabilities."""
    if not isinstance(y_proba, list) or not all(np.ndim(of_label) == 2 for of_label in y_proba):
        return y_proba
    if any(np.shape(of_label)[1] != 2 for of_label in y_proba):
        raise InvalidInputError(
            "The probabilities are a list of arrays, as MultiOutputClassifier returns, but not all arrays have two "
            "columns, for 0 and 1. Pass an array with a column for each label to from_predictions."
        )
    return np.stack([np.asarray(of_label)[:, 1] for of_label in y_proba], axis=1)


def _check_shape(proba: np.ndarray, n_images: int, n_columns: int, kind: str, remedy: str) -> None:
    if proba.shape != (n_images, n_columns):
        raise InvalidInputError(
            f"Probabilities have shape {proba.shape}; for {n_images} images and {n_columns} {kind}, it must be "
            f"({n_images}, {n_columns}). {remedy}"
        )


def _names_of(table: Table, names: Any) -> np.ndarray:
    """Return the names of columns: of a data frame, or as given, or their positions."""
    positions = list(range(table.values.shape[1]))
    given = positions if names is None else np.asarray(names).tolist()
    check_column_names(table.names, given, "y_true", "the estimator")
    if len(given) != len(positions):
        raise InvalidInputError(f"y_true has {len(positions)} columns, but there are {len(given)} names in classes.")
    return _objects(table.names if table.names is not None and given == positions else given)


def _objects(names: Iterable[Any]) -> np.ndarray:
    """Return names as an array of objects, in which strings and integers stay as they are."""
    found = [*names]
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _at_most(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"and {len(lines) - _MOST_LINES + 1} more"]
