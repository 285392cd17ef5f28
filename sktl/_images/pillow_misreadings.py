"""What Pillow reads differently from the file's meaning: corrected, or a reason to refuse the file.

Pillow's plugins return numbers and a mode. If a file contains more information about its numbers than the mode does
(which number is white, which is transparent), the same picture would have different pixels in different bit depths.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImagePalette

from .pillow_opening import PNG_SIGNATURE, open_image
from .tiff_tags import Tag

# Text chunks of PNG files that may contain the orientation, which Pillow reads.
_ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"exif\0")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _YCBCR, _SEPARATE, _SIGNED = 0, 1, 6, 2, 2
_FAXES = (2, 3, 4, 32771)
_PNG_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "RGB": 8}  # per raw mode of gray and colors
_ORDERED_FLOATS, _NATIVE_FLOATS = ("F;32F", "F;32BF"), "F;32NF"
_CODESTREAM = b"\xff\x4f\xff\x51"
_JPEG = 0  # as the compression of a BLP file
_MULTICHANNEL, _HAS_MERGED_PICTURE = 7, 1057
_LONGEST_HEADER = 1 << 16
# In their fourth byte, many programs write zeros that are not meant as transparency.
_BITMAPS = ("BMP", "CUR", "DIB", "ICO")
_CORRECTED_BY_HEADER = ("PNG", "JPEG2000", "TGA", "SUN", "PSD")


def without_texts(content: bytes) -> bytes:
    """Return a PNG file without text chunks and color profile, which do not affect pixels. Return others unchanged.

    Pillow limits the size of text chunks by process-wide settings, and refuses images whose text is longer.
    """
    if not content.startswith(PNG_SIGNATURE):
        return content
    parts, start, at = [], 0, len(PNG_SIGNATURE)
    while at + 12 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 12 + length
        is_text = kind in _TEXTS and not content.startswith(_ORIENTATION_TEXTS, at + 8)
        if (is_text or kind == b"iCCP") and end <= len(content):
            parts.append(content[start:at])
            start = end
        at = end
    return b"".join([*parts, content[start:]]) if parts else content


def why_misread(image: Image.Image) -> str | None:
    """Return why Pillow would misread the pixels of a file, and what to do; None if it would not."""
    if hasattr(image, "tag_v2"):
        return _why_tiff_is_misread(image)
    if image.format == "FITS" and image.mode != "L" and image.mode != "F":
        return "is a .fits file of integers, whose white is unknown; read it with astropy and pass uint8 arrays"
    tiles = getattr(image, "tile", ())
    if image.format == "BLP" and any(tile.codec_name == "BLP1" and tile.args[0] == _JPEG for tile in tiles):
        return "is a .blp file that contains a JPEG image, which may have any size; convert it to PNG"
    if image.format == "PSD":
        if _header(image)[24:26] == bytes([0, _MULTICHANNEL]):
            return "is a .psd file in multichannel mode, of which Pillow reads only one channel; export it as PNG"
        found = next((data for kind, _, data in getattr(image, "resources", ()) if kind == _HAS_MERGED_PICTURE), b"")
        if found[4:5] == b"\0":
            return "is a .psd file without a merged picture of its layers; export it as PNG"
    return None


def _why_tiff_is_misread(image: Image.Image) -> str | None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    if _is_preview(image):
        return (
            "is a camera's RAW file, or another file of which Pillow reads a small preview; develop it with rawpy and "
            "pass arrays, or convert it to JPEG"
        )
    bits, signed = max(tags.get(Tag.BITS, (1,))), _SIGNED in tags.get(Tag.SAMPLE_FORMAT, (1,))
    if image.mode == "I" or signed:
        kind = f"signed {bits}-bit integer" if signed else f"{bits}-bit integer"
        return f"has {kind} pixels, whose white is unknown; convert it to uint8 or to [0, 1]"
    by_libtiff = getattr(image, "use_load_libtiff", False)
    apart = tags.get(Tag.PLANAR) == _SEPARATE and len(image.getbands()) > 1
    untold = image.mode in ("LA", "La", "PA") or (image.mode == "RGBA" and Tag.EXTRA not in tags)
    if apart and (untold if by_libtiff else bits > 8):
        return "has colors in separate planes, which Pillow misreads; read it with tifffile, or convert it to PNG"
    if not by_libtiff and tags.get(Tag.PHOTOMETRIC) == _YCBCR and tuple(tags.get(Tag.SUBSAMPLING, (2, 2))) != (1, 1):
        n_bytes = image.width * image.height * len(image.getbands())
        if sum(tags.get(Tag.STRIP_BYTES) or tags.get(Tag.TILE_BYTES) or ()) < n_bytes:
            return "has subsampled colors without compression, which Pillow misreads; convert it to PNG"
    return None


def _is_preview(image: Image.Image) -> bool:
    """Return True if the first image of a TIFF file is marked as a reduced version of another image in the file."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if Tag.DNG_VERSION in tags or _header(image)[8:10] == b"CR":
        return True
    has_others = Tag.SUB_IFDS in tags or getattr(image, "is_animated", False)
    kind = tags.get(Tag.NEW_SUBFILE_TYPE, 0)
    return image.tell() == 0 and has_others and isinstance(kind, int) and kind & 1 == 1


