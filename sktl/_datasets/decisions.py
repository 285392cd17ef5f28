"""Decisions about the findings of an audit: read from a CSV file which rows stay and which labels change."""

from __future__ import annotations

import csv
import importlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse

from sktl._images.containers import as_items, is_flattened
from sktl._images.foreign_types import is_arrow
from sktl._images.url_text import masked
from sktl._targets.joined_labels import split_labels
from sktl._targets.labels import as_cells, first_shown, missing_cells
from sktl._targets.tables import Table, is_frame, is_table
from sktl._utils.paths import checked_path, in_utf8, shown, why_no_file
from sktl._words import shown_value, type_of
from sktl.exceptions import InvalidInputError, InvalidParameterError

PARTS = ("train", "test")
_COLUMNS = ("part", "position", "name", "decision", "label")
_DECISIONS = ("keep", "drop", "relabel")
_ADVICE = "Pass the CSV file that the page of an audit downloads."
# What readers of CSV files take for a missing value, in lower case.
_READ_AS_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nat"}
_AS_TEXT = "Pass the path of the CSV file, or read it with pd.read_csv(path, dtype=str, keep_default_na=False)."
# The page puts an apostrophe in front of cells that spreadsheets would run as formulas.
_FORMULA = re.compile("\\A'(?=[=+\\-@\t\r\n'\uff1d\uff0b\uff0d\uff20])")
_PLACE = re.compile(r"\w+\[(\d+)\]")
_STALE = (
    "The images have changed since the audit. Pass them in the order in which they were audited, or run the audit "
    "again and decide on its page."
)


@dataclass(frozen=True)
class Decision:
    """What a person decided about an image.

    Parameters
    ----------
    place : str
        The row of the table, as messages show it.
    part : {"train", "test"}
    position : int
    name : str
    decision : {"keep", "drop", "relabel"}
    label : str or number
        The new label; several labels are joined by ", ". In a data frame, the reader of the CSV file may have turned
        it into a number.
    """

    place: str
    part: str
    position: int
    name: str
    decision: str
    label: Any

    @classmethod
    def of(cls, place: str, cells: Sequence[Any]) -> Self:
        """Return the decision in a row with these cells, in the order of the columns.

        Raises
        ------
        InvalidInputError
            If a cell is invalid.
        """
        part, position, name, decision, label = cells
        for cell, column, valid in ((part, "part", PARTS), (decision, "decision", _DECISIONS)):
            if cell not in valid:
                raise InvalidInputError(
                    f"{place} has {shown(cell)} in column {column}, which must be {' or '.join(valid)}. Correct it."
                )
        if not re.fullmatch(r"\d{1,15}", position, re.ASCII):
            raise InvalidInputError(
                f"{place} has {shown(position)} in column position, which must be the position of an image, from 0. "
                "Correct it."
            )
        return cls(place, part, int(position), name, decision, _unescaped(label) if isinstance(label, str) else label)

    def label_among(self, names: Sequence[str]) -> str:
        """Return the new label as text. Raise `InvalidInputError` if it is a number that several names may mean."""
        if isinstance(self.label, str):
            return self.label
        if self.label is None:
            return self._without_label(names)
        found = [name for name in names if _may_be_read_as(name, self.label)]
        if len(found) > 1:
            label, names = shown_value(self.label), first_shown(found)
            raise InvalidInputError(f"{self.place} relabels to {label}, which may mean any of {names}. {_AS_TEXT}")
        return found[0] if found else str(self.label)

    def _without_label(self, names: Sequence[str]) -> str:
        if any(name.lower() in _READ_AS_MISSING for name in names):
            raise InvalidInputError(
                f"{self.place} relabels an image, but the label is a missing value. Readers of CSV files turn empty "
                f"cells and labels such as NA into missing values. {_AS_TEXT}"
            )
        return ""

    def check_image(self, item: Any) -> None:
        """Raise `InvalidInputError` if this is not the image that the decision is about."""
        if isinstance(item, str | os.PathLike):
            name = masked(os.fsdecode(item))
            # A leading apostrophe may be part of the name, if a person wrote the table.
            matches = any(_is_same_file(wanted, in_utf8(name)) for wanted in (_unescaped(self.name), self.name))
        else:
            name = f"X[{self.position}]"
            place = _PLACE.fullmatch(self.name)
            matches = place is not None and int(place[1]) == self.position
        if not matches:
            raise InvalidInputError(
                f"{self.place} is about {shown(self.name)}, but the image at position {self.position} is "
                f"{shown(name)}. {_STALE}"
            )


