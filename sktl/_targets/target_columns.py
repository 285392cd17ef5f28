"""Convert one value per image from any container: labels in their own dtype, and numbers."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning

from sktl._utils.decimal_commas import have_decimal_commas
from sktl._utils.similar_names import as_seen, groups_alike, resemblances
from sktl._utils.warnings import warn
from sktl._words import one_line, shown_value, type_of
from sktl.exceptions import InputWarning, InvalidInputError

_PLAIN: dict[Any, Callable[[Any], Any]] = {str: str.__str__, bool: bool, int: int, float: float}
_TYPES: dict[type, tuple[type, ...]] = {
    str: (str,), bool: (bool, np.bool_), int: (int, np.integer), float: (float, np.floating),
}  # fmt: skip
# What NumPy makes of short strings and floats together, wide enough for any float. Long strings make it wider.
_STRINGS_AND_NUMBERS = np.array(["", np.nan]).dtype


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


def check_labels(y: Any, name: str = "y", *, warns: bool = True) -> np.ndarray:
    """Return labels as an array of shape (n_samples,) in their own dtype.

    Labels are strings, integers, whole floats or booleans. None may be missing, and all must have the same type,
    whatever their container. NumPy converts NaN among strings to "nan", and 1 to "1", so elements are checked before
    they are converted to an array. A column causes a warning, as in scikit-learn's `fit`, unless `warns` is False.

    Raises
    ------
    InvalidInputError
        If `y` is not one label per image. `name` is the name of the labels in the message.
    """
    if y is None:
        raise InvalidInputError(
            f"The classifier requires y to be passed, but the target {name} is None. Pass one label for each image."
        )
    labels = _as_vector(as_cells(y, name), name, y, warns)
    if labels.dtype.kind not in "biufU":
        # Arrays of objects, as in pandas, stay arrays of objects, because `predict` returns the same dtype.
        labels = _check_elements(labels, name, as_objects=hasattr(y, "__array__"))
    if labels.dtype.kind == "f":
        _check_floats(labels, name)
    elif labels.dtype.kind in "UO" and len(empty := np.flatnonzero(labels == "")):
        raise InvalidInputError(f"{cell_of(name, empty[0])} is an empty string. Label this image, or drop it.")
    _check_no_nan_text(labels, name)
    return labels


def _check_no_nan_text(labels: np.ndarray, name: str) -> None:
    """Raise `InvalidInputError` if NumPy has probably converted missing values among strings."""
    may_be_missing = labels.dtype.kind == "U" and labels.dtype.itemsize >= _STRINGS_AND_NUMBERS.itemsize
    if may_be_missing and len(found := np.flatnonzero(labels == "nan")):
        raise InvalidInputError(
            f"{cell_of(name, found[0])} is 'nan', to which NumPy converts a missing value among strings. Label this "
            f"image, or drop it. If 'nan' is a label, pass {name}.tolist()."
        )


def warn_of_similar_labels(classes: np.ndarray) -> None:
    """Warn of labels that look the same: "cat; dog" split at ";" has white space, and names from a Mac are in NFD."""
    alike = groups_alike((name for name in classes.tolist() if isinstance(name, str)), as_seen)
    if not alike:
        return
    one, other, *_ = alike[0]
    if one.split() == other.split():
        warn(
            f"The labels {shown_value(one)} and {shown_value(other)} of y differ only in white space. If they mean the "
            "same, remove the white space before y is made.",
            InputWarning,
        )
    else:
        # The advice is to rename the former like the latter, which is in the usual form, NFC, if one of them is.
        one, other = sorted((one, other), key=lambda name: unicodedata.is_normalized("NFC", name))
        warn(f"y has labels that look the same, but are different: {resemblances([one], [other])}", InputWarning)


def warn_of_unknown_labels(labels: np.ndarray, classes: np.ndarray) -> None:
    """Warn if the model lacks some labels, which count as wrong, and they look the same as its classes.

    Labels in another case may be other classes, of which a fold has no image.
    """
    if hint := resemblances(dict.fromkeys(labels.tolist()), classes.tolist(), keys=[as_seen]):
        warn(f"y has labels that the model does not have, and whose images count as wrong: {hint}", InputWarning)


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
    except MemoryError:
        raise
    except Exception as error:  # users' classes may raise anything, and tensors without values do
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


def _as_vector(labels: np.ndarray, name: str, given: Any, warns: bool = True) -> np.ndarray:
    """Return labels with shape (n_samples,), including labels in a column. `given` is the container of the user."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        if warns:
            warn(
                f"A column-vector {name} was passed when a 1d array was expected. Pass shape (n_samples,), for "
                f"instance {_flat(given, name)}.",
                DataConversionWarning,
            )
        return labels.ravel()
    if labels.ndim != 1:
        remedy = f"; for a one-hot array, pass {name}.argmax(axis=1)" if labels.ndim == 2 else ""
        raise InvalidInputError(
            f"{name} should be a 1d array, got an array of shape {labels.shape}. Pass one label for each image{remedy}."
        )
    return labels


def _flat(column: Any, name: str) -> str:
    """Return the code that makes a column one-dimensional, in terms of its container."""
    # The `columns` of a table of PyArrow are not their names.
    if len(columns := [*(getattr(column, "column_names", None) or getattr(column, "columns", []))]) == 1:
        return f"{name}[{shown_value(columns[0])}]"
    return f"{name}.ravel()" if hasattr(column, "ravel") else f"np.ravel({name})"