def load(image: Image.Image) -> None:
    """Load an image. A damaged image stays unloaded; otherwise, Pillow would return a partial image the second time."""
    tiles = list(getattr(image, "tile", ()))
    try:
        image.load()
    except BaseException:
        if tiles:
            image.tile = tiles  # type: ignore[attr-defined]
        raise


def unloaded_copy(image: Image.Image) -> Image.Image:
    """Return the image of a file that is open and not loaded, opened again; other images are returned unchanged.

    Loading an image closes its file, whose header contains what corrects its pixels. The user's image would then have
    other pixels the second time.
    """
    content = _content(image) if image.format in _CORRECTED_BY_HEADER and getattr(image, "tile", None) else b""
    if not content:
        return image
    again = open_image(content, [str(image.format)])
    if image.tell():
        again.seek(image.tell())
    # A draft, for example, has another size than its file.
    return again if (again.mode, again.size) == (image.mode, image.size) else image


def corrected(image: Image.Image) -> Image.Image:
    """Return a loaded image whose pixels mean what its mode says.

    White is 65535 in 16-bit images and 1 in floats. An image that needs no correction is returned unchanged.
    """
    if hasattr(image, "tag_v2"):
        return _corrected_tiff(image)
    if image.format == "PNG":
        return _corrected_png(image)
    if image.format == "JPEG2000":
        return _corrected_jpeg2000(image)
    if image.format == "TGA":
        return _corrected_targa(image)
    if image.format == "SUN":
        _permute_sun(image)
    load(image)
    if image.format == "PSD" and image.mode == "1":
        return _with_info(image.convert("L").point(_INVERTED), image)
    if image.format in _BITMAPS and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return _opaque(image)
    # An additional channel may be a saved selection, and merged pictures are already blended with white.
    return _opaque(image) if image.format == "PSD" else image


