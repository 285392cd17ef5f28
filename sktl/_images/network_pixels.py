"""Convert the content of a sample to the pixels that a network receives, in one function for all callers."""

from __future__ import annotations

import numpy as np

from sktl.exceptions import DeviceMemoryError

from .decoding import decode
from .preprocessing import Preprocessing
from .problems import ImageProblem


def network_pixels(content: bytes | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Decode the content of a sample to the pixels that a network receives, uint8 of shape (H, W, 3), unchanged.

    The check of images before a fit, the pass, and exported models call this function, so they agree.

    Raises
    ------
    ImageProblem
        If the content is not an image, or the image cannot be resized.
    DeviceMemoryError
        If there is not enough memory for an image of the network's input size.
    """
    image = decode(content, preprocessing)
    try:
        return preprocessing.pixels(image)
    except (MemoryError, OverflowError) as error:  # sizes beyond 31 bits overflow before memory is allocated
        height, width = preprocessing.crop
        raise DeviceMemoryError(
            f"There is not enough memory to resize an image to {width} x {height} pixels; pass a smaller image_size, "
            "or free memory."
        ) from error
    except ValueError as error:
        width, height = image.size
        raise ImageProblem(f"has {width} x {height} pixels, which cannot be resized: {error}; crop it") from error