def _unescaped(cell: str) -> str:
    return _FORMULA.sub("", cell)


def _may_be_read_as(name: str, value: Any) -> bool:
    """Return True if a reader of CSV files may turn a name into this value: "007" into 7, "true" into True."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return name.casefold() == str(value).casefold()
    try:
        return name == str(value) or float(name) == value
    except ValueError:
        return False


def _is_same_file(one: str, other: str) -> bool:
    """Return True if names are equal, or one is the end of the other: the audit ran in another working directory."""
    short, long = sorted((one.replace("\\", "/"), other.replace("\\", "/")), key=len)
    short = short.removeprefix("./")
    return long == short or (short != "" and long.endswith("/" + short))


def read_decisions(decisions: Any, part: str) -> list[Decision]:
    """Return the decisions about the images of a part, at most one for each image.

    Raises
    ------
    InvalidInputError
        If the table cannot be read, a cell is invalid, or two rows about one image differ.
    InvalidParameterError
        If `decisions` is neither a path nor a data frame.
    """
    of_image: dict[int, Decision] = {}
    for place, cells in _rows_of_frame(decisions) if is_frame(decisions) else _rows_of_file(decisions):
        new = Decision.of(place, cells)
        if new.part != part:
            continue
        old = of_image.setdefault(new.position, new)
        if (old.name, old.decision, old.label) != (new.name, new.decision, new.label):
            raise InvalidInputError(
                f"{old.place} and {new.place} decide differently about the same image. Remove one of the rows."
            )
    return [*of_image.values()]


def _rows_of_file(decisions: Any) -> Iterator[tuple[str, list[str]]]:
    path = checked_path(decisions, "decisions", " or a data frame")
    name = shown(path)
    text = _text(path, name)
    # Spreadsheets save other delimiters in some countries.
    delimiter = next((one for one in ",;\t" if one in text.partition("\n")[0]), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(number, row) for number, row in enumerate(reader, 1) if any(row)]
    except csv.Error as error:
        raise InvalidInputError(f"{name} is not a CSV file: line {reader.line_num}: {error}. {_ADVICE}") from error
    header = rows[0][1] if rows else []
    order = _order(header, name)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InvalidInputError(
                f"Row {number} of {name} has {len(row)} cells, but there are {len(header)} columns. Correct the row."
            )
        yield f"Row {number} of {name}", [row[k] for k in order]


def _text(path: str, name: str) -> str:
    if other := why_no_file(path):
        raise InvalidInputError(f"The decisions {name} cannot be read: it {other}. {_ADVICE}")
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"The decisions {name} cannot be read: {error.strerror or error}. {_ADVICE}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} is not text in UTF-8. {_ADVICE}") from error


def _order(header: Iterable[Any], name: str) -> list[int]:
    """Return the position of each column in a header."""
    names = [str(cell).strip() for cell in header]
    if absent := [column for column in _COLUMNS if names.count(column) != 1]:
        raise InvalidInputError(
            f"{name} needs one column of each of the names {', '.join(_COLUMNS)}; {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing or repeated. {_ADVICE}"
        )
    return [names.index(column) for column in _COLUMNS]


def _rows_of_frame(frame: Any) -> Iterator[tuple[str, list[Any]]]:
    names = [*frame.columns]
    order = _order(names, "decisions")
    columns = [_cells_of(frame[names[k]], column) for k, column in zip(order, _COLUMNS, strict=True)]
    for number, (*cells, label) in enumerate(zip(*columns, strict=True)):
        place, texts = f"Row {number} of decisions", [*map(_as_text, cells)]
        yield place, [*texts, label]


def _cells_of(values: Any, column: str) -> list[Any]:
    """Return the cells of a column of a data frame, with None for missing values."""
    cells = as_cells(values, f"The column {column} of decisions", "value")
    missing = missing_cells(cells)
    return [
        None if absent and not isinstance(cell, str) else cell
        for cell, absent in zip(cells.tolist(), missing, strict=True)
    ]


def _as_text(value: Any) -> str:
    """Return a cell as text. Readers of CSV files turn numbers of a column with empty cells to floats."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# ------------------------------------------------------------------------------------------------------------- applying


