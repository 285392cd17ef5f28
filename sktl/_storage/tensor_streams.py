"""Read tensors in safetensors' format from open files or memory instead of a map of the file, and write bytes."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import torch

from sktl._short_text import one_line, type_of
from sktl._utils.paths import shown
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import InvalidParameterError, ModelFileError

from .foreign_files import foreign_kind

# safetensors has its own names for types.
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_BLOCK = 1 << 20
_LONGEST_HEADER = 100_000_000  # as in safetensors
_BYTES = (bytes, bytearray, memoryview)
_OTHER_LENGTH = "does not return the requested number of bytes"


def is_stream(place: Any) -> bool:
    """Return True if a place is an open file or has the methods of one."""
    return not isinstance(place, str | os.PathLike) and (hasattr(place, "read") or hasattr(place, "write"))


def name_of(place: Any) -> str:
    """Return the name of a path, an open file or bytes in messages."""
    return _own_name(place) or type_of(place)


def _own_name(place: Any) -> str:
    """Return the name of a path or an open file in messages; empty if it has none."""
    if isinstance(place, str | os.PathLike):
        return shown(place)
    name = getattr(place, "name", None)
    return f"the file {shown(name)}" if isinstance(name, str) and name else ""


def model_name_of(source: Any) -> str:
    """Return the name of a model that is read from a source, within a sentence."""
    how = "bytes" if isinstance(source, _BYTES) else type_of(source)
    return _own_name(source) or f"the model that was passed as {how}"


def check_stream(file: Any, mode: str) -> None:
    """Raise `InvalidParameterError` unless a file is open for binary reading ("rb") or writing ("wb")."""
    method, able = ("read", "readable") if mode == "rb" else ("write", "writable")
    if getattr(file, "closed", False) is True:
        raise _misused(file, "is closed", mode)
    if hasattr(file, "encoding") or isinstance(file, io.TextIOBase):
        raise _misused(file, "is open for text", mode)
    if not hasattr(file, method) or (hasattr(file, able) and not getattr(file, able)()):
        raise _misused(file, f"is not open for {method[:4]}ing" if mode == "rb" else "is not open for writing", mode)


def _misused(file: Any, fault: str, mode: str) -> InvalidParameterError:
    return InvalidParameterError(f"path is {name_of(file)}, which {fault}. Pass a path, or open the file as {mode!r}.")


def write_all(file: Any, content: bytes) -> None:
    """Write bytes to an open file at its current position. Some files accept only a part at a time."""
    rest = memoryview(content)
    try:
        while rest:
            written = file.write(rest)
            if written is None and isinstance(file, io.RawIOBase):
                raise BlockingIOError(f"{name_of(file)} accepts no more bytes for now. Pass a file in blocking mode.")
            rest = rest[len(rest) if written is None else written :]
        if hasattr(file, "flush"):
            file.flush()  # so that errors, such as a full disk, are raised here
    except io.UnsupportedOperation as error:
        raise _misused(file, "is not open for writing", "wb") from error


def read_exactly(file: Any, n_bytes: int) -> bytes:
    """Return the next bytes of an open file; fewer only at its end."""
    return b"".join(_parts(file, n_bytes))


def _parts(file: Any, n_bytes: int) -> Iterator[bytes]:
    """Yield the next bytes of an open file, a part at a time; fewer only at its end."""
    n_read = 0
    while n_read < n_bytes:
        part = _part(file, length := min(n_bytes - n_read, _BLOCK))
        if not isinstance(part, _BYTES):
            raise _misused(file, f"returns {type_of(part)} instead of bytes", "rb")
        if len(part) > length:
            raise _misused(file, _OTHER_LENGTH, "rb")
        if not part:
            break
        n_read += len(part)
        yield bytes(part)


def _part(file: Any, length: int) -> Any:
    """Return what an open file reads. Its own errors, such as a lost connection, are no fault of the model."""
    try:
        return file.read(length)
    except io.UnsupportedOperation as error:
        raise _misused(file, "is not open for reading", "rb") from error
    except TypeError as error:
        raise _misused(file, _OTHER_LENGTH, "rb") from error
    except Exception as error:
        raise_process_error(error)
        reason = one_line(error, 400).rstrip(".") or type(error).__name__
        raise ModelFileError(f"{first_upper(model_name_of(file))} cannot be read: {reason}.") from error


def first_upper(name: str) -> str:
    """Return the name of a model at the start of a sentence."""
    return name[:1].upper() + name[1:]


@dataclass(frozen=True)
class _Described:
    """A tensor as described in the header, with the methods of safetensors."""

    shape: list[int]
    dtype: str
    offsets: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * TYPES[self.dtype].itemsize

    def get_shape(self) -> list[int]:
        return self.shape

    def get_dtype(self) -> str:
        return self.dtype


def _describe(entry: Any) -> _Described:
    """Return an entry of the header after checking it."""
    shape, dtype = (entry.get("shape"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or dtype not in (*TYPES,):
        raise safetensors.SafetensorError("its header does not have a known type and a shape for each tensor")
    offsets = entry.get("data_offsets")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
        raise safetensors.SafetensorError("its header does not say where each tensor begins and ends")
    return _Described(shape, dtype, (offsets[0], offsets[1]))


def parsed(text: str | bytes) -> Any:
    """Parse JSON. Return None for text that is not JSON or that Python cannot parse."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_text(header: dict[str, Any]) -> bool:
    """Return True if a header has no lone surrogates, which safetensors refuses and which have no UTF-8."""
    try:
        json.dumps(header, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


class StreamedTensors:
    """Tensors in a stream, with the methods of `safetensors.safe_open`.

    The header is read first. The tensors are read together on first access, with the length that follows from their
    shapes, so a caller that checks shapes first bounds the memory. The stream is then positioned after the tensors.

    Parameters
    ----------
    file : binary file object
    whole : bool
        Whether the stream must end after the tensors.
    """

    def __init__(self, file: Any, whole: bool):
        self._file, self._whole = file, whole
        length = self._next(8, "its first eight bytes")
        n_bytes = int.from_bytes(length, "little")
        if n_bytes > _LONGEST_HEADER:
            reason = foreign_kind(length) or "it does not begin with the length of a header"
            raise safetensors.SafetensorError(reason)
        header = self._next(min(1, n_bytes), "its header")
        # The first bytes of a file in another format may also be a plausible length.
        if header != b"{" and (kind := foreign_kind(length)):
            raise safetensors.SafetensorError(kind)
        header += self._next(n_bytes - len(header), "its header")
        self._n_bytes_before = len(length) + len(header)
        described = parsed(header)
        if not isinstance(described, dict):
            raise safetensors.SafetensorError("its header is not a JSON mapping")
        if not _is_text(described):
            raise safetensors.SafetensorError("its header has characters that are not Unicode")
        metadata = described.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise safetensors.SafetensorError("its header has metadata that are not a mapping of strings")
        self._metadata: dict[str, str] = metadata
        self._described = {name: _describe(entry) for name, entry in described.items()}
        self._in_order = sorted(self._described, key=lambda name: self._described[name].offsets)
        self._check_offsets()
        self._tensors: dict[str, torch.Tensor] | None = None

    def _next(self, n_bytes: int, what: str) -> bytes:
        found = read_exactly(self._file, n_bytes)
        if len(found) < n_bytes:
            raise safetensors.SafetensorError(f"it ends after {len(found)} of the {n_bytes} bytes of {what}")
        return found

    def _check_offsets(self) -> None:
        """Raise an error unless each tensor begins where the one before it ends, as the format requires."""
        end = 0
        for name in self._in_order:
            entry = self._described[name]
            if entry.offsets != (end, end + entry.n_bytes):
                raise safetensors.SafetensorError("the tensors in its header overlap, or do not follow each other")
            end += entry.n_bytes
        self._n_bytes_of_tensors = end

    @property
    def n_bytes(self) -> int:
        """Length of the whole stream according to the header."""
        return self._n_bytes_before + self._n_bytes_of_tensors

    def keys(self) -> list[str]:
        return list(self._described)

    def metadata(self) -> dict[str, str]:
        return self._metadata

    def get_slice(self, name: str) -> _Described:
        return self._described[name]

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, in memory as torch aligns it. Each can be read once, and is not kept here."""
        if self._tensors is None:
            self._tensors = {name: self._read(self._described[name]) for name in self._in_order}
            if self._whole and _part(self._file, 1):
                raise safetensors.SafetensorError("it has more bytes after its tensors")
        return self._tensors.pop(name)

    def _read(self, entry: _Described) -> torch.Tensor:
        """Read the next tensor, block by block into its memory, because a copy of all would double the memory."""
        tensor = torch.empty(entry.shape, dtype=TYPES[entry.dtype])
        content, n_read = tensor.flatten().view(torch.uint8).numpy(), 0
        for part in _parts(self._file, entry.n_bytes):
            content[n_read : n_read + len(part)] = np.frombuffer(part, np.uint8)
            n_read += len(part)
        if n_read < entry.n_bytes:
            n_bytes = entry.offsets[0] + n_read
            raise safetensors.SafetensorError(
                f"it ends after {n_bytes} of the {self._n_bytes_of_tensors} bytes of its tensors"
            )
        return tensor
