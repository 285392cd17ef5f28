"""Cells of targets: read one value for each image from any container, find missing values, and read numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse

from sktl._short_text import one_line, shown_value, type_of
from sktl._utils.decimal_commas import have_decimal_commas
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import InvalidInputError

_TYPES: dict[type, tuple[type, ...]] = {
    str: (str,), bool: (bool, np.bool_), int: (int, np.integer), float: (float, np.floating),
}  # fmt: skip


class RowsOf(str):
    """The name of an argument of which only some rows are checked: errors name their positions in the argument.

    Parameters
    ----------
    name : str
    rows : int array of shape (n_rows,)
        Positions of the rows.
    """

    rows: np.ndarray

    def __new__(cls, name: str, rows: np.ndarray) -> RowsOf:
        found = super().__new__(cls, name)
        found.rows = rows
        return found


def cell_of(name: str, *position: Any) -> str:
    """Return an element of an argument in the form of messages. Scalars have no position."""
    if isinstance(name, RowsOf):
        position = (name.rows[position[0]], *position[1:])
    return f"{name}[{', '.join(map(str, position))}]" if position else name


def as_cells(values: Any, name: str, kind: str = "label") -> np.ndarray:
    """Return the content of a container as an array, with dtype object unless it is an array with a single type."""
    is_array, unordered = hasattr(values, "__array__"), isinstance(values, str | bytes | Set | Mapping)
    if unordered or issparse(values) or not (is_array or hasattr(values, "__len__")):
        raise InvalidInputError(
            f"{name} is {type_of(values)}; {name} must hold one {kind} for each image, in the order of the "
            f"images. Pass {f'{name}.collect()' if hasattr(values, 'collect') else 'a list or an array'}."
        )
    try:
        if not is_array:
            elements = np.fromiter(map(_without_dimensions, values), dtype=object)
            if not any(map(_is_row, elements)):
                return elements
            # Rows of a table, such as [[1], [2]].
            return np.array([_row(row) for row in elements], dtype=object)
        array = _of_tensor(values) if isinstance(values, torch.Tensor) else np.asanyarray(values)
        plain = array.dtype.kind in "biufU" and not np.ma.is_masked(array)
        return array.view(np.ndarray) if plain else _as_objects(array)
    except Exception as error:  # users' classes may raise anything, and tensors without values do
        raise_process_error(error)
        reason = one_line(error).rstrip(".") or type(error).__name__
        raise InvalidInputError(
            f"{name} cannot be read: {reason}. {name} must hold one {kind} for each image."
        ) from error


def _of_tensor(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4 and tensor.dtype != torch.float16:
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.numpy(force=True)


def _without_dimensions(label: Any) -> Any:
    """Return the scalar of a 0-d array, None if it is masked, and other objects unchanged."""
    if isinstance(label, np.ma.MaskedArray):
        label = _as_objects(label)
    if isinstance(label, torch.Tensor) and label.ndim == 0:
        return label.item()
    # `item` would convert dates to integers.
    return label[()] if isinstance(label, np.ndarray) and label.ndim == 0 else label


def _row(row: Any) -> Any:
    """Return a row of a table with None for masked elements, and other objects unchanged."""
    if isinstance(row, list | tuple | torch.Tensor):
        return [*map(_without_dimensions, row)]
    return _as_objects(row) if isinstance(row, np.ma.MaskedArray) else row


def _is_row(label: Any) -> bool:
    return isinstance(label, list | tuple | np.ndarray | torch.Tensor)


def _as_objects(array: np.ndarray) -> np.ndarray:
    """Return the elements of an array as objects, with None for missing values of the array's own kind."""
    missing = np.ma.getmaskarray(array) if array.dtype.names is None else np.zeros(array.shape, dtype=bool)
    # `astype(object)` would convert dates to integers.
    elements = map(_without_dimensions, np.ma.getdata(array).ravel())
    objects = np.fromiter(elements, dtype=object).reshape(array.shape)
    sentinel = getattr(array.dtype, "na_object", None)
    if isinstance(sentinel, str):
        missing = missing | (objects == sentinel)
    objects[missing] = None
    return objects


def kind_of_cell(label: Any) -> type | None:
    """Return str, bool, int or float for a label, None for a missing value, and object for anything else."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(label, Decimal):
        return None if label.is_nan() else object
    if isinstance(label, np.inexact | float | complex | np.datetime64 | np.timedelta64) and label != label:
        return None
    if isinstance(label, np.timedelta64):  # a subclass of integers in NumPy
        return object
    return next((kind for kind, types in _TYPES.items() if isinstance(label, types)), object)


def missing_cells(cells: np.ndarray) -> np.ndarray:
    """Return which cells of an array of `as_cells` are missing values or empty strings."""
    if cells.dtype.kind in "fc":
        return np.isnan(cells)
    if cells.dtype.kind == "U":
        return np.asarray(cells == "")
    if cells.dtype.kind != "O":
        return np.zeros(cells.shape, dtype=bool)
    missing = (kind_of_cell(value) is None or (isinstance(value, str) and not value) for value in cells.flat)
    return np.fromiter(missing, dtype=bool, count=cells.size).reshape(cells.shape)


def as_numbers(values: Any, name: str, cell: Callable[..., str] = cell_of) -> np.ndarray:
    """Return one number, or one per image, as a float64 array with NaN for missing values.

    `name` is the name of the numbers in the message, and `cell` returns the name of one of them from its position.

    Raises
    ------
    InvalidInputError
        If they are not numbers.
    """
    array = np.asarray(values) if isinstance(values, Real) else as_cells(values, name, "number")
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    kinds = [kind_of_cell(value) for value in array.flat]
    for position, kind in enumerate(kinds):
        value = array.flat[position]
        if kind in (str, object) and not isinstance(value, Decimal | Fraction):
            element = cell(name, *np.unravel_index(position, array.shape))
            raise InvalidInputError(
                f"{name} must hold numbers, one for each image; {element} is {type_of(value)}, "
                f"{shown_value(value)}.{_instead(array, value, name)}"
            )
    try:
        numbers = [np.nan if kind is None else float(value) for kind, value in zip(kinds, array.flat, strict=True)]
    except OverflowError as error:
        raise InvalidInputError(f"{name} has numbers beyond float64. Scale them to about 1.") from error
    return np.array(numbers, dtype=np.float64).reshape(array.shape)


def _instead(array: np.ndarray, value: Any, name: str) -> str:
    """Return how to convert numbers that are strings, or what learns classes; nothing for other values."""
    if not isinstance(value, str):
        return ""
    try:
        array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        texts = [cell for cell in array.flat if isinstance(cell, str)]
    else:
        return f" Pass np.array({name}, dtype=float)."
    if have_decimal_commas(texts):
        return " Write numbers with a decimal point and without separators."
    if array.ndim == 2 and not all(any(isinstance(cell, str) for cell in column) for column in array.T):
        return " Leave out columns of strings."
    return f" If {name} holds classes, use PretrainedImageClassifier." if name in ("y", "y_val") else ""
