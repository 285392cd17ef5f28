"""Write the features of many images to files, part by part, so that a killed run resumes after its last whole part.

A part is written under another name, and gets its own name when it is complete. It is used again if the network, the
names, the labels and the contents of its images are the same.
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
from typing import Any

from filelock import FileLock, Timeout

from sktl._storage.parquet_files import PROGRESS, SUFFIX, FeatureFile, Rows, first_row, write_rows
from sktl._utils.paths import naming, shown, why_no_file
from sktl.exceptions import ImageFailure, InvalidImageError, InvalidInputError, InvalidParameterError

from .embedding_content import Embedding, Part, stamps_digest

_PART = re.compile(rf"part-\d+{re.escape(SUFFIX)}")


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
        stamps = stamps_digest(part.samples)
        # The pass learns the contents of files with stamps. Others could change unnoticed, so they are read before it.
        contents = embedding.extractor.digest(part.samples) if stamps is None else ""
        try:
            rows, failures = embedding.rows(part, f"part {i + 1} of {len(self.parts)}")
        except InvalidImageError as error:
            return [*error.failures]
        if stamps is not None:
            contents = embedding.extractor.digest(part.samples)
            if stamps_digest(part.samples) != stamps:  # some features are of the contents before the change
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
