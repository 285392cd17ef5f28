"""The images of a command and their labels: a folder with one subfolder per class, or a table of labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sktl
from sktl._short_text import count, first_few, fitted
from sktl._utils.similar_names import resemblances
from sktl.exceptions import ImageFolderWarning, InvalidInputError

from .command_messages import printable
from .model_outputs import kind_of, names_of

if TYPE_CHECKING:
    import numpy as np

_ONE = {"classes": "class", "labels": "label", "numbers": "number"}
# Longest name of a class in a message or a table, in letters.
WIDTH = 40


@dataclass(frozen=True)
class ImageSource:
    """Where the images of a command and their classes, labels or numbers are.

    Parameters
    ----------
    folder : str or None
        Folder with one subfolder per class; with a table, the folder that its paths are relative to.
    labels : str or None
        Path of a table.
    path_column, suffix, columns, ignore, where, kind
        Parameters of :func:`sktl.datasets.load_label_table`.
    has_labels : bool, default=True
        Whether the images in a folder have classes.
    groups : str, default=None
        Column of the table with the group of each image, such as the patient. It is not a label.
    """

    folder: str | None
    labels: str | None
    path_column: str | None = None
    suffix: str = ""
    columns: Sequence[str] = ()
    ignore: Sequence[str] = ()
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kind: str = "auto"
    has_labels: bool = True
    groups: str | None = None

    def load(self) -> Any:
        """Return the images and what they show, a Bunch with `data`, `target`, `target_names`, `kind` and `groups`."""
        if not self.has_labels:
            images = sktl.datasets.list_images(self.folder or "")
            return SimpleNamespace(data=images, target=None, target_names=[], kind="none", groups=None)
        if self.labels is not None:
            return self._of_table(self.columns or None, self.kind)
        found = sktl.datasets.load_image_folder(self.folder or "")
        found.kind, found.groups = "classes", None
        return found

    def load_for(self, estimator: Any, model: str) -> Any:
        """Return the images and what they show, with the columns that the estimator in a file predicts, in its order.

        Raises
        ------
        InvalidInputError
            If the images do not show what the estimator predicts.
        """
        kind, names = kind_of(estimator), names_of(estimator)
        if self.labels is None and kind != "classes":
            raise InvalidInputError(f"{model} predicts {kind}, which need a table. Pass --labels.")
        if self.labels is None or kind == "classes":
            return self.load() if self.labels is None else self._of_table(self.columns or None, kind)
        found = self._of_table(self.columns or (None if self.ignore else names or None), kind)
        found.target = found.target.reshape(len(found.target), -1)
        n_columns = estimator.n_outputs_ if kind == "numbers" else len(names)
        if found.target.shape[1] != n_columns:
            raise InvalidInputError(
                f"{model} predicts {counted(kind, n_columns)}, but {printable(self.labels)} has "
                f"{found.target.shape[1]}: {listed(found.target_names)}. Choose columns by --column."
            )
        if sorted(found.target_names) == sorted(names):
            found.target = found.target[:, [found.target_names.index(name) for name in names]]
            found.target_names = names
        return found

    def check_classes(self, found: Any, estimator: Any, model: str) -> None:
        """Raise `InvalidInputError` if images show classes, and none of them is a class of the estimator in a file."""
        known = names_of(estimator)
        if found.kind != "classes" or not {*known}.isdisjoint(map(str, found.target.tolist())):
            return
        advice = "Pass another folder or model."
        if self.labels is not None:
            advice = "Choose the column of the classes by --column, or pass another model."
        advice = resembling(found.target_names, known) or advice
        raise InvalidInputError(
            f"No class of {printable(self.labels or self.folder or '')} is a class of {model}: the classes are "
            f"{listed(found.target_names)}; {model} predicts {listed(known)}. {advice}"
        )

    def of_test(self, test: str | None, where: Mapping[str, Sequence[str]]) -> ImageSource | None:
        """Return where the test images are, if there are any: in a folder, or in rows of a table.

        Parameters
        ----------
        test : str or None
            A folder; with a table of labels, another such table.
        where : mapping of str to sequence of str
            Values of the rows of test images, in `test` or in the same table.
        """
        if self.labels is None:
            return None if test is None else replace(self, folder=test)
        return None if test is None and not where else replace(self, labels=test or self.labels, where=where)

    def _of_table(self, columns: Sequence[str] | None, kind: str) -> Any:
        own = [] if self.groups is None else [self.groups]
        found = self._read(columns, [*self.ignore, *([] if columns else own)], kind)
        found.groups = None
        if own:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageFolderWarning)  # the first reading has issued them
                found.groups = self._read(own, (), "classes").target
        return found

    def _read(self, columns: Sequence[str] | None, ignore: Sequence[str], kind: str) -> Any:
        return sktl.datasets.load_label_table(
            self.labels or "", folder=self.folder, path_column=self.path_column, suffix=self.suffix, columns=columns,
            ignore=ignore, where=self.where, kind=kind,
        )  # fmt: skip

    def describe(self, found: Any, asks_kind: bool = True) -> str:
        """Return a sentence that says what was read, with advice about options that the user may have missed.

        Parameters
        ----------
        found : Bunch
        asks_kind : bool, default=True
            Whether the command has --numbers.
        """
        from sktl._datasets.split_columns import names_split  # imports Pillow, which would delay help

        advice = ""
        if parts := [name for name in getattr(found, "unused", []) if names_split(name)]:
            advice = f" Column {listed(parts)} was not used. To use some of the rows, pass --where {parts[0]}=VALUE."
        if (
            asks_kind
            and self.labels is not None
            and self.kind == "auto"
            and found.kind == "classes"
            and found.target.dtype.kind == "i"
        ):
            advice += " To learn numbers, pass --numbers."
        of_what = contents(found.kind, len(found.target_names))
        names = listed(found.target_names)
        place = printable(str(self.labels or self.folder))
        return f"Read {count(len(found.data))} {of_what} ({names}) from {place}.{advice}"


def contents(kind: str, n: int) -> str:
    """Return how many classes, labels or numbers images have, after the word "images"."""
    return f"{'of' if kind == 'classes' else 'with'} {counted(kind, n)}"


def counted(kind: str, n: int) -> str:
    """Return a number of classes, labels or numbers."""
    return count(n, _ONE[kind], kind)


def listed(names: Sequence[Any]) -> str:
    """Return a few names in a form that is safe to print."""
    return first_few(names, lambda name: fitted(printable(str(name)), WIDTH))


def resembling(names: Sequence[Any], known: Sequence[str]) -> str:
    """Return a sentence about names that look like classes of a model but differ; empty if there are none."""
    return resemblances(map(str, names), known, "Rename the classes as in the model.")


@dataclass(frozen=True)
class NamedColumns:
    """An array whose columns have names, in the form of a data frame, from which `fit` takes the names."""

    values: np.ndarray
    columns: Sequence[str]

    def __getitem__(self, place: Any) -> Any:
        """Return some rows, a column, or the cell of a row and a column."""
        if isinstance(place, str):
            return self.values[:, self.columns.index(place)]
        if isinstance(place, tuple):
            return self.values[place[0], self.columns.index(place[1])]
        return NamedColumns(self.values[place], self.columns)

    def __setitem__(self, place: tuple[int, str], value: Any) -> None:
        self.values[place[0], self.columns.index(place[1])] = value

    def copy(self) -> NamedColumns:
        """Return a copy with its own values."""
        return NamedColumns(self.values.copy(), self.columns)

    @property
    def dtypes(self) -> list[np.dtype[Any]]:
        """The type of each column."""
        return [self.values.dtype] * len(self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows and columns."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values.astype(dtype or self.values.dtype, copy=bool(copy))


def target_of(found: Any) -> Any:
    """Return what `fit` takes, with the names of the columns if there are several; None for images without labels."""
    is_table = found.target is not None and found.target.ndim > 1
    return NamedColumns(found.target, found.target_names) if is_table else found.target


def decide(found: Any, decisions: Sequence[str], part: str, classes: np.ndarray | None = None) -> str:
    """Leave out images and change labels as CSV files of an audit's page say; return a sentence about it.

    Images may get any of some classes, such as a model's, which test images may lack.
    """
    before, n, row_of = found.target, len(found.data), {path: i for i, path in enumerate(found.data.tolist())}
    found.data, target = sktl.datasets.apply_decisions(
        decisions, found.data, target_of(found), part=part, classes=_of_type(classes, before),
        kind="auto" if before is None else found.kind,
    )  # fmt: skip
    kept = [row_of[path] for path in found.data.tolist()]
    found.groups = None if found.groups is None else found.groups[kept]
    found.target = target.values if isinstance(target, NamedColumns) else target
    if found.kind == "classes":
        found.target_names = sorted({*found.target.tolist()})
    n_changed = 0
    if before is not None:
        n_changed = sum(old != new for old, new in zip(before[kept].tolist(), found.target.tolist(), strict=True))
    files = ", ".join(map(printable, decisions))
    return f"Dropped {n - len(found.data):,} and relabeled {n_changed:,} of {count(n)} by {files}."


def _of_type(classes: np.ndarray | None, target: np.ndarray | None) -> np.ndarray | None:
    """Return classes in the type of labels; None if they are of another type, such as those of a model of numbers."""
    if classes is None or target is None:
        return None
    if target.dtype.kind == "U":
        return classes.astype(str)  # folders have names
    return classes if classes.dtype.kind == target.dtype.kind else None
