"""Predictions for the images of an evaluation that can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from sktl._images.foreign_types import is_arrow, is_tensor
from sktl._images.lazy_images import LazyImages
from sktl._images.samples import FileSample, Sample
from sktl._utils.paths import common_folder
from sktl.exceptions import ImageFailure, InvalidImageError

Values = TypeVar("Values")


def taken(X: Any, rows: np.ndarray) -> Any:
    """Return some images of `X`, in a container of its kind. Images of other sequences are not read here."""
    if is_tensor(X) and X.is_nested:  # it has neither a length nor rows
        X = X.unbind()
    if np.array_equal(rows, np.arange(len(X))):
        return X
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if is_arrow(X):
        return X.take(rows)
    if isinstance(X, list | tuple):
        return [X[row] for row in rows.tolist()]
    # `LazyImages` of `LazyImages` would lose the features that are known of them.
    selects_rows = hasattr(X, "__array__") or isinstance(X, LazyImages)
    return X[rows] if selects_rows else LazyImages(X)[rows]


def predict_usable(
    predict: Callable[[Any], Values], X: Any, rows: np.ndarray
) -> tuple[Values, np.ndarray, list[ImageFailure]]:
    """Return predictions for the rows of `X` that can be used, these rows, and why the others cannot be used.

    Raises
    ------
    InvalidImageError
        If no image can be used.
    """
    failures: list[ImageFailure] = []
    while True:
        try:
            return predict(taken(X, rows)), rows, sorted(failures)
        except InvalidImageError as error:  # unsupported formats are found first, and unreadable files afterwards
            failures += [failure._replace(position=int(rows[failure.position])) for failure in error.failures]
            rows = np.delete(rows, [failure.position for failure in error.failures])
            if not len(rows):
                raise InvalidImageError(failures) from error


def names_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return a name for each image: its place below the folder that all files share, or the position in `X`.

    The shared folder is left out, because it says more about a computer than about an image.
    """
    places = {
        i: sample.name for i, sample in enumerate(samples) if isinstance(sample, FileSample) or "/" in sample.name
    }
    names = [*places.values()]
    if len(names) == 1:
        places = {i: os.path.basename(name) for i, name in places.items()}
    start = len(common_folder(names))
    return tuple(places[i][start:] if i in places else f"X[{i}]" for i in range(len(samples)))
