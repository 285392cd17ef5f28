"""The tags of a TIFF file's first image, and whether they describe pixels that Pillow does not read."""

from __future__ import annotations

from enum import IntEnum
from io import BytesIO
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .formats import TIFF


class Tag(IntEnum):
    """Tags of TIFF files."""

    WIDTH = 256
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    PLANAR = 284
    TILE_OFFSETS = 324
    SAMPLE_FORMAT = 339


_UNSIGNED, _FLOAT, _SEPARATE = 1, 3, 2
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNCOMPRESSED = 1
# JPEG 2000 (four numbers), JPEG XR (two), PNG, LERC, WebP, JPEG XL (three): Pillow's libtiff has none of them.
_UNKNOWN_COMPRESSIONS = (33003, 33004, 33005, 34712, 22610, 34934, 34933, 34887, 50001, 50002, 52546, 34892)


def is_tiff(content: bytes) -> bool:
    """Return True if content starts like a TIFF file."""
    return content.startswith(TIFF)


def has_tiff_image(content: bytes) -> bool:
    """Return True if the header of a TIFF file leads to an image."""
    try:
        tags = _first_tags(content)
    except Exception:  # damaged tags
        return False
    return Tag.WIDTH in tags and (Tag.STRIP_OFFSETS in tags or Tag.TILE_OFFSETS in tags)


def is_beyond_pillow(content: bytes) -> bool:
    """Return True for a TIFF file of gray or RGB pixels that no version of Pillow from 12 on reads.

    These are float16, float64 and floats in color, 16-bit gray with alpha, 16-bit colors in separate planes, and
    compressions that libtiff lacks. All other TIFF files are left to Pillow.
    """
    if not is_tiff(content):
        return False
    try:
        tags = _first_tags(content)
        bits, form, n_samples = (_number(tags, tag) for tag in (Tag.BITS, Tag.SAMPLE_FORMAT, Tag.SAMPLES))
        apart = n_samples > 1 and _number(tags, Tag.PLANAR) == _SEPARATE
        compression = _number(tags, Tag.COMPRESSION)
        if _number(tags, Tag.PHOTOMETRIC) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            return False
    except Exception:  # damaged tags: Pillow names the damage
        return False
    if compression in _UNKNOWN_COMPRESSIONS or form == _FLOAT:
        return compression in _UNKNOWN_COMPRESSIONS or bits != 32 or n_samples > 1
    if form != _UNSIGNED or bits not in (8, 16):
        return False
    return (n_samples == 2 and (bits == 16 or apart)) or (bits == 16 and apart and compression == _UNCOMPRESSED)


def _first_tags(content: bytes) -> ImageFileDirectory_v2:
    file = BytesIO(content)
    header = file.read(8)
    if header[2] == 43:  # BigTIFF
        header += file.read(8)
    tags = ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _number(tags: ImageFileDirectory_v2, tag: Tag) -> int:
    """Return a tag of integers that are equal for all channels; 1, the default of all these tags, if it is missing."""
    value: Any = tags.get(tag, 1)
    values = value if isinstance(value, tuple) else (value,)
    return int(max(values))
