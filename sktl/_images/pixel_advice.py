"""Advice for numbers that are not pixels. Following it literally yields pixels that are accepted and correct.

White must be the same for all images of `X`, so advice is based on the numbers of all images. If each image were
divided by its own white value, a dark image would become as bright as the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# Floats barely outside [0, 1], such as MinMaxScaler returns, are accepted: they round to 0 and 255.
ROUNDING = 1e-6
# White values in data that people forget to scale: 8, 10, 12 and 16 bits. A white value is assumed only if at least
# half of it occurs.
_WHITES = (255, 1023, 4095, 65535)
_DIGITS_WHITE = 16  # in sklearn.datasets.load_digits, whose maximum is 16
# Resampling and noise may exceed [0, 1] by this much. Larger values mean another range.
_OVERSHOOT = 0.5
# Images that were centered and divided by a standard deviation have smaller absolute values.
_MOST_STANDARDIZED = 10
# CT values of air are below the minimum of int8. Lower values than those of CT mark pixels without data.
_CT_BELOW, _LEAST_CT = -128, -4096


@dataclass(frozen=True)
class Words:
    """Expressions in which advice describes operations on an array `x`.

    Parameters
    ----------
    as_float, as_uint8 : str
        `x` converted to floats and to uint8.
    clip : str
        Expression that clips to [0, 1], with a placeholder for its argument.
    filled : str
        `x` with zeros instead of NaN.
    meaning : str
        Definition of `x`, if it is not the object that was passed.
    sees_all : bool
        Whether the numbers of all images of `X` are known. For a file or an item of a sequence, only its own numbers
        are known.
    divides_all : bool
        Whether `x` can be divided whatever its dtype. torch does not divide some unsigned integers.
    """

    as_float: str = "x.astype(float)"
    as_uint8: str = "x.astype(np.uint8)"
    clip: str = "np.clip({}, 0, 1)"
    filled: str = "np.nan_to_num(x)"
    meaning: str = ""
    sees_all: bool = True
    divides_all: bool = True

    def advise(self, numbers: Numbers) -> str:
        """Return what to pass instead of numbers in this range."""
        return self.explain(_advice(numbers, self))

    def explain(self, advice: str) -> str:
        """Return advice followed by the definition of `x`."""
        return f"{advice} (x = {self.meaning})" if self.meaning else advice


NUMPY = Words()
OTHERS = Words(meaning="np.asarray(x)")
PIL = Words(meaning="np.asarray(image)", sees_all=False)
FILE = Words(meaning="the pixels of the file", sees_all=False)
TORCH = Words("x.float()", "x.to(torch.uint8)", "({}).clamp(0, 1)", "x.nan_to_num()", divides_all=False)


@dataclass(frozen=True)
class Numbers:
    """The range of the numbers of one or more images.

    Parameters
    ----------
    low, high : float
    dtype : dtype
        Data type in any byte order.
    above : float
        The lowest number above `low`; `low` if there is none.
    """

    low: float
    high: float
    dtype: np.dtype
    above: float

    @property
    def are_floats(self) -> bool:
        """Whether the numbers are floats; otherwise, they are integers."""
        return self.dtype.kind == "f"

    @property
    def are_half(self) -> bool:
        """Whether the numbers are half-precision floats."""
        return self.are_floats and self.dtype.itemsize == 2

    @property
    def have_gaps(self) -> bool:
        """Whether the lowest number seems to mark pixels without data: no other is far below zero."""
        return self.low < _CT_BELOW and self.above > -_OVERSHOOT

    @property
    def is_pixels(self) -> bool:
        """Whether the numbers are floats in [0, 1]."""
        return self.are_floats and self.low >= -ROUNDING and self.high <= 1 + ROUNDING

    def describe(self) -> str:
        """Describe the range in words."""
        if not self.are_floats:
            unknown = "" if self.low >= 0 and self.high <= 255 else ", whose white is unknown,"
            return f"has dtype {self.dtype}{unknown} with values from {_shown(self.low)} to {_shown(self.high)}; "
        values = f"from {_shown(self.low)} to" if self.low < 0 else "up to"
        return f"has values {values} {_shown(self.high)}; floats must lie in [0, 1]: "


def spanned(parts: Sequence[Numbers]) -> Numbers:
    """Return the range of several images with the same dtype."""
    first = next((part for part in parts if part.are_half), parts[0])
    low, high = min(p.low for p in parts), max(p.high for p in parts)
    above = min((value for p in parts for value in (p.low, p.above) if value > low), default=low)
    return replace(first, low=low, high=high, above=above)


def _shown(value: float) -> str:
    """Format a number with enough digits to distinguish it from 1 if the difference exceeds rounding."""
    return f"{value:.7g}"


def _advice(numbers: Numbers, words: Words) -> str:
    if numbers.have_gaps:
        return _gap_advice(numbers, words)
    if not numbers.are_floats:
        return _integer_advice(numbers, words)
    low, high = numbers.low, numbers.high
    # A narrow range around zero was probably centered, and clipping would remove its lower half.
    if low > -_OVERSHOOT and high < 1 + _OVERSHOOT and (high > _OVERSHOOT or low > -0.1):
        return _clip_advice(words, low)
    if low >= 0:
        return _white_advice(numbers, words)
    if low >= -1 - ROUNDING and high <= 1 + ROUNDING:
        return "undo the normalization: pass (x + 1) / 2 if black is -1 and white is 1, or the original images"
    if max(-low, high) <= _MOST_STANDARDIZED:
        return "undo the normalization: pass x * std + mean, or the original images"
    return _window_advice(numbers, words)


def _gap_advice(numbers: Numbers, words: Words) -> str:
    marked = f"if {_shown(numbers.low)} marks pixels without data, make them black: "
    if numbers.are_floats and numbers.high < 1 + _OVERSHOOT:
        return marked + _clip_advice(words, 0)
    scaled = words.clip.format(_quotient(numbers, words, "white"))
    return f"{marked}pass {scaled} with the value of white; scale all images alike"


def _clip_advice(words: Words, low: float) -> str:
    clipped = f"pass {words.clip.format('x')}"
    if words.sees_all:
        return clipped
    if low < -ROUNDING:  # perhaps one of the brighter images, all of which were centered
        return f"{clipped} if black is 0 and white is 1, else undo the normalization of all images"
    return f"{clipped} if white is 1, else divide all images by the value of white"


def _integer_advice(numbers: Numbers, words: Words) -> str:
    low, high = numbers.low, numbers.high
    if low < 0:
        return _window_advice(numbers, words)
    if high > 255:
        return _white_advice(numbers, words)
    if high > 127:
        return f"pass {words.as_uint8}"
    white = {0: 1, 1: 1, _DIGITS_WHITE: _DIGITS_WHITE}.get(int(high))
    return f"pass {words.as_uint8} if white is 255, or {_divided(numbers, words, white)}"


def _white_advice(numbers: Numbers, words: Words) -> str:
    white = next((white for white in _WHITES if numbers.high <= white), 0)
    if words.sees_all and numbers.high == _DIGITS_WHITE:
        white = _DIGITS_WHITE
    explained = white / 2 < numbers.high if words.sees_all else white == numbers.high
    if not white or not explained:
        return f"divide by the value of white, the same for all images: pass {_quotient(numbers, words, 'white')}"
    return f"pass {_divided(numbers, words, white)}; scale all images alike"


def _divided(numbers: Numbers, words: Words, white: int | None) -> str:
    if white is None:
        return f"{_quotient(numbers, words, 'white')} for another value of white"
    return f"{words.as_float if white == 1 else _quotient(numbers, words, str(white))} if white is {white}"


def _quotient(numbers: Numbers, words: Words, divisor: str) -> str:
    exact = (numbers.are_floats or words.divides_all) and not numbers.are_half  # half precision cannot represent 65535
    return f"{'x' if exact else words.as_float} / {divisor}"


def _window_advice(numbers: Numbers, words: Words) -> str:
    # Computed in floats, because differences of small integers overflow.
    scaled = words.clip.format(f"({words.as_float} - black) / (white - black)")
    is_ct = _LEAST_CT <= numbers.low < _CT_BELOW
    ct = ", for a CT a window such as black = -160 and white = 240" if is_ct else ""
    return f"pass {scaled} with the values of black and white{ct}; scale all images alike"
