"""Columns of a table that say to which part of a dataset each image belongs, such as "split" and "is_valid"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from sktl._utils.paths import shown

from .dataset_parts import part_in, words_of
from .image_files import listed

_SPLITS = {"split", "splits", "fold", "folds", "kfold", "partition"}
# Words of names that may also be names of labels, such as "fold" for paper and "split" for wood.
_ALSO_LABELS = {"split", "splits", "fold", "folds", "partition", "is", "in", "no"}
# Words that may also name a label of an image, as "train" may.
_SETS = {"set", "subset", "part", "phase"}
_BESIDE = {"is", "in", "id", "name", "no", "number", "col", "column", "cv", "data", "dataset", "image"}
_TRUTH = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


def names_split(column: str) -> bool:
    """Return True if a name consists of words for splits and parts, such as "train_test_split" and "is_valid"."""
    words = words_of(column)
    keys = [word for word in words if word in _SPLITS | _SETS or part_in(word)]
    return bool(keys) and {*words} <= {*keys, *_BESIDE}


@dataclass(frozen=True)
class SplitColumn:
    """A column that says to which part of a dataset each image belongs.

    Parameters
    ----------
    name : str
    cells : list of str
        The different cells, sorted.
    parts : dict of str to str
        A cell for each part that is known, "train", "val", "test" or "other".
    may_be_label : bool
        Whether the name may also be the name of a label, such as "train" or "set".
    """

    name: str
    cells: list[str]
    parts: dict[str, str]
    may_be_label: bool

    @classmethod
    def of(cls, name: str, column: Sequence[str], kind: str) -> Self | None:
        """Return the split in a column of several; None if neither its name nor its cells are those of a split.

        A column of numbers with fractions is no split.
        """
        cells = sorted(set(column))
        numbers = [_as_number(cell) for cell in cells]
        by_cell = {part_in(cell): cell for cell in cells}
        if "train" in by_cell and None not in by_cell:
            return cls(name, cells, {part: cell for part, cell in by_cell.items() if part}, False)
        if not names_split(name) or any(x is not None and not x.is_integer() for x in numbers):
            return None
        truth = {_TRUTH.get(cell.lower().removesuffix(".0")): cell for cell in cells}
        words = {*words_of(name)}
        if kind == "numbers" and None in truth and None not in numbers and not words & _SPLITS:
            return None  # such as "test_1", the number of a test
        named = {part for word in words if (part := part_in(word))}
        parts = _of_truth(named.pop(), truth) if len(named) == 1 and None not in truth else {}
        is_split = bool(words & _SPLITS) and (None in truth or not words <= _ALSO_LABELS)
        is_part = "is" in words and bool(parts)
        return cls(name, cells, parts, kind == "numbers" or not (is_split or is_part))

    def error(self, table: str) -> str:
        """Return the error about a column of a table that is no label."""
        return (
            f"Column {shown(self.name)} of {table} holds the parts of a dataset: {listed(self.cells)}. Pass "
            f"{self.advice()} If it is a label, name all columns of labels as `columns`."
        )

    def advice(self) -> str:
        """Return how to use the rows of a part, or all rows."""
        train, parts = self.parts.get("train"), ("test", "val", "other")
        other = next((self.parts[part] for part in parts if part in self.parts), None)
        evaluate = f", and {self.where(other)} to evaluate" if other else ""
        rows = f"{self.where(train)} to train{evaluate}" if train else f"{self.where()} for one part"
        return f"{rows}. To use all rows, pass ignore={shown(self.name)}."

    def where(self, cell: str | None = None) -> str:
        """Return how to use the rows with a cell, by default the first one."""
        return f"where={{{shown(self.name)}: {shown(self.cells[0] if cell is None else cell)}}}"


def splits_among(columns: Mapping[str, Sequence[str]], kind: str) -> list[SplitColumn]:
    """Return the splits among the columns that would be learned.

    The name "is_train" may be a label beside "is_bus".
    """
    found = [split for name, cells in columns.items() if (split := SplitColumn.of(name, cells, kind))]
    names = {*columns} - {split.name for split in found}
    if any("is" in words_of(name)[:1] for name in names):
        return [replace(split, may_be_label=split.may_be_label or "is" in words_of(split.name)) for split in found]
    return found


def about_splits(splits: Sequence[SplitColumn], table: str) -> str:
    """Return the warning about columns of a table that are learned, and may be splits."""
    if len(splits) == 1:
        return (
            f"Column {shown(splits[0].name)} of {table} is learned like the others. If it holds the parts of a "
            f"dataset, pass {splits[0].advice()}"
        )
    return (
        f"Columns {listed([split.name for split in splits])} of {table} are learned like the others. If one of them "
        f"holds the parts of a dataset, choose the rows of one part, as with {splits[0].where()}."
    )


def _as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _of_truth(part: str, truth: Mapping[bool | None, str]) -> dict[str, str]:
    """Return the cell of each part for a column such as "is_valid", which is true for the images of its part."""
    cells = {part: truth.get(True), "test" if part == "train" else "train": truth.get(False)}
    return {name: cell for name, cell in cells.items() if cell is not None}
