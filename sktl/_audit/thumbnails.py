"""Read each image once: a gray thumbnail, colors and file properties, which is all that most checks of an audit use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from sktl._features.reading_ahead import in_tasks
from sktl._images import dicom, heic
from sktl._images.content_keys import content_key
from sktl._images.decoding import ImageProblem, decode, is_turned
from sktl._images.format_readers import READERS, reader_name
from sktl._images.pillow_opening import open_image
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl.exceptions import ImageFailure

# Left, top, right and bottom, as shares of the image.
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
SIDE = 96
_PREPROCESSING = Preprocessing(SIDE, (SIDE, SIDE))
_CELLS = 16
_MAKER, _MODEL = 0x010F, 0x0110
_UNKNOWN = ("", "", "")
_LONGEST_NAME = 64
_SMOOTH = Image.Resampling.LANCZOS
# Bars of one color: largest difference of gray levels, and shares of the side that they cover.
_ONE_COLOR = 12
_THINNEST, _THICKEST = 0.03, 0.6
# The rim of the cells, without the corners twice.
_RIM = np.pad(np.zeros((_CELLS - 2, _CELLS - 2), dtype=bool), 1, constant_values=True)


@dataclass(frozen=True)
class Inner:
    """The part of an image between two bars.

    Attributes
    ----------
    gray : uint8 array of shape (96, 96)
    aspect : float
    box : (float, float, float, float)
        Left, top, right and bottom, as shares of the image.
    """

    gray: np.ndarray
    aspect: float
    box: Box


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
    aspect : float
        Width of the upright image, divided by its height.
    inner : Inner or None
        The image without bars of one color on two opposite sides, if it has such bars.
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
    aspect: float
    inner: Inner | None = None
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
    gray = squeezed(image, SIDE)
    cells = np.asarray(image.resize((_CELLS, _CELLS), Image.Resampling.BOX))
    pixels = {"gray": gray, "rim": cells[_RIM].ravel(), "color": cells.mean(axis=(0, 1), dtype=np.float32)}
    if isinstance(content, bytes):
        return _with_inner(Thumbnail(content_key(content), **pixels, **_properties(content, image)), image)
    height, width = content.shape[:2]
    return _with_inner(Thumbnail(content_key(content), **pixels, shape=(height, width), aspect=width / height), image)


def squeezed(image: Image.Image, side: int, box: Box = WHOLE) -> np.ndarray:
    """Return a part of an image as gray levels, squeezed to a square.

    Parameters
    ----------
    image : PIL.Image.Image
    side : int
    box : (float, float, float, float)
        Left, top, right and bottom, as shares of the image.
    """
    corners = np.array(box) * [*image.size, *image.size]
    return np.asarray(image.convert("L").resize((side, side), _SMOOTH, box=tuple(corners)))


def _with_inner(kept: Thumbnail, image: Image.Image) -> Thumbnail:
    """Return the thumbnail with what lies between the bars, if there are bars."""
    rough = _between_bars(kept.gray)
    box = _between_bars(np.asarray(image.convert("L"))) if rough else None
    if box is None:
        return kept
    left, top, right, bottom = box
    aspect = kept.aspect * (right - left) / (bottom - top)
    return replace(kept, inner=Inner(squeezed(image, SIDE, box), aspect, box))


def _between_bars(gray: np.ndarray) -> Box | None:
    """Return the box between bars of one color above and below, or on the left and on the right, or None."""
    (top, bottom), (left, right) = _bars(gray), _bars(gray.T)
    if _are_bars(top, bottom) and not min(left, right):
        return 0.0, top, 1.0, 1 - bottom
    if _are_bars(left, right) and not min(top, bottom):
        return left, 0.0, 1 - right, 1.0
    return None


def _bars(gray: np.ndarray) -> tuple[float, float]:
    """Return the shares of the first and of the last rows that have one color."""
    shares = []
    for rows in (gray, gray[::-1]):
        plain = np.abs(rows.astype(np.int16) - rows[0, 0]).max(axis=1) <= _ONE_COLOR
        n = len(rows) // 2 if plain.all() else int(plain.argmin())
        shares.append((n + 1) / len(rows) if n else 0.0)  # the next row may be a mixture
    return shares[0], shares[1]


def _are_bars(one: float, other: float) -> bool:
    return min(one, other) >= _THINNEST and abs(one - other) <= _THINNEST and one + other <= _THICKEST


def _properties(content: bytes, decoded: Image.Image) -> dict[str, Any]:
    reader = reader_name(content)
    width, height = decoded.size
    properties = {"n_bytes": len(content), "shape": (height, width), "aspect": width / height, "format": reader.upper()}
    with suppress(Exception):  # headers may be damaged in any way, and Pillow does not read those of all formats
        properties |= _in_header(content, reader)
    return properties


def _in_header(content: bytes, reader: str) -> dict[str, Any]:
    if reader == "dicom":
        return {"camera": _names(dicom.device(content))}
    if reader == "heic" and READERS[reader].is_active:
        return {"camera": _camera(lambda: heic.exif(content))}
    with open_image(content) as image:
        width, height = image.size
        aspect = height / width if is_turned(image) else width / height
        camera = _camera(image.getexif)
        return {"shape": (height, width), "aspect": aspect, "format": image.format or "", "camera": camera}


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
