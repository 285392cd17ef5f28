"""A table of values for each image, from any container: several labels, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse

from sktl._images.foreign_types import is_arrow
from sktl._short_text import first_shown, shown_value
from sktl.exceptions import InvalidInputError

from .target_cells import as_cells, as_numbers, cell_of


@dataclass(frozen=True)
class Table:
    """A two-dimensional table and the names of its columns.

    Parameters
    ----------
    values : array of shape (n_samples, n_columns)
    names : list or None
        Names of the columns of a data frame or a table of PyArrow.
    """

    values: np.ndarray
    names: list[Any] | None

    @classmethod
    def of(cls, y: Any, name: str) -> Self:
        """Return the table in an array, a sparse matrix, a data frame, a table of PyArrow, or a list of rows.

        Raises
        ------
        InvalidInputError
            If it is not a table. `name` is its name in the message.
        """
        if isinstance(y, cls):
            return y
        values = np.asarray(y.toarray()) if issparse(y) else as_cells(y, name)
        if values.ndim != 2:
            raise InvalidInputError(f"{name} has shape {values.shape}, but must be a table with a row for each image.")
        if not values.shape[1]:
            raise InvalidInputError(f"{name} has no columns. Pass one column for each label or number.")
        names = columns_of(y)
        if names is not None and len(set(names)) < len(names):
            raise InvalidInputError(f"{name} has columns with the same name. Rename them.")
        return cls(values, [str(item) if isinstance(item, str) else item for item in names] if names else None)

    def numbers(self, name: str, rule: str) -> np.ndarray:
        """Return the values as finite float64 numbers. `rule` is what the message says about them."""
        numbers = as_numbers(self.values, name, self.cell)
        if len(missing := np.argwhere(np.isnan(numbers))):
            raise InvalidInputError(
                f"{self.cell(name, *missing[0])} is a missing value (NaN), but {rule}. Fill it in, or drop the image."
            )
        if len(wrong := np.argwhere(np.isinf(numbers))):
            raise InvalidInputError(
                f"{self.cell(name, *wrong[0])} is infinite, but {rule}. Correct it, or drop the image."
            )
        # In the layout of an array, so that sums do not depend on the container.
        return np.ascontiguousarray(numbers)

    def columns_of_strings(self) -> list[int]:
        """Return the positions of the columns that contain strings."""
        if self.values.dtype.kind not in "OU":
            return []
        return [i for i, column in enumerate(self.values.T) if any(isinstance(value, str) for value in column)]

    def cell(self, name: str, row: int, column: int) -> str:
        """Return a cell in the form of messages."""
        return cell_of(name, row, column if self.names is None else shown_value(self.names[column]))


def is_frame(y: Any) -> bool:
    """Return True for a data frame of pandas or polars, but not for a lazy one, which has no shape."""
    return all(hasattr(y, name) for name in ("shape", "columns", "dtypes")) and getattr(y, "ndim", 2) == 2


def columns_of(y: Any) -> list[Any] | None:
    """Return the names of the columns of a data frame of pandas or polars, or of a table of PyArrow; otherwise None."""
    if is_frame(y):
        return list(y.columns)
    return list(y.column_names) if is_arrow(y) and hasattr(y, "column_names") else None


def check_column_names(names: Sequence[Any] | None, known: Sequence[Any] | None, name: str, owner: str) -> None:
    """Raise `InvalidInputError` if the columns of a table have other names than the known ones, or another order.

    Without names, or with the default names 0, 1, ..., here or there, there is nothing to compare.

    Parameters
    ----------
    names, known : sequence or None
    name, owner : str
        For the error: the name of the table, and the owner of the known names.
    """
    given, known = [*(names or ())], [*(known or ())]
    are_positions = [*range(len(known))] in (known, given) and {*known} != {*given}
    if given and known and not are_positions and given != known:
        raise InvalidInputError(
            f"{name} has the columns {first_shown(given)}, but {owner} has {first_shown(known)}. Pass the same columns "
            "in the same order."
        )


def has_rows(y: Any, kind: str = "label", name: str = "y") -> bool:
    """Return True if `y` has rows and columns: an array, a sparse matrix, a data frame, a list of rows, or the like.

    `kind` and `name` are what errors call a value of `y`, and `y`.
    """
    return len(_shape(y, kind, name)) == 2


def is_table(y: Any) -> bool:
    """Return True if `y` has several columns."""
    shape = _shape(y, "label", "y")
    return len(shape) == 2 and shape[1] > 1


def _shape(y: Any, kind: str, name: str) -> tuple[int, ...]:
    if y is None:
        return ()
    # Objects that are only convertible to an array have no shape of their own.
    return tuple(y.shape) if issparse(y) or is_frame(y) else as_cells(y, name, kind).shape
