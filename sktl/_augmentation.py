"""Random changes of training images: named recipes, or a function of the user's, each draw decided by a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from ._pixels import ImageProblem, array_to_rgb, check_pixels, pil_to_rgb
from ._preprocessing import Preprocessing
from ._torch import seeded_everything, seeded_globals

Transform: TypeAlias = Callable[[Image.Image], Any]

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
class UserChange:
    """A function of the user's from a PIL image to an image; what has not the network's size yet is resized."""

    function: Transform

    def pixels(self, image: Image.Image, preprocessing: Preprocessing, seed: np.random.SeedSequence) -> np.ndarray:
        with seeded_everything(int(seed.generate_state(1)[0])):
            try:
                changed = self.function(image)
            except Exception as error:  # whatever a function of the user's raises
                raise ImageProblem(f"augmentation failed on it: {type(error).__name__}: {error}") from error
        rgb = _as_rgb(changed)
        height, width = preprocessing.crop
        return np.asarray(rgb) if rgb.size == (width, height) else preprocessing.pixels(rgb)


def _as_rgb(changed: Any) -> Image.Image:
    if isinstance(changed, Image.Image):
        return pil_to_rgb(changed)
    if isinstance(changed, torch.Tensor):
        changed = changed.detach().cpu().numpy()
        changed = changed.transpose(1, 2, 0) if changed.ndim == 3 else changed
    if isinstance(changed, np.ndarray):
        check_pixels(changed)
        return Image.fromarray(array_to_rgb(changed))
    raise ImageProblem(
        f"augmentation returned a {type(changed).__name__}; it must return a PIL image, an array (H, W, 3) or a tensor "
        "(3, H, W), uint8 or floats in [0, 1], not normalised"
    )


Change: TypeAlias = RandomChange | UserChange

AUGMENTATIONS = {
    "light": RandomChange(0.6),
    "strong": RandomChange(0.2),
    "trivial": RandomChange(0.6, trivial=True),
}


def resolve_augmentation(augmentation: str | Transform | None) -> Change | None:
    """Return the change that an `augmentation` parameter, not "auto", names."""
    if augmentation is None:
        return None
    return AUGMENTATIONS[augmentation] if isinstance(augmentation, str) else UserChange(augmentation)
