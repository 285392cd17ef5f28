"""Open image files with Pillow, without its process-wide limit of pixels, which `check_size` replaces."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from .tiff_tags import Tag, first_tags, is_tiff


def open_image(content: bytes, formats: Iterable[str] | None = None) -> ImageFile:
    """Open an image file as `PIL.Image.open` does, but of any size. `check_size` must be called before it is loaded.

    `PIL.Image.open` warns about images larger than `PIL.Image.MAX_IMAGE_PIXELS` and refuses images twice as large. That
    limit holds for all threads, so it cannot be raised for one image.

    Raises
    ------
    UnidentifiedImageError
        If none of Pillow's readers can open the file.
    """
    # About more channels, Pillow prints a message to standard error.
    if not is_tiff(content) or first_tags(content).get(Tag.SAMPLES, 1) <= TiffImagePlugin.MAX_SAMPLESPERPIXEL:
        for name in formats or _formats():
            factory, accepts = Image.OPEN[name]
            try:
                answer = accepts is None or accepts(content[:16])
                if answer and not isinstance(answer, str):  # text: the codec is not installed
                    return factory(BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # the file has another format
                continue
    raise UnidentifiedImageError("cannot identify image file")


def _formats() -> Iterator[str]:
    """Yield the formats that Pillow reads, common formats first, because importing the others takes time."""
    Image.preinit()
    common = tuple(Image.ID)
    yield from common
    Image.init()
    yield from (name for name in tuple(Image.ID) if name not in common)
