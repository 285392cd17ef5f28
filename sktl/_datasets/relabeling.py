"""Labels and numbers that a person decided on, put in place of others in any container."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sktl._images.foreign_types import is_arrow
from sktl._short_text import first_shown, shown_value
from sktl._targets.joined_labels import SEPARATOR, split_labels
from sktl._targets.target_cells import as_cells, as_numbers
from sktl._targets.target_tables import Table, is_frame, is_table
from sktl._utils.paths import in_utf8, shown
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .audit_decisions import Decision
from .table_values import MOST_WHOLE


def rows_of(values: Any, rows: np.ndarray) -> Any:
    """Return some rows of a container, in a container of the same type; a list for a tuple or another sequence."""
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if is_arrow(values):
        return values.take(rows)
    if issparse(values):
        return values.tocsr()[rows]
    # What has a shape selects several rows at once.
    return values[rows] if hasattr(values, "shape") else [values[int(row)] for row in rows]


def relabeled(y: Any, decisions: Sequence[Decision], classes: Any, kind: str) -> Any:
    """Return a copy of `y` with the labels or numbers that were decided.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_columns)
    decisions : sequence of Decision
    classes : array-like or None
        Further labels.
    kind : {"auto", "classes", "labels", "numbers"}
        What `y` holds.

    Raises
    ------
    InvalidInputError
        If a new label is neither one that `y` has nor one of `classes`, or a new number is not one that `y` can hold.
    InvalidParameterError
        If `classes` are not labels.
    """
    changes = [decision for decision in decisions if decision.decision == "relabel"]
    if not changes:
        return y
    if kind == "numbers" or (kind == "auto" and _are_numbers(y, classes)):
        return _with_numbers(y, changes)
    return _with_indicators(y, changes) if is_table(y) else _with_classes(y, changes, classes, kind)


# ------------------------------------------------------------------------------------------------------------- numbers


def _are_numbers(y: Any, classes: Any) -> bool:
    """Return True if `y` holds floats that are not classes, or a table not only of zeros and ones."""
    if is_table(y):
        numbers = as_numbers(Table.of(y, "y").values, "y")
        return not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all()
    has_classes = classes is not None and not (hasattr(classes, "__len__") and len(classes) == 0)
    cells = as_cells(y, "y")
    return not has_classes and _has_floats(cells) and not _may_be_classes(cells)


def _may_be_classes(floats: np.ndarray) -> bool:
    """Return True if floats are few different whole numbers, which a table of labels takes for classes as well."""
    numbers = as_numbers(floats, "y")
    different = np.unique(numbers[~np.isnan(numbers)])
    return len(different) <= MOST_WHOLE and bool((different % 1 == 0).all())


def _has_floats(cells: np.ndarray) -> bool:
    """Return True if some cells are floats and all others are numbers or missing."""
    if cells.dtype.kind in "biufU":
        return cells.dtype.kind == "f"
    values = [value for value in cells.flat if value is not None and value == value]
    are_real = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    return are_real and not all(isinstance(value, Integral) for value in values)


def _with_numbers(y: Any, changes: Sequence[Decision]) -> Any:
    """Return the numbers of images, some changed. Those of integers remain integers."""
    cells = _cells(y)
    dtype = float if _has_floats(cells) else int
    rows = {change.position: _numbers_of(change, cells.shape[1], dtype) for change in changes}
    if is_table(y):
        changed = _with_rows(y, rows)
    else:
        changed = rows_of(y, np.arange(len(cells)))
        for position, (number,) in rows.items():
            changed = _with_label(changed, position, number)
    stored = as_numbers(_cells(changed), "y")
    for change in changes:  # some columns of a data frame may hold small integers
        wanted, held = np.array(rows[change.position]), stored[change.position]
        if not np.isclose(held, wanted, rtol=1e-2, atol=0).all() or ((held % 1 == 0) & (wanted % 1 != 0)).any():
            raise _cannot_hold(change)
    return changed


def _cells(y: Any) -> np.ndarray:
    """Return the values of an array or a table, of shape (n_samples, n_columns)."""
    values = Table.of(y, "y").values if is_table(y) else as_cells(y, "y")
    return values.reshape(len(values), -1)


def _numbers_of(change: Decision, n: int, dtype: type) -> list[Any]:
    """Return the numbers of a row. Raise `InvalidInputError` if they are not `n` numbers of a type, float or int."""
    text = "" if change.label is None else str(change.label)
    try:
        numbers = [float(part) for part in text.split(SEPARATOR)]
    except ValueError:
        numbers = []
    if len(numbers) != n or not np.isfinite(numbers).all():
        what = "one finite number" if n == 1 else f"{n} finite numbers, separated by a comma and a space"
        raise InvalidInputError(f"{change.place} relabels to {shown(text)}, but needs {what}. Correct the row.")
    if dtype is int and not all(number.is_integer() for number in numbers):
        raise _cannot_hold(change)
    return [dtype(number) for number in numbers]


def _cannot_hold(change: Decision) -> InvalidInputError:
    return InvalidInputError(
        f"{change.place} relabels to {shown(str(change.label))}, which y cannot hold. Correct the row, or pass y as "
        "float64."
    )


# -------------------------------------------------------------------------------------------------------------- labels


def _with_classes(y: Any, changes: Sequence[Decision], classes: Any, kind: str) -> Any:
    """Return the labels, each changed one from a row that has it: so labels keep their type in any container."""
    labels = as_cells(y, "y").ravel().tolist()
    first: dict[str, int] = {}
    for row, label in enumerate(labels):
        first.setdefault(in_utf8(str(label)), row)
    others = _by_text(classes, next((label for label in labels if label is not None and label == label), None))
    source, new = np.arange(len(labels)), {}
    for change in changes:
        text = change.label_among([*(first | others)])
        if text in first:
            source[change.position] = first[text]
        elif text in others:
            new[change.position] = others[text]
        else:
            raise _unknown_label(change, [*(first | others)], _alternatives(labels, kind))
    changed = rows_of(y, source)
    if hasattr(y, "iloc"):
        changed = changed.set_axis(y.index)  # rows of pandas carry the names of the rows that they were taken from
    for position, label in new.items():
        changed = _with_label(changed, position, label)
    return changed


def _alternatives(labels: Sequence[Any], kind: str) -> str:
    may_be_numbers = kind == "auto" and any(type(label) in (int, float) for label in labels)
    numbers = ". If y holds numbers instead of classes, pass kind='numbers'" if may_be_numbers else ""
    return f", or pass further labels as classes{numbers}"


def _by_text(classes: Any, label: Any) -> dict[str, Any]:
    """Return further labels by their text. Raise an error if they are not of the type of a label of `y`."""
    if classes is None:
        return {}
    if isinstance(classes, str | bytes | Set | Mapping) or not hasattr(classes, "__len__"):
        raise InvalidParameterError(
            f"classes={shown_value(classes)} must be a list or an array of labels, such as audit.classes_."
        )
    found = as_cells(classes, "classes").ravel().tolist()
    for one in found:
        if label is not None and isinstance(one, str) != isinstance(label, str):
            raise InvalidParameterError(
                f"classes has labels such as {shown_value(one)}, but y has labels such as {shown_value(label)}. Pass "
                "labels of the same type."
            )
    return {in_utf8(str(one)): one for one in found}


def _with_label(y: Any, row: int, label: Any) -> Any:
    """Return labels with one changed to a label that no row has. `y`, which may be changed, is a copy."""
    if is_arrow(y):
        if hasattr(y, "schema"):
            return _with_arrow_rows(y, {row: [label]})
        pa = importlib.import_module("pyarrow")
        changed = _with_label(pa.table({"y": y}), row, label).column(0)
        return changed if isinstance(y, pa.ChunkedArray) else changed.combine_chunks()
    if hasattr(y, "to_frame") and not is_frame(y):  # a column of pandas or polars
        frame = y.to_frame()
        _set_row(frame, row, [label])
        return frame.iloc[:, 0].rename(y.name) if hasattr(y, "iloc") else frame.to_series()
    if isinstance(y, np.ndarray) and y.dtype.kind != "f":
        y = y.astype(np.result_type(y, np.array([label])))  # an array of text has a fixed width
    if is_frame(y) or (isinstance(y, list) and isinstance(y[row], list | tuple)):
        _set_row(y, row, [label])
    else:
        y[row] = label
    return y


def _with_indicators(y: Any, changes: Sequence[Decision]) -> Any:
    """Return a table of zeros and ones with some rows changed."""
    table = Table.of(y, "y")
    table.numbers("y", "several labels are a table of zeros and ones")
    names = [in_utf8(str(name)) for name in table.names or range(table.values.shape[1])]
    rows: dict[int, list[int]] = {}
    for change in changes:
        has = split_labels(change.label_among(names), names)
        if has is None:
            raise _unknown_label(change, names)
        rows[change.position] = [int(name in has) for name in names]
    return _with_rows(y, rows)


# ---------------------------------------------------------------------------------------------------------- containers


def _with_rows(y: Any, rows: Mapping[int, Sequence[Any]]) -> Any:
    """Return a copy of a table with some rows replaced."""
    if is_arrow(y):
        return _with_arrow_rows(y, rows)
    copy = _copy(y)
    for row, values in rows.items():
        _set_row(copy, row, values)
    return copy.asformat(y.format) if issparse(y) else copy


def _with_arrow_rows(y: Any, rows: Mapping[int, Sequence[int]]) -> Any:
    """Return a table of pyarrow, which cannot be changed, with some rows replaced."""
    pa = importlib.import_module("pyarrow")
    for k, field in enumerate(y.schema):
        column = y.column(k).to_pylist()
        for row, values in rows.items():
            column[row] = _like(column[row], values[k])
        y = y.set_column(k, field, pa.array(column, field.type))
    return y


def _copy(y: Any) -> Any:
    if issparse(y):
        return y.tolil()
    if isinstance(y, list | tuple):
        return [*y]
    return y.clone() if hasattr(y, "clone") else y.copy()


def _set_row(y: Any, row: int, values: Sequence[Any]) -> None:
    """Set a row of a table, whose columns keep their types."""
    if not is_frame(y):
        y[row] = type(y[row])(values) if isinstance(y, list) and isinstance(y[row], list | tuple) else _typed(y, values)
        return
    for k, column in enumerate(y.columns):
        if hasattr(y, "iloc"):
            _set_pandas_cell(y, row, k, values[k])
        else:
            y[row, column] = _like(y[row, column], values[k])


def _set_pandas_cell(y: Any, row: int, k: int, value: Any) -> None:
    dtype = y.dtypes.iloc[k]
    categories = getattr(dtype, "categories", None)
    cell = (dtype if categories is None else categories.dtype).type(value)
    if categories is not None and cell not in categories:
        name = y.columns[k]
        y[name] = y[name].cat.add_categories([cell])
    y.iloc[row, k] = cell


def _like(cell: Any, value: Any) -> Any:
    """Return a value in the type of the cell that it replaces, unless the cell is missing."""
    return value if cell is None else type(cell)(value)


def _typed(y: Any, values: Sequence[Any]) -> Any:
    """Return values as a row that torch, NumPy or SciPy can assign."""
    return y.new_tensor(values) if hasattr(y, "new_tensor") else np.array(values)


def _unknown_label(change: Decision, labels: Sequence[str], alternative: str = "") -> InvalidInputError:
    return InvalidInputError(
        f"{change.place} relabels to {shown(str(change.label))}, but the labels are {first_shown(labels)}. Correct the "
        f"row{alternative}."
    )
