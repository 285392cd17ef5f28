"""A saved model as a file: a JSON document and tensors in safetensors' format, written at once and checked as a whole.

Reading never runs code from the file: safetensors checks all lengths against the size of the file, the document is
plain JSON, and no tensor is read before its shape and type are what the caller expects.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ._paths import is_utf8, user_path
from .exceptions import ModelFileError, ModelFileNotFoundError, SktlError

FORMAT = 1
_FORMAT, _DOCUMENT, _DOCUMENT_DIGEST, _DIGEST = "sktl", "document", "document_sha256", "sha256"
# The format names types in its own way.
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

Tensors = Mapping[str, torch.Tensor]


def write_model(
    path: str | os.PathLike[str], document: Mapping[str, Any], tensors: Tensors, private: bool = False
) -> None:
    """Write a document and tensors to a file, which is there completely or not at all.

    Parameters
    ----------
    path : path
        A symbolic link is followed.
    document : mapping
        To be kept as JSON.
    tensors : mapping of str to Tensor
    private : bool, default=False
        Whether its owner alone may read the file; else whoever may read other new files of this process.

    Raises
    ------
    ModelFileNotFoundError
        If there is no such folder.
    OSError
        If it cannot be written, or is a folder, a pipe or a device; nothing is left behind then, and what has that name
        stays as it was.
    """
    text = json.dumps(document, allow_nan=False)
    # Copies: the format knows neither shared memory nor strides.
    plain = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    metadata = {_FORMAT: str(FORMAT), _DOCUMENT: text, _DOCUMENT_DIGEST: _digest(text, {})}
    metadata[_DIGEST] = _digest(text, plain)
    target = Path(os.path.realpath(user_path(path)))
    if target.exists() and not target.is_file():
        kind = IsADirectoryError if target.is_dir() else OSError
        raise kind(f"{os.fspath(path)!r} is not a regular file, and is not replaced. Name another file.")
    if not target.parent.is_dir():
        raise ModelFileNotFoundError(f"The folder {os.fspath(target.parent)!r} does not exist. Make it before saving.")
    draft = target.with_name(f".{target.name[:100]}.{os.getpid()}.{secrets.token_hex(4)}")
    mode = _create(draft, 0o600 if private else 0o666)
    try:
        try:
            safetensors.torch.save_file(plain, draft, metadata)
        except safetensors.SafetensorError as error:  # a full disk, or a document beyond what a header may hold
            raise OSError(f"{os.fspath(path)!r} cannot be written: {error}") from error
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(draft, mode)  # the library's file is its owner's alone
        os.replace(draft, target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _create(path: Path, mode: int) -> int:
    """Make an empty file; return its mode, less what the process's umask, or the folder, takes away."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _digest(text: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ModelFile:
    """A saved model that is open for reading.

    Attributes
    ----------
    path : str or os.PathLike
    document : dict
        As it was written.
    """

    def __init__(self, path: str | os.PathLike[str], file: Any):
        self.path = path
        self._file = file
        self._names = set(file.keys())
        metadata = file.metadata() or {}
        number = metadata.get(_FORMAT)
        if number is None:
            raise damaged(path, "it was not written by sktl's save")
        if number != str(FORMAT):
            raise ModelFileError(
                f"{os.fspath(path)!r} has format {number[:20]!r}, and this version of sktl reads format {FORMAT}. "
                "Update sktl, or save the model again with this version."
            )
        self._text, self._expected = metadata.get(_DOCUMENT, ""), metadata.get(_DIGEST, "")
        if _digest(self._text, {}) != metadata.get(_DOCUMENT_DIGEST):
            raise damaged(path, "the checksum of its document is another")
        document = json.loads(self._text)
        if not isinstance(document, dict):
            raise damaged(path, "its document is none")
        self.document: dict[str, Any] = document

    def names(self, prefix: str) -> list[str]:
        """Return the names of tensors that begin so, without the beginning."""
        return [name.removeprefix(prefix) for name in self._names if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, which is not read for it."""
        if name not in self._names:
            raise damaged(self.path, f"it lacks {name}")
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, torch.Tensor]:
        """Return all tensors, which must be those expected, by name, shape and type.

        Raises
        ------
        ModelFileError
            If they are not, or not the ones that were written.
        """
        for name in sorted(self._names ^ expected.keys()):
            raise damaged(self.path, f"it {'has a needless' if name in self._names else 'lacks'} {name}")
        for name, (shape, dtype) in expected.items():
            if self.shape(name) != shape or _TYPES.get(self._file.get_slice(name).get_dtype()) != dtype:
                raise damaged(self.path, f"{name} has shape {self.shape(name)}, not {shape} of {dtype}")
        return self.read_all()

    def read_all(self) -> dict[str, torch.Tensor]:
        """Return all tensors, of whatever shape.

        Raises
        ------
        ModelFileError
            If they are not the ones that were written.
        """
        # Copies: tensors of the library's lie in the file, which somebody may write to meanwhile.
        tensors = {name: self._file.get_tensor(name).clone() for name in self._names}
        if _digest(self._text, tensors) != self._expected:
            raise damaged(self.path, "its checksum is another")
        return tensors


@contextmanager
def open_model(path: str | os.PathLike[str]) -> Iterator[ModelFile]:
    """Open a saved model; whatever is wrong with the file is a `ModelFileError` within the block.

    Raises
    ------
    ModelFileNotFoundError
        If there is no such file.
    ModelFileError
        If it cannot be read, has another format, or is damaged.
    """
    path = user_path(path)
    if not os.path.isfile(path):
        kind = "is not a file" if os.path.exists(path) else f"does not exist (looked in {os.getcwd()})"
        raise ModelFileNotFoundError(f"The model file {os.fspath(path)!r} {kind}. Pass a file that `save` wrote.")
    if not is_utf8(path):
        raise ModelFileError(
            f"The name of the model file {os.fspath(path)!r} is not UTF-8, so that it cannot be opened. Rename the "
            "file, or the folder of that name."
        )
    try:
        with safetensors.safe_open(os.fspath(path), "pt") as file:
            yield ModelFile(path, file)
    except (SktlError, MemoryError):
        raise
    except (safetensors.SafetensorError, OSError) as error:
        raise damaged(path, str(error)) from error
    except Exception as error:  # whatever follows from a document that says something else than `save` writes
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def damaged(path: str | os.PathLike[str], reason: str) -> ModelFileError:
    """Return the error for a file that cannot be what `save` wrote."""
    if _begins_like_a_pickle(path):
        reason = "it is a pickle, which could run code, and is not read"
    return ModelFileError(
        f"{os.fspath(path)!r} is damaged or no saved model: {reason}. Save the model again, or fetch the file again."
    )


def _begins_like_a_pickle(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start[:1] == b"\x80" or start == b"PK\x03\x04"
