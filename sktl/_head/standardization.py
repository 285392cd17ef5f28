"""The affine map that gives features mean 0 and similar scales, applied to features or folded into a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

_PIECE = 64


def row_blocks(n_rows: int, size: int = 1024) -> Iterator[slice]:
    """Yield slices of at most `size` rows."""
    return (slice(start, start + size) for start in range(0, n_rows, size))


@dataclass(frozen=True)
class Standardization:
    """The affine map that gives features mean 0 and similar scales.

    Parameters
    ----------
    mean, scale : float64 tensor of shape (n_features,)
    """

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, features: np.ndarray, weights: np.ndarray, shrinkage: float, sizes: Sequence[int]) -> Standardization:
        """Return the map for weighted samples.

        A scale is the square root of the sum of the variance and `shrinkage` times the mean variance.

        Parameters
        ----------
        features : float32 array of shape (n_samples, n_features), or ImageFeatures
        weights : float64 array of shape (n_samples,)
        shrinkage : float
        sizes : sequence of int
            Sizes of the blocks of features over which the mean variance is computed.
        """
        shares = weights / weights.sum()
        # Two passes over blocks of rows keep a float64 copy in the processor's cache. NumPy's sums, unlike a BLAS, give
        # the same bits for any number of cores.
        mean, variance = np.zeros(features.shape[1]), np.zeros(features.shape[1])
        for rows in row_blocks(len(features), _PIECE):
            mean += np.einsum("n,nd->d", shares[rows], np.asarray(features[rows]).astype(np.float64))
        for rows in row_blocks(len(features), _PIECE):
            variance += np.einsum("n,nd->d", shares[rows], (np.asarray(features[rows]) - mean) ** 2)
        # Some features hardly vary over a few training images, but vary over other images. Without a floor, these
        # features would dominate.
        floors = [np.full(len(block), block.mean()) for block in np.split(variance, np.cumsum(sizes)[:-1])]
        scale = np.sqrt(variance + shrinkage * np.concatenate(floors))
        constant = scale <= 10 * np.finfo(np.float32).eps * np.abs(mean)
        return cls(torch.from_numpy(mean), torch.from_numpy(np.where(constant, 1.0, scale)))

    @classmethod
    def identity(cls, n_features: int) -> Standardization:
        """Return the map that changes nothing."""
        return cls(torch.zeros(n_features, dtype=torch.float64), torch.ones(n_features, dtype=torch.float64))

    def fold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert a layer for standardized features to an equivalent layer for raw features."""
        raw = weight / self.scale
        return raw, bias - (raw * self.mean).sum(dim=1)

    def unfold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert a layer for raw features to an equivalent layer for standardized features."""
        return weight * self.scale, bias + (weight * self.mean).sum(dim=1)


def standardized(features: np.ndarray, standardization: Standardization, dtype: torch.dtype) -> torch.Tensor:
    """Return standardized features."""
    raw = torch.from_numpy(features)
    found = torch.empty(raw.shape, dtype=dtype)
    # Each piece fits into the processor's cache. Copies of a large array would spend their time mapping memory.
    for piece, rows in zip(found.split(_PIECE), raw.split(_PIECE), strict=True):
        piece.copy_(rows.sub(standardization.mean).div_(standardization.scale))
    return found
