"""The deterministic way from an RGB image of any size to the fixed-size input of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Shrinking by a factor of four or more first averages whole blocks of pixels, leaving at least twice the target size.
_REDUCING_GAP = 2.0


@dataclass(frozen=True)
class Preprocessing:
    """What pretrained weights expect of their input: resize, centre crop, scale to [0, 1], normalise.

    Called with an RGB `PIL.Image.Image` it returns the network's input, a float32 tensor of shape (3, H, W).

    Parameters
    ----------
    resize : int or (int, int)
        Pixels of the shorter side after resizing, which keeps the aspect ratio; a pair (height, width) squashes.
    crop : (int, int)
        Height and width of the centre crop in pixels, at most those after resizing.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"}, default="bilinear"
        Filter of the resize, always with antialiasing when shrinking.
    mean, std : (float, float, float)
        Per channel, subtracted and divided by after scaling to [0, 1]. Default: ImageNet's.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self.normalize(torch.from_numpy(self.pixels(image)[None].copy()))[0]

    def with_image_size(self, image_size: int) -> Preprocessing:
        """Return the same preprocessing for another crop, the part of the image that is seen unchanged.

        Parameters
        ----------
        image_size : int
            Height and width of the new crop in pixels.

        Returns
        -------
        preprocessing : Preprocessing
            A new one.
        """
        height, width = self.crop
        if isinstance(self.resize, int):
            resize: int | tuple[int, int] = max(image_size, round(self.resize * image_size / min(height, width)))
        else:
            resize = (round(self.resize[0] * image_size / height), round(self.resize[1] * image_size / width))
        return replace(self, resize=resize, crop=(image_size, image_size))

    def resized_shape(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of an image after the resize.

        Parameters
        ----------
        width, height : int
            Of the image, in pixels.

        Returns
        -------
        width, height : int
            After the resize, before the crop.
        """
        if not isinstance(self.resize, int):
            return self.resize[1], self.resize[0]
        short, long = sorted((width, height))
        other = int(self.resize * long / short)
        return (self.resize, other) if width <= height else (other, self.resize)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize and crop an RGB image to uint8 pixels of shape (H, W, 3).

        Only the part that the crop keeps is resized, so that a very long image costs no more than a square one.

        Parameters
        ----------
        image : PIL.Image.Image
            In mode RGB, of any size.

        Returns
        -------
        pixels : uint8 ndarray of shape (H, W, 3)
            Perhaps a view that cannot be written to.
        """
        height, width = self.crop
        box = self.seen_box(*image.size)
        if image.size == self.resized_shape(*image.size):
            return np.asarray(image.crop(box))
        return np.asarray(self.resample(image, (width, height), box))

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return what the crop keeps of an image.

        Parameters
        ----------
        width, height : int
            Of the image, in pixels.

        Returns
        -------
        left, top, right, bottom : float
            In pixels of the image.
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
            In mode RGB.
        size : (int, int)
            Width and height of the result in pixels.
        box : (float, float, float, float)
            Left, top, right and bottom of the part, in pixels of `image`.

        Returns
        -------
        image : PIL.Image.Image
            A new one.
        """
        return image.resize(size, Image.Resampling[self.interpolation.upper()], box, reducing_gap=_REDUCING_GAP)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels into the network's input.

        Parameters
        ----------
        pixels : uint8 tensor of shape (n, H, W, 3)
            On any device.

        Returns
        -------
        images : float32 tensor of shape (n, 3, H, W)
            On the same device, channels last in memory.
        """
        mean = torch.tensor(self.mean, dtype=torch.float32, device=pixels.device) * 255
        scale = 1 / (torch.tensor(self.std, dtype=torch.float32, device=pixels.device) * 255)
        return pixels.to(torch.float32).sub_(mean).mul_(scale).permute(0, 3, 1, 2)
