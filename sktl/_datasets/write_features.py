"""`write_features` and `load_features`: write files of features once, part by part, and load them without images.

A part is written under another name, and gets its own name when it is complete. It is used again if the network, the
names, the labels and the contents of its images are the same, so a killed run resumes after its last whole part.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._features.feature_files import FeatureStore, ImageFeatures
from sktl._storage.parquet_files import PROGRESS, SUFFIX, FeatureFile, Rows, check_installed, first_row, write_rows
from sktl._utils.arguments import check_count
from sktl._utils.paths import check_features_suffix, checked_path, naming, shown, why_no_file
from sktl._utils.warnings import warn
from sktl.exceptions import (
    ImageFailure,
    InvalidImageError,
    InvalidImageWarning,
    InvalidInputError,
    InvalidParameterError,
)

from .bunch import Bunch, FeaturesBunch, bunch

if TYPE_CHECKING:
    from .embedding_content import Embedding, Part

_PART = re.compile(rf"part-\d+{re.escape(SUFFIX)}")


def write_features(
    X: Any,
    path: str | os.PathLike[str],
    *,
    y: Any = None,
    names: Sequence[str] | None = None,
    estimator: Any = None,
    images_per_part: int = 4096,
    overwrite: bool = False,
) -> Bunch:
    """Write the features of images to a Parquet file, or to a folder of such files.

    Repeat the call to resume a run that was killed: finished parts are not computed again, and the result is the same,
    byte for byte. Needs pyarrow: ``pip install 'sktl[parquet]'``.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images; see the Notes of :class:`sktl.PretrainedImageClassifier` for the accepted formats.
    path : str or path-like
        A path that ends in ``.parquet`` is a file. Its parts are in the folder ``PATH.parts`` until it is complete. Any
        other path is a folder for the files ``part-00000.parquet``, ``part-00001.parquet``, ... A new folder cannot
        have the suffix of another format, such as ``.csv``.
    y : array-like of shape (n_samples,) or (n_samples, n_columns), default=None
        Labels or numbers to write with the features: strings, numbers or booleans. Columns of a data frame, or of a
        table of PyArrow, keep their names. Others are named label, or label_0, label_1, ...
    names : sequence of str, default=None
        Names of the images in the file. None uses their paths or, for images without a path, their positions in `X`.
    estimator : estimator, default=None
        The estimator for which features are written, fitted or not, such as
        ``PretrainedImageClassifier(backbone="resnet50")``. Its parameters determine the network, the stages that
        contribute features, and how they are computed. None uses ``PretrainedImageClassifier()``. With
        ``invalid_images="skip"``, images that cannot be used are left out.
    images_per_part : int, default=4096
        Number of images per part. A killed run resumes after its last complete part. The features of one part are held
        in memory.
    overwrite : bool, default=False
        Whether files with other content are replaced.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `path`: str, the file or folder;
        - `n_images`, `n_features`: int, the shape of the features;
        - `n_computed`: int, the number of images in the parts that this call has written;
        - `invalid_images`: tuple of :class:`sktl.exceptions.ImageFailure`, the images that were left out.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid, if another process writes to `path`, or if `path` contains something else and
        `overwrite` is False. The message says what differs.
    InvalidInputError
        If `X`, `y` or `names` is not in a supported format.
    InvalidImageError
        If images cannot be used. The error lists them all, and the features of parts without such images are written.
    MissingPackageError
        If pyarrow is not installed.

    Warns
    -----
    InvalidImageWarning
        If images were left out.

    See Also
    --------
    load_features : Load features as `X` for an estimator.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sktl.datasets import load_features, write_features
    >>> X, y = load_digits(return_X_y=True)
    >>> path = os.path.join(tempfile.mkdtemp(), "digits.parquet")
    >>> write_features(list(X[:8].reshape(8, 8, 8) / 16), path, y=y[:8]).n_images
    8
    >>> load_features(path).data
    ImageFeatures('efficientnet_lite0', 8 images, 6240 features)
    """
    # Imports PyTorch, which opening a file does not need.
    from .embedding_content import embedding_of

    target = checked_path(path, "path")
    check_features_suffix(target)
    check_installed()
    check_count(images_per_part, "images_per_part")
    embedding = embedding_of(X, y, names, estimator)
    place = Place(target)
    with place.locked():
        n_computed, failures = Writer(embedding, place, int(images_per_part), overwrite).write()
    n_all = len(embedding.images.samples)
    if failures:
        warn(
            f"{len(failures)} of {n_all} images of X cannot be used and were left out; `invalid_images` of the result "
            f"lists them. The first: {failures[0]}",
            InvalidImageWarning,
        )
    return bunch(
        path=target, n_images=n_all - len(failures), n_features=embedding.header["n_features"],
        n_computed=n_computed, invalid_images=tuple(failures),
    )  # fmt: skip


def load_features(path: str | os.PathLike[str]) -> FeaturesBunch:
    """Load features of images that :func:`write_features` or the command ``sktl embed`` has written.

    The features stay in the file. Needs pyarrow: ``pip install 'sktl[parquet]'``.

    Parameters
    ----------
    path : str or path-like
        The file, the folder of its parts, or a folder of such files, whose images are in the order of the file names.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `data`: :class:`ImageFeatures` of shape (n_samples, n_features), to be passed as `X` to `fit`, `predict` and
          other methods of an estimator with the same network;
        - `target`: the labels or numbers, an ndarray of shape (n_samples,) or (n_samples, n_columns), or None;
        - `target_names`: list, the sorted classes if `target` has one text for each image, and otherwise the names of
          its columns.

    Raises
    ------
    InvalidInputError
        If the file does not exist, is incomplete, or contains no images or no features written by sktl; or if the parts
        in a folder come from different runs, or its files from different networks.
    OSError
        If the file cannot be read, for instance because of its permissions.
    InvalidParameterError
        If `path` is not a path.
    MissingPackageError
        If pyarrow is not installed.

    See Also
    --------
    write_features : Write features, with an example.
    """
    store = FeatureStore(checked_path(path, "path"))
    if not len(store):
        raise InvalidInputError(
            f"{shown(store.path)} holds no images: none could be used, or another program has removed them. Write the "
            "features of other images."
        )
    columns = [str(name) for name in store.header["targets"]]
    parts = [file.columns(columns) for file in store.files if columns]
    values = [_joined(store.path, name, [part[name] for part in parts if len(part[name])]) for name in columns]
    if len({column.dtype.kind == "U" for column in values}) > 1:  # numbers beside texts would become texts
        values = [column.astype(object) for column in values]
    target: np.ndarray | None = None
    if values:
        target = values[0] if store.header["is_vector"] else np.stack(values, axis=1)
    if target is not None and target.ndim == 1 and target.dtype.kind == "U":
        columns = np.unique(target).tolist()
    return bunch(data=ImageFeatures(store), target=target, target_names=columns)


def _joined(path: str, name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return a column of several files."""
    kinds = {part.dtype.kind for part in parts}
    if "U" in kinds and kinds & {*"biuf"}:  # numbers would become texts
        raise InvalidInputError(
            f"{shown(path)} has files with texts and files with numbers in the column {shown(name)}. Write them with "
            "labels of one type."
        )
    return np.concatenate(parts)


