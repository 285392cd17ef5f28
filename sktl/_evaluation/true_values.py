"""What `y` says about the images of an evaluation: which images have a value, and the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktl._targets.target_columns import RowsOf, as_cells, check_labels, first_shown, missing_cells
from sktl._targets.target_tables import Table
from sktl._utils.similar_names import resemblances
from sktl.exceptions import InvalidInputError


@dataclass(frozen=True, eq=False)
class Truth:
    """Values of `y`, and the images that have them.

    Parameters
    ----------
    present : int64 array of shape (n_present,)
        Positions of the images that have a value.
    values : array of shape (n_present,) or (n_present, n_columns), or Table
        The values of these images.
    n_images : int
        Number of all images.
    """

    present: np.ndarray
    values: Any
    n_images: int

    @classmethod
    def of(cls, y: Any, n_images: int) -> Truth:
        """Find the images that have values: images without one may be in a test set, but cannot be evaluated.

        Raises
        ------
        InvalidInputError
            If `y` is not one value, or one row of values, for each image, or no image has one.
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
        present = np.flatnonzero(~missing_cells(cells).reshape(n_images, -1).any(axis=1))
        if not len(present):
            raise InvalidInputError("y has no value: all are missing. An evaluation needs the true values of images.")
        if cells.ndim == 2 and cells.shape[1] > 1:
            found = Table.of(y, "y") if table is None else table
            return cls(present, Table(found.values[present], found.names), n_images)
        return cls(present, cells[present], n_images)

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
        return isinstance(self.values, Table)

    def names(self) -> list[Any] | None:
        """Return the names of the columns of a table, if it has names."""
        return self.values.names if self.is_table else None


def class_codes(labels: Any, classes: np.ndarray, name: str = "y") -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of all classes, those of the model first, and the position of each label among them.

    A label is the class of the same value, or else of the same text: folders have names, even if they are digits.
    `name` is the name of the labels in messages.

    Raises
    ------
    InvalidInputError
        If `labels` are not labels.
    """
    known = [str(name) for name in classes.tolist()]
    by_value = {_key(name): code for code, name in enumerate(classes.tolist())}
    by_text = {name: code for code, name in enumerate(known)}
    values = check_labels(labels, name).tolist()
    found = [by_value.get(_key(label), by_text.get(str(label))) for label in values]
    unknown = sorted({str(label) for label, code in zip(values, found, strict=True) if code is None})
    codes = {name: len(known) + code for code, name in enumerate(unknown)}
    return (
        (*known, *unknown),
        np.array([codes[str(label)] if code is None else code for label, code in zip(values, found, strict=True)]),
    )


def class_codes_of_model(labels: Any, classes: np.ndarray, name: str = "y") -> tuple[tuple[str, ...], np.ndarray]:
    """Return the same as `class_codes`. Raise `InvalidInputError` if no label is a class of the model."""
    names, codes = class_codes(labels, classes, name)
    if len(codes) and codes.min() >= len(classes):
        given = dict.fromkeys(check_labels(labels, name).tolist())
        raise InvalidInputError(
            f"No label in {name} is a class of the model: {name} has {first_shown(given)}; the model has "
            f"{first_shown(classes.tolist())}. Pass labels as in fit. {resemblances(given, classes.tolist())}".rstrip()
        )
    return names, codes


def _key(label: Any) -> tuple[bool, Any]:
    return isinstance(label, bool), label  # in Python, True equals 1


def column_names(names: Sequence[Any] | None, n_columns: int, word: str) -> tuple[str, ...]:
    """Return the names of columns as text; without names, their positions after a word."""
    if names is None or not len(names):
        return tuple(f"{word} {i}" for i in range(n_columns))
    return tuple(f"{word} {name}" if isinstance(name, int) else str(name) for name in names)
