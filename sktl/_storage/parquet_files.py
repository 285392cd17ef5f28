"""Rows of features in Parquet files, which are written whole and mapped into memory instead of decoded.

Features are stored without compression, and each group of rows in one page, so their bytes lie in the file as in an
array. A checksum of the first row of each group shows whether another program has rewritten the file; such a file is
decoded once into a temporary file. Names and labels are read with the checksums of their pages, which Parquet defines.
Mapped features are not: verifying a checksum takes as long as reading them. Mapped features of a file that was replaced
or removed stay readable; a file that was overwritten in place is noticed by its size and its time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from sktl._utils.optional import require
from sktl._utils.paths import shown, why_no_file
from sktl.exceptions import InvalidInputError

NAMES, FEATURES = "image", "features"
SUFFIX = ".parquet"
# Exists in a folder of parts while they are written, and after a run that was killed. Readers of folders ignore it.
PROGRESS = ".progress"
# Rows of a group. Arrow starts a new page after 20,000 rows.
ROWS_PER_GROUP = 8192
_MAGIC = b"PAR1"  # at the beginning of each Parquet file
_KEY = b"sktl"
_FORMAT = 1
# Entries of a header that readers of files use, and the types of their values.
_ENTRIES: dict[str, Any] = {
    "n_features": int, "first_rows": list, "part": list, "images_per_part": int, "contents": list,
    "invalid_images": list, "targets": list, "is_vector": bool, "source": dict, "fingerprint": str | None,
}  # fmt: skip
_ITEMS: dict[str, type] = {"first_rows": int, "part": int, "contents": str, "invalid_images": list, "targets": str}
_PAGE_BYTES = 1 << 30
_USER = "A file of features"


class Rows(NamedTuple):
    """Rows of features with what belongs to them.

    Attributes
    ----------
    names : sequence of str
    columns : mapping of str to array of shape (n_rows,)
        Labels or numbers of each row.
    features : float32 array of shape (n_rows, n_features)
    """

    names: Sequence[str]
    columns: Mapping[str, np.ndarray]
    features: np.ndarray

    def groups(self) -> Iterator[Rows]:
        """Yield the rows in groups of the size that files have."""
        for start in range(0, len(self.features), ROWS_PER_GROUP):
            part = slice(start, start + ROWS_PER_GROUP)
            columns = {name: values[part] for name, values in self.columns.items()}
            yield Rows(self.names[part], columns, self.features[part])


def _pyarrow() -> tuple[Any, Any]:
    return require("pyarrow", _USER, "sktl[parquet]"), importlib.import_module("pyarrow.parquet")


def check_installed() -> None:
    """Raise `MissingPackageError` if Parquet files cannot be written."""
    _pyarrow()


def first_row(features: np.ndarray) -> int:
    """Return the checksum of the first row of a group."""
    return zlib.crc32(np.ascontiguousarray(features[0]).tobytes())


def write_rows(
    path: Path, scratch: Path, groups: Iterable[Rows], n_features: int, like: Mapping[str, Any], header: dict[str, Any]
) -> None:
    """Write a file that either exists with all of its content or does not exist.

    Equal arguments lead to equal bytes.

    Parameters
    ----------
    path : Path
    scratch : Path
        Name of the file until it is complete, in the same file system.
    groups : iterable of Rows
        Each of at most `ROWS_PER_GROUP` rows.
    n_features : int
    like : mapping of str to array
        The columns of labels, of which only the types count.
    header : dict
        What `FeatureFile.header` returns, with the checksums `first_rows` of the groups.
    """
    pa, pq = _pyarrow()
    number = pa.field("element", pa.float32(), nullable=False)
    fields = [pa.field(NAMES, pa.string(), nullable=False)]
    fields += [pa.field(name, _arrow_type(pa, values), nullable=False) for name, values in like.items()]
    fields += [pa.field(FEATURES, pa.list_(number, n_features), nullable=False)]
    schema = pa.schema(fields, metadata={_KEY: json.dumps({"format": _FORMAT} | header)})
    with open(scratch, "wb") as file:
        options = {
            "compression": "none", "use_dictionary": False, "write_statistics": [NAMES, *like],
            "write_page_checksum": True,
        }  # fmt: skip
        with pq.ParquetWriter(file, schema, data_page_size=_PAGE_BYTES, **options) as writer:
            for rows in groups:
                values = pa.array(np.ascontiguousarray(rows.features).reshape(-1))
                columns = [pa.array(rows.columns[name].tolist(), schema.field(name).type) for name in like]
                features = pa.FixedSizeListArray.from_arrays(values, type=schema.field(FEATURES).type)
                table = pa.Table.from_arrays([pa.array(rows.names, pa.string()), *columns, features], schema=schema)
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    _sync_folder(path.parent)


def _arrow_type(pa: Any, values: np.ndarray) -> Any:
    return pa.string() if values.dtype.kind in "UO" else pa.from_numpy_dtype(values.dtype)


def _sync_folder(folder: Path) -> None:
    """Let the new name of a file survive a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Stamp(NamedTuple):
    """What identifies a file, and what changes with its content."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path | int) -> _Stamp | None:
        """Return the stamp of a path or a descriptor; None if it cannot be had."""
        try:
            status = os.stat(file)
        except OSError:  # it is not there, or may not be looked at any longer
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class FeatureFile:
    """A file of features, whose rows are read when they are needed.

    Parameters
    ----------
    path : Path
    header : dict
        What `write_rows` was told.
    blocks : list of float32 array of shape (n_rows, n_features)
        Read-only views of the file, one for each group of rows.
    digest : str or None
        Digest of the rows if they had to be decoded, because another program has rewritten them.
    stamp : _Stamp or None
        The stamp of the file when it was opened.
    """

    path: Path
    header: dict[str, Any]
    blocks: list[np.ndarray]
    digest: str | None
    stamp: _Stamp | None

    @classmethod
    def open(cls, path: Path) -> FeatureFile:
        """Open a file.

        Raises
        ------
        InvalidInputError
            If it is no Parquet file, or one without features of sktl.
        """
        if reason := why_no_file(path):
            raise InvalidInputError(f"{shown(path)} {reason}. Pass a file that `sktl embed` wrote.")
        with _opened(path) as (content, file):
            schema, metadata = file.schema_arrow, file.metadata.metadata or {}
            header = _parsed(metadata.get(_KEY, b""))
            if header is None or FEATURES not in schema.names or not _holds_rows(schema.field(FEATURES).type):
                if _KEY not in metadata and {NAMES, FEATURES} <= {*schema.names}:
                    raise _without_header(path)
                raise InvalidInputError(
                    f"{shown(path)} holds no features of this version of sktl. Write them by "
                    "sktl.datasets.write_features or `sktl embed`."
                )
            blocks, digest = _mapped(content, file.metadata, header["n_features"], header["first_rows"]), None
            if blocks is None:
                blocks, digest = _decoded(file, header["n_features"])
            return cls(path, header, blocks, digest, _Stamp.of(content.fileno()))

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def check_in_place(self) -> None:
        """Raise `InvalidInputError` if something else has been written into the mapped file."""
        if self.digest is not None:  # the rows are in a file of their own
            return
        now = _Stamp.of(self.path)
        if now is not None and self.stamp is not None and now[:2] == self.stamp[:2] and now != self.stamp:
            raise has_changed(self.path)

    def names(self) -> np.ndarray:
        """Return the names of the images, an array of str."""
        return self.columns([NAMES])[NAMES]

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns as arrays of shape (n_rows,).

        Raises
        ------
        InvalidInputError
            If the file has changed since it was opened, if another program has removed a column or the names of
            images, or if the file is damaged.
        """
        if _Stamp.of(self.path) != self.stamp:  # the names would be those of other rows
            raise has_changed(self.path)
        with _opened(self.path) as (_, file):
            if lacking := [name for name in names if name not in file.schema_arrow.names]:
                raise InvalidInputError(f"{shown(self.path)} has no column {lacking[0]!r}. Write it again.")
            table = file.read(columns=[*names], use_threads=False)
            found = {name: _as_numpy(table[name]) for name in names}
        if len(table) != len(self):
            raise _incomplete(self.path)
        if NAMES in found and found[NAMES].dtype.kind != "U":
            raise InvalidInputError(f"{shown(self.path)} has images without names. Write it again.")
        return found


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Any]]:
    """Open a Parquet file, and yield the file and its reader.

    Within the block, damage of the file is an error that names it. It is read without threads: a library under Arrow
    raises errors in them that end the process. It is opened here, because Arrow takes some names for URLs, such as
    `run:1.parquet`, and opens only names in UTF-8.
    """
    pa, pq = _pyarrow()
    try:
        with open(path, "rb") as content, pq.ParquetFile(content, page_checksum_verification=True) as file:
            yield content, file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None):  # no permission, a full disk, or another fault of this machine
            raise
        raise _incomplete(path) from error


