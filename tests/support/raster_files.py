"""TIFF and PNG files of any depth, as their specifications have them: Pillow writes few of these."""

from __future__ import annotations

import struct
import zlib

import numpy as np

TIFF_TYPES = {3: "H", 4: "I", 9: "i"}


def packed(values, bits, order=">"):
    """Unsigned numbers of so many bits, (rows, numbers), as rows of whole bytes."""
    if bits in (8, 16, 32):
        return np.asarray(values).astype(f"{order}u{bits // 8}").tobytes()
    shifts = np.arange(bits)[::-1]
    digits = np.asarray(values)[..., None] >> shifts & 1
    return np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    data, size, bits, photometric, samples=1, order="<", number=None, extra=None, apart=False, deflate=False, more=()
):
    """A TIFF file of one strip, or one for each sample if they are stored apart.

    Parameters
    ----------
    data : bytes or list of bytes
        The strips.
    photometric : int or None
        None leaves out the tag.
    number : int or None
        SampleFormat: 1 unsigned, 2 signed, 3 float.
    extra : sequence of int or None
        ExtraSamples: 0 unspecified, 1 premultiplied alpha, 2 alpha.
    more : list of (tag, type, values)
    """
    strips = data if isinstance(data, list) else [data]
    strips = [zlib.compress(strip) if deflate else strip for strip in strips]
    tags = {
        256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [bits] * samples), 259: (3, [8 if deflate else 1]),
        273: (4, [0] * len(strips)), 277: (3, [samples]), 278: (4, [size[1]]), 279: (4, [*map(len, strips)]),
        **({} if photometric is None else {262: (3, [photometric])}),
        **({} if number is None else {339: (3, [number] * samples)}),
        **({} if extra is None else {338: (3, list(extra))}),
        **({284: (3, [2])} if apart else {}),
        **{tag: (kind, list(values)) for tag, kind, values in more},
    }  # fmt: skip
    position = 8 + 2 + 12 * len(tags) + 4
    long = {tag: struct.calcsize(f"={len(v)}{TIFF_TYPES[kind]}") for tag, (kind, v) in tags.items()}
    start = position + sum(n for n in long.values() if n > 4)
    tags[273] = (4, [start + sum(map(len, strips[:i])) for i in range(len(strips))])
    entries, values_after = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        body = struct.pack(f"{order}{len(values)}{TIFF_TYPES[kind]}", *values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(body) > 4:
            entries += struct.pack(f"{order}I", position + len(values_after))
            values_after += body
        else:
            entries += body.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + values_after + b"".join(strips)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits, color, palette=b"", clear=b"", more=b""):
    """A PNG file of values (H, W) or (H, W, C) of a color type, with the content of PLTE and tRNS."""
    height, width = np.shape(values)[:2]
    rows = packed(np.reshape(values, (height, -1)), bits)
    step = len(rows) // height
    data = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height))
    chunks = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)),
        chunk(b"PLTE", palette) if palette else b"",
        chunk(b"tRNS", clear) if clear else b"",
        more,
        chunk(b"IDAT", zlib.compress(data)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
