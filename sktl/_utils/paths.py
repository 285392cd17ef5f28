"""Paths as users write them, and file names that not every library can open."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sktl._short_text import type_of
from sktl.exceptions import InvalidParameterError

from .process_errors import is_from_signal_handler

# Schemes of URLs have at least two letters, because `c:\x` and `c://x` are paths of Windows.
SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"
_LONGEST = 200
# Suffixes by which people and programs recognize files, which programs could not read if sktl wrote a model into them.
_FORMATS_OF_OTHERS = {
    ".onnx": "ONNX", ".xml": "OpenVINO IR", ".pt2": "programs of torch.export", ".pt": "PyTorch", ".pth": "PyTorch",
    ".pkl": "pickle", ".pickle": "pickle", ".joblib": "joblib", ".html": "HTML", ".htm": "HTML",
    ".zip": "ZIP", ".h5": "HDF5", ".hdf5": "HDF5", ".npy": "NumPy", ".npz": "NumPy", ".json": "JSON",
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".xlsx"), "tables"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".dcm"), "images"),
}  # fmt: skip
_EXPORTED = (".onnx", ".xml", ".pt2")
_BYTES_OF_DRAFTS = 100


def user_path(path: str | os.PathLike[str]) -> str:
    """Return a path of the user as a string, with a leading `~` or `~user` replaced by the home directory."""
    return os.path.expanduser(str(os.fsdecode(path)))


def kept_path(path: str | os.PathLike[str]) -> str:
    """Return a path that exists in a form that `user_path` leaves as it is: a file may be named `~`, or `~user`."""
    text = os.fspath(path)
    return os.path.join(os.curdir, text) if text.startswith("~") else text


def why_no_file(path: str | os.PathLike[str]) -> str | None:
    """Return what a path leads to if that exists and is not a regular file; None otherwise.

    Such a path is never opened or replaced: opening a pipe waits for a writer, and opening a device may have side
    effects.
    """
    if not os.path.exists(path) or os.path.isfile(path):
        return None
    return "is a folder" if os.path.isdir(path) else "is not a regular file"


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of the system name a path instead of a temporary file, or no file: a full disk has no name."""
    try:
        yield
    except OSError as error:
        if is_from_signal_handler(error):  # such as a time limit
            raise
        if error.errno is None:
            raise OSError(f"{shown(path)} cannot be written: {error}") from error
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def draft_path(target: Path, suffix: str = "") -> Path:
    """Return a new hidden path beside a file, under which the file is written until it is complete.

    It is in the same folder, because only a rename within a file system is atomic. It contains only the beginning of
    the file's name, because systems limit the bytes of a name.
    """
    beginning = os.fsencode(target.name)[:_BYTES_OF_DRAFTS].decode("utf-8", "ignore")
    return target.with_name(f".{beginning}.{os.getpid()}.{secrets.token_hex(4)}{suffix}")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Return True if a name is valid UTF-8. safetensors writes files with other names, but cannot open them."""
    try:
        os.fsdecode(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str | os.PathLike[str]) -> str:
    """Return a path in quotes for a message, without its middle if it is long."""
    text = str(os.fsdecode(name))  # NumPy's strings have another repr
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}")


def checked_path(path: Any, argument: str, alternative: str = "") -> str:
    """Return the path that was passed for an argument, with a leading `~` replaced by the home directory.

    Raises
    ------
    InvalidParameterError
        If it is not a path, or is a URL, which would become a folder named `s3:`, or begins with a variable or an
        unknown home directory, which would become folders named `$HOME` or `~`. A name such as `~model.sktl` is a
        file. `alternative` names what else the argument accepts.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        given = repr(path) if isinstance(path, int | float) else type_of(path)
        raise InvalidParameterError(f"{argument} is {given}. Pass a path{alternative}.")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise InvalidParameterError(f"{argument}={shown(text)} is not a path. Pass a path{alternative}.")
    slashes = "//" if isinstance(path, str) else "/"  # pathlib.Path removes one of two
    url = re.match(rf"({SCHEME}::)*({SCHEME}):{slashes}", text)
    is_folder = not isinstance(path, str) and os.path.lexists(text.split("/")[0])  # the folder `s3:`
    if url and not is_folder:  # not shown, because it may contain a password
        raise InvalidParameterError(
            f"{argument}='{url[2]}://...' is a URL, and must be a path on this machine. Pass a path{alternative}."
        )
    path = user_path(text)
    if text.startswith("$") and os.path.expandvars(text) != text and not os.path.lexists(path):
        raise InvalidParameterError(
            f"{argument}={shown(text)} begins with a variable. Variables are not replaced: use os.path.expandvars."
        )
    home, *rest = path.replace(os.sep, "/").split("/")
    if home.startswith("~") and (rest or home == "~") and not os.path.lexists(path):
        raise InvalidParameterError(
            f"{argument}={shown(text)}: the home directory {shown(home)} is unknown. Pass the whole path, or "
            f"{shown(kept_path(path))} for a file or folder of that name."
        )
    return path


def check_model_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `InvalidParameterError` for a file of a saved model that has the suffix of another format."""
    stem, suffix = os.path.splitext(os.fsdecode(path))
    if other := _FORMATS_OF_OTHERS.get(suffix.lower()):
        export = f"; `export` writes {other}" if suffix.lower() in _EXPORTED else ""
        raise InvalidParameterError(
            f"path={shown(path)} has the suffix of {other}, but a model is saved in sktl's own format. Rename it, for "
            f"instance to {shown(f'{stem}.sktl')}{export}."
        )


def check_features_suffix(path: str) -> None:
    """Raise `InvalidParameterError` for a new folder of features whose name has the suffix of a file."""
    stem, suffix = os.path.splitext(path)
    if suffix != ".parquet" and suffix.lower() in _FORMATS_OF_OTHERS and not os.path.isdir(path):
        raise InvalidParameterError(
            f"path={shown(path)} does not end in .parquet. Rename it, or pass a folder, such as {shown(f'{stem}/')}."
        )


def check_page_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `InvalidParameterError` for a file of a page that has the suffix of another format.

    What follows the last point of a name such as "report_v1.2" is not a format.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix[1:2].isalpha() and suffix not in (".html", ".htm"):
        raise InvalidParameterError(f"path={shown(path)} does not end in .html, and the page is HTML. Rename it.")


def in_utf8(name: str) -> str:
    """Return a name as files in UTF-8 hold it: bytes that are not UTF-8 become escapes, as in Python source code."""
    return name.encode("utf-8", "backslashreplace").decode()


def common_folder(names: Sequence[str]) -> str:
    """Return the longest folder that all names begin with, with its separator; empty if that tells nothing."""
    folders = [name[: max(name.rfind("/"), name.rfind(os.sep)) + 1] for name in names]
    first, last = min(folders, default=""), max(folders, default="")
    n = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    common = first[: max(first.rfind("/", 0, n), first.rfind(os.sep, 0, n)) + 1]
    return common if len(names) > 1 and len(common) > 1 else ""


def working_folder() -> str:
    """Return the current folder for a message. It may have been removed since the process entered it."""
    try:
        return os.getcwd()
    except OSError:
        return "a folder that was removed"