def _without_header(path: Path) -> InvalidInputError:
    copied = "table.replace_schema_metadata(pyarrow.parquet.read_schema(original).metadata)"
    return InvalidInputError(
        f"{shown(path)} has columns of features, but lacks the description of their network. The program that rewrote "
        "the file has dropped the description, as pandas and polars do. Copy it from the original file: "
        f"pyarrow.parquet.write_table({copied}, path). Or load the original file, select rows of its data, and pass "
        "other labels as y."
    )


def has_changed(path: str | Path) -> InvalidInputError:
    """Return the error about a file that is no longer the file that was loaded."""
    return InvalidInputError(f"{shown(path)} has changed since it was loaded. Load it again.")


def _incomplete(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{shown(path)} is damaged, or not a complete Parquet file. Write it again.")


def _holds_rows(kind: Any) -> bool:
    """Return True if a column of this type holds a list of floats for each image."""
    types = _pyarrow()[0].types
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _parsed(metadata: bytes) -> dict[str, Any] | None:
    """Return a header; None if it is damaged, or of another program or version."""
    try:
        header = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        return None
    if not all(name in header and isinstance(header[name], kind) for name, kind in _ENTRIES.items()):
        return None
    if not all(isinstance(item, kind) for name, kind in _ITEMS.items() for item in header[name]):
        return None
    return header if len(header["part"]) == 2 and header["n_features"] > 0 else None


def _as_numpy(column: Any) -> np.ndarray:
    """Return a column as an array, of objects with None if values are missing."""
    values = column.to_pylist()
    if column.null_count:  # an array of str would hold the word "None"
        return np.array(values, dtype=object)
    return np.array(values, dtype=str if not values or isinstance(values[0], str) else None)


def _mapped(content: IO[bytes], metadata: Any, n_features: int, first_rows: Sequence[int]) -> list[np.ndarray] | None:
    """Return the features of each group as they lie in the file, or None if they lie there in another form."""
    if metadata.num_row_groups != len(first_rows):
        return None
    whole = np.memmap(content, np.uint8, "r") if first_rows else np.empty(0, np.uint8)
    blocks, end = [], len(_MAGIC)
    for i, expected in enumerate(first_rows):
        # The metadata of columns would also say where the features are, but damaged ones end the process.
        group = metadata.row_group(i)
        end += group.total_byte_size
        # The features are the last column of a group, and the numbers the last part of their page.
        n_bytes = 4 * group.num_rows * n_features
        start = end - n_bytes
        if n_bytes < 1 or not 0 <= start <= len(whole) - n_bytes:
            return None
        # Not `view`, because the numbers may begin at any byte.
        block = np.ndarray((group.num_rows, n_features), "<f4", buffer=whole, offset=start)
        if first_row(block) != expected:
            return None
        blocks.append(block)
    return blocks


def _decoded(file: Any, n_features: int) -> tuple[list[np.ndarray], str]:
    """Return the features of each group, decoded into a temporary file that has no name, and a digest of all rows."""
    blocks, digest = [], hashlib.sha256()
    with tempfile.TemporaryFile() as scratch:
        for i in range(file.metadata.num_row_groups):
            column = file.read_row_group(i, columns=[FEATURES], use_threads=False)[FEATURES]
            for chunk in column.chunks:
                values = chunk.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
                if values.size != len(chunk) * n_features:
                    raise InvalidInputError(f"The rows of a file must have {n_features} features. Write it again.")
                if values.size:
                    start, rows = scratch.tell(), np.ascontiguousarray(values).data
                    digest.update(rows)
                    scratch.write(rows)
                    scratch.flush()
                    blocks.append(_view(scratch, start, values.reshape(-1, n_features).shape))
    return blocks, digest.hexdigest()


def _view(file: Any, start: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(file, np.float32, "r", start, shape)
