"""Open image files with Pillow: only in formats that are safe, and without its process-wide limit of pixels."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from io import BytesIO

from PIL import BmpImagePlugin, IcoImagePlugin, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from .problems import ImageProblem, check_size
from .tiff_tags import Tag, first_tags, is_tiff, tile_size

# Pillow's readers that decode the image themselves, and no more pixels than `check_size` sees before. The others run a
# program (EPS, WMF), open an image of any format or size in the file (FPX, ICNS, IPTC, MIC), or only recognize a file
# (BUFR, GRIB, HDF5, MPEG).
_SAFE_FORMATS = frozenset({
    "AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "GIF", "ICO", "IM", "IMT", "JPEG",
    "JPEG2000", "MCIDAS", "MSP", "PCD", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA",
    "TIFF", "WEBP", "XBM", "XPM", "XVTHUMB",
})  # fmt: skip
_REFUSED = {
    "EPS": "is a .eps file, which Pillow renders with Ghostscript; convert it to PNG if you trust its source",
    "WMF": "is a .wmf file, which Pillow renders with Windows; convert it to PNG if you trust its source",
    "ICNS": "is a .icns file, a container of icons; convert it to PNG",
    "IPTC": "is an .iim file, a container of other images; convert it to PNG",
}
_ICON = b"\0\0\1\0"
# The signature, the number of icons, and the size and place of the first one.
_ICON_HEAD = struct.Struct("<4sH8xII")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def open_image(content: bytes, formats: Iterable[str] | None = None) -> ImageFile:
    """Open an image file as `PIL.Image.open` does, but of any size. `check_size` must be called before it is loaded.

    `PIL.Image.open` warns about images larger than `PIL.Image.MAX_IMAGE_PIXELS` and refuses images twice as large. That
    limit holds for all threads, so it cannot be raised for one image.

    Raises
    ------
    ImageProblem
        If the file has a format that is refused, or tiles or an icon of more pixels than the limit.
    UnidentifiedImageError
        If none of the readers can open the file.
    """
    tags = first_tags(content) if is_tiff(content) else {}
    check_size(*tile_size(tags), what="tiles of ")
    refused = None
    # About more channels, Pillow prints a message to standard error.
    if tags.get(Tag.SAMPLES, 1) <= TiffImagePlugin.MAX_SAMPLESPERPIXEL:
        for name in formats or _formats():
            factory, accepts = Image.OPEN[name]
            try:
                answer = accepts is None or accepts(content[:16])
                if not answer or isinstance(answer, str):  # text: the codec is not installed
                    continue
                if not _is_safe(name):
                    refused = refused or why_refused(name if accepts else None)
                    continue
                if name == "ICO":
                    _check_icon(content)
                return factory(BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # the file has another format
                continue
    if refused:
        raise ImageProblem(refused)
    raise UnidentifiedImageError("cannot identify image file")


def why_refused(name: str | None) -> str | None:
    """Return why images in a format are refused; None if they are not, or if there is no format."""
    return _REFUSED.get(name or "")


def is_icon(path: str) -> bool:
    """Return True for a file of icons, one of which Pillow would decode to recognize it.

    The directory of icons is checked, because other files begin with the same bytes, such as the number 256.
    """
    with open(path, "rb") as file:
        head, size = file.read(_ICON_HEAD.size), os.fstat(file.fileno()).st_size
    if len(head) < _ICON_HEAD.size:
        return False
    signature, n_icons, n_bytes, offset = _ICON_HEAD.unpack(head)
    return bool(signature == _ICON and n_icons and n_bytes and _ICON_HEAD.size <= offset <= size - n_bytes)


def _is_safe(name: str) -> bool:
    """Return True for a format that is read: a safe one of Pillow, or one of a reader that the program has added."""
    return name in _SAFE_FORMATS or not Image.OPEN[name][0].__module__.startswith("PIL.")


def _check_icon(content: bytes) -> None:
    """Raise `ImageProblem` if the icon that Pillow reads is too large. Pillow decodes it when it opens the file."""
    file = BytesIO(content)
    file.seek(IcoImagePlugin.IcoFile(file).entry[0].offset)
    is_png = content.startswith(PNG_SIGNATURE, file.tell())
    with (PngImagePlugin.PngImageFile if is_png else BmpImagePlugin.DibImageFile)(file) as icon:
        check_size(icon.width, icon.height if is_png else icon.height // 2)  # a bitmap is followed by its mask


def _formats() -> Iterator[str]:
    """Yield the formats that Pillow knows, common formats first, because importing the others takes time."""
    Image.preinit()
    common = tuple(Image.ID)
    yield from common
    Image.init()
    yield from (name for name in tuple(Image.ID) if name not in common)
