"""Random changes of training images: named recipes, or a function of the user's, each draw decided by a seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from sktl._utils.random import seeded_everything, seeded_globals

from .containers import to_array
from .decoding import ImageProblem, array_to_rgb, check_header, check_pixels, decode, pil_to_rgb
from .preprocessing import Preprocessing

Transform: TypeAlias = Callable[[Image.Image], Any]

# Enters the key of a view: change it when the same seed gives another view than before.
VIEWING_RULE = 1
_TRIES = 10
_ASPECT = math.log(4 / 3)


@dataclass(frozen=True)
class RandomChange:
    """A crop of random size, aspect ratio and place, mirrored every other time, and perhaps one TrivialAugment.

    Parameters
    ----------
    least_area : float in (0, 1]
        The smallest share of the image's area that a crop keeps; the aspect ratio is within 3/4 and 4/3.
    trivial : bool
        Whether one operation of TrivialAugment (Müller and Hutter, ICCV 2021) follows, of random kind and strength.
    """

    least_area: float
    trivial: bool = False

    def pixels(self, image: Image.Image, preprocessing: Preprocessing, seed: np.random.SeedSequence) -> np.ndarray:
        from torchvision.transforms import v2  # a process that trains on cached features does without

        rng = np.random.default_rng(seed)
        left, top, width, height = self._box(image.size, rng)
        mode = v2.InterpolationMode(preprocessing.interpolation)
        image = v2.functional.resized_crop(image, top, left, height, width, list(preprocessing.crop), mode)
        if rng.random() < 0.5:
            image = v2.functional.horizontal_flip(image)
        if self.trivial:
            with seeded_globals(int(rng.integers(2**31))):
                image = v2.TrivialAugmentWide()(image)
        return np.asarray(image)

    def _box(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw a crop (left, top, width, height); the largest square in the middle if ten tries do not fit."""
        full_width, full_height = size
        for _ in range(_TRIES):
            area = full_width * full_height * rng.uniform(self.least_area, 1)
            aspect = math.exp(rng.uniform(-_ASPECT, _ASPECT))
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < width <= full_width and 0 < height <= full_height:
                left, top = rng.integers(full_width - width + 1), rng.integers(full_height - height + 1)
                return int(left), int(top), width, height
        side = min(size)
        return (full_width - side) // 2, (full_height - side) // 2, side, side


@dataclass(frozen=True)
class CustomTransform:
    """A function of the user's from a PIL image to an image; what has not the network's size yet is resized."""

    function: Transform

    def pixels(self, image: Image.Image, preprocessing: Preprocessing, seed: np.random.SeedSequence) -> np.ndarray:
        with seeded_everything(int(seed.generate_state(1)[0])):
            try:
                changed = self.function(image)
            except MemoryError:
                raise
            except Exception as error:  # whatever a function of the user's raises
                raise ImageProblem(f"augmentation failed on it: {type(error).__name__}: {error}") from error
        rgb = _as_rgb(changed)
        height, width = preprocessing.crop
        return np.asarray(rgb) if rgb.size == (width, height) else preprocessing.pixels(rgb)


def _as_rgb(changed: Any) -> Image.Image:
    if isinstance(changed, Image.Image):
        check_header(changed)
        return pil_to_rgb(changed)
    if isinstance(changed, torch.Tensor | np.ndarray):
        array = to_array(changed)
        array = array.transpose(1, 2, 0) if isinstance(changed, torch.Tensor) and array.ndim == 3 else array
        check_pixels(array)
        return Image.fromarray(array_to_rgb(array))
    raise ImageProblem(
        f"augmentation returned a {type(changed).__name__}; it must return a PIL image, an array (H, W, 3) or a tensor "
        "(3, H, W), uint8 or floats in [0, 1], not normalised"
    )


Change: TypeAlias = RandomChange | CustomTransform


def changed_pixels(
    content: bytes | np.ndarray, change: Change, preprocessing: Preprocessing, seed: np.random.SeedSequence
) -> np.ndarray:
    """Decode the content of a sample and change it: uint8 pixels (H, W, 3) as the network sees them."""
    # A crop may keep a small part of the image: where JPEG files are decoded at reduced scale, keep twice the size.
    larger = preprocessing.with_image_size(2 * max(preprocessing.crop))
    return change.pixels(decode(content, larger), preprocessing, seed)


@dataclass(frozen=True)
class View:
    """One random view of each image, always the same: it follows from a seed and the content of the image.

    Parameters
    ----------
    change : Change
    seed : int
    number : int
        Which of several views it is.
    """

    change: Change
    seed: int
    number: int

    @property
    def known(self) -> bool:
        """Whether the change is known to be the same whenever it has the same parameters."""
        return isinstance(self.change, RandomChange)

    def key(self, content_key: bytes) -> bytes:
        """Return what identifies the view of an image."""
        return hashlib.sha256(repr((self, VIEWING_RULE, np.__version__)).encode() + content_key).digest()

    def pixels(self, content: bytes | np.ndarray, content_key: bytes, preprocessing: Preprocessing) -> np.ndarray:
        """Return the pixels of the view, uint8 of shape (H, W, 3)."""
        seed = np.random.SeedSequence((self.seed, self.number, *np.frombuffer(content_key, np.uint32)))
        return changed_pixels(content, self.change, preprocessing, seed)


AUGMENTATIONS = {
    "light": RandomChange(0.6),
    "strong": RandomChange(0.2),
    "trivial": RandomChange(0.35, trivial=True),
}


def resolve_augmentation(augmentation: str | Transform | None) -> Change | None:
    """Return the change that an `augmentation` parameter, not "auto", names."""
    if augmentation is None:
        return None
    return AUGMENTATIONS[augmentation] if isinstance(augmentation, str) else CustomTransform(augmentation)
