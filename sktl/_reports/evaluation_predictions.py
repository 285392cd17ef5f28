"""Predictions for the images of an evaluation that can be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from sktl._images.samples import FileSample, Sample
from sktl.exceptions import ImageFailure, InvalidImageError

Values = TypeVar("Values")


def taken(X: Any, rows: np.ndarray) -> Any:
    """Return some images of `X`, in a container of its kind."""
    if len(rows) == len(X):
        return X
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return [X[row] for row in rows.tolist()] if not hasattr(X, "__array__") else X[rows]


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
    """Return a name for each image: the path of a file below the folder that all files share, or the position in `X`.

    The shared folder is left out, because it says more about a computer than about an image.
    """
    paths = [os.path.abspath(sample.path) for sample in samples if isinstance(sample, FileSample)]
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    except ValueError:  # files on several drives of Windows
        folder = ""
    return tuple(
        os.path.relpath(os.path.abspath(sample.path), folder or None) if isinstance(sample, FileSample) else f"X[{i}]"
        for i, sample in enumerate(samples)
    )
