"""Tables of labels: read the cells of a CSV file, choose columns, and find the images of the rows."""

from __future__ import annotations

import ntpath
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktl._images.missing_files import file_meant
from sktl._images.url_text import is_url, masked
from sktl._short_text import shown_value
from sktl._targets.joined_labels import find_joined
from sktl._utils.paths import shown, user_path
from sktl._utils.similar_names import resemblances
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

from .csv_rows import rows_of_csv
from .image_files import listed

_PATH_COLUMNS = ("path", "file", "filename", "image")
# Missing files that a message names.
_MOST_MISSING = 10


@dataclass(frozen=True)
class LabelTable:
    """The cells of a table as text, without white space at their ends.

    Parameters
    ----------
    name : str
        The file, as messages show it.
    columns : dict of str to list of str
        The cells of each column that has a name.
    rows : list of int
        Number of each row in the file. The header is row 1.
    """

    name: str
    columns: dict[str, list[str]]
    rows: list[int]

    @classmethod
    def read(cls, path: str) -> Self:
        """Return the table in a CSV file.

        Raises
        ------
        InvalidInputError
            If the file cannot be read or is not a table with a header.
        """
        name = shown(path)
        rows = rows_of_csv(path, "table", "Pass a CSV file.", skips_spaces=True)
        if not rows:
            raise InvalidInputError(f"{name} is empty. Pass a table with a header.")
        (first, header), *body = [(number, [cell.strip() for cell in cells]) for number, cells in rows]
        if not body:
            raise InvalidInputError(f"{name} has no rows below row {first}, which must hold the names of the columns.")
        for number, cells in body:
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"Row {number} of {name} has {len(cells)} cells, but there are {len(header)} columns. Correct the "
                    "row. A cell that contains the delimiter must be in quotes."
                )
        named = [(i, column) for i, column in enumerate(header) if column]
        if repeated := [column for column, n in Counter(column for _, column in named).items() if n > 1]:
            raise InvalidInputError(f"{name} has several columns named {listed(repeated)}. Rename them.")
        return cls(name, {column: [cells[i] for _, cells in body] for i, column in named}, [n for n, _ in body])

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, position: int, column: str) -> str:
        """Return the place of a cell in the form of messages."""
        return f"row {self.rows[position]} of {self.name}, column {shown(column)}"

    def take(self, positions: Sequence[int]) -> LabelTable:
        """Return a table with some of the rows."""
        columns = {column: [cells[i] for i in positions] for column, cells in self.columns.items()}
        return LabelTable(self.name, columns, [self.rows[i] for i in positions])

    def check_columns(self, names: Sequence[Any]) -> None:
        """Raise `InvalidInputError` if the table lacks a column of some names."""
        if absent := [str(name) for name in names if name not in self.columns]:
            raise InvalidInputError(
                f"{self.name} has no column named {listed(absent)}. Its columns are {listed([*self.columns])}. Correct "
                "the name or the table."
            )

    def where(self, conditions: Mapping[str, Any]) -> LabelTable:
        """Return the rows that have a value, or one of several values, in some columns.

        Raises
        ------
        InvalidInputError
            If a column is absent, or no row has one of the values.
        """
        self.check_columns([*conditions])
        table: LabelTable = self
        for column, wanted in conditions.items():
            cells = table.columns[column]
            texts = [str(value).strip() for value in _values_of(wanted)]
            absent = [shown_value(text) for text in texts if text not in cells]
            if absent or not texts:
                raise InvalidInputError(
                    f"No row of {self.name} has {absent[0] if absent else 'a value of []'} in column {shown(column)}. "
                    f"The column has {listed(sorted(set(cells)))}."
                )
            table = table.take([i for i, cell in enumerate(cells) if cell in texts])
        return table

    def path_column(self, name: str | None) -> str:
        """Return the column of paths, by the name that the user passed or by its usual names."""
        if name is not None:
            if not isinstance(name, str):
                raise InvalidParameterError(f"path_column={shown_value(name)} must be the name of a column.")
            self.check_columns([name])
            return name
        found = [column for column in self.columns if column.lower() in _PATH_COLUMNS]
        if len(found) != 1:
            has = f"several columns of paths, {listed(found)}" if found else f"no column named {_any_of(_PATH_COLUMNS)}"
            columns = "" if found else f" Its columns are {listed([*self.columns])}; row 1 must name the columns."
            raise InvalidInputError(f"{self.name} has {has}.{columns} Pass the column of paths as `path_column`.")
        return found[0]

    def check_complete(self, path_column: str, columns: Sequence[str]) -> None:
        """Raise `InvalidInputError` if a cell of the column of paths or of the columns of labels is empty."""
        used = [path_column, *columns]
        empty = [(i, column) for i in range(len(self)) for column in used if not self.columns[column][i]]
        if empty:
            more = f" {len(empty) - 1} more cells are empty." if len(empty) > 1 else ""
            advice = "" if empty[0][1] == path_column else self._advice_on_empty(empty[0][1])
            raise InvalidInputError(
                f"The cell in {self.place(*empty[0])}, is empty.{more} Fill it in, or remove the row.{advice}"
            )

    def _advice_on_empty(self, column: str) -> str:
        # Other cells, which may be lists of labels, say whether an empty cell may be an image without labels.
        if find_joined(self.columns[column]):
            return " If an image has no label, give each label a column of 0 and 1."
        return (
            " To leave out such rows, mark the others in a further column, such as state, and pass "
            "where={'state': 'labeled'}."
        )


