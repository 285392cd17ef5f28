"""Files of features, opened as `ImageFeatures`: rows are selected like rows of an array, and read when needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from sktl._short_text import count, shown_value
from sktl._storage.parquet_files import PROGRESS, SUFFIX, FeatureFile, has_changed
from sktl._utils.arguments import check_count
from sktl._utils.paths import shown
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .feature_provenance import ANSWER_TOLERANCE, FeatureSource, relative_difference
from .feature_rows import COPIED_BYTES, rows_per_block

# Entries of headers that the parts of a set have in common, because a run resumes only if they are equal.
_COMMON = {
    "source": "network", "fingerprint": "engine", "sktl": "version of sktl", "n_features": "number of features",
    "targets": "columns", "is_vector": "form of labels", "images_per_part": "number of images",
}  # fmt: skip
# Entries in which complete files may differ: engines and versions change features only by rounding.
_OF_ONE_RUN = {"fingerprint", "sktl", "images_per_part"}


class FeatureStore:
    """The files of one set of features.

    Parameters
    ----------
    path : str
        A file, or a folder with the parts of one run, or with complete files, whose rows follow in the order of their
        names.

    Raises
    ------
    InvalidInputError
        If there are no features, if some parts are missing or belong to another run, or if complete files hold features
        of different networks or different columns.
    """

    def __init__(self, path: str):
        if not os.path.exists(path):
            raise InvalidInputError(f"{shown(path)} does not exist. Pass a file that `sktl embed` wrote.")
        # A pickle may be read in another working folder, and a program may change its own.
        self.path = path = os.path.abspath(path)
        self.files = _files_in(path)
        self.header = self.files[0].header
        self.source = _source_of(self.header, path)
        self.blocks = [(file, block) for file in self.files for block in file.blocks]
        self.starts = np.cumsum([0, *(len(block) for _, block in self.blocks)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.identity)

    @property
    def identity(self) -> str:
        """A digest by which a copy recognizes the files without reading rows that are as sktl wrote them."""
        files = [(file.header["contents"], file.header["first_rows"], file.digest) for file in self.files]
        facts = (files, self.source.digest, self.header["fingerprint"], len(self))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @cached_property
    def names(self) -> np.ndarray:
        """Names of all images."""
        return np.concatenate([file.names() for file in self.files])

    def rows(self, positions: range | np.ndarray, n_columns: int) -> np.ndarray:
        """Return the first columns of some rows, float32 of shape (n_positions, n_columns)."""
        found = np.empty((len(positions), n_columns), np.float32)
        if not len(positions):
            return found
        if isinstance(positions, range) and positions.step == 1:
            for i in self._between(positions.start, positions.stop):
                block, start = self._block(i), self.starts[i]
                first, last = max(start, positions.start), min(start + len(block), positions.stop)
                some = block[first - start : last - start, :n_columns]
                found[first - positions.start : last - positions.start] = some
            return found
        wanted = np.asarray(positions)
        of_block = np.searchsorted(self.starts, wanted, side="right") - 1
        order = np.argsort(of_block, kind="stable")
        used, firsts = np.unique(of_block[order], return_index=True)
        for i, at in zip(used, np.split(order, firsts[1:]), strict=True):
            found[at] = self._block(i)[wanted[at] - self.starts[i], :n_columns]
        return found

    def _between(self, start: int, stop: int) -> range:
        """Return the positions of the blocks with rows from `start` to `stop`."""
        first, last = np.searchsorted(self.starts, [start, stop], side="right") - 1
        return range(first, min(last + 1, len(self.blocks)))

    def _block(self, i: int) -> np.ndarray:
        """Return the rows of a block, if their file was not overwritten."""
        file, block = self.blocks[i]
        file.check_in_place()
        return block


def _source_of(header: Mapping[str, Any], path: str) -> FeatureSource:
    try:
        source = FeatureSource.parse(header["source"])
        if source.sizes[-1] != header["n_features"]:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{shown(path)} is damaged, or of another version of sktl: its description of the network of its features "
            "is incomplete or invalid. Write it again."
        ) from error
    return source


def _reopened(path: str, identity: str) -> FeatureStore:
    store = FeatureStore(path)
    if store.identity != identity:
        raise has_changed(path)
    return store


def _files_in(path: str) -> list[FeatureFile]:
    """Return the files of a set, in order."""
    if not os.path.isdir(path):
        return [FeatureFile.open(Path(path))]
    files = [FeatureFile.open(file) for file in sorted(Path(path).glob(f"*{SUFFIX}"))]
    if not files:
        raise InvalidInputError(f"{shown(path)} has no {SUFFIX} files. Pass a folder that `sktl embed` wrote.")
    found = [file.header["part"] for file in files]
    n_parts, are_complete = max(n for _, n in found), all(part == [0, 1] for part in found)
    if Path(path, PROGRESS).exists() or not (are_complete or found == [[i, n_parts] for i in range(n_parts)]):
        raise InvalidInputError(
            f"{shown(path)} is unfinished: it has {len(files)} of {n_parts} parts, or parts of different runs. Repeat "
            "the call that writes them; finished parts are not computed again."
        )
    _check_alike(path, files, are_complete)
    return files


def _check_alike(path: str, files: Sequence[FeatureFile], are_complete: bool) -> None:
    """Raise `InvalidInputError` unless files are parts of one run, or complete files of features of one network."""
    names = [name for name in _COMMON if not (are_complete and name in _OF_ONE_RUN)]
    for file in files[1:]:
        if different := [_COMMON[name] for name in names if not _is_equal(name, file.header, files[0].header)]:
            kind = "files of different features" if are_complete else "parts of different runs"
            raise InvalidInputError(
                f"{shown(path)} has {kind}: {shown(file.path.name)} and {shown(files[0].path.name)} differ in the "
                f"{different[0]}. Write the features again."
            )


def _is_equal(name: str, *headers: dict[str, Any]) -> bool:
    """Return True if headers have equal entries, or describe networks that compute the same features."""
    first, second = (header.get(name) for header in headers)
    if name != "source" or not isinstance(first, dict) or not isinstance(second, dict):
        return bool(first == second)
    # Names do not matter, and the answer of a network depends on the machine, by rounding.
    one, other = (np.array(source.get("answer", []), dtype=np.float64) for source in (first, second))
    ignored = dict.fromkeys(("answer", "backbone", "weights"))
    return relative_difference(other, one) <= ANSWER_TOLERANCE and bool(first | ignored == second | ignored)


class ImageFeatures(Sequence[Any]):
    """Features of images in a file, as :func:`sktl.datasets.load_features` returns them.

    Pass them as `X` to estimators with the same network, including in scikit-learn's searches and cross-validation.
    Selecting rows reads nothing, and an estimator reads rows block by block. ``np.asarray(features)`` reads all columns
    of all rows into memory, by default the features of all stages; :class:`sktl.PretrainedImageEncoder` returns the
    features of the stages that it uses.

    Parameters
    ----------
    store : FeatureStore
        The files.
    positions : range or int array of shape (n_samples,), default=None
        Rows of the files. None selects all rows.
    n_columns : int, default=None
        Number of first columns. None selects all columns.

    Attributes
    ----------
    names : ndarray of str of shape (n_samples,)
        Names of the images.
    shape : tuple of int
        Number of images and of features.
    backbone : str
        Name of the network.
    weights : str
        Name of its weights.
    n_stages : int
        Number of last stages that contribute features.

    See Also
    --------
    sktl.datasets.write_features : Write features to a file.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, store: FeatureStore, positions: range | np.ndarray | None = None, n_columns: int | None = None):
        self._store = store
        self._positions = range(len(store)) if positions is None else positions
        self._n_columns = store.source.sizes[-1] if n_columns is None else n_columns

    @property
    def source(self) -> FeatureSource:
        """Facts about the network that computed the features."""
        return self._store.source

    @property
    def backbone(self) -> str:
        return self.source.backbone

    @property
    def weights(self) -> str:
        return self.source.weights

    @property
    def n_stages(self) -> int:
        return self.source.n_stages

    @property
    def names(self) -> np.ndarray:
        return self._store.names[np.asarray(self._positions, dtype=np.int64)]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._positions), self._n_columns

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Size in memory that all rows would take, in bytes."""
        return self.size * self.dtype.itemsize

    def digest(self) -> str:
        """Return a digest of the features of all stages, in order. This reads all rows, block by block.

        Returns
        -------
        digest : str
            Digest in hexadecimal digits. It does not depend on how the rows are stored or selected.
        """
        digest, n_columns = hashlib.sha256(self.source.digest.encode()), self.source.sizes[-1]
        size = rows_per_block(4 * n_columns, COPIED_BYTES)
        for start in range(0, len(self), size):
            digest.update(self._store.rows(self._positions[start : start + size], n_columns).data)
        return digest.hexdigest()

    def columns(self, n: int) -> ImageFeatures:
        """Return the first columns.

        Parameters
        ----------
        n : int
            Number of columns.

        Returns
        -------
        features : ImageFeatures
            The same rows. An estimator that uses them as `X` takes the columns that it needs, whatever `n` is.

        Raises
        ------
        InvalidParameterError
            If `n` is not a number of columns of the files.
        """
        check_count(n, "n")
        if n > (n_all := self.source.sizes[-1]):
            raise InvalidParameterError(f"n={shown_value(n)} is more than the {n_all} features of the images.")
        return ImageFeatures(self._store, self._positions, n)

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, key: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, key: Any) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        """Return the row at a position, or the part at several positions, a slice or a mask, without reading it.

        A second key selects features, as in an array, and reads the rows.
        """
        if isinstance(key, tuple):
            rows, *others = key or (...,)
            return self[rows] if all(other is Ellipsis for other in others) else self._elements(rows, others)
        chosen = self._chosen(key)
        if np.ndim(chosen) == 0:
            return self._store.rows(np.reshape(chosen, 1), self._n_columns)[0]
        if np.ndim(chosen) > 1:
            raise IndexError(f"Images have one axis, but the key selects {np.ndim(chosen)}. Pass a list of positions.")
        return ImageFeatures(self._store, chosen, self._n_columns)

    def _chosen(self, key: Any) -> Any:
        """Return the rows of the files that a key selects: a position, a range or an array of positions."""
        # A range answers without its positions in memory, which matters if each row is selected in turn.
        is_simple = isinstance(key, slice | int | np.integer) and not isinstance(key, bool)
        return self._positions[key] if is_simple else np.asarray(self._positions)[_as_index(key)]

    def _elements(self, key: Any, others: Sequence[Any]) -> Any:
        """Return the elements that a key of rows and other keys select. Arrays of positions go in pairs."""
        if key is None or isinstance(key, bool | np.bool_):  # they add an axis, and the next key selects rows
            return np.asarray(self)[(key, *others)]
        if key is Ellipsis or isinstance(key, slice):
            return np.asarray(self[key])[(..., *others) if key is Ellipsis else (slice(None), *others)]
        chosen = np.asarray(self._chosen(key))
        rows = self._store.rows(chosen.reshape(-1), self._n_columns)
        return rows[(np.arange(chosen.size).reshape(chosen.shape), *others)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Features in a file become an array only by a copy.")
        rows = self._store.rows(self._positions, self._n_columns)
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __repr__(self) -> str:
        n_all = len(self._store)
        part = count(n_all) if n_all == len(self) else f"{len(self):,} of {count(n_all)}"
        return f"ImageFeatures({shown_value(self.backbone)}, {part}, {self._n_columns} features)"


def _as_index(key: Any) -> Any:
    """Return a key in a form that NumPy accepts. NumPy refuses an empty list, because it does not know its type."""
    return np.empty(0, dtype=np.int64) if isinstance(key, list) and not key else key
