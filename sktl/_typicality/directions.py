"""Directions of features in 8 bits, and their cosines, which are bit-identical for any batch and number of threads."""

from __future__ import annotations

import numpy as np

_LARGEST = 127


def directions_of(features: np.ndarray) -> np.ndarray:
    """Return the directions of features, int8 of shape (n_samples, n_features).

    Training images and new images are rounded in the same way, because scores of both are compared.
    """
    largest = np.maximum(np.abs(features).max(axis=1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    return np.rint(features / largest * _LARGEST).astype(np.int8)


def cosines(directions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the cosines between two sets of directions, float64 of shape (n_directions, n_others)."""
    # Products of integers are exact in float64, whatever the order in which a BLAS sums them.
    left, right = directions.astype(np.float64), others.astype(np.float64)
    return left @ right.T / (_norms(left)[:, None] * _norms(right))


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum((rows * rows).sum(axis=1), 1.0))
