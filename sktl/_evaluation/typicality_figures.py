"""Whether the images of an evaluation are like the training images, by their typicality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktl._estimators.wrapped_estimators import innermost
from sktl._words import type_of
from sktl.exceptions import TypicalityError
from sktl.runtime.base_model import PredictingModel

from .confidence_intervals import Rate

# Of images from where the training images came from, about this share has a typicality of at most this.
LOW = 0.05
_N_BINS = 20


@dataclass(frozen=True, eq=False)
class TypicalityFigures:
    """Typicality of images.

    Parameters
    ----------
    p_values : float64 array of shape (n_images,)
    low : Rate
        Share of values of at most 0.05.
    known : bool array of shape (n_images,) or None
        Which images have the same pixels as training images. Training images that are not among the references of the
        model are not recognized. None if the model recognizes none, as exported models do.
    """

    p_values: np.ndarray
    low: Rate
    known: np.ndarray | None

    @classmethod
    def of(cls, p_values: np.ndarray, groups: np.ndarray | None = None, known: np.ndarray | None = None) -> Self:
        """Return the figures for p-values."""
        return cls(p_values, Rate.of(p_values <= LOW, groups), known)

    @property
    def histogram(self) -> np.ndarray:
        """Number of images in twenty ranges of equal width, which include their upper limits."""
        bins = np.ceil(self.p_values * _N_BINS).astype(np.int64).clip(1, _N_BINS) - 1
        counts: np.ndarray = np.bincount(bins, minlength=_N_BINS)
        return counts

    def least(self) -> np.ndarray:
        """Return the rows of all images, the least typical first."""
        return np.argsort(self.p_values, kind="stable")


def typicality_of(estimator: Any, X: Any, groups: np.ndarray | None) -> TypicalityFigures | str:
    """Return the typicality of images, or the reason why it is unavailable."""
    inner, _ = innermost(estimator)
    if not hasattr(inner, "typicality"):
        return (
            f"The model is {type_of(inner)}, which has no typicality. PretrainedImageClassifier and "
            "PretrainedImageRegressor have it."
        )
    try:
        inner, seen = innermost(estimator, X)
        if isinstance(inner, PredictingModel):
            return TypicalityFigures.of(inner.typicality(seen), groups)
        p_values, known = inner._compare_with_training(seen)
        return TypicalityFigures.of(p_values, groups, known)
    except TypicalityError as error:
        return str(error)
