"""What `y` says about the images of an evaluation: which images have a value, and the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktl._short_text import first_few, shown_value
from sktl._targets.target_cells import RowsOf, as_cells, missing_cells
from sktl._targets.target_tables import Table
from sktl.exceptions import InvalidInputError


@dataclass(frozen=True, eq=False)
class Truth:
    """Values of `y`, and the images that have them.

    Parameters
    ----------
    present : int64 array of shape (n_present,)
        Positions of the images that have all values.
    values : array of shape (n_present,) or (n_present, n_columns), or Table
        The values of these images.
    missing : bool array of shape (n_images, n_columns)
        Which values of all images are missing.
    """

    present: np.ndarray
    values: Any
    missing: np.ndarray

    @classmethod
    def of(cls, y: Any, n_images: int) -> Truth:
        """Find the images that have all values: others may be in a test set, but cannot be evaluated.

        Raises
        ------
        InvalidInputError
            If `y` is not one value, or one row of values, for each image, or no image has all values.
        """
        if y is None:
            raise InvalidInputError("y is None. An evaluation needs the true value of each image.")
        table = Table(y.toarray(), None) if issparse(y) else None
        cells = as_cells(y, "y") if table is None else table.values
        if len(cells) != n_images:
            raise InvalidInputError(
                f"X has {n_images} images but y has {len(cells)} values (inconsistent numbers of samples). Pass one "
                "value, or one row of values, for each image."
            )
        missing = missing_cells(cells).reshape(n_images, -1)
        present = np.flatnonzero(~missing.any(axis=1))
        if cells.ndim == 2 and table is None:
            table = Table.of(y, "y")
        if not len(present):
            raise _nothing_to_evaluate(missing, table)
        if table is not None:
            return cls(present, Table(table.values[present], table.names), missing)
        return cls(present, cells[present], missing)

    @property
    def name(self) -> str:
        """The name of `y` in messages, which name positions in all of `y`."""
        return RowsOf("y", self.present)

    @property
    def array(self) -> np.ndarray:
        """The values without names of columns."""
        values: np.ndarray = self.values.values if isinstance(self.values, Table) else self.values
        return values

    @property
    def is_table(self) -> bool:
        """True if images have a row of several values."""
        return self.array.ndim == 2 and self.array.shape[1] > 1

    def names(self) -> list[Any] | None:
        """Return the names of the columns of a table, if it has names."""
        return self.values.names if isinstance(self.values, Table) else None


def _nothing_to_evaluate(missing: np.ndarray, table: Table | None) -> InvalidInputError:
    """Return the error for a `y` in which each image lacks a value."""
    if missing.all():
        return InvalidInputError("y has no value: all are missing. An evaluation needs the true values of images.")
    names = None if table is None else table.names
    counts = missing_counts(missing, column_names(names, missing.shape[1], "column"))
    return InvalidInputError(
        f"No image has a value in every column of y, and an evaluation needs all values of an image. Of {len(missing)} "
        f"images, values are missing in {counts}. To evaluate one column, pass the predictions for the images that "
        "have its value to scikit-learn's metrics."
    )


def missing_counts(missing: np.ndarray, names: Sequence[str]) -> str:
    """Return the columns with the most missing values, and the number of these values, as text."""
    counts = missing.sum(axis=0)
    columns = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
    return first_few(columns, lambda k: f"{shown_value(names[k])} ({counts[k]:,})")


def column_names(names: Sequence[Any] | None, n_columns: int, word: str) -> tuple[str, ...]:
    """Return the names of columns as text; without names, their positions after a word."""
    if names is None or not len(names):
        return tuple(f"{word} {i}" for i in range(n_columns))
    return tuple(f"{word} {name}" if isinstance(name, int) else str(name) for name in names)
