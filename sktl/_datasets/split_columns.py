"""Columns of a table that say to which part of a dataset each image belongs, such as "split" and "is_valid"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sktl._utils.paths import shown

from .dataset_parts import part_in, words_of
from .folders import listed

_SPLITS = {"split", "splits", "fold", "folds", "kfold", "partition"}
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
    def of(cls, name: str, column: Sequence[str]) -> Self | None:
        """Return the split in a column of several; None if neither its name nor its cells are those of a split."""
        cells = sorted(set(column))
        by_cell = {part_in(cell): cell for cell in cells}
        if "train" in by_cell and None not in by_cell:
            return cls(name, cells, {part: cell for part, cell in by_cell.items() if part}, False)
        if not names_split(name):
            return None
        truth = {_TRUTH.get(cell.lower().removesuffix(".0")): cell for cell in cells}
        words = {*words_of(name)}
        named = {part for word in words if (part := part_in(word))}
        parts = _of_truth(named.pop(), truth) if len(named) == 1 and None not in truth else {}
        return cls(name, cells, parts, words.isdisjoint({*_SPLITS, "is", "in"}))

    def message(self, table: str) -> str:
        """Return the error, or the warning if the column may be a label, about a column of a table."""
        column = f"Column {shown(self.name)} of {table}"
        if self.may_be_label:
            return f"{column} is learned like the others. If it holds the parts of a dataset, pass {self._advice()}"
        return (
            f"{column} holds the parts of a dataset: {listed(self.cells)}. Pass {self._advice()} If it is a label, "
            "name all columns of labels as `columns`."
        )

    def _advice(self) -> str:
        """Return how to use the rows of a part, or all rows."""
        train, parts = self.parts.get("train"), ("test", "val", "other")
        other = next((self.parts[part] for part in parts if part in self.parts), None)
        evaluate = f", and {self._where(other)} to evaluate" if other else ""
        rows = f"{self._where(train)} to train{evaluate}" if train else f"{self._where(self.cells[0])} for one part"
        return f"{rows}. To use all rows, pass ignore={shown(self.name)}."

    def _where(self, cell: str) -> str:
        return f"where={{{shown(self.name)}: {shown(cell)}}}"


def _of_truth(part: str, truth: Mapping[bool | None, str]) -> dict[str, str]:
    """Return the cell of each part for a column such as "is_valid", which is true for the images of its part."""
    cells = {part: truth.get(True), "test" if part == "train" else "train": truth.get(False)}
    return {name: cell for name, cell in cells.items() if cell is not None}