def _values_of(wanted: Any) -> list[Any]:
    """Return one value, which may be an array without dimensions, or several as a list."""
    is_one = isinstance(wanted, str | bytes) or not isinstance(wanted, Iterable) or getattr(wanted, "ndim", 1) == 0
    return [wanted] if is_one else [*wanted]


def _any_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def names_of(columns: Any, argument: str) -> list[str]:
    """Return the names of columns that were passed for an argument, of which one may be passed without a list.

    Raises
    ------
    InvalidParameterError
        If they are not names.
    """
    if isinstance(columns, str):
        return [columns]
    is_list = isinstance(columns, Iterable) and not isinstance(columns, bytes)
    names = [*columns] if is_list else []
    if not is_list or not all(isinstance(name, str) for name in names):
        raise InvalidParameterError(f"{argument}={shown_value(columns)} must be a list of names of columns.")
    return names


def chosen_columns(
    table: LabelTable, path_column: str, columns: Sequence[str] | None, ignore: Sequence[str], used: Sequence[str]
) -> list[str]:
    """Return the columns to learn: those that are named, or all but the ignored ones and those used otherwise.

    Raises
    ------
    InvalidInputError
        If a column is absent, or none is left.
    InvalidParameterError
        If the choice is contradictory.
    """
    if columns is None:
        table.check_columns(ignore)
        found = [column for column in table.columns if column not in {path_column, *ignore, *used}]
        if not found:
            raise InvalidInputError(f"{table.name} has no column of labels or numbers. Add one.")
        return found
    if ignore:
        raise InvalidParameterError("Pass either `columns` or `ignore`, not both.")
    table.check_columns(columns)
    if not columns or len(set(columns)) < len(columns) or path_column in columns:
        raise InvalidParameterError(
            f"`columns` must name different columns of labels or numbers, not {listed([*columns]) or 'none'}."
        )
    return [*columns]


def located(table: LabelTable, column: str, folder: str, suffix: str = "") -> list[str]:
    """Return the paths of images that are relative to a folder, and URLs as they are, with a suffix that cells lack.

    Raises
    ------
    InvalidInputError
        If files do not exist.
    """
    cells = [f"{cell}{suffix}" for cell in table.columns[column]]
    paths = [cell if is_url(cell) else os.path.join(folder, user_path(cell)) for cell in cells]
    absent = [i for i, path in enumerate(paths) if not is_url(path) and not os.path.isfile(path)]
    if absent:
        cell, hint = cells[absent[0]], _file_meant(cells[absent[0]], paths[absent[0]])
        others = listed([cells[i] for i in absent[1:]], _MOST_MISSING - 1)
        more = f" {len(absent) - 1} more of {len(table)} files are missing: {others}." if others else ""
        looked = f" (looked in {shown(os.path.abspath(folder))})"
        remedy = "Correct the paths, or pass the folder that they are relative to as `folder`."
        # Paths of Windows are absolute only there, but a folder does not help elsewhere either.
        if os.path.isabs(user_path(cell)) or ntpath.splitdrive(cell)[0]:
            looked = ""
            remedy = "Correct the paths, or write them relative to a folder, and pass the folder as `folder`."
        raise InvalidInputError(
            f"{shown(cell)} in {table.place(absent[0], column)}, is not a file{looked}.{more}{hint} {remedy}"
        )
    return paths


def _file_meant(cell: str, path: str) -> str:
    """Return a sentence about the file that a cell was probably meant for, and how their names differ, if they do."""
    meant = file_meant(path)
    if meant is None:
        return ""
    if suffix := meant[len(path) :] if meant.startswith(path) else "":
        return f" There is a file {shown(meant)}. If all paths lack {suffix!r}, pass suffix={suffix!r}."
    written = user_path(cell)  # the end of the path
    return f" There is a file {shown(meant)}. {resemblances([written], [meant[len(path) - len(written) :]])}".rstrip()


def without_repeats(table: LabelTable, paths: Sequence[str], target: np.ndarray) -> np.ndarray:
    """Return the positions of the first row of each image.

    Raises
    ------
    InvalidInputError
        If two rows of an image differ.
    """
    first: dict[str, int] = {}
    repeats = []
    for i, path in enumerate(paths):
        j = first.setdefault(path if is_url(path) else os.path.normcase(os.path.abspath(path)), i)
        if j == i:
            continue
        repeats.append(i)
        if not np.array_equal(target[i], target[j]):
            raise InvalidInputError(
                f"Rows {table.rows[j]} and {table.rows[i]} of {table.name} have different values for the same image, "
                f"{shown(masked(path))}. Remove one. For several labels of an image, use one row with a column of 0 "
                "and 1 for each label."
            )
    if repeats:
        more = f" and {len(repeats) - 1} more" if len(repeats) > 1 else ""
        warn(
            f"Rows of {table.name} that repeat an image with the same values were left out: row "
            f"{table.rows[repeats[0]]}{more}.",
            ImageFolderWarning,
        )
    return np.array(sorted(first.values()))
