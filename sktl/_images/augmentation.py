"""Random changes of training images: named recipes or a user's function, determined by seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from sktl._short_text import LONGEST_REASON, error_words, type_of
from sktl._utils.process_errors import raise_process_error
from sktl._utils.random import seeded_everything, seeded_globals
from sktl.exceptions import InvalidParameterError

from .decoding import ImageProblem, array_to_rgb, check_header, decode, pil_to_rgb
from .image_items import CHANNELS, to_array
from .pixel_checks import check_pixels
from .preprocessing import Preprocessing

Transform: TypeAlias = Callable[[Image.Image], Any]

# Part of the key of a view. Change it when the same seed yields another view than before; otherwise caches return
# features of the old view.
VIEWING_RULE = 1
_TRIES = 10
_ASPECT = math.log(4 / 3)


@dataclass(frozen=True)
class RandomChange:
    """A crop of random size, aspect ratio and position, mirrored with probability 1/2, then optionally TrivialAugment.

    Parameters
    ----------
    least_area : float in (0, 1]
        Smallest fraction of the image area that a crop covers. The aspect ratio is between 3/4 and 4/3.
    trivial : bool
        Whether to apply one random operation of TrivialAugment (Müller and Hutter, ICCV 2021), with random strength.
    """

    least_area: float
    trivial: bool = False

    def pixels(self, image: Image.Image, preprocessing: Preprocessing, seed: np.random.SeedSequence) -> np.ndarray:
        from torchvision.transforms import v2  # slow to import, and not needed to train on cached features

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
        """Draw a crop (left, top, width, height). After ten crops that do not fit, return the largest center square."""
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
    """A user's function from a PIL image to an image. The result is resized if it does not have the network's size."""

    function: Transform

    def pixels(self, image: Image.Image, preprocessing: Preprocessing, seed: np.random.SeedSequence) -> np.ndarray:
        with seeded_everything(int(seed.generate_state(1)[0])):
            try:
                changed = self.function(image)
            except Exception as error:  # a user's function may raise anything
                raise_process_error(error)
                words, size = error_words(error, LONGEST_REASON), " x ".join(map(str, image.size))
                raise InvalidParameterError(f"augmentation failed on an image of {size} pixels: {words}") from error
        rgb = _as_rgb(changed)
        height, width = preprocessing.crop
        return np.asarray(rgb) if rgb.size == (width, height) else preprocessing.pixels(rgb)


def _as_rgb(changed: Any) -> Image.Image:
    """Return what a user's function returned as an RGB image; raise `InvalidParameterError` if it is not an image."""
    try:
        if isinstance(changed, Image.Image):
            check_header(changed)
            return pil_to_rgb(changed)
        if isinstance(changed, torch.Tensor | np.ndarray):
            return _from_array(to_array(changed), is_channels_first=isinstance(changed, torch.Tensor))
        found = type_of(changed)
    except ImageProblem as problem:  # its advice is for images of `X`
        found = f"{type_of(changed)} that {str(problem).partition(';')[0]}"
    raise InvalidParameterError(
        f"augmentation returned {found}; it must return a PIL image, an array (H, W, 3) or a tensor (3, H, W), uint8 "
        "or floats in [0, 1]. Leave out Normalize, because sktl normalizes images itself."
    )


def _from_array(array: np.ndarray, is_channels_first: bool) -> Image.Image:
    image = array.transpose(1, 2, 0) if is_channels_first and array.ndim == 3 else array
    if image.ndim != 2 and image.shape[2:] not in [(n,) for n in CHANNELS]:
        raise ImageProblem(f"has shape {array.shape}")
    check_pixels(image)
    return Image.fromarray(array_to_rgb(image))


Change: TypeAlias = RandomChange | CustomTransform


def changed_pixels(
    content: bytes | np.ndarray, change: Change, preprocessing: Preprocessing, seed: np.random.SeedSequence
) -> np.ndarray:
    """Decode the content of a sample and change it. Return uint8 pixels (H, W, 3) as the network sees them."""
    # A crop may cover a small part of the image, so JPEG files that are decoded at reduced scale need twice the
    # resolution.
    larger = preprocessing.with_image_size(2 * max(preprocessing.crop))
    return change.pixels(decode(content, larger), preprocessing, seed)


@dataclass(frozen=True)
class View:
    """One fixed random view of each image, determined by a seed and the content of the image.

    Parameters
    ----------
    change : Change
    seed : int
    number : int
        Number of the view, if there are several for each image.
    """

    change: Change
    seed: int
    number: int

    @property
    def known(self) -> bool:
        """Whether the change is fully described by its parameters, so that its results can be cached."""
        return isinstance(self.change, RandomChange)

    def key(self, content_key: bytes) -> bytes:
        """Return a key that identifies the view of an image."""
        return hashlib.sha256(repr((self, VIEWING_RULE, np.__version__)).encode() + content_key).digest()

    def pixels(self, content: bytes | np.ndarray, content_key: bytes, preprocessing: Preprocessing) -> np.ndarray:
        """Return the pixels of the view, as uint8 of shape (H, W, 3)."""
        seed = np.random.SeedSequence((self.seed, self.number, *np.frombuffer(content_key, np.uint32)))
        return changed_pixels(content, self.change, preprocessing, seed)


AUGMENTATIONS = {
    "light": RandomChange(0.6),
    "strong": RandomChange(0.2),
    "trivial": RandomChange(0.35, trivial=True),
}


def resolve_augmentation(augmentation: str | Transform | None) -> Change | None:
    """Return the change for an `augmentation` parameter other than "auto"."""
    if augmentation is None:
        return None
    return AUGMENTATIONS[augmentation] if isinstance(augmentation, str) else CustomTransform(augmentation)