_INVERTED = [255 - value for value in range(256)]


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image without its alpha channel; unchanged if it has none."""
    if not image.has_transparency_data:
        return image
    return _with_info(image.convert("L" if image.mode == "LA" else "RGB"), image)


def _corrected_targa(image: Image.Image) -> Image.Image:
    """Return a TGA image without an alpha channel that the header denies, or that has one bit, which is ambiguous."""
    header = _header(image)[:18]
    load(image)
    if not header:
        return image
    if image.mode == "P":  # the attributes in the header do not describe the palette
        return _opaque(image) if header[7] == 16 else image
    is_bit = image.mode == "RGBA" and header[16] == 16
    return _opaque(image) if is_bit or header[17] & 15 == 0 else image


def _permute_sun(image: Image.Image) -> None:
    """Make Pillow read a 32-bit Sun raster with the padding as the first byte. Pillow expects it last."""
    orders = {"RGBX": "XRGB", "BGRX": "XBGR"}
    for i, tile in enumerate(getattr(image, "tile", ())):
        bare = isinstance(tile.args, str)
        raw_mode = tile.args if bare else tile.args[0]
        if raw_mode in orders:
            args = orders[raw_mode] if bare else (orders[raw_mode], *tile.args[1:])
            image.tile[i] = tile._replace(args=args)  # type: ignore[attr-defined]


def _corrected_tiff(image: Image.Image) -> Image.Image:
    # libtiff returns floats in the byte order of this machine, but Pillow assumes the byte order of the file.
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(_NATIVE_FLOATS, *tile.args[1:]))
        if tile.codec_name == "libtiff" and tile.args[0] in _ORDERED_FLOATS
        else tile
        for tile in getattr(image, "tile", ())
    ]
    if image.tile and image._im is None:  # type: ignore[attr-defined]
        # Pillow would apply its process-wide limit of pixels where it allocates them.
        image.im = Image.new(image.mode, image._tile_size, None).im  # type: ignore[attr-defined]
    load(image)
    tags = image.tag_v2  # type: ignore[attr-defined]
    # The tag is required. Without it, the smallest number is black, except in faxes, where it is white. libtiff does
    # the same.
    default = _WHITE_IS_ZERO if tags.get(Tag.COMPRESSION, 1) in _FAXES else _BLACK_IS_ZERO
    photometric = tags.get(Tag.PHOTOMETRIC, default)
    if image.mode in ("1", "L"):  # Pillow assumes that zero is white if the tag is missing
        misread = Tag.PHOTOMETRIC not in tags and photometric == _BLACK_IS_ZERO
        return _with_info(image.convert("L").point(_INVERTED), image) if misread else image
    if image.mode in ("I;16", "I;16B", "F"):
        white = 1 if image.mode == "F" else 2 ** max(tags.get(Tag.BITS, (16,))) - 1
        if photometric == _WHITE_IS_ZERO or white == 4095:
            return _with_info(_rescaled(np.asarray(image), white, photometric == _WHITE_IS_ZERO), image)
    if (
        image.mode in ("P", "PA") and max(tags.get(Tag.COLOR_MAP, (256,))) < 256
    ):  # a palette of 8 bits, as libtiff assumes
        image = image.copy()
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[Tag.COLOR_MAP]))
        image.load()
    return image


def _rescaled(pixels: np.ndarray, white: int, inverted: bool) -> Image.Image:
    """Return floats unchanged, or integers with white at 65535; both inverted if `inverted`."""
    values = white - pixels.astype(np.float64) if inverted else pixels.astype(np.float64)
    if white == 1:
        return Image.fromarray(values.astype(np.float32))
    return Image.fromarray(np.rint(values * (65535 / white)).astype(np.uint16))


def _corrected_png(image: Image.Image) -> Image.Image:
    """Return a PNG image with transparent gray in the scale of its pixels, and alpha for a transparent 16-bit color."""
    tiles = getattr(image, "tile", [])
    raw_mode = tiles[0].args if tiles else ""
    low = None
    if raw_mode == "RGB;16B" and "transparency" in image.info and getattr(image, "fp", None):
        low = _low_bytes(image)
    before = _content(image) if raw_mode == "1" and "transparency" in image.info else b""
    load(image)
    clear = image.info.get("transparency")
    if raw_mode in _PNG_BITS and clear is not None:
        most = 2 ** _PNG_BITS[raw_mode] - 1  # bits beyond the depth of the pixels have no meaning
        if raw_mode == "1":  # Pillow only returns whether any bit is set
            clear = before[before.find(b"\0\0\0\2tRNS") + 9]
        image = image.copy()
        image.info["transparency"] = (
            tuple(value & most for value in clear) if isinstance(clear, tuple) else (clear & most) * (255 // most)
        )
    elif low is not None:
        pixels = np.asarray(image).astype(np.uint16) << 8 | low
        alpha = np.where((pixels == np.array(clear, np.uint16)).all(-1), 0, 255).astype(np.uint8)
        return _with_info(Image.merge("RGBA", [*image.split(), Image.fromarray(alpha)]), image)
    return image


def _low_bytes(image: Image.Image) -> np.ndarray:
    """Return the lower bytes of 16-bit colors before the image is loaded. Pillow only returns the upper bytes."""
    file = image.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(0)
    with open_image(file.read()) as again:
        file.seek(place)
        # With swapped bytes, the lower byte of each sample is read as the upper one.
        again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
        return np.asarray(again)


def _corrected_jpeg2000(image: Image.Image) -> Image.Image:
    """Return a JPEG 2000 image with white at 255. Pillow shifts values of fewer than 8 bits without scaling them."""
    header = _content(image)  # boxes of any size may come before the code stream
    load(image)
    at = header.find(_CODESTREAM)
    depths = [1 + (depth & 127) for depth in header[at + 42 : at + 42 + 3 * len(image.getbands()) : 3]]
    if at < 0 or image.mode not in ("L", "LA", "RGB", "RGBA") or min(depths, default=8) >= 8:
        return image
    whites = [256 - 2 ** max(8 - depth, 0) for depth in depths]
    scaled = image.point([round(min(value, white) * 255 / white) for white in whites for value in range(256)])
    return _with_info(scaled, image)


def _header(image: Image.Image) -> bytes:
    """Return the first bytes of the file of an image; empty if the image is loaded or closed."""
    return _content(image, _LONGEST_HEADER)


def _content(image: Image.Image, most: int = -1) -> bytes:
    """Return the content of the file of an image, or its first bytes; empty if the image is loaded or closed."""
    file = getattr(image, "fp", None)
    if file is None or getattr(file, "closed", False):
        return b""
    place = file.tell()
    file.seek(0)
    content = bytes(file.read(most))
    file.seek(place)
    return content


def _with_info(made: Image.Image, image: Image.Image) -> Image.Image:
    """Return a derived image with the metadata of the original, such as its orientation."""
    made.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return made
