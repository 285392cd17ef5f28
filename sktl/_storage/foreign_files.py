"""Identify files in the place of a saved model or of weights by their first bytes, and say what to do instead."""

from __future__ import annotations

import os
import re
import zipfile

_BEGINNING = 1024
_CONVERT = "Load it with the library that wrote it, and save its tensors as a state dict: torch.save(state, path)"
# The first bytes of a file in the place of weights, what it is, and the remedy.
_KINDS = (
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself", "Run `git lfs pull`"),
    (rb"\s*<(!doctype|html)", "is a web page", "Download the file itself"),
    (rb"(?s)\s*\{.*\"(weight_map|metadata)\"", "is the index of weights in several files",
     "Load them all, and save one: torch.save(state, path)"),
    (rb"\s*\{", "is JSON, without tensors", "Pass the weights file next to it"),
    (rb"\x89HDF\r\n\x1a\n", "is an HDF5 file, such as Keras writes", _CONVERT),
    (rb"\x93NUMPY", "is a NumPy array", _CONVERT),
    (rb"(?s)....TFL3", "is a TensorFlow Lite model", _CONVERT),
    (rb"(?s)\x08.\x12.{0,12}(pytorch|onnx|tf2onnx|skl2onnx)", "is an ONNX model", _CONVERT),
    (rb"\x08\x01\x12", "is a TensorFlow model", _CONVERT),
    (rb"(?s)\s*<\?xml.*<net ", "is an OpenVINO model", _CONVERT),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "is a compressed archive", "Unpack it, and pass the file inside"),
)  # fmt: skip
# A name in a ZIP archive, what the archive is, and the remedy.
_ARCHIVES = (
    (r"(^|/)constants\.pkl$", "is a TorchScript archive",
     "Save its tensors: torch.save(torch.jit.load(path).state_dict(), new_path)"),
    (r"\.weights\.h5$", "is a Keras model", _CONVERT),
    (r"archive_format$|serialized_exported_program", "is a torch.export program",
     "Save its tensors: torch.save(torch.export.load(path).state_dict, new_path)"),
    (r"\.npy$", "is a NumPy archive", _CONVERT),
    (r"\.(pth?|bin|safetensors)$", "is an archive of files", "Unpack it, and pass the file inside"),
)  # fmt: skip


def beginning(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(_BEGINNING)


def describe(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return what a file in the place of weights is, and what to do; None if the file is not recognized."""
    start = beginning(path)
    if not start:
        return "is empty", "Fetch or save it again"
    if is_archive(path):
        return _describe_archive(path)
    return next(((kind, remedy) for pattern, kind, remedy in _KINDS if re.match(pattern, start, re.IGNORECASE)), None)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return True if a file starts like a ZIP archive, such as torch's files."""
    return beginning(path).startswith(b"PK\x03\x04")


def _describe_archive(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "is damaged: its end is missing", "Fetch or save it again"
    return next(
        ((kind, remedy) for pattern, kind, remedy in _ARCHIVES if any(re.search(pattern, name) for name in names)), None
    )


def foreign_kind(beginning: bytes) -> str | None:
    """Return what a file in the place of a saved model is, and what to do; None if it is not recognized."""
    if beginning[:1] == b"\x80":
        return "it is a pickle, which could run code, and is not read"
    if beginning[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "it is a ZIP archive; files from torch.save contain a pickle, which could run code, and are not read"
    if beginning.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"BM")):
        return "it is an image; on the command line, the model comes before the images"
    if beginning.startswith(b"version "):
        return "it is a pointer of Git LFS instead of the file; run `git lfs pull`"
    if beginning.startswith(b"\x1f\x8b"):
        return "it is compressed by gzip; decompress it first"
    if beginning.lstrip().lower().startswith((b"<!doc", b"<html")):
        return "it is a web page; download the file itself"
    return None


def is_onnx(beginning: bytes) -> bool:
    """Return True if a file with this beginning is probably an ONNX model: a version, then the program's name."""
    return re.match(rb"(?s)\x08.\x12.{0,12}(pytorch|onnx|sktl)", beginning) is not None
