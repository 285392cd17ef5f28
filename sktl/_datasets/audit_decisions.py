"""Decisions about the findings of an audit: read from a CSV file, and checked against the images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, Self

from sktl._images.file_digests import file_digest
from sktl._images.input_containers import as_items, is_flattened
from sktl._images.lazy_images import LazyImages
from sktl._images.samples import as_samples
from sktl._images.url_text import masked
from sktl._short_text import first_shown, shown_value, type_of
from sktl._targets.target_cells import as_cells, missing_cells
from sktl._targets.target_tables import is_frame
from sktl._utils.paths import checked_path, in_utf8, shown
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .csv_rows import rows_of_csv

PARTS = ("train", "test")
_COLUMNS = ("part", "position", "name", "decision", "label")
# Pages of earlier versions and tables of people lack them.
_OPTIONAL = ("n_images", "content")
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
    n_images : int or None, default=None
        Number of images of the part, if the table has it.
    content : str, default=""
        Digest of the file, if the table has it.
    table : int, default=0
        Position of the table among those passed, from the first audit to the last.
    """

    place: str
    part: str
    position: int
    name: str
    decision: str
    label: Any
    n_images: int | None = None
    content: str = ""
    table: int = 0

    @classmethod
    def of(cls, place: str, cells: Sequence[Any], table: int) -> Self:
        """Return the decision in a row of a table with these cells, in the order of the columns.

        Raises
        ------
        InvalidInputError
            If a cell is invalid.
        """
        part, position, name, decision, label, n_images, content = cells
        for cell, column, valid in ((part, "part", PARTS), (decision, "decision", _DECISIONS)):
            if cell not in valid:
                raise InvalidInputError(
                    f"{place} has {shown(cell)} in column {column}, which must be {' or '.join(valid)}. Correct it."
                )
        for cell, column, what in (
            (position, "position", "the position of an image, from 0"),
            (n_images or "0", "n_images", "the number of images that were audited"),
        ):
            if not re.fullmatch(r"\d{1,15}", cell, re.ASCII):
                raise InvalidInputError(
                    f"{place} has {shown(cell)} in column {column}, which must be {what}. Correct it."
                )
        return cls(
            place, part, int(position), name, decision, _unescaped(label) if isinstance(label, str) else label,
            int(n_images) if n_images else None, content, table,
        )  # fmt: skip

    def joined(self, later: Decision) -> Decision:
        """Return what this decision and one of a later row about the same image amount to.

        Raises
        ------
        InvalidInputError
            If they differ. But to keep an image in a later audit confirms what was decided before.
        """
        if later.decision == "keep" and later.table > self.table:
            return self
        is_relabel = self.decision == "relabel"
        if self.decision != later.decision or (is_relabel and not _may_be_equal(self.label, later.label)):
            raise InvalidInputError(
                f"{self.place} and {later.place} decide differently about the same image. Remove one of the rows."
            )
        return later if isinstance(self.label, str) else self  # a number that may mean several labels is an error later

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

    def is_about(self, path: str) -> bool:
        """Return True if a path is the name of the image, or one is the end of the other."""
        return any(_is_same_file(name, path) for name in self.names)

    @property
    def names(self) -> set[str]:
        """The names that the row may mean. A leading apostrophe may be part of the name, if a person wrote the row."""
        return {_unescaped(self.name), self.name}


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


def _may_be_equal(one: Any, other: Any) -> bool:
    """Return True if labels are equal, or a reader of CSV files may have turned one of them into the other."""
    if isinstance(one, str) == isinstance(other, str):
        return bool(one == other)
    name, value = (one, other) if isinstance(one, str) else (other, one)
    return name.lower() in _READ_AS_MISSING if value is None else _may_be_read_as(name, value)


def _is_same_file(one: str, other: str) -> bool:
    """Return True if names are equal, or one is the end of the other: the audit ran in another working directory."""
    short, long = sorted((_normalized(one), _normalized(other)), key=len)
    return long == short or (short != "" and long.endswith("/" + short))


