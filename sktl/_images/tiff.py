"""TIFF files, read by tifffile: which files have pixels that Pillow does not read, and the pixels of the first page."""

from __future__ import annotations

import logging
import lzma
import math
import sys
import zlib
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from .bit_depths import in_8_bits
from .dicom_compression import coded_size
from .pillow_opening import open_image
from .problems import ImageProblem, check_size
from .tiff_tags import Tag, first_tags, is_tiff

_NONE, _DEFLATE, _OLD_DEFLATE, _LZMA = 1, 8, 32946, 34925
_ZSTD = (34926, 50000)
# Compressions whose parts are images with a size of their own: JPEG and JPEG 2000; PNG and WebP.
_JPEG = (6, 7, 33007, 34892, 33003, 33004, 33005, 34712)
_FILES = (34933, 34927, 50001)
# JPEG 2000 (four numbers), JPEG XR (two), PNG, LERC, WebP, JPEG XL (three): Pillow's libtiff has none of them.
_UNKNOWN_COMPRESSIONS = (33003, 33004, 33005, 34712, 22610, 34934, 34933, 34887, 50001, 50002, 52546, 34892)
_MOST_OF_LZMA = 1 << 27  # bytes of memory, of which the highest preset takes half
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2
_UNSIGNED, _FLOAT, _SEPARATE, _REDUCED = 1, 3, 2, 1
_KINDS = {2: "i", 3: "f", 5: "i", 6: "c"}  # of values of SAMPLE_FORMAT
_MOST_BITS = 16
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_CHUNK = 1 << 20
_TOO_MANY = "is not a valid .tiff file: it unpacks to more pixels than its header says"
_NULL = logging.NullHandler()


def read(content: bytes) -> np.ndarray:
    """Return the pixels of the first page.

    White is 1 in floats, and the largest value of their bit depth in unsigned integers of up to 16 bits.

    Raises
    ------
    ImageProblem
        If the page is too large, is damaged, or has pixels whose meaning is unknown.
    """
    import tifffile

    # It logs what it finds wrong with a file. Without a handler, Python prints that.
    logging.getLogger("tifffile").addHandler(_NULL)
    with tifffile.TiffFile(BytesIO(content)) as file:
        page = file.pages.first
        check_size(page.imagewidth, page.imagelength)
        width, length = page.tilewidth or page.imagewidth, page.tilelength or page.rowsperstrip
        check_size(width, length * page.tiledepth, what="tiles of ")
        _check_kind(page)
        _check_segments(page, content)
        pixels = _decoded(page)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
        orientation = page.tags.valueof(int(Tag.ORIENTATION), default=1)
        return _upright(_meant(pixels, page), orientation)


def _decoded(page: Any) -> np.ndarray:
    try:
        return page.asarray(maxworkers=1)  # each thread would hold a tile
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise ImageProblem(
            f"is a .tiff file whose compression, {page.compression.name}, needs imagecodecs: pip install imagecodecs"
        ) from error


def _check_kind(page: Any) -> None:
    """Raise `ImageProblem` if the meaning of the pixels is unknown."""
    if page.imagedepth != 1 or page.dtype is None:
        raise ImageProblem("is a .tiff file of a volume, or of an unknown data type; pass its slices as arrays")
    if page.photometric not in (0, 1, 2):
        raise ImageProblem(f"is a .tiff file with colors as {page.photometric.name}; convert it to PNG")
    n_colors = 3 if page.photometric == 2 else 1
    if problem := why_unknown(page.dtype.kind, page.bitspersample, page.samplesperpixel, n_colors):
        raise ImageProblem(problem)


def _check_segments(page: Any, content: bytes) -> None:
    """Raise `ImageProblem` if parts of the pixels are missing, or are larger than the header says.

    tifffile fills missing parts with zeros, and unpacks parts of any length.
    """
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    complete = len(places) == math.prod(page.chunked)
    complete = complete and all(at > 0 and size > 0 and at + size <= len(content) for at, size in places)
    if complete:
        sizes = [_unpacked_size(content[at : at + size], page) for at, size in places]
        complete = sum(sizes) * 8 * page.dtype.itemsize >= page.nbytes * page.bitspersample
    if not complete:
        raise ImageProblem("is not a valid .tiff file: parts of its pixels are missing")


def _unpacked_size(data: bytes, page: Any) -> int:
    """Return the number of bytes that a part unpacks to, without holding them in memory; enough if they are unknown.

    Raises
    ------
    ImageProblem
        If the part unpacks to more pixels than the header says.
    """
    n_values, size, shape = math.prod(page.chunks), page.nbytes, (1, 1)
    if page.compression == _NONE:
        size = len(data)
    elif stream := _stream(page.compression):
        size = _inflated_size(data, stream, n_values * page.dtype.itemsize)
    elif page.compression in _JPEG:
        shape = coded_size(data) or (0, 0)
    elif page.compression in _FILES:
        Image.init()  # imports the reader of WebP
        shape = open_image(data, ("PNG", "WEBP")).size
    if not 0 < math.prod(shape) <= n_values:
        raise ImageProblem(_TOO_MANY)
    return size


def _stream(compression: int) -> Any:
    """Return an object that unpacks what tifffile can unpack to any size; None for other compressions."""
    if compression in (_DEFLATE, _OLD_DEFLATE):
        return zlib.decompressobj()
    if compression == _LZMA:
        return lzma.LZMADecompressor(memlimit=_MOST_OF_LZMA)
    if compression in _ZSTD and sys.version_info >= (3, 14):
        return import_module("compression.zstd").ZstdDecompressor()
    return None  # imagecodecs stops at the end of the part


def _inflated_size(data: bytes, stream: Any, most: int) -> int:
    """Return the number of bytes that data unpack to."""
    size, n_read, is_deflate = 0, 1, hasattr(stream, "unconsumed_tail")
    while n_read and not stream.eof:
        n_read = len(stream.decompress(data, _CHUNK))
        data = stream.unconsumed_tail if is_deflate else b""  # which the others keep
        size += n_read
        if size > most:
            raise ImageProblem(_TOO_MANY)
    if stream.unused_data and not is_deflate:  # a second stream, which tifffile would append
        raise ImageProblem(_TOO_MANY)
    return size


def _meant(pixels: np.ndarray, page: Any) -> np.ndarray:
    """Return pixels as gray, RGB or RGBA, with black at zero and white at 1 or 255."""
    n_colors = 3 if page.photometric == 2 else 1
    pixels = in_8_bits(pixels, page.bitspersample) if pixels.dtype.kind == "u" else pixels.astype(np.float32)
    white = 255 if pixels.dtype == np.uint8 else 1
    colors = pixels[:, :, :n_colors]
    alpha = page.extrasamples[0] if page.extrasamples else _UNASSOCIATED  # as Pillow reads a file without the tag
    has_alpha = pixels.shape[2] > n_colors and alpha in (_ASSOCIATED, _UNASSOCIATED)
    share = pixels[:, :, n_colors:] / white if has_alpha else 1
    if page.photometric == 0:  # associated colors are multiplied by alpha, and so is their white
        colors = white * (share if alpha == _ASSOCIATED else 1) - colors
    if not has_alpha:
        return colors
    return (colors / white if alpha == _ASSOCIATED else colors / white * share) + 1 - share


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels in the orientation in which they are meant to be seen."""
    flips = {
        2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x[::-1].swapaxes(0, 1), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: x[:, ::-1].swapaxes(0, 1),
    }  # fmt: skip
    return flips[orientation](pixels) if orientation in flips else pixels


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
    return has_alpha or (compression == _NONE and (bits == 16 or has_fourth))


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
