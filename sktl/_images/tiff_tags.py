"""The tags of a TIFF file's first image, and whether they describe pixels that Pillow does not read.

They are parsed here, because Pillow's own parser warns about damaged tags, and a user's filter may turn that into an
error: which reader a file belongs to must depend on its bytes alone.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from .unreadable_formats import TIFF


class Tag(IntEnum):
    """Tags of TIFF files."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    STRIP_BYTES = 279
    PLANAR = 284
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_IFDS = 330
    EXTRA = 338
    SAMPLE_FORMAT = 339
    SUBSAMPLING = 530
    TILE_DEPTH = 32998
    DNG_VERSION = 50706


_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}
_MOST_VALUES = 64
_UNSIGNED, _FLOAT, _SEPARATE = 1, 3, 2
_KINDS = {2: "i", 3: "f", 5: "i", 6: "c"}  # of values of SAMPLE_FORMAT
_MOST_BITS = 16
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNCOMPRESSED, _REDUCED = 1, 1
_UNSPECIFIED, _ASSOCIATED = 0, 1
# JPEG 2000 (four numbers), JPEG XR (two), PNG, LERC, WebP, JPEG XL (three): Pillow's libtiff has none of them.
_UNKNOWN_COMPRESSIONS = (33003, 33004, 33005, 34712, 22610, 34934, 34933, 34887, 50001, 50002, 52546, 34892)


def is_tiff(content: bytes) -> bool:
    """Return True if content starts like a TIFF file."""
    return content.startswith(TIFF)


def has_tiff_image(content: bytes) -> bool:
    """Return True if the header of a TIFF file leads to an image."""
    tags = first_tags(content)
    return Tag.WIDTH in tags and (Tag.STRIP_OFFSETS in tags or Tag.TILE_OFFSETS in tags)


def is_beyond_pillow(content: bytes) -> bool:
    """Return True for a TIFF file of gray or RGB pixels that no version of Pillow from 12 on reads.

    These are float16, float64 and floats in color, 16-bit gray with alpha, 16-bit colors in separate planes, 8-bit
    colors with a plane that is neither a color nor plain transparency, and compressions that libtiff lacks. All other
    TIFF files are left to Pillow.
    """
    if not is_tiff(content):
        return False
    tags = first_tags(content)
    bits, form, n_samples, planar, compression = (
        tags.get(tag, 1) for tag in (Tag.BITS, Tag.SAMPLE_FORMAT, Tag.SAMPLES, Tag.PLANAR, Tag.COMPRESSION)
    )
    if Tag.WIDTH not in tags or tags.get(Tag.PHOTOMETRIC) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return False
    if Tag.DNG_VERSION in tags or tags.get(Tag.NEW_SUBFILE_TYPE, 0) & _REDUCED:  # perhaps the preview of a RAW file
        return False
    if compression in _UNKNOWN_COMPRESSIONS:
        return True
    if form == _FLOAT:
        return bits != 32 or n_samples > 1
    apart = n_samples > 1 and planar == _SEPARATE
    if form != _UNSIGNED or bits not in (8, 16):
        return False
    if not apart:
        return bits == 16 and n_samples == 2
    extra = tags.get(Tag.EXTRA)
    has_alpha = n_samples == 2 and extra != _UNSPECIFIED
    has_fourth = n_samples == 4 and extra in (_UNSPECIFIED, _ASSOCIATED)
    return has_alpha or (compression == _UNCOMPRESSED and (bits == 16 or has_fourth))


def why_no_picture(content: bytes) -> str | None:
    """Return why the meaning of a TIFF file's pixels is unknown; None if its tags state the meaning."""
    tags = first_tags(content) if is_tiff(content) else {}
    photometric = tags.get(Tag.PHOTOMETRIC)
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        return None
    bits, form, n_samples = (tags.get(tag, 1) for tag in (Tag.BITS, Tag.SAMPLE_FORMAT, Tag.SAMPLES))
    return why_unknown(_KINDS.get(form, "u"), bits, n_samples, 3 if photometric == _RGB else 1)


def why_unknown(kind: str, bits: int, n_samples: int, n_colors: int) -> str | None:
    """Return why the meaning of pixels is unknown; None if they are gray or RGB.

    Parameters
    ----------
    kind : str
        Their kind, as in NumPy: u, i, f or c.
    bits : int
        Their bit depth.
    n_samples : int
        Numbers of each pixel.
    n_colors : int
        How many of them are colors, according to the file: 1 or 3.
    """
    if kind not in "uf" or (kind == "u" and bits > _MOST_BITS):
        words = {"i": f"signed {bits}-bit integer", "c": "complex"}.get(kind, f"{bits}-bit integer")
        return f"has {words} pixels, whose white is unknown; convert it to uint8 or to [0, 1]"
    if not n_colors <= n_samples <= n_colors + 1:
        return (
            f"is a .tiff file with {n_samples} channels, which is neither gray nor RGB; pass three of them as an array"
        )
    return None


def first_tags(content: bytes) -> dict[int, int]:
    """Return the largest value of each tag of integers of the first image; only those that are not damaged.

    If a tag occurs more than once, libraries differ in which one they use.
    """
    order = "<" if content.startswith(b"I") else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    word, count, entry = ("Q", "Q", 20) if big else ("L", "H", 12)
    tags: dict[int, int] = {}
    try:
        (at,) = struct.unpack_from(order + word, content, 8 if big else 4)
        (n,) = struct.unpack_from(order + count, content, at)
        at += struct.calcsize("=" + count)
        for start in range(at, min(at + n * entry, len(content)), entry):
            tag, kind, n_values = struct.unpack_from(f"{order}HH{word}", content, start)
            if kind in _INTEGERS and n_values:
                value = _largest(content, start + 4 + struct.calcsize("=" + word), order, word, kind, n_values)
                tags[tag] = max(value, tags.get(tag, value))
    except (struct.error, OverflowError):  # an offset beyond the end
        pass
    return tags


def tile_size(tags: dict[int, int]) -> tuple[int, int]:
    """Return the width of a tile, and its length times its depth; 1 for each that is unknown."""
    width, length, depth = (max(1, tags.get(tag, 1)) for tag in (Tag.TILE_WIDTH, Tag.TILE_LENGTH, Tag.TILE_DEPTH))
    return width, length * depth


def _largest(content: bytes, at: int, order: str, word: str, kind: int, n_values: int) -> int:
    """Return the largest of the first values of a tag, which are stored in its entry if they fit into a word."""
    form = f"{order}{min(n_values, _MOST_VALUES)}{_INTEGERS[kind]}"
    if n_values * struct.calcsize("=" + _INTEGERS[kind]) > struct.calcsize("=" + word):
        (at,) = struct.unpack_from(order + word, content, at)
    return max(struct.unpack_from(form, content, at))