def _normalized(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./")


def read_decisions(decisions: Any, part: str) -> list[Decision]:
    """Return the decisions about the images of a part.

    Parameters
    ----------
    decisions : str, path-like or data frame, or a list of these
        Tables of decisions, from the first audit to the last.
    part : {"train", "test"}

    Raises
    ------
    InvalidInputError
        If a table cannot be read, or a cell is invalid.
    InvalidParameterError
        If `decisions` is neither a path nor a data frame nor a list of these.
    """
    tables = {"decisions": decisions}
    if isinstance(decisions, list | tuple):
        tables = {f"decisions[{k}]": table for k, table in enumerate(decisions)}
    if not tables:
        raise InvalidParameterError("decisions is an empty list. Pass at least one CSV file or data frame.")
    found = [
        Decision.of(place, cells, number)
        for number, (name, table) in enumerate(tables.items())
        for place, cells in (_rows_of_frame(table, name) if is_frame(table) else _rows_of_file(table, name))
    ]
    return [decision for decision in found if decision.part == part]


def _rows_of_file(decisions: Any, argument: str) -> Iterator[tuple[str, list[str]]]:
    path = checked_path(decisions, argument, " or a data frame")
    name, rows = shown(path), rows_of_csv(path, "decisions", _ADVICE)
    header = rows[0][1] if rows else []
    order = _order(header, name)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InvalidInputError(
                f"Row {number} of {name} has {len(row)} cells, but there are {len(header)} columns. Correct the row."
            )
        yield f"Row {number} of {name}", ["" if k is None else row[k] for k in order]


def _order(header: Iterable[Any], name: str) -> list[int | None]:
    """Return the position of each column in a header, None for an optional column that is absent."""
    names = [str(cell).strip() for cell in header]
    counts = {column: names.count(column) for column in (*_COLUMNS, *_OPTIONAL)}
    if wrong := [column for column, n in counts.items() if n > 1 or (n == 0 and column in _COLUMNS)]:
        raise InvalidInputError(
            f"{name} needs one column of each of the names {', '.join(_COLUMNS)}; {', '.join(wrong)} "
            f"{'is' if len(wrong) == 1 else 'are'} missing or repeated. {_ADVICE}"
        )
    return [names.index(column) if n else None for column, n in counts.items()]


def _rows_of_frame(frame: Any, argument: str) -> Iterator[tuple[str, list[Any]]]:
    names = [*frame.columns]
    order = _order(names, argument)
    columns = [
        [None] * len(frame) if k is None else _cells_of(frame[names[k]], column, argument)
        for k, column in zip(order, (*_COLUMNS, *_OPTIONAL), strict=True)
    ]
    for number, (*cells, label, n_images, content) in enumerate(zip(*columns, strict=True)):
        texts = [*map(_as_text, cells)]
        yield f"Row {number} of {argument}", [*texts, label, _as_text(n_images), _as_text(content)]


def _cells_of(values: Any, column: str, argument: str) -> list[Any]:
    """Return the cells of a column of a data frame, with None for missing values."""
    cells = as_cells(values, f"The column {column} of {argument}", "value")
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


@dataclass(frozen=True)
class _Images:
    """The images that are left of those that were audited, and others.

    Parameters
    ----------
    items : sequence or None
        None for rows of numbers. Whether each of them is an image depends on `image_shape`.
    n : int
    """

    items: Any
    n: int

    @classmethod
    def of(cls, X: Any) -> Self:
        """Return the images of an `X`. Raise `InvalidInputError` if it has no rows."""
        items = None if is_flattened(X) else as_items(X, None)
        return cls(items, n_rows(X if items is None else items, "X"))

    def path(self, position: int) -> str | None:
        """Return the name of a file at a position; None for an image without a name, such as an array."""
        item = None if self.items is None else self.items[position]
        return in_utf8(masked(os.fsdecode(item))) if isinstance(item, str | os.PathLike) else None

    @cached_property
    def positions(self) -> dict[str, list[int]]:
        """The positions at which each name occurs."""
        found: dict[str, list[int]] = {}
        # Items of lazy images have no names, and reading all of them takes long.
        for position in range(0 if isinstance(self.items, LazyImages | None) else self.n):
            if (path := self.path(position)) is not None:
                found.setdefault(_normalized(path), []).append(position)
        return found

    def find(self, decision: Decision) -> int:
        """Return the position of the image of a decision: that of the audit, or of the same file elsewhere.

        Raises
        ------
        InvalidInputError
            If the image is not there, or has changed.
        """
        position = self._position(decision)
        if decision.content and self._digest(position) not in (decision.content, ""):
            raise InvalidInputError(
                f"{decision.place} is about {shown(decision.name)}, which is another file now. Look at it, and remove "
                "the row or run the audit again."
            )
        return position

    def _position(self, decision: Decision) -> int:
        """Return the position of the name of a decision. Only with a digest may it be another one than in the audit."""
        found = self._of_name(decision)
        # The end of a name counts last: it may be that of another file, as in a copy of the folder inside the folder.
        if decision.position in found or (not found and self._is_at(decision)):
            return decision.position
        if len(found) != 1 or not decision.content:
            raise self._absent(decision)
        return found.pop()

    def _of_name(self, decision: Decision) -> set[int]:
        """Return the positions of files of exactly the name of a decision."""
        return {position for name in decision.names for position in self.positions.get(_normalized(name), [])}

    def _digest(self, position: int) -> str:
        """Return the digest of the file at a position; empty if there is none, which is for the reader to report."""
        if self.path(position) is None:
            return ""
        return file_digest(as_samples([self.items[position]], lenient=True)[0])

    def _is_at(self, decision: Decision) -> bool:
        """Return True if the image of a decision is at the position of the audit."""
        if decision.position >= self.n:
            return False
        path = self.path(decision.position)
        if path is not None:
            return decision.is_about(path)
        place = _PLACE.fullmatch(decision.name)
        is_whole = decision.n_images in (None, self.n)  # without names, the number of images is what can be compared
        return is_whole and place is not None and int(place[1]) == decision.position

    def _absent(self, decision: Decision) -> InvalidInputError:
        """Return the error about a decision whose image is not there."""
        place, position, name = decision.place, decision.position, shown(decision.name)
        if decision.content and self.positions:  # the order does not matter
            n = len(self._of_name(decision))
            what = f"is the name of {n} images" if n else "is not among the images"
            return InvalidInputError(f"{place} is about {name}, which {what}. Remove the row, or run the audit again.")
        if position >= self.n:
            return InvalidInputError(
                f"{place} is about the image at position {position}, but there are {self.n} images. {_STALE}"
            )
        path = self.path(position)
        if path is None and _PLACE.fullmatch(decision.name) and decision.n_images not in (None, self.n):
            return InvalidInputError(
                f"{place} is about one of {decision.n_images} images, but there are {self.n}. {_STALE}"
            )
        found = shown(f"X[{position}]" if path is None else path)
        return InvalidInputError(f"{place} is about {name}, but the image at position {position} is {found}. {_STALE}")


def of_images(decisions: Iterable[Decision], X: Any) -> tuple[list[Decision], int]:
    """Return decisions at the positions of their images in `X`, at most one for each image, and the number of images.

    Raises
    ------
    InvalidInputError
        If an image is not there, or two rows about one image differ.
    """
    images = _Images.of(X)
    found: dict[int, Decision] = {}
    for decision in decisions:
        new = replace(decision, position=images.find(decision))
        old = found.get(new.position)
        found[new.position] = new if old is None else old.joined(new)
    return [*found.values()], images.n
