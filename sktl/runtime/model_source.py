"""Where an exported model comes from: a path, an open file or bytes, with a checksum that each reading verifies."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, replace
from typing import IO, Any, TypeAlias

from sktl._short_text import one_line, type_of
from sktl._utils.paths import checked_path, shown
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import (
    DeviceMemoryError,
    InvalidParameterError,
    ModelFileError,
    ModelFileNotFoundError,
    SktlError,
)

PathOrContent: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
_MOST_BYTES = 2 << 30  # the limit of the format
_BLOCK = 1 << 20
_BYTES = (bytes, bytearray, memoryview)
_OPEN = "Pass a file that is open for binary reading."
_OTHERS = ", the bytes of an exported model, or a file that is open for binary reading"


@dataclass(frozen=True)
class ModelSource:
    """An exported model that can be read, and read again later as the same model.

    Parameters
    ----------
    place : str or bytes
        Absolute path of the file, or its content.
    digest : str
        Checksum of the content. It is empty before the first reading.
    """

    place: str | bytes
    digest: str = ""

    @classmethod
    def of(cls, given: Any) -> ModelSource:
        """Return the source for what a user passed.

        Raises
        ------
        InvalidParameterError
            If it is not a path, bytes or a file that is open for binary reading.
        """
        if isinstance(given, _BYTES):
            return cls(_copied(given))
        if not isinstance(given, str | os.PathLike) and hasattr(given, "read"):
            return cls(_content_of(given))
        return cls(os.path.abspath(checked_path(given, "model", _OTHERS)))

    @property
    def name(self) -> str:
        """Name of the model in messages."""
        return shown(self.place) if isinstance(self.place, str) else "The model"

    def read(self) -> tuple[bytes, ModelSource]:
        """Return the content, and the source with the checksum of the content.

        Raises
        ------
        ModelFileNotFoundError
            If the path does not exist, or is not a file.
        ModelFileError
            If the file cannot be read, is too large, or has changed since it was first read.
        DeviceMemoryError
            If the file does not fit into memory.
        """
        content = self.place if isinstance(self.place, bytes) else _read_file(self.place, self.name)
        digest = hashlib.sha256(content).hexdigest()
        if self.digest and digest != self.digest:
            raise ModelFileError(f"{self.name} has changed since it was opened. Open the model again.")
        return content, replace(self, digest=digest)


def is_openvino(content: bytes) -> bool:
    """Return True if a file with this content, or beginning, is probably a model in OpenVINO IR."""
    return content[:64].lstrip().startswith(b"<?xml") and b"<net" in content[:64]


def other_format(content: bytes) -> str | None:
    """Return what a file is that is not an ONNX model, and what to do, as a predicate; None if it is not recognized."""
    if content.startswith(b'{"__metadata__":', 8):
        return "is a saved model, not an exported one. Export it by `sktl export` or its method `export`."
    if is_openvino(content):
        return "is a model in OpenVINO IR. Run it with OpenVINO, or export the model to a file that ends in .onnx."
    return None


def _copied(given: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(given)
    except ValueError as error:
        raise InvalidParameterError("model is a released memoryview. Pass bytes.") from error


def _content_of(file: Any) -> bytes:
    """Return the rest of an open file. Some files return only a part at a time."""
    content = bytearray()
    while len(content) <= _MOST_BYTES and (part := _part_of(file, min(_BLOCK, _MOST_BYTES + 1 - len(content)))):
        content += part
    return bytes(content)


def _part_of(file: Any, n_bytes: int) -> bytes | bytearray | memoryview:
    """Return the next bytes of an open file, at most `n_bytes`; none at its end."""
    try:
        part = file.read(n_bytes)
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise_process_error(error)
        raise InvalidParameterError(f"model is a file that cannot be read ({one_line(error)}). {_OPEN}") from error
    except TypeError as error:
        raise InvalidParameterError(f"model is a file whose `read` takes no number of bytes. {_OPEN}") from error
    if isinstance(part, str):
        raise InvalidParameterError("model is a file that is open for text. Open it as 'rb'.")
    if part is None:
        raise InvalidParameterError("model is a file that returns no bytes for now. Pass a file in blocking mode.")
    if not isinstance(part, _BYTES):
        raise InvalidParameterError(f"model is a file that returns {type_of(part)} instead of bytes. {_OPEN}")
    return part


def _read_file(path: str, name: str) -> bytes:
    try:
        status = os.stat(path)  # before opening, because opening a pipe waits for a writer
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileNotFoundError(f"The model {name} is not a file. Pass a file that sktl.export wrote.")
        if status.st_size > _MOST_BYTES:
            raise ModelFileError(f"{name} has {status.st_size / 2**30:.1f} GiB, more than any ONNX file.")
        with open(path, "rb") as file:
            return file.read(status.st_size)  # Python reserves as much memory as it is told to read
    except SktlError:  # some are also OSError
        raise
    except FileNotFoundError as error:
        raise ModelFileNotFoundError(
            f"The model {name} does not exist. Pass the path of a file that sktl.export wrote."
        ) from error
    except MemoryError as error:
        raise DeviceMemoryError(f"There is not enough memory for {name}. Free memory.") from error
    except (OSError, ValueError) as error:
        raise_process_error(error)
        raise ModelFileError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
