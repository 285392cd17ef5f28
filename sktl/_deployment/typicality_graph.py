"""The p-values of `typicality` as operations that every runtime has, from the references of an estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from sktl._typicality.typicality import Calibration, Typicality

_LARGEST = 127  # of directions in 8 bits
# Coefficients of the complementary error function, with a relative error of at most 1.2e-7 for all arguments: W. Press
# et al., "Numerical Recipes", second edition, section 6.2.
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
    0.17087277,
)  # fmt: skip


class TypicalityGraph(nn.Module):
    """From the features of images to the p-values that `Typicality` returns, in float32.

    Parameters
    ----------
    typicality : Typicality
    texture : slice
        The columns of the features that are textures.

    Raises
    ------
    TypicalityError
        If there are too few references to compare them with each other.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    weights: torch.Tensor
    scores: torch.Tensor

    def __init__(self, typicality: Typicality, texture: slice):
        super().__init__()
        combination, calibrations = typicality.calibrations
        self.columns = [slice(typicality.directions.shape[1]), texture]
        self.cosines = nn.ModuleList([_Cosines(some) for some in typicality.compared])
        self.register_buffer("mean", _float32(combination.mean))
        self.register_buffer("deviation", _float32(combination.deviation))
        self.register_buffer("weights", _float32(combination.weights))
        # Folds may differ in size. No image is as ordinary as the largest number.
        most = max(len(found.scores) for found in calibrations)
        scores = np.full((len(calibrations), most), np.finfo(np.float32).max, np.float32)
        for row, found in zip(scores, calibrations, strict=True):
            row[: len(found.scores)] = found.scores
        self.register_buffer("scores", _float32(scores))
        self.folds = nn.ModuleList([_Fold(found) for found in calibrations])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        products = [part(features[:, some]) for part, some in zip(self.cosines, self.columns, strict=False)]
        found = torch.stack([fold(products) for fold in self.folds], dim=1)
        combined = (log_ndtr((found - self.mean) / self.deviation) * self.weights).sum(dim=2, keepdim=True)
        n_below = (self.scores <= combined).to(torch.float32).sum(dim=(1, 2))
        return (n_below + 1) / (products[0].shape[1] + 1)


class _Cosines(nn.Module):
    """The cosines between features and the directions of references."""

    directions: torch.Tensor
    norms: torch.Tensor

    def __init__(self, directions: np.ndarray):
        super().__init__()
        norms = np.sqrt(np.maximum((directions.astype(np.float64) ** 2).sum(axis=1), 1.0))
        self.register_buffer("directions", torch.from_numpy(directions))
        self.register_buffer("norms", _float32(norms))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        largest = features.abs().amax(dim=1, keepdim=True).clamp(min=float(np.finfo(np.float32).tiny))
        directions = torch.round(features / largest * _LARGEST)
        norms = (directions * directions).sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        return directions @ self.directions.to(torch.float32).T / (norms * self.norms)


class _Fold(nn.Module):
    """The scores of images without the references of a fold, as `Scorer` computes them."""

    weights: torch.Tensor
    intercept: torch.Tensor
    others: torch.Tensor

    def __init__(self, calibration: Calibration):
        super().__init__()
        self.has_columns = len(calibration.scorer.intercept) > 0
        self.register_buffer("weights", _float32(calibration.scorer.weights))
        self.register_buffer("intercept", _float32(calibration.scorer.intercept))
        self.register_buffer("others", torch.from_numpy(np.flatnonzero(calibration.others)))

    def forward(self, products: Sequence[torch.Tensor]) -> torch.Tensor:
        own, *textures = (some.index_select(1, self.others) for some in products)
        found = [own.amax(dim=1)]
        if self.has_columns:
            found.append((own @ self.weights.T + self.intercept).amax(dim=1))
        return torch.stack([*found, *(some.amax(dim=1) for some in textures)], dim=1)


def log_ndtr(z: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the normal distribution function. ONNX has no such operator, and no `erfc`."""
    x = z.abs() / math.sqrt(2)
    t = 1 / (1 + x / 2)
    polynomial = torch.zeros_like(t)
    for coefficient in reversed(_ERFC):
        polynomial = polynomial * t + coefficient
    tail = torch.log(t / 2) - x * x + polynomial
    return torch.where(z < 0, tail, torch.log(1 - torch.exp(tail)))


def _float32(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
