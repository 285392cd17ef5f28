"""Read each image once: a gray thumbnail, colors and file properties, which is all that the audit uses of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sktl._features.reading import in_tasks
from sktl._images import dicom, heic
from sktl._images.decoding import ImageProblem, content_key, decode
from sktl._images.opening import open_image
from sktl._images.preprocessing import Preprocessing
from sktl._images.readers import READERS, reader_name
from sktl._images.samples import Sample
from sktl.exceptions import ImageFailure

SIDE = 96
_PREPROCESSING = Preprocessing(SIDE, (SIDE, SIDE))
_CELLS = 16
_MAKER, _MODEL = 0x010F, 0x0110
_UNKNOWN = ("", "", "")
_LONGEST_NAME = 64
_SMOOTH = Image.Resampling.LANCZOS
# The rim of the cells, without the corners twice.
_RIM = np.pad(np.zeros((_CELLS - 2, _CELLS - 2), dtype=bool), 1, constant_values=True)


@dataclass(frozen=True)
class Thumbnail:
    """What is kept of an image.

    Attributes
    ----------
    key : bytes
        Identifies the content.
    gray : uint8 array of shape (96, 96)
        The whole image, squeezed to a square.
    rim : uint8 array of shape (180,)
        Colors of a strip along the border.
    color : float32 array of shape (3,)
        Mean color.
    shape : (int, int)
        Height and width of an array, or of the image in a file before it is rotated according to EXIF.
    n_bytes : int
        Size of the file, or 0.
    format : str
        Of the file, or "".
    camera : (str, str, str)
        Manufacturer, model and, in DICOM files, station; "" for what is unknown.
    """

    key: bytes
    gray: np.ndarray
    rim: np.ndarray
    color: np.ndarray
    shape: tuple[int, int]
    n_bytes: int = 0
    format: str = ""
    camera: tuple[str, ...] = _UNKNOWN


def thumbnail(content: bytes | np.ndarray) -> Thumbnail:
    """Return the thumbnail of the content of a sample.

    Raises
    ------
    ImageProblem
        If the content is not an image that can be used.
    """
    image = decode(content, _PREPROCESSING)
    gray = np.asarray(image.convert("L").resize((SIDE, SIDE), _SMOOTH))
    cells = np.asarray(image.resize((_CELLS, _CELLS), Image.Resampling.BOX))
    pixels = {"gray": gray, "rim": cells[_RIM].ravel(), "color": cells.mean(axis=(0, 1), dtype=np.float32)}
    if isinstance(content, bytes):
        return Thumbnail(content_key(content), **pixels, **_properties(content, image))
    return Thumbnail(content_key(content), **pixels, shape=content.shape[:2])


def _properties(content: bytes, decoded: Image.Image) -> dict[str, Any]:
    reader = reader_name(content)
    properties = {"n_bytes": len(content), "shape": decoded.size[::-1], "format": reader.upper()}
    with suppress(Exception):  # headers may be damaged in any way, and Pillow does not read those of all formats
        properties |= _in_header(content, reader)
    return properties


def _in_header(content: bytes, reader: str) -> dict[str, Any]:
    if reader == "dicom":
        return {"camera": _names(dicom.device(content))}
    if reader == "heic" and READERS[reader].is_active:
        return {"camera": _camera(lambda: heic.exif(content))}
    with open_image(content) as image:
        return {"shape": image.size[::-1], "format": image.format or "", "camera": _camera(image.getexif)}


def _camera(exif: Callable[[], Image.Exif]) -> tuple[str, ...]:
    try:
        found = exif()
        return _names([found.get(_MAKER), found.get(_MODEL), ""])
    except Exception:  # EXIF data of strangers may be damaged in any way, and the camera is then unknown
        return _UNKNOWN


def _names(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value or "").strip("\0 ")[:_LONGEST_NAME] for value in values)


def read_thumbnails(
    samples: Sequence[Sample], pool: ThreadPoolExecutor
) -> tuple[dict[int, Thumbnail], list[ImageFailure]]:
    """Return the thumbnails of usable samples by their positions, and the failures of the others, in order."""

    def read(position: int) -> Thumbnail | str:
        try:
            return thumbnail(samples[position].read())
        except ImageProblem as problem:
            return str(problem)

    found = dict(enumerate(in_tasks(read, range(len(samples)), pool)))
    failures = [ImageFailure(i, samples[i].name, reason) for i, reason in found.items() if isinstance(reason, str)]
    return {i: kept for i, kept in found.items() if isinstance(kept, Thumbnail)}, failures
