"""A saved model as a file: a JSON document and tensors in safetensors' format, written atomically and verified.

The file is given by a path, or is an open file or bytes in memory, with the same checks. Reading never runs code from
the file: all lengths are checked against its size, the document is plain JSON, and no tensor is read before its shape
and type have been compared with what the caller expects.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import safetensors
import safetensors.torch
import torch

from sktl._short_text import one_line
from sktl._utils.paths import checked_path, draft_path, naming, shown, working_folder
from sktl._utils.process_errors import raise_process_error
from sktl._version import __version__
from sktl.exceptions import (
    BackboneError,
    DeviceMemoryError,
    InvalidParameterError,
    ModelFileError,
    ModelFileNotFoundError,
    SktlError,
    WeightsError,
)
from sktl.runtime.model_source import is_openvino

from .foreign_files import foreign_kind, is_onnx
from .tensor_streams import (
    TYPES,
    StreamedTensors,
    check_stream,
    first_upper,
    is_stream,
    model_name_of,
    name_of,
    parsed,
    write_all,
)

FORMAT = 1
FORMAT_KEY, _DOCUMENT, _DOCUMENT_DIGEST, _DIGEST = "sktl", "document", "document_sha256", "sha256"
# Name of the model in a folder for the Hugging Face Hub.
MODEL_FILE = "model.safetensors"
# Prefix of the names of a network's tensors.
NETWORK = "network."

Tensors = Mapping[str, torch.Tensor]


class SavedDocumentError(ValueError):
    """A document has content that `write_model` does not write. The message is the reason in plain words."""


PathOrFile: TypeAlias = str | os.PathLike[str] | IO[bytes]
_OR_FILE = {
    "rb": ", or a file that is open for binary reading",
    "wb": ", or a file that is open for binary writing",
}


def write_model(place: PathOrFile, document: Mapping[str, Any], tensors: Tensors, private: bool = False) -> None:
    """Write a document and tensors to a file, which is created completely or not at all.

    Equal arguments lead to equal bytes.

    Parameters
    ----------
    place : path or binary file object
        Symbolic links are followed. An open file is written to from its current position, and stays open.
    document : mapping
        Content of the document, stored as JSON.
    tensors : mapping of str to Tensor
    private : bool, default=False
        Whether only the owner may read the file. Otherwise, its permissions are the same as for other new files.

    Raises
    ------
    InvalidParameterError
        If the place is neither a path nor a file that is open for binary writing.
    ModelFileNotFoundError
        If the folder does not exist, or the path is a folder, a pipe or a device.
    OSError
        If the file cannot be written. Nothing new is left behind, and an existing file is unchanged.
    """
    path = _check_place(place, "wb")
    text = json.dumps(document, allow_nan=False)
    # Copied, because the format supports neither shared memory nor strides.
    plain = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    metadata = {FORMAT_KEY: str(FORMAT), _DOCUMENT: text, _DOCUMENT_DIGEST: _digest(text, {})}
    metadata[_DIGEST] = _digest(text, plain)
    try:
        if path is None:
            content = io.BytesIO(safetensors.torch.save(plain, metadata))
            _sort_metadata(content)
            write_all(place, content.getvalue())
        else:
            _write_file(path, plain, metadata, private)
    except safetensors.SafetensorError as error:  # the disk is full, or the document is too long for a header
        if (number := re.search(r"\(os error (\d+)\)", str(error))) and os.name == "posix":
            raise OSError(int(number[1]), os.strerror(int(number[1])), path) from error
        raise OSError(f"{name_of(place)} cannot be written: {one_line(error)}") from error


def _check_place(place: Any, mode: str) -> str | None:
    """Return a place as a path; None if it is a file that is open in this mode."""
    if is_stream(place):
        check_stream(place, mode)
        return None
    return checked_path(place, "path", _OR_FILE[mode])


def _write_file(path: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str], private: bool) -> None:
    with naming(path):  # the working folder may have been removed
        target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ModelFileNotFoundError(f"{shown(path)} is not a regular file, and is not replaced. Name another file.")
    if not target.parent.is_dir():
        raise ModelFileNotFoundError(f"The folder {shown(target.parent)} does not exist. Create it before saving.")
    draft = draft_path(target)
    with naming(path):
        mode = _create(draft, 0o600 if private else 0o666)
        try:
            safetensors.torch.save_file(tensors, draft, metadata)
            # Without fsync, a power failure after the rename could leave an incomplete file under the final name.
            with open(draft, "rb+") as file:
                _sort_metadata(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, mode)  # safetensors creates files that only their owner can read
            os.replace(draft, target)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()


def _sort_metadata(file: IO[bytes]) -> None:
    """Sort the metadata in the header, which safetensors writes in random order."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) <= length:  # otherwise, another version of safetensors writes other JSON, whose order does no harm
        file.seek(8)
        file.write(text.ljust(length))