def n_rows(values: Any, name: str) -> int:
    """Return the number of rows, also of a sparse matrix, which has no length.

    Raises
    ------
    InvalidInputError
        If the values are not a container of rows. `name` is their name in the message.
    """
    shape, unordered = getattr(values, "shape", None), isinstance(values, str | bytes | Set | Mapping)
    if unordered or shape == () or not (shape or hasattr(values, "__len__")):
        raise InvalidInputError(
            f"{name} is {type_of(values)}. Pass a list, an array or a data frame with one row for each image."
        )
    return int(shape[0]) if shape else len(values)


def check_images(decisions: Iterable[Decision], X: Any) -> int:
    """Return the number of images. Raise `InvalidInputError` unless all decisions are about them at their positions."""
    # Rows of numbers have no names. Whether each of them is an image depends on `image_shape`.
    items = None if is_flattened(X) else as_items(X, None)
    n = n_rows(X if items is None else items, "X")
    for decision in decisions:
        if decision.position >= n:
            raise InvalidInputError(
                f"{decision.place} is about the image at position {decision.position}, but there are {n} images. "
                f"{_STALE}"
            )
        decision.check_image(None if items is None else items[decision.position])
    return n


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


def relabeled(y: Any, decisions: Sequence[Decision], classes: Any = None) -> Any:
    """Return a copy of `y` with the labels that were decided.

    Raises
    ------
    InvalidInputError
        If a new label is neither one that `y` has nor one of `classes`.
    InvalidParameterError
        If `classes` are not labels.
    """
    changes = [decision for decision in decisions if decision.decision == "relabel"]
    if not changes:
        return y
    return _with_indicators(y, changes) if is_table(y) else _with_classes(y, changes, classes)


def _with_classes(y: Any, changes: Sequence[Decision], classes: Any) -> Any:
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
            raise _unknown_label(change, [*(first | others)], ", or pass further labels as classes")
    changed = rows_of(y, source)
    if hasattr(y, "iloc"):
        changed = changed.set_axis(y.index)  # rows of pandas carry the names of the rows that they were taken from
    for position, label in new.items():
        changed = _with_label(changed, position, label)
    return changed


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
    if isinstance(y, np.ndarray):
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
            column[row] = type(column[row])(values[k])
        y = y.set_column(k, field, pa.array(column, field.type))
    return y


def _copy(y: Any) -> Any:
    if issparse(y):
        return y.tolil()
    if isinstance(y, list | tuple):
        return [*y]
    return y.clone() if hasattr(y, "clone") else y.copy()


def _set_row(y: Any, row: int, values: list[int]) -> None:
    """Set a row of a table, whose columns keep their types."""
    if not is_frame(y):
        y[row] = type(y[row])(values) if isinstance(y, list) and isinstance(y[row], list | tuple) else _typed(y, values)
        return
    for k, column in enumerate(y.columns):
        if hasattr(y, "iloc"):
            _set_pandas_cell(y, row, k, values[k])
        else:
            y[row, column] = type(y[row, column])(values[k])


def _set_pandas_cell(y: Any, row: int, k: int, value: int) -> None:
    dtype = y.dtypes.iloc[k]
    categories = getattr(dtype, "categories", None)
    cell = (dtype if categories is None else categories.dtype).type(value)
    if categories is not None and cell not in categories:
        name = y.columns[k]
        y[name] = y[name].cat.add_categories([cell])
    y.iloc[row, k] = cell


def _typed(y: Any, values: list[int]) -> Any:
    """Return values as a row that torch, NumPy or SciPy can assign."""
    return y.new_tensor(values) if hasattr(y, "new_tensor") else np.array(values)


def _unknown_label(change: Decision, labels: Sequence[str], alternative: str = "") -> InvalidInputError:
    return InvalidInputError(
        f"{change.place} relabels to {shown(str(change.label))}, but the labels are {first_shown(labels)}. Correct the "
        f"row{alternative}."
    )
