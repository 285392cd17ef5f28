"""Check that the numbers of an array are pixels: uint8, or finite floats in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .pixel_advice import NUMPY, Numbers, Words, spanned
from .problems import ImageProblem


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
