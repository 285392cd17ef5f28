"""Convert an RGB image of any size to the fixed-size input of a network, without randomness."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sktl._short_text import shown_value

if TYPE_CHECKING:  # machines that run exported models have no torch
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# The largest size in a file of a model. With larger ones, a malicious file could exhaust the memory.
MOST_PIXELS = 2_048
# Shrinking by a factor of four or more first averages whole blocks of pixels, down to at least twice the target size.
# This is faster.
_REDUCING_GAP = 2.0


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing for pretrained weights: resize, center crop, scale to [0, 1], normalize.

    Calling it with an RGB `PIL.Image.Image` returns the input of the network, a float32 tensor of shape (3, H, W).

    Parameters
    ----------
    resize : int or (int, int)
        Length of the shorter side after resizing, in pixels; the aspect ratio is preserved. A pair (height, width)
        resizes to exactly this size, without preserving the aspect ratio.
    crop : (int, int)
        Height and width of the center crop in pixels, at most the size after resizing.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"}, default="bilinear"
        Resampling filter. Antialiasing is always used when the image shrinks.
    mean, std : (float, float, float)
        Mean and standard deviation of each channel, for pixels in [0, 1]. The default is ImageNet's.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, image: Image.Image) -> torch.Tensor:
        import torch

        return self.normalize(torch.from_numpy(self.pixels(image)[None].copy()))[0]

    def with_image_size(self, image_size: int) -> Preprocessing:
        """Return the same preprocessing with another crop size, which shows the same part of the image.

        Parameters
        ----------
        image_size : int
            Height and width of the new crop in pixels.

        Returns
        -------
        preprocessing : Preprocessing
            A new object.
        """
        height, width = self.crop
        if isinstance(self.resize, int):
            resize: int | tuple[int, int] = max(image_size, round(self.resize * image_size / min(height, width)))
        else:
            resize = (round(self.resize[0] * image_size / height), round(self.resize[1] * image_size / width))
        return replace(self, resize=resize, crop=(image_size, image_size))

    def resized_shape(self, width: int, height: int) -> tuple[int, int]:
        """Return the size to which an image is resized.

        Parameters
        ----------
        width, height : int
            Size of the image, in pixels.

        Returns
        -------
        width, height : int
            Size after resizing and before cropping, in pixels.
        """
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        short, long = sorted((width, height))
        other = int(self.resize * long / short)
        return (self.resize, other) if width <= height else (other, self.resize)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB image to uint8 pixels of shape (H, W, 3).

        Only the part inside the crop is resized, so a very elongated image costs no more than a square one.

        Parameters
        ----------
        image : PIL.Image.Image
            Image of any size, in mode RGB.

        Returns
        -------
        pixels : uint8 ndarray of shape (H, W, 3)
            The array may be a read-only view.
        """
        height, width = self.crop
        box = self.seen_box(*image.size)
        if image.size == self.resized_shape(*image.size):
            return np.asarray(image.crop(box))
        return np.asarray(self.resample(image, (width, height), box))

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that is inside the crop.

        Parameters
        ----------
        width, height : int
            Size of the image, in pixels.

        Returns
        -------
        left, top, right, bottom : float
            Edges of this part, in pixels of the image.
        """
        resized_width, resized_height = self.resized_shape(width, height)
        crop_height, crop_width = self.crop
        left, top = round((resized_width - crop_width) / 2), round((resized_height - crop_height) / 2)
        x, y = width / resized_width, height / resized_height
        return left * x, top * y, (left + crop_width) * x, (top + crop_height) * y

    def resample(
        self, image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
    ) -> Image.Image:
        """Resize a part of an image.

        Parameters
        ----------
        image : PIL.Image.Image
            Image in mode RGB.
        size : (int, int)
            Width and height of the result, in pixels.
        box : (float, float, float, float)
            Edges of the part (left, top, right, bottom), in pixels of `image`.

        Returns
        -------
        image : PIL.Image.Image
            A new image.
        """
        return image.resize(size, Image.Resampling[self.interpolation.upper()], box, reducing_gap=_REDUCING_GAP)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert pixels to the input of the network.

        Parameters
        ----------
        pixels : uint8 tensor of shape (n, H, W, 3)
            Pixels on any device.

        Returns
        -------
        images : float32 tensor of shape (n, 3, H, W)
            Normalized images on the same device, channels last in memory.
        """
        import torch

        mean = torch.tensor(self.mean, dtype=torch.float32, device=pixels.device) * 255
        scale = 1 / (torch.tensor(self.std, dtype=torch.float32, device=pixels.device) * 255)
        return pixels.to(torch.float32).sub_(mean).mul_(scale).permute(0, 3, 1, 2)


def preprocessing_fault(found: Preprocessing) -> str | None:
    """Return why a preprocessing from a file, whose fields have the right types, is invalid; None if it is valid."""
    resize, crop = found.resize, found.crop
    sizes = resize if isinstance(resize, tuple) else (resize,)
    if not all(0 < size <= MOST_PIXELS for size in (*sizes, *crop)):
        return f"resize={shown_value(resize)} or crop={shown_value(crop)} is not a size of 1 to {MOST_PIXELS} pixels"
    # If only the shorter side is resized, a crop that is not square fits into images of some shapes.
    smaller = crop if isinstance(resize, tuple) else (min(crop),)
    if any(size > limit for size, limit in zip(smaller, sizes, strict=True)):
        return f"crop={crop} is larger than resize={resize}"
    if found.interpolation.upper() not in Image.Resampling.__members__:
        return f"interpolation={shown_value(found.interpolation)} is not a filter"
    if not all(map(math.isfinite, (*found.mean, *found.std))) or min(found.std) <= 0:
        return f"mean={found.mean} or std={found.std} is not finite, or std is not above 0"
    return None
