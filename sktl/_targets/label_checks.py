"""Check labels, and other values such as groups: one for each image, none missing, and all of one type."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np
from sklearn.exceptions import DataConversionWarning

from sktl._short_text import shown_value, type_of
from sktl._utils.similar_names import as_seen, groups_alike, resemblances
from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning, InvalidInputError

from .target_cells import as_cells, cell_of, kind_of_cell

_PLAIN: dict[Any, Callable[[Any], Any]] = {str: str.__str__, bool: bool, int: int, float: float}
# What NumPy makes of short strings and floats together, wide enough for any float. Long strings make it wider.
_OF_GROUPS = ("groups", "groups_test")
_STRINGS_AND_NUMBERS = np.array(["", np.nan]).dtype


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
        what, remedy = "label", f"; for a one-hot array, pass {name}.argmax(axis=1)" if labels.ndim == 2 else ""
        if name in _OF_GROUPS:
            what, remedy = "group", "; join several columns, such as patient and side, into one"
        raise InvalidInputError(
            f"{name} should be a 1d array, got an array of shape {labels.shape}. Pass one {what} for each "
            f"image{remedy}."
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
    kinds = [kind_of_cell(label) for label in labels]
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
    return all(kind_of_cell(value) in (bool, int, float) and value in (0, 1) for row in rows for value in row)


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
    remedy = "Give this image a group of its own" if name in _OF_GROUPS else "Label this image"
    return InvalidInputError(f"{cell_of(name, position)} is a missing value, {found}. {remedy}, or drop it.")


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
    kinds = [kind_of_cell(value) for value in column]
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
