"""Check that numbers are pixels: uint8, or floats in [0, 1]; warn of pixels that probably mean something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning

from .pixel_advice import NUMPY, ROUNDING, Numbers, Words, spanned
from .problems import ImageProblem

# A few images may well be dark, or transparent.
_FEWEST_ALIKE = 8
_OPAQUE = 0.99
# Share of pixels. Pictures with transparency are mostly opaque; of a channel divided by its maximum, one pixel is.
_LEAST_OPAQUE = 0.01


class RangeProblem(ImageProblem):
    """Numbers that are not valid pixels.

    Parameters
    ----------
    numbers : Numbers
        The numbers of this image.
    words : Words
        Words for the advice.
    whole : Numbers or None
        The numbers of all such images of `X`, on which the advice is based; None if only this image is known.
    """

    def __init__(self, numbers: Numbers, words: Words, whole: Numbers | None = None):
        super().__init__(numbers.describe() + words.advise(whole or numbers))
        self.numbers = numbers
        self.words = words

    def among(self, problems: Sequence[RangeProblem]) -> RangeProblem:
        """Return the same problem with advice that fits all images of the same kind."""
        parts = [problem.numbers for problem in problems if problem.numbers.are_floats == self.numbers.are_floats]
        return RangeProblem(self.numbers, self.words, spanned(parts))


def check_pixels(array: np.ndarray, words: Words = NUMPY) -> None:
    """Raise `ImageProblem` unless an array contains uint8, or finite floats in [0, 1]. `words` are for the advice."""
    if array.size == 0:
        raise ImageProblem(f"has no pixels: shape {array.shape}")
    if array.dtype == np.uint8:
        return
    if array.dtype == bool:
        raise ImageProblem(words.explain(f"has dtype bool; for black and white pass {words.as_float}"))
    if array.dtype.kind == "O":
        advice = f"has dtype object; pass uint8, or floats in [0, 1]: {words.as_uint8} or {words.as_float}"
        raise ImageProblem(words.explain(advice))
    if array.dtype.kind not in "iuf":
        name = "a structured dtype" if array.dtype.kind == "V" else f"dtype {array.dtype}"
        # scikit-learn's checks look for these words, as for those about arrays without rows or columns.
        known = " (Complex data not supported)" if array.dtype.kind == "c" else ""
        raise ImageProblem(f"has {name}; pass uint8, or floats in [0, 1]{known}")
    low, high = float(array.min()), float(array.max())  # large long doubles become infinite, and are refused below
    if not np.isfinite(low) or not np.isfinite(high):
        found = "NaN" if np.isnan(low) or np.isnan(high) else "infinity"
        gaps = f"; if NaN marks pixels without data, make them black: pass {words.filled}"
        advice = words.explain(gaps) if found == "NaN" else ""
        raise ImageProblem(f"contains {found}; every pixel must be a finite number{advice}")
    numbers = Numbers(low, high, array.dtype, above=low)
    if not numbers.is_pixels:
        above = array.min(where=array > array.min(), initial=array.max())
        raise RangeProblem(replace(numbers, above=float(above)), words)


def warn_of_doubtful_pixels(images: Sequence[np.ndarray], words: Words, first_three: str) -> None:
    """Warn if all images are black, or transparent, as if their numbers meant something else.

    Mostly, only the first images are searched.

    Parameters
    ----------
    images : sequence of arrays
        Valid pixels, of shape (H, W) or (H, W, C).
    words : Words
        Words for the advice.
    first_three : str
        Expression of the first three channels.
    """
    if len(images) < _FEWEST_ALIKE:
        return
    _warn_of_black(images, words)
    _warn_of_transparency(images, first_three)


def _warn_of_black(images: Sequence[np.ndarray], words: Words) -> None:
    """Warn if all colors are black, but not 0, as if another value were white."""
    if any(_colors(image).max() > _darkest(image) for image in images):
        return
    if not any(_colors(image).any() for image in images):
        return
    if images[0].dtype == np.uint8:
        found = f"0 or 1, but 255 is white in uint8, so all images are black. If 1 is white, pass {words.as_float}"
    else:
        found = "at most 1 / 255, but 1 is white, so all images are black. If they were divided twice, pass x * 255"
    warn(f"All numbers of X are {words.explain(found)}.", InputWarning)


def _warn_of_transparency(images: Sequence[np.ndarray], first_three: str) -> None:
    """Warn if hardly any pixel is opaque, as if the fourth channel were not transparency."""
    if any(image.shape[2:] != (4,) for image in images):
        return
    n_pixels, n_opaque, highest = sum(image[..., 3].size for image in images), 0, 0.0
    for image in images:
        n_opaque += int((image[..., 3] >= _OPAQUE * _white(image)).sum())
        if n_opaque > _LEAST_OPAQUE * n_pixels:
            return
        highest = max(highest, float(image[..., 3].max()))
    white = _white(images[0])
    mask = " If it is a mask of 0 and 1, multiply it by 255." if white == 255 and highest == 1 else ""
    few = f"only {n_opaque} of {n_pixels} pixels are opaque" if n_opaque else "no pixel is opaque"
    warn(
        f"The fourth channel of X is taken as transparency, but {few}: its largest value is "
        f"{highest:.4g}, and {white} is opaque. If it is not transparency, pass {first_three}, or three channels of "
        f"your choice.{mask}",
        InputWarning,
    )


def _colors(image: np.ndarray) -> np.ndarray:
    return image[..., :3] if image.ndim == 3 else image


def _white(image: np.ndarray) -> int:
    return 255 if image.dtype == np.uint8 else 1


def _darkest(image: np.ndarray) -> float:
    return 1 if image.dtype == np.uint8 else 1 / 255 + ROUNDING
