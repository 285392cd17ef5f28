"""Images for people to look at: upright RGB of a bounded size, never cropped or normalized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl.exceptions import ImageFailure, InvalidImageError

T = TypeVar("T")


def picture(content: bytes | np.ndarray, side: int) -> np.ndarray:
    """Return the pixels of a sample as uint8 of shape (H, W, 3), with a longer side of at most `side`."""
    image = decode(content, Preprocessing(side, (side, side)))
    image.thumbnail((side, side), reducing_gap=2.0)
    return np.asarray(image)


def read_each(samples: Sequence[Sample], positions: Iterable[int], make: Callable[[bytes | np.ndarray], T]) -> list[T]:
    """Return the results of `make` for the contents of some samples.

    Raises
    ------
    InvalidImageError
        If samples cannot be read or decoded; the error lists them.
    """
    made, failures = [], []
    for position in positions:
        sample = samples[position]
        try:
            made.append(make(sample.read()))
        except ImageProblem as problem:
            failures.append(ImageFailure(position, sample.name, str(problem)))
    if failures:
        raise InvalidImageError(failures)
    return made


def read_pictures(samples: Sequence[Sample], positions: Iterable[int], side: int) -> list[np.ndarray]:
    """Return the pictures of some samples."""
    return read_each(samples, positions, lambda content: picture(content, side))