def _check_elements(labels: np.ndarray, name: str, as_objects: bool) -> np.ndarray:
    """Return the labels of an object array in their own dtype; strings stay objects if `as_objects`."""
    kinds = [_kind(label) for label in labels]
    if None in kinds:
        raise _missing(labels, kinds.index(None), name)
    if object in kinds:
        position = kinds.index(object)
        label = labels[position]
        raise InvalidInputError(
            f"Unknown label type: {cell_of(name, position)} is {type_of(label)}, {shown_value(label)}. {name} must "
            f"hold one label for each image: strings, integers or booleans{_remedy(labels, label, name)}."
        )
    _check_one_type(labels, [kind.__name__ for kind in kinds if kind is not None], name, "labels")
    typed = _typed(labels, kinds)
    return np.array(typed.tolist(), dtype=object) if as_objects and str in kinds else typed


def _check_one_type(labels: np.ndarray, types: Sequence[str], name: str, what: str) -> None:
    """Raise `InvalidInputError` unless labels have one type, or are integers and floats."""
    present = sorted({*types})
    if len(present) > 1 and present != ["float", "int"]:
        first, other = map(types.index, present[:2])
        raise InvalidInputError(
            f"{name} mixes {what} of types {' and '.join(present)}: {cell_of(name, first)} is "
            f"{shown_value(labels[first])}, {cell_of(name, other)} is {shown_value(labels[other])}. Convert them to "
            "one type, for instance with str."
        )


def _typed(labels: np.ndarray, kinds: Sequence[type | None]) -> np.ndarray:
    """Return strings, integers, floats or booleans in their own dtype, or as objects if it would change them."""
    plain = [_PLAIN[kind](label) for kind, label in zip(kinds, labels, strict=True)]
    typed = np.array(plain)
    # NumPy drops NUL characters at the end of strings, and rounds integers of more than 64 bits.
    faithful = typed.tolist() == plain and (typed.dtype.kind == "f") == (float in kinds)
    return typed if faithful else np.array(plain, dtype=object)


def _remedy(labels: np.ndarray, label: Any, name: str) -> str:
    """Return how to pass several labels for an image, such as `label`, or an encoded label, for messages."""
    if isinstance(label, bytes):
        return f". Decode the labels: [label.decode() for label in {name}]"
    if not isinstance(label, list | tuple | np.ndarray | Set):
        return ""
    table = f"np.stack({name})" if _is_multi_hot(labels) else f"MultiLabelBinarizer().fit_transform({name})"
    return f". For several labels per image, pass {table}"


def _is_multi_hot(rows: np.ndarray) -> bool:
    """Return True if all rows have the same number of zeros and ones, and not the names or numbers of labels."""
    if not all(isinstance(row, list | tuple | np.ndarray) for row in rows) or len({len(row) for row in rows}) > 1:
        return False
    return all(_kind(value) in (bool, int, float) and value in (0, 1) for row in rows for value in row)


def _kind(label: Any) -> type | None:
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


def _check_floats(labels: np.ndarray, name: str) -> None:
    """Raise `InvalidInputError` unless floats are whole numbers."""
    if len(missing := np.flatnonzero(np.isnan(labels))):
        raise _missing(labels, missing[0], name)
    if len(broken := np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))):
        numbers = " For numbers, use PretrainedImageRegressor." if name in ("y", "y_val") else ""
        raise InvalidInputError(
            f"Unknown label type: continuous. {cell_of(name, broken[0])} is {labels[broken[0]]}; labels are strings, "
            f"integers or booleans.{numbers}"
        )


def _missing(labels: np.ndarray, position: int, name: str) -> InvalidInputError:
    label = labels[position]
    found = "NaN" if isinstance(label, float | np.floating) else shown_value(label)
    return InvalidInputError(f"{cell_of(name, position)} is a missing value, {found}. Label this image, or drop it.")


def missing_cells(cells: np.ndarray) -> np.ndarray:
    """Return which cells of an array of `as_cells` are missing values or empty strings."""
    if cells.dtype.kind in "fc":
        return np.isnan(cells)
    if cells.dtype.kind == "U":
        return np.asarray(cells == "")
    if cells.dtype.kind != "O":
        return np.zeros(cells.shape, dtype=bool)
    missing = (_kind(value) is None or (isinstance(value, str) and not value) for value in cells.flat)
    return np.fromiter(missing, dtype=bool, count=cells.size).reshape(cells.shape)


def check_complete(values: Any, name: str) -> np.ndarray:
    """Return values of one type with an order, one per image, as an array of shape (n_samples,).

    Raises
    ------
    InvalidInputError
        If a value is missing, or if values have several types or no order.
    """
    column = _as_vector(as_cells(values, name, "value"), name, values)
    _check_no_nan_text(column, name)
    if column.dtype.kind not in "fO":
        return column
    kinds = [_kind(value) for value in column]
    if None in kinds:
        raise _missing(column, kinds.index(None), name)
    types = [type(value) if kind is object else kind for value, kind in zip(column, kinds, strict=True)]
    _check_one_type(column, [kind.__name__ for kind in types if kind], name, "values")
    if object in kinds:
        _check_order(column, name)
        return column
    return _typed(column, kinds)


def _check_order(values: np.ndarray, name: str) -> None:
    """Raise `InvalidInputError` unless objects can be sorted, as dates can."""
    with contextlib.suppress(Exception):  # users' classes may raise anything
        # The order of tuples depends on their items, and sets have none: "less" means "a part of".
        if isinstance(values[0], bytes) or not hasattr(values[0], "__len__"):
            np.unique(values)
            return
    raise InvalidInputError(
        f"{cell_of(name, 0)} is {type_of(values[0])}, {shown_value(values[0])}; {name} must hold one string, "
        "number or date for each image. Convert the values, for instance with str."
    )


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
    kinds = [_kind(value) for value in array.flat]
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
