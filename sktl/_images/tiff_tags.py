"""The tags of a TIFF file's first image, parsed from its bytes without a library.

This is done here, because Pillow's own parser warns about damaged tags, and a user's filter may turn that into an
error: which reader a file belongs to must depend on its bytes alone.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from .unreadable_formats import TIFF

_INTEGERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 16: "Q", 17: "q"}
_MOST_VALUES = 64


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


def is_tiff(content: bytes) -> bool:
    """Return True if content starts like a TIFF file."""
    return content.startswith(TIFF)


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
