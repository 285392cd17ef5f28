"""Decisions about the findings of an audit: read from a CSV file, and checked against the images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

from sktl._images.input_containers import as_items, is_flattened
from sktl._images.url_text import masked
from sktl._targets.target_columns import as_cells, first_shown, missing_cells
from sktl._targets.target_tables import is_frame
from sktl._utils.paths import checked_path, in_utf8, shown
from sktl._words import shown_value, type_of
from sktl.exceptions import InvalidInputError

from .csv_rows import rows_of_csv

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
    name, rows = shown(path), rows_of_csv(path, "decisions", _ADVICE)
    header = rows[0][1] if rows else []
    order = _order(header, name)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InvalidInputError(
                f"Row {number} of {name} has {len(row)} cells, but there are {len(header)} columns. Correct the row."
            )
        yield f"Row {number} of {name}", [row[k] for k in order]


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


# ----------------------------------------------------------------------------------------------------------- the images


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
