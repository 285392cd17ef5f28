"""The paths of an export: which format one means, and files that appear there complete and verified or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sktl._short_text import shown_value
from sktl._utils.paths import checked_path, draft_path, is_utf8, naming, shown
from sktl.exceptions import ExportError, InvalidParameterError, MissingPackageError, ModelFileNotFoundError

from .model_format import ModelFormat
from .onnx_file import OnnxFormat
from .openvino_files import OpenVinoFormat
from .program_file import ProgramFormat

FORMATS: Mapping[str, ModelFormat] = {found.name: found for found in (OnnxFormat(), OpenVinoFormat(), ProgramFormat())}
_OF_SUFFIX = {found.suffixes[0]: found for found in FORMATS.values()}
_NAME_IN_FOLDER = "model"


@dataclass(frozen=True)
class Target:
    """Where a model is exported to.

    Parameters
    ----------
    path : Path
        The file whose suffix is the first one of the format. Other files of the format lie beside it.
    format : ModelFormat
    folder : Path or None
        Folder that the export creates if it does not exist.
    """

    path: Path
    format: ModelFormat
    folder: Path | None = None

    @classmethod
    def of(cls, path: Any, format: Any) -> Target:
        """Return the target for a path and a format of the user, before anything is computed.

        Raises
        ------
        InvalidParameterError
            If the path is not a path, or the format is unknown or does not match the suffix.
        ModelFileNotFoundError
            If the folder does not exist, or something that is not a file has this name.
        OSError
            If no file can be created in the folder.
        """
        text = checked_path(path, "path")
        if format is not None and (not isinstance(format, str) or format not in FORMATS):
            raise InvalidParameterError(
                f"format={shown_value(format)} must be {', '.join(map(repr, FORMATS))} or None."
            )
        if not is_utf8(text):
            raise InvalidParameterError(f"path={shown(text)} is not UTF-8, and runtimes could not open it. Rename it.")
        in_folder = os.path.isdir(text) or text.endswith(("/", os.sep))
        in_folder |= format == OpenVinoFormat.name and not Path(text).suffix
        found = cls._in_folder(text, format) if in_folder else cls._file(text, format)
        found._check_place()
        return found

    @classmethod
    def _in_folder(cls, text: str, format: str | None) -> Target:
        if format not in (None, OpenVinoFormat.name):
            raise InvalidParameterError(
                f"path={shown(text)} is a folder, and format={format!r} is a single file. Pass the path of a file."
            )
        folder = Path(os.path.realpath(text))
        found = FORMATS[OpenVinoFormat.name]
        return cls(folder / f"{_NAME_IN_FOLDER}{found.suffixes[0]}", found, folder)

    @classmethod
    def _file(cls, text: str, format: str | None) -> Target:
        target = Path(os.path.realpath(text))
        found = _OF_SUFFIX.get(target.suffix.lower())
        if found is None:
            listed = ", ".join(f"{suffix} ({other.title})" for suffix, other in _OF_SUFFIX.items())
            raise InvalidParameterError(
                f"path={shown(text)} does not end in the suffix of a format: {listed}, or / for a folder with OpenVINO "
                "IR. Rename it."
            )
        if format not in (None, found.name):
            raise InvalidParameterError(
                f"path={shown(text)} is a file of format={found.name!r}, not {format!r}. Rename it, or leave "
                "format=None."
            )
        return cls(target, found)

    def _check_place(self) -> None:
        """Raise an error if files could not be created here. Conversion may take minutes."""
        for file in self.files:
            if file.exists() and not file.is_file():
                raise ModelFileNotFoundError(f"{shown(file)} is not a regular file, and is not replaced.")
        parent = self.path.parent if self.folder is None else self.folder.parent
        if not parent.is_dir():
            raise ModelFileNotFoundError(f"The folder {shown(parent)} does not exist. Create it before the export.")
        nearest = self.path.parent if self.path.parent.is_dir() else parent
        with naming(self.path), tempfile.TemporaryFile(dir=nearest):
            pass

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the export; the one that others open comes last."""
        others = tuple(self.path.with_suffix(suffix) for suffix in self.format.suffixes[1:])
        return (*others, self.path)

    def check_packages(self) -> None:
        """Raise `MissingPackageError` if a package is missing."""
        for package in self.format.packages:
            check_package(package, f"The export to {self.format.title}")

    def write(self, model: Any, document: str, draft: Path) -> None:
        """Write a converted model and its document under the name of a draft. Errors of the system name the target."""
        with naming(self.path):
            self.format.write(model, document, draft)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a temporary path beside the target. At the end of the block, its files take the target's names.

        If the block raises an error, all files are removed, and files that were there before are unchanged.
        """
        created = self.folder is not None and not self.folder.exists()
        if created:
            assert self.folder is not None
            with naming(self.folder):
                self.folder.mkdir()
        path = draft_path(self.path.with_suffix(""), self.path.suffix.lower())
        drafts = [path.with_suffix(suffix) for suffix in (*self.format.suffixes[1:], path.suffix)]
        done = False
        try:
            yield path
            with naming(self.path):
                for draft in drafts:
                    _flush(draft)
                for draft, final in zip(drafts, self.files, strict=True):
                    os.replace(draft, final)
            done = True
        finally:
            for draft in drafts:
                with contextlib.suppress(OSError):
                    draft.unlink()
            if created and not done:
                with contextlib.suppress(OSError):
                    self.path.parent.rmdir()


def check_package(package: str, user: str) -> None:
    """Raise `MissingPackageError` if a package is missing. It is not imported, because some packages report imports."""
    if importlib.util.find_spec(package) is None:
        extra = "openvino" if package == "openvino" else "export"
        raise MissingPackageError(f"{user} needs {package}, which is not installed: pip install 'sktl[{extra}]'")


def _flush(path: Path) -> None:
    """Write a file to the disk: after a power failure, it could otherwise be incomplete under its final name."""
    try:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    except FileNotFoundError as error:
        raise ExportError(f"{shown(path)} was not written by the library of its format.") from error