def _create(path: Path, mode: int) -> int:
    """Create an empty file. Return its mode after the process's umask, or the folder's defaults, were applied."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.chmod(path, 0o600)  # while the file is being written, regardless of the umask
        return mode
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
    name : str
        Name of the file in messages.
    document : dict
        The document that was written.
    """

    def __init__(self, name: str, file: Any):
        self.name = name
        self._file = file
        self._names = set(file.keys())
        metadata = file.metadata() or {}
        number = metadata.get(FORMAT_KEY)
        if number is None:
            raise damaged(name, "it was not written by sktl's save")
        if number != str(FORMAT):
            raise ModelFileError(
                f"{first_upper(name)} has format {number[:20]!r}, and this version of sktl reads format {FORMAT}. "
                "Update sktl, or save the model again with this version."
            )
        self._text, self._expected = metadata.get(_DOCUMENT, ""), metadata.get(_DIGEST, "")
        if _digest(self._text, {}) != metadata.get(_DOCUMENT_DIGEST):
            raise damaged(name, "the checksum of its document does not match")
        document = parsed(self._text)
        if not isinstance(document, dict):
            raise damaged(name, "its document is not a JSON mapping")
        self.document: dict[str, Any] = document

    def names(self, prefix: str) -> list[str]:
        """Return the names of tensors that have a prefix, without the prefix."""
        return [name.removeprefix(prefix) for name in self._names if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading the tensor."""
        if name not in self._names:
            raise damaged(self.name, f"it lacks {name}")
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, expected: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, torch.Tensor]:
        """Return all tensors, which must match the expected names, shapes and types.

        Raises
        ------
        ModelFileError
            If they do not match, or are not the tensors that were written.
        """
        for name in sorted(self._names ^ expected.keys()):
            raise damaged(self.name, f"it {'has an unexpected' if name in self._names else 'lacks'} {name}")
        for name, (shape, dtype) in expected.items():
            if self.shape(name) != shape or TYPES.get(self._file.get_slice(name).get_dtype()) != dtype:
                raise damaged(self.name, f"{name} has shape {self.shape(name)}, not {shape} of {dtype}")
        return self.read_all()

    def read_all(self) -> dict[str, torch.Tensor]:
        """Return all tensors, whatever their shapes. They can be read once.

        Raises
        ------
        ModelFileError
            If they are not the tensors that were written.
        """
        tensors = {name: self._file.get_tensor(name) for name in self._names}
        if _digest(self._text, tensors) != self._expected:
            raise damaged(self.name, "its checksum does not match")
        return tensors


@contextmanager
def open_model(source: PathOrFile | bytes) -> Iterator[ModelFile]:
    """Open a saved model. Within the block, anything wrong with the file raises `ModelFileError`.

    Parameters
    ----------
    source : path, binary file object or bytes
        Of a folder, the file `model.safetensors` in it is opened. An open file is read from its current position to the
        end of the model, and stays open.

    Raises
    ------
    InvalidParameterError
        If the source is not a path, bytes, or a file that is open for binary reading.
    ModelFileNotFoundError
        If the file does not exist.
    ModelFileError
        If the file cannot be read, has another format, or is damaged.
    DeviceMemoryError
        If the model does not fit into memory.
    """
    name = model_name_of(source)
    try:
        with _opened(source, name) as file:
            model = ModelFile(name, file)
            try:
                yield model
            except (InvalidParameterError, BackboneError, WeightsError) as error:  # for values that the file contains
                raise _unusable(model, error) from error
            except (SktlError, MemoryError, OSError, safetensors.SafetensorError):
                raise
            except Exception as error:  # a document that `save` did not write may cause any error
                raise_process_error(error)
                raise _misunderstood(model, error) from error
    except SktlError:
        raise
    except MemoryError as error:
        raise DeviceMemoryError(f"There is not enough memory for {name}. Free memory.") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise_process_error(error)
        raise damaged(name, str(error)) from error


def _other_version(model: ModelFile) -> str | None:
    """Return the version of sktl that wrote a model, for a message; None if it is this version, or unknown."""
    versions = model.document.get("versions")
    version = versions.get("sktl", __version__) if isinstance(versions, dict) else __version__
    return None if version == __version__ else one_line(version, 40)


def _unusable(model: ModelFile, error: SktlError) -> ModelFileError:
    """Return the error for a model with a parameter or a network that is invalid or unavailable here."""
    version, advice = _other_version(model), ""
    if version and _numbers_of(version) > _numbers_of(__version__) and not isinstance(error, WeightsError):
        advice = f" It was written by sktl {version}, and this is {__version__}: update sktl."
    return ModelFileError(f"{first_upper(model.name)} cannot be used: {one_line(error, 600)}{advice}")


def _numbers_of(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)[:3]]


def _misunderstood(model: ModelFile, error: Exception) -> ModelFileError:
    """Return the error for a document that this version does not write: from another version, or damaged."""
    if version := _other_version(model):
        return ModelFileError(
            f"{first_upper(model.name)} was written by sktl {version}, and this version, {__version__}, "
            "cannot read all of it. Update sktl, or save the model again with this version."
        )
    # Python's own error messages name its functions, which would not help the user.
    reason = str(error) if isinstance(error, SavedDocumentError) else "its document is not as `save` writes it"
    return damaged(model.name, reason)


@contextmanager
def _opened(source: Any, name: str) -> Iterator[Any]:
    """Open tensors for reading one by one."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield StreamedTensors(_in_memory(source), whole=True)
    elif (path := _check_place(source, "rb")) is None:
        yield StreamedTensors(source, whole=False)
    else:
        if in_folder := os.path.isdir(path):
            path = os.path.join(path, MODEL_FILE)
        if not os.path.isfile(path):
            here = "is not a file" if os.path.exists(path) else f"does not exist (looked in {working_folder()})"
            fault = f"is a folder without {MODEL_FILE}" if in_folder else here
            raise ModelFileNotFoundError(f"The model file {name} {fault}. Pass a file that `save` wrote.")
        with _opened_path(path, name) as file:
            yield file


@contextmanager
def _opened_path(path: str, name: str) -> Iterator[Any]:
    with contextlib.ExitStack() as opened:
        try:
            content = opened.enter_context(open(path, "rb"))
        except OSError as error:  # safetensors would call the file missing
            raise_process_error(error)
            advice = " Make it readable." if isinstance(error, PermissionError) else ""
            raise ModelFileError(f"{first_upper(name)} cannot be read: {error.strerror}.{advice}") from error
        try:
            # Read, not mapped into memory as safetensors does: if another program overwrites the file in place, which
            # first cuts it off, reading the map would end the process.
            file = StreamedTensors(content, whole=True)
        except safetensors.SafetensorError as error:
            content.seek(0)
            raise _foreign(name, path, content.read(64)) from error
        if os.fstat(content.fileno()).st_size < file.n_bytes:  # noticed before a network is built for the tensors
            raise damaged(name, "it is cut off")
        yield file


def _in_memory(content: bytes | bytearray | memoryview) -> io.BytesIO:
    try:
        # Copied if there are gaps in it, because they cannot be read as a file.
        return io.BytesIO(content if not isinstance(content, memoryview) or content.c_contiguous else bytes(content))
    except ValueError as error:
        raise InvalidParameterError("path is a released memoryview. Pass bytes.") from error


def _foreign(name: str, path: str, beginning: bytes) -> ModelFileError:
    """Return the error for a file whose beginning is not in safetensors' format."""
    if exported := _exported_kind(path.lower(), beginning):
        kind, runner = exported
        return ModelFileError(
            f"{name} is an exported {kind} model. Run it with {runner}, or pass the model that was exported."
        )
    return damaged(name, foreign_kind(beginning) or "it does not begin like a file that `save` wrote")


def _exported_kind(path: str, beginning: bytes) -> tuple[str, str] | None:
    """Return the format of an exported model, and what runs it; None for other files."""
    if path.endswith(".onnx") or is_onnx(beginning):
        return "ONNX", "`python -m sktl.runtime`"
    if is_openvino(beginning):
        return "OpenVINO", "OpenVINO"
    return ("torch.export", "torch.export.load") if path.endswith(".pt2") else None


def damaged(name: str, reason: str) -> ModelFileError:
    """Return the error for a file that `save` cannot have written. `name` is as in `ModelFile`."""
    return ModelFileError(
        f"{first_upper(name)} is damaged, or not an sktl model: {one_line(reason, 400)}. Save the model again, or "
        "fetch it again."
    )
