"""Images with outlines and detail like photos, and what happens to copies of photos."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

from sktl._audit.thumbnails import Thumbnail, thumbnail


def photograph(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Return an image of random shapes at all scales; images of different seeds have nothing in common."""
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = np.zeros((height, width, 3))
    for n_cells in (3, 6, 12, 25, 50):
        cells = Image.fromarray(rng.integers(0, 256, (n_cells, n_cells, 3), dtype=np.uint8))
        pixels += np.asarray(cells.resize(size, Image.Resampling.BICUBIC)) / n_cells**0.4
    low, high = pixels.min(), pixels.max()
    return Image.fromarray(((pixels - low) / (high - low) * 255).astype(np.uint8))


def recompressed(image: Image.Image, quality: int) -> bytes:
    """Return the bytes of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def cropped(image: Image.Image, share: float, place: tuple[float, float] = (0.3, 0.8)) -> Image.Image:
    """Return a part of an image; its sides have this share of the image's sides."""
    width, height = image.size
    left, top = place[0] * (1 - share) * width, place[1] * (1 - share) * height
    return image.crop((round(left), round(top), round(left + share * width), round(top + share * height)))


def cropped_along_one_side(image: Image.Image, width: float, height: float) -> Image.Image:
    """Return the center of an image, with these shares of its sides."""
    left, top = (1 - width) / 2 * image.width, (1 - height) / 2 * image.height
    return image.crop((round(left), round(top), round(image.width - left), round(image.height - top)))


def thumbnails_of(*images: Image.Image | bytes) -> list[Thumbnail]:
    """Return the thumbnails of images or files."""
    contents = [image if isinstance(image, bytes) else np.asarray(image.convert("RGB")) for image in images]
    return [thumbnail(content) for content in contents]


def gray_of(*images: Image.Image | bytes) -> np.ndarray:
    """Return the gray thumbnails of images or files."""
    return np.stack([kept.gray for kept in thumbnails_of(*images)])


def random_features(n_images: int) -> np.ndarray:
    """Return features that say nothing about images."""
    return np.random.default_rng(0).random((n_images, 5), dtype=np.float32)


TRANSPOSE = Image.Transpose
COPIES = {
    "recompressed": lambda image: recompressed(image, 40),
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "squeezed": lambda image: image.resize((96, 96)),
    "cropped to 90 %": lambda image: cropped(image, 0.9),
    "cropped to 75 %": lambda image: cropped(image, 0.75),
    "cropped to a square": lambda image: cropped_along_one_side(image, 0.75, 1),
    "cropped to 16:9": lambda image: cropped_along_one_side(image, 1, 0.75),
    "mirrored": lambda image: image.transpose(TRANSPOSE.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(TRANSPOSE.ROTATE_180),
    "turned left": lambda image: image.transpose(TRANSPOSE.ROTATE_90),
    "turned right": lambda image: image.transpose(TRANSPOSE.ROTATE_270),
    "transposed": lambda image: image.transpose(TRANSPOSE.TRANSPOSE),
    "transversed": lambda image: image.transpose(TRANSPOSE.TRANSVERSE),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "gray": lambda image: image.convert("L"),
    "mirrored and cropped": lambda image: cropped(image.transpose(TRANSPOSE.FLIP_LEFT_RIGHT), 0.9),
}
