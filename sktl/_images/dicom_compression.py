"""Compressed DICOM files: what is checked before a decoder allocates memory, and which decoder is missing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from .problems import ImageProblem, pixel_limit

_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
# Bytes of a deflated file beyond its pixels, and of a run-length encoded frame beyond its numbers.
_MOST_HEADERS = 1 << 24
_MOST_OVERHEAD = 1 << 16
_CHUNK = 1 << 20
# The beginning of the transfer syntaxes of JPEG, JPEG-LS, JPEG 2000 and MPEG, and packages that decode them.
_JPEG = "1.2.840.10008.1.2.4."
_DECODERS = (
    ({"50", "51", "57", "70"}, "pylibjpeg pylibjpeg-libjpeg"),
    ({"80", "81"}, "pyjpegls"),
    ({"90", "91", "201", "202", "203"}, "pylibjpeg pylibjpeg-openjpeg"),
)
_MOVIES = {str(number) for number in range(100, 109)}
_MOST_ENTRIES = 1 << 16  # of a table
_LINEAR, _INDIRECT = 1, 2
_NOT_SIZES = (0xC4, 0xC8, 0xCC)


def check_inflated(content: bytes) -> None:
    """Raise `ImageProblem` if a file is compressed as a whole and unpacks to more than an image within the limit."""
    if _DEFLATED.encode() not in content:
        return
    from pydicom.filereader import read_dataset, read_preamble

    file = BytesIO(content)
    read_preamble(file, force=True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    inflate, data = zlib.decompressobj(-zlib.MAX_WBITS), file.read()
    left = 6 * pixel_limit() + _MOST_HEADERS  # colors of 16 bits
    while data and not inflate.eof:
        left -= len(inflate.decompress(data, _CHUNK))
        data = inflate.unconsumed_tail
        if left < 0:
            raise ImageProblem(
                f"is a compressed .dcm file that unpacks to more than an image of {pixel_limit():,} pixels; raise the "
                "limit with sktl.set_pixel_limit if you trust its source"
            )


def check_encapsulated(dataset: Any, frame: int, n_frames: int) -> None:
    """Raise `ImageProblem` if a compressed frame has no decoder, or another size than the header says."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        is_available = get_decoder(syntax).is_available
    except NotImplementedError:
        is_available = False
    if not is_available:
        raise ImageProblem(f"is a .dcm file compressed as {syntax.name}, {why_undecoded(syntax)}")
    data = get_frame(dataset.PixelData, frame, number_of_frames=n_frames, extended_offsets=_offsets(dataset))
    columns, rows = int(dataset.Columns), int(dataset.Rows)
    if syntax == _RLE:
        most = rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
        if len(data) > 2 * most + _MOST_OVERHEAD:
            raise ImageProblem("is not a valid .dcm file: it unpacks to more pixels than its header says")
    elif (size := coded_size(data)) and size != (columns, rows):
        raise ImageProblem(
            f"is not a valid .dcm file: its header says {columns} x {rows} pixels, its frame {size[0]} x {size[1]}"
        )


def check_segments(data: bytes, n_bytes: int, order: str) -> None:
    """Raise `ImageProblem` if the segments of a table expand to more entries than a table can have (PS3.3 C.7.9.2).

    pydicom expands them in full, before it reads how many entries the table has.

    Parameters
    ----------
    data : bytes
        The segments.
    n_bytes : int
        Bytes of one entry: 1 or 2.
    order : str
        "<" if the first byte is the least significant one, otherwise ">".
    """
    n_entries = 0
    for length in _lengths(data, 0, -1, n_bytes, order):
        n_entries += length
        # Segments without entries could be copied forever.
        if not length or n_entries > _MOST_ENTRIES:
            raise ImageProblem(
                f"is not a valid .dcm file: a table has an empty segment, or more than {_MOST_ENTRIES:,} entries"
            )


def _lengths(data: bytes, at: int, n_segments: int, n_bytes: int, order: str) -> Iterator[int]:
    """Yield the entries of some segments, including those that they copy; 0 for a copy of a copy, which is invalid."""
    is_copy = n_segments > 0
    form, end = order + ("BB" if n_bytes == 1 else "HH"), len(data) // n_bytes
    while at + 1 < end and n_segments:
        opcode, length = struct.unpack_from(form, data, at * n_bytes)
        at += 2
        if opcode != _INDIRECT:
            yield length
            at += 1 if opcode == _LINEAR else length
        else:
            low, high = struct.unpack_from(f"{order}HH", data, at * n_bytes)
            yield from _lengths(data, high << 16 | low, length, n_bytes, order) if length and not is_copy else (0,)
            at += 4 // n_bytes
        n_segments -= 1


def why_undecoded(syntax: Any) -> str:
    """Return what to do about a compression for which no decoder is installed."""
    if syntax.removeprefix(_JPEG) in _MOVIES:
        return "which is a film; extract its frames, for instance with ffmpeg"
    if packages := decoders_of(syntax):
        return f"for which no decoder is installed: pip install {packages}"
    return "which pydicom does not decode; convert it to PNG, for instance with dcmtk"


def decoders_of(syntax: Any) -> str:
    """Return the packages that decode a compression; empty if none are known."""
    number = syntax.removeprefix(_JPEG)
    return next((packages for numbers, packages in _DECODERS if number in numbers), "")


def _offsets(dataset: Any) -> tuple[bytes, bytes] | None:
    table, lengths = (dataset.get(f"ExtendedOffsetTable{end}") for end in ("", "Lengths"))
    return (table, lengths) if table and lengths and len(table) == len(lengths) else None


def coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return width and height in the header of a JPEG, JPEG-LS or JPEG 2000 image; None if it has none."""
    start = frame.find(b"\xff\x4f\xff\x51") if frame[:2] != b"\xff\xd8" else -1
    if start >= 0:  # JPEG 2000: ends of the grid and offsets of the image in it
        right, bottom, left, top = (int.from_bytes(frame[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
        return right - left, bottom - top
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill bytes
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in _NOT_SIZES) or marker == 0xF7:
            height, width = (int.from_bytes(frame[at + i : at + i + 2], "big") for i in (5, 7))
            return width, height
        else:
            at += 2 + length
    return None
