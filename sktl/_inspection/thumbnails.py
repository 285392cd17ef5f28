"""Images for people to look at: upright RGB of a bounded size, never cropped or normalized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample, as_samples
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


def samples_for(estimator: Any, X: Any, image_shape: Sequence[int] | None = None) -> list[Sample]:
    """Return the samples of an `X` for an estimator, or for a search or pipeline that contains one of ours."""
    shape = _image_shape(estimator) if image_shape is None else image_shape
    return as_samples(X, shape)


def innermost(estimator: Any) -> Any:
    """Return the last step of the best estimator, or the estimator itself."""
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = getattr(inner, "steps", None)
    return innermost(steps[-1][1]) if steps else inner


def _image_shape(estimator: Any) -> Sequence[int] | None:
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = [step for _, step in getattr(inner, "steps", [])]
    return next(filter(None, map(_image_shape, steps)), None) if steps else getattr(inner, "image_shape", None)
