"""Tables of labels: read paths of images, and their classes, several labels or numbers, from a CSV file."""

from __future__ import annotations

import math
import ntpath
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from sktl._images.missing_files import file_meant
from sktl._images.url_text import is_url, masked
from sktl._targets.joined_labels import find_joined, separator_in
from sktl._utils.decimal_commas import have_decimal_commas
from sktl._utils.paths import shown, user_path
from sktl._utils.similar_names import resemblances
from sktl._utils.warnings import warn
from sktl._words import shown_value
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

from .csv_rows import rows_of_csv
from .folder_layouts import check_names
from .image_files import listed
from .split_columns import SplitColumn, splits_among

KINDS = ("auto", "classes", "labels", "numbers")
_PATH_COLUMNS = ("path", "file", "filename", "image")
# Not what `float` accepts, which includes "1_000", "infinity" and "nan".
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Without leading zeros, because "007" and "7" are different names. At most 18 digits, which int64 can represent.
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})(\.0*)?", re.ASCII)
# What programs write for a missing value; NA, None and null may be names. Spreadsheets write errors such as #N/A, #REF!
# and #DIV/0!, in their own language, for a failed lookup. Other words, such as #NY and #WOW!, may be names.
_ERRORS = (
    "REF NUM NAME VALUE NULL SPILL CALC BEZUG ZAHL WERT NOMBRE NOM VALEUR NUL VALOR NULO ADR LICZBA ARG NAZWA ZERO RIF "
    "NOME VALORE VERW GETAL WAARDE NAAM LEEG ERROR ССЫЛКА ЧИСЛО ЗНАЧ ИМЯ ПУСТО"
)
_MISSING = re.compile(
    rf"(?i:nan|<na>)|#(NA|NV|N/[^\W\d_a-z]!?|\u041d/\u0414|[¡¿]?({_ERRORS.replace(' ', '|')}|[^\W\d_a-z]+/0)[!?])"
)
_INDICATOR = {"false": 0, "true": 1}
# A column with more different whole numbers is not taken for classes.
MOST_WHOLE = 20
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
        """Return the rows that have some values in some columns.

        Raises
        ------
        InvalidInputError
            If a column is absent or no row is left.
        """
        self.check_columns([*conditions])
        table: LabelTable = self
        for column, value in conditions.items():
            cells = table.columns[column]
            positions = [i for i, cell in enumerate(cells) if cell == str(value).strip()]
            if not positions:
                raise InvalidInputError(
                    f"No row of {self.name} has {shown_value(str(value))} in column {shown(column)}. The column has "
                    f"{listed(sorted(set(cells)))}."
                )
            table = table.take(positions)
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

    def check_complete(self, columns: Sequence[str]) -> None:
        """Raise `InvalidInputError` if a cell of some columns is empty."""
        empty = [(i, column) for i in range(len(self)) for column in columns if not self.columns[column][i]]
        if empty:
            more = f" {len(empty) - 1} more cells are empty." if len(empty) > 1 else ""
            # Other cells, which may be lists of labels, say whether an empty cell may be an image without labels.
            labels = " If an image has no label, give each label a column of 0 and 1."
            advice = labels if find_joined(self.columns[empty[0][1]]) else ""
            raise InvalidInputError(
                f"The cell in {self.place(*empty[0])}, is empty.{more} Fill it in, or remove the row.{advice}"
            )


def _any_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class Values(NamedTuple):
    """What a table says about its images.

    Attributes
    ----------
    kind : {"classes", "labels", "numbers"}
    target : array of shape (n_samples,) or (n_samples, n_columns)
    names : list
        The sorted classes, or the columns.
    """

    kind: str
    target: np.ndarray
    names: list[Any]


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


def possible_splits(table: LabelTable, columns: Sequence[str], kind: str) -> list[SplitColumn]:
    """Return those of several columns that may be labels, or say to which part of a dataset each image belongs.

    Raises
    ------
    InvalidInputError
        If a column is no label, but says this. Advice to ignore the column would train on the test images.
    """
    splits = splits_among({column: table.columns[column] for column in columns}, kind) if len(columns) > 1 else []
    for split in splits:
        if not split.may_be_label:
            raise InvalidInputError(split.error(table.name))
    return splits


def values_of(table: LabelTable, columns: Sequence[str], kind: str, splits: Sequence[SplitColumn] = ()) -> Values:
    """Return the target that some columns of a table hold. Errors mention the first of the columns `splits`.

    Raises
    ------
    InvalidInputError
        If cells do not have the form of their kind, or the kind is ambiguous.
    InvalidParameterError
        If `kind` is unknown, or does not suit the number of columns.
    """
    if kind not in KINDS:
        raise InvalidParameterError(f"kind={shown_value(kind)} must be one of {', '.join(map(repr, KINDS))}.")
    if kind == "auto":
        kind = _kind_of_column(table, columns[0]) if len(columns) == 1 else "labels"
    if kind == "numbers":
        return _numbers(table, columns, splits)
    if kind == "labels":
        return _labels(table, columns, splits)
    if len(columns) > 1:
        raise InvalidParameterError(
            f"Classes are in one column, but {table.name} has {len(columns)}: {listed(columns)}. Name one as `columns`."
        )
    return _classes(table, columns[0])


