"""Check weights: one finite weight for each image, and numbers in `class_weight`."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from sktl._short_text import shown_value
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .target_cells import as_numbers


def check_sample_weight(sample_weight: Any, n_samples: int, of: str = "X") -> np.ndarray:
    """Return the weights of samples as a float64 array of shape (n_samples,).

    Raises
    ------
    InvalidInputError
        If they are not one number per image, finite, nonnegative and not all zero.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    name = "sample_weight" if of == "X" else "sample_weight_val"
    weights = as_numbers(sample_weight, name)
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.shape != (n_samples,):
        raise InvalidInputError(
            f"{name} has shape {weights.shape}, but {of} has {n_samples} images: pass shape ({n_samples},)."
        )
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        raise InvalidInputError(f"{name}[{wrong[0]}] is {weights[wrong[0]]}; weights must be finite and not negative.")
    if not weights.any():
        raise InvalidInputError(f"{name} is all zero: Sample weights must contain at least one non-zero number.")
    if not has_mean(weights):
        raise InvalidInputError(f"{name} has numbers up to {weights.max():g}, beyond float64. Scale them to about 1.")
    return weights


def has_mean(weights: np.ndarray) -> bool:
    """Return True if weights can be divided by their mean in float64."""
    with np.errstate(all="ignore"):
        mean = weights.mean()
    return bool(np.isfinite(mean) and mean >= np.finfo(np.float64).tiny)


def as_weight(weight: Any, name: str) -> float:
    """Return a weight in `class_weight` as a float.

    Raises
    ------
    InvalidParameterError
        If it is not a number. `name` is its name in the message.
    """
    if not isinstance(weight, Real | np.bool_):
        raise InvalidParameterError(f"{name} is {shown_value(weight)}; weights are numbers.")
    return float(weight)