class Place:
    """Where features are written: a file, or a folder of parts.

    Parameters
    ----------
    path : str
        A path that ends in .parquet is a file, whose parts are in a folder beside it until it is complete.
    """

    def __init__(self, path: str):
        is_file = path.endswith(SUFFIX) and not os.path.isdir(path)
        self.path = Path(path)
        self.file = self.path if is_file else None
        self.folder = Path(f"{path}.parts") if is_file else self.path
        self.progress = self.folder / PROGRESS

    def part(self, i: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"part-{i:05d}{SUFFIX}"

    def surplus(self, n_parts: int) -> list[Path]:
        """Return parts beyond the last one, of a larger set.

        Raises
        ------
        InvalidParameterError
            If the folder has other files of the same format, which are never removed.
        """
        used = {self.part(i) for i in range(n_parts)}
        found = [path for path in sorted(self.folder.glob(f"*{SUFFIX}")) if path not in used]
        if others := [path for path in found if not _PART.fullmatch(path.name)]:
            raise InvalidParameterError(
                f"path={shown(self.path)} holds {shown(others[0].name)}, which is not a part of these features. Pass "
                f"another folder, or a file in this folder: a path that ends in {SUFFIX}."
            )
        return found

    def stamps(self, i: int) -> Path:
        """Return the file with the stamps of the images of a part."""
        return self.progress / f"{i:05d}"

    @property
    def scratch(self) -> Path:
        """The name of the file that is being written."""
        return self.progress / "unfinished"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other processes from writing to it. A call that fails at once leaves no trace."""
        from filelock import FileLock, Timeout  # images are listed on machines without it

        existed = self.progress.exists()
        try:
            self.progress.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InvalidParameterError(
                f"path={shown(self.path)} needs the folder {shown(self.folder)}, but a file has this name. Pass "
                f"another path, or one that ends in {SUFFIX} for a single file."
            ) from None
        try:
            with FileLock(self.progress / "lock", blocking=False):
                yield
        except Timeout:
            raise InvalidParameterError(
                f"path={shown(self.path)} is being written by another process. Wait for it, or pass another path."
            ) from None
        except BaseException:
            if not existed and not any(self.progress.glob("[0-9]*")):
                shutil.rmtree(self.progress, ignore_errors=True)
                with suppress(OSError):  # it has parts
                    self.folder.rmdir()
            raise

    def clean(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.folder if self.file else self.progress, ignore_errors=True)


@dataclass(frozen=True)
class Writer:
    """The parts of an embedding at a place.

    Parameters
    ----------
    embedding : Embedding
    place : Place
    size : int
        Images per part.
    overwrite : bool
        Whether files with other content are replaced.
    """

    embedding: Embedding
    place: Place
    size: int
    overwrite: bool

    @cached_property
    def parts(self) -> list[Part]:
        """The images of each part."""
        return self.embedding.parts(self.size)

    def write(self) -> tuple[int, list[ImageFailure]]:
        """Write all that is missing. Return the number of images computed, and the images that were left out.

        Raises
        ------
        InvalidImageError
            If images cannot be used, and are not to be left out. All parts without such images are then written.
        """
        file = self.place.file
        if file is not None and (found := self._finished(file)) is not None:
            self.place.clean()
            return 0, _failures([found])
        missing = self._missing()
        failures = [failure for i in missing for failure in self._write_part(i)]
        if failures:
            raise InvalidImageError(failures)
        files = [FeatureFile.open(self.place.part(i)) for i in range(len(self.parts))]
        if file is not None:
            self._join(files, file)
        self.place.clean()
        return sum(len(self.parts[i].samples) for i in missing), _failures(files)

    def _finished(self, path: Path) -> FeatureFile | None:
        """Return the finished file if it exists with the same content."""
        if not path.exists():
            return None
        file, difference = self._compared(path, None)
        if difference is not None and not self.overwrite:
            raise _other_content(path, difference)
        return file if difference is None else None

    def _compared(self, path: Path, i: int | None) -> tuple[FeatureFile | None, str | None]:
        """Return a file, and how its content differs from a part, or from all parts."""
        if reason := why_no_file(path):
            raise InvalidParameterError(f"{shown(path)} {reason}, and is not replaced. Pass another path.")
        try:
            file = FeatureFile.open(path)
        except InvalidInputError:
            return None, "something else than features"
        if i is None:
            parts = self.embedding.parts(file.header["images_per_part"])
            same, stamps = len(parts) == len(file.header["contents"]), None
        else:
            parts = [self.parts[i]]
            same = (file.header["part"], file.header["images_per_part"]) == ([i, len(self.parts)], self.size)
            stamps = self.place.stamps(i).read_text() if self.place.stamps(i).exists() else None
        if not same:
            n_images = len(self.embedding.images.samples)
            return file, f"features of another number of images than {n_images}, or parts of another size"
        return file, self.embedding.difference(file, parts, stamps)

    def _missing(self) -> list[int]:
        """Return the parts that have to be computed."""
        missing = []
        for i in range(len(self.parts)):
            path = self.place.part(i)
            difference = self._compared(path, i)[1] if path.exists() else None
            if difference is not None and not self.overwrite:
                raise _other_content(path, difference)
            if difference is not None or not path.exists():
                missing.append(i)
        for path in self.place.surplus(len(self.parts)):
            if not self.overwrite:
                raise _other_content(path, "a part of more images")
            path.unlink()
        return missing

    def _write_part(self, i: int) -> list[ImageFailure]:
        """Compute and write a part. Return the images for which it could not be written."""
        part, embedding = self.parts[i], self.embedding
        stamps = part.stamps_digest()
        # The pass learns the contents of files with stamps. Others could change unnoticed, so they are read before it.
        contents = embedding.extractor.digest(part.samples) if stamps is None else ""
        try:
            rows, failures = embedding.rows(part, f"part {i + 1} of {len(self.parts)}")
        except InvalidImageError as error:
            return [*error.failures]
        if stamps is not None:
            contents = embedding.extractor.digest(part.samples)
            if part.stamps_digest() != stamps:  # some features are of the contents before the change
                contents = ""
        firsts = [first_row(group.features) for group in rows.groups()]
        named = [failure._replace(name=part.names[failure.position - part.start]) for failure in sorted(failures)]
        own = self._header([i, len(self.parts)], [contents], firsts, named)
        self._write(self.place.part(i), rows.groups(), own)
        if stamps is not None:
            with naming(self.place.stamps(i)):
                self.place.stamps(i).write_text(stamps)
        return []

    def _join(self, files: Sequence[FeatureFile], path: Path) -> None:
        """Write the parts as one file."""
        contents = [digest for file in files for digest in file.header["contents"]]
        firsts = [row for file in files for row in file.header["first_rows"]]
        own = self._header([0, 1], contents, firsts, _failures(files))
        self._write(path, (group for file in files for group in self._groups(file)), own)

    def _groups(self, file: FeatureFile) -> Iterator[Rows]:
        """Yield the rows of a file in its own groups."""
        names, columns, start = file.names(), file.columns([*self.embedding.images.columns]), 0
        for block in file.blocks:
            part = slice(start, start + len(block))
            yield Rows(names[part].tolist(), {name: values[part] for name, values in columns.items()}, block)
            start += len(block)

    def _header(
        self, part: list[int], contents: list[str], first_rows: list[int], failures: Sequence[ImageFailure]
    ) -> dict[str, Any]:
        own = {"part": part, "images_per_part": self.size, "contents": contents, "first_rows": first_rows}
        return self.embedding.header | own | {"invalid_images": [[*failure] for failure in failures]}

    def _write(self, path: Path, groups: Iterator[Rows], header: dict[str, Any]) -> None:
        like = self.embedding.images.columns
        with naming(path):
            write_rows(path, self.place.scratch, groups, header["n_features"], like, header)


def _failures(files: Sequence[FeatureFile]) -> list[ImageFailure]:
    return [ImageFailure(*failure) for file in files for failure in file.header["invalid_images"]]


def _other_content(path: Path, difference: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"{shown(path)} exists and holds {difference}. Pass overwrite=True to replace it, or another path."
    )