def _kind_of_column(table: LabelTable, column: str) -> str:
    """Return "classes" or "numbers" for the only column."""
    cells = table.columns[column]
    n_different, where = len(set(cells)), f"Column {shown(column)} of {table.name}"
    # Labels that are numbers are joined by commas, too, such as "1,2".
    if have_decimal_commas(cells) and not find_joined(cells):
        raise InvalidInputError(
            f"{where} has numbers with commas, such as {next(cell for cell in cells if ',' in cell)}. Write numbers "
            "with a decimal point and without separators of thousands. If a cell holds several labels, "
            f'{_dummies(",")}. To learn each value as a class, pass kind="classes".'
        )
    decide = 'To learn numbers, pass kind="numbers"; to learn each value as a class, pass kind="classes"'
    others = [i for i, cell in enumerate(cells) if not _NUMBER.fullmatch(cell)]
    fractions = [cell for cell in cells if _NUMBER.fullmatch(cell) and not float(cell).is_integer()]
    if fractions and others:
        raise InvalidInputError(
            f"{where} has numbers such as {fractions[0]}, but row {table.rows[others[0]]} has "
            f"{shown(cells[others[0]])}. Correct the row. {decide}."
        )
    if fractions:
        return "numbers"
    if not others and n_different > MOST_WHOLE:
        raise InvalidInputError(f"{where} has {n_different} different whole numbers. {decide}.")
    if n_different > max(MOST_WHOLE, len(table) / 2):
        raise InvalidInputError(
            f"{where} has {n_different} different values for {len(table)} images, too many for classes. Name the "
            f"column of labels as `columns`. {decide}."
        )
    return "classes"


def _choice(splits: Sequence[SplitColumn], advice: str) -> str:
    """Return advice about columns, after advice about a column that may be a split: to ignore it would use all rows."""
    if not splits:
        return f"{advice[0].upper()}{advice[1:]}"
    split = splits[0]
    return f"If column {shown(split.name)} holds the parts of a dataset, pass {split.advice()} Otherwise, {advice}"


def _numbers(table: LabelTable, columns: Sequence[str], splits: Sequence[SplitColumn]) -> Values:
    for column in columns:
        for i, cell in enumerate(table.columns[column]):
            if not _NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
                comma = " Write numbers with a decimal point and without separators." if "," in cell else ""
                raise InvalidInputError(
                    f"{shown(cell)} in {table.place(i, column)}, is not a finite number.{comma} "
                    f"{_choice(splits, 'correct it, or name the columns of numbers as `columns`.')}"
                )
    target = np.array([[float(cell) for cell in table.columns[column]] for column in columns]).T
    return Values("numbers", np.ascontiguousarray(target[:, 0] if len(columns) == 1 else target), [*columns])


def _labels(table: LabelTable, columns: Sequence[str], splits: Sequence[SplitColumn]) -> Values:
    if len(columns) < 2:
        separator = separator_in(table.columns[columns[0]])
        split = f"If a cell holds several labels, {_dummies(separator)}. " if separator else ""
        raise InvalidParameterError(
            f"Several labels need several columns of 0 and 1, but {table.name} has one, {shown(columns[0])}. {split}"
            'Add columns, or pass kind="classes".'
        )
    target = np.empty((len(table), len(columns)), dtype=np.int64)
    for k, column in enumerate(columns):
        for i, cell in enumerate(table.columns[column]):
            value = _INDICATOR.get(cell.lower(), float(cell) if _NUMBER.fullmatch(cell) else math.nan)
            if value not in (0, 1):
                advice = (
                    "name the columns of labels as `columns`, or those to leave out as `ignore`; to learn numbers, "
                    'pass kind="numbers".'
                )
                raise InvalidInputError(
                    f"{shown(cell)} in {table.place(i, column)}, is neither 0 nor 1. Several columns are several "
                    f"labels, with 1 for an image that has the label. {_choice(splits, advice)}"
                )
            target[i, k] = value
    return Values("labels", target, [*columns])


def _classes(table: LabelTable, column: str) -> Values:
    cells = table.columns[column]
    missing = [i for i, cell in enumerate(cells) if _MISSING.fullmatch(cell)]
    if missing:
        more = f" {len(missing) - 1} more cells hold one." if len(missing) > 1 else ""
        raise InvalidInputError(
            f"{shown(cells[missing[0]])} in {table.place(missing[0], column)}, is a missing label.{more} Fill it "
            "in, or remove the row. Rename it if it is the name of a class."
        )
    if all(map(_WHOLE.fullmatch, cells)):
        target = np.array([int(cell.partition(".")[0]) for cell in cells])
    else:
        target = np.array(cells)
        place = f"Column {shown(column)} of {table.name} has labels"
        check_names(dict.fromkeys(cells), place, "correct the table")
        _warn_of_joined(table, column)
    return Values("classes", target, np.unique(target).tolist())


def _warn_of_joined(table: LabelTable, column: str) -> None:
    """Warn if a class consists of the names of others, such as "cat;dog"."""
    if joined := find_joined(table.columns[column]):
        name, separator = joined
        numbers = have_decimal_commas(table.columns[column])
        warn(
            f"Column {shown(column)} of {table.name} has the class {shown(name)}, and its parts are classes, too. If "
            f"images have several labels, {_dummies(separator)}."
            f"{' If these are numbers, write them with a decimal point.' if numbers else ''}",
            ImageFolderWarning,
        )


def _dummies(separator: str) -> str:
    # Not from a new reading of the file, whose rows, delimiter and encoding may be others.
    return (
        f"pass y = pandas.Series(table.target).str.get_dummies({separator!r}) to fit, with table = "
        'load_label_table(..., kind="classes")'
    )


def located(table: LabelTable, column: str, folder: str) -> list[str]:
    """Return the paths of images that are relative to a folder, and URLs as they are.

    Raises
    ------
    InvalidInputError
        If files do not exist.
    """
    cells = table.columns[column]
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
