"""Whether the images of an evaluation are like the training images, by their typicality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktl._estimators.wrapped_estimators import innermost
from sktl._short_text import type_of
from sktl.exceptions import TypicalityError
from sktl.runtime.models import PredictingModel

from .confidence_intervals import Rate

# Of images from where the training images came from, about this share has a typicality of at most this.
LOW = 0.05
# The lowest possible value is 1 / (n_references + 1). With fewer references, it is above `LOW`.
_FEWEST_REFERENCES = 19
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
    n_references : int or None
        Number of training images with which images are compared. None if the model does not tell, as exported models.
    """

    p_values: np.ndarray
    low: Rate
    known: np.ndarray | None
    n_references: int | None = None

    @classmethod
    def of(
        cls,
        p_values: np.ndarray,
        groups: np.ndarray | None = None,
        known: np.ndarray | None = None,
        n_references: int | None = None,
    ) -> Self:
        """Return the figures for p-values."""
        return cls(p_values, Rate.of(p_values <= LOW, groups), known, n_references)

    @property
    def histogram(self) -> np.ndarray:
        """Number of images in twenty ranges of equal width, which include their upper limits."""
        bins = np.ceil(self.p_values * _N_BINS).astype(np.int64).clip(1, _N_BINS) - 1
        counts: np.ndarray = np.bincount(bins, minlength=_N_BINS)
        return counts

    def least(self) -> np.ndarray:
        """Return the rows of all images, the least typical first."""
        return np.argsort(self.p_values, kind="stable")


def too_few_references(n_references: int | None) -> str:
    """Return why no image can have a low typicality; empty if images can, or the number is unknown."""
    if n_references is None or n_references >= _FEWEST_REFERENCES:
        return ""
    return (
        f"The model cannot tell whether the images are like its training images: a typicality of at most {LOW} takes "
        f"at least {_FEWEST_REFERENCES} training images, and the model has {n_references}."
    )


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
        return TypicalityFigures.of(p_values, groups, known, inner._typicality.n_references)
    except TypicalityError as error:
        return str(error)
