"""HEIC and HEIF files, read by pillow-heif: the primary image, upright, with white at its own bit depth."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from .bit_depths import in_8_bits
from .problems import ImageProblem, check_size

_CHANNELS = {"L": 1, "I": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}


def read(content: bytes) -> np.ndarray:
    """Return the pixels of the primary image.

    Nothing is registered with Pillow. libheif rotates and mirrors images as their properties say; the orientation in
    EXIF data repeats the same information, so it is ignored. Thumbnails, depth maps and other images are ignored.

    Raises
    ------
    ImageProblem
        If the image is too large, or of an unknown kind.
    """
    import pillow_heif

    # Not scaled to 8 or 16 bits by libheif, which shifts 10-bit values, so that white would be a little darker.
    file = pillow_heif.open_heif(BytesIO(content), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    check_size(*image.size)
    name, _, depth = image.mode.partition(";")
    if name not in _CHANNELS:
        raise ImageProblem(f"is a .heic file with pixels of the kind {image.mode}; convert it to JPEG")
    image.load()
    check_size(*image.size)  # the size of the decoded image may differ from the header
    pixels = np.asarray(image).reshape(image.size[1], image.size[0], _CHANNELS[name])
    pixels = in_8_bits(pixels, int(depth.removesuffix("L") or 8))
    if name.endswith("a"):
        pixels = _divided_by_alpha(pixels)
    return pixels[:, :, [0, 0, 0, 1]] if len(name) == 2 else pixels


def exif(content: bytes) -> Image.Exif:
    """Return the EXIF data of the primary image, which are not decoded."""
    import pillow_heif

    file = pillow_heif.open_heif(BytesIO(content))
    data, found = file[file.primary_index].info.get("exif"), Image.Exif()
    found.load(data if isinstance(data, bytes) else b"")
    return found


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return pixels whose colors are multiplied by alpha as pixels whose colors are not."""
    alpha = pixels[:, :, -1:].astype(np.float32)
    colors = np.rint(pixels[:, :, :-1] * (255 / np.maximum(alpha, 1)))
    return np.concatenate([np.minimum(colors, 255).astype(np.uint8), pixels[:, :, -1:]], axis=2)
