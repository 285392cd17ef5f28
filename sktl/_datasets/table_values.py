"""What columns of a table of labels hold: classes, several labels or numbers, or the parts of a dataset."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sktl._short_text import shown_value
from sktl._targets.joined_labels import find_joined, separator_in
from sktl._utils.decimal_commas import have_decimal_commas
from sktl._utils.paths import shown
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

from .class_folders import check_names
from .image_files import listed
from .label_tables import LabelTable
from .split_columns import SplitColumn, splits_among

KINDS = ("auto", "classes", "labels", "numbers")
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
            f"{where} has {n_different} different values for {len(table)} images, too many for classes. "
            f"{_if_joined(cells)}Name the column of labels as `columns`. {decide}."
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
        raise InvalidParameterError(
            f"Several labels need several columns of 0 and 1, but {table.name} has one, {shown(columns[0])}. "
            f'{_if_joined(table.columns[columns[0]])}Add columns, or pass kind="classes".'
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
    """Warn if a class seems to consist of several labels, such as "cat;dog"."""
    if joined := find_joined(table.columns[column]):
        numbers = have_decimal_commas(table.columns[column])
        warn(
            f"Column {shown(column)} of {table.name} has the class {shown(joined.name)}, and {joined.evidence}. If "
            f"images have several labels, {_dummies(joined.separator)}."
            f"{' If these are numbers, write them with a decimal point.' if numbers else ''}",
            ImageFolderWarning,
        )


def _if_joined(cells: Sequence[str]) -> str:
    """Return advice for cells with several labels, with a space at its end, if cells may have several."""
    separator = separator_in(cells)
    return f"If a cell holds several labels, {_dummies(separator)}. " if separator else ""


def _dummies(separator: str) -> str:
    # Not from a new reading of the file, whose rows, delimiter and encoding may be others.
    return (
        f"pass y = pandas.Series(table.target).str.get_dummies({separator!r}) to fit, with table = "
        'load_label_table(..., kind="classes")'
    )
