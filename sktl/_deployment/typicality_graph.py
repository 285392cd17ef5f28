"""The p-values of `typicality` as operations that every runtime has, from the references of an estimator."""

from __future__ import annotations

import math
from typing import Any

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
    directions : int8 array of shape (n_references, n_features)
    folds : list of nn.Module
        What counts the references of each fold that are at most as ordinary as an image.
    """

    directions: torch.Tensor
    norms: torch.Tensor

    def __init__(self, directions: np.ndarray, folds: list[nn.Module]):
        super().__init__()
        norms = np.sqrt(np.maximum((directions.astype(np.float64) ** 2).sum(axis=1), 1.0))
        self.register_buffer("directions", torch.from_numpy(directions))
        self.register_buffer("norms", _float32(norms))
        self.folds = nn.ModuleList(folds)

    @classmethod
    def of(cls, typicality: Typicality) -> TypicalityGraph:
        """Return the graph for the references of an estimator.

        Raises
        ------
        TypicalityError
            If there are too few references to compare them with each other.
        """
        combination, calibrations = typicality.calibrations
        return cls(typicality.directions, [_Fold(found, combination) for found in calibrations])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        own = features[:, : self.directions.shape[1]]
        largest = own.abs().amax(dim=1, keepdim=True).clamp(min=float(np.finfo(np.float32).tiny))
        directions = torch.round(own / largest * _LARGEST)
        norms = (directions * directions).sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        cosines = directions @ self.directions.to(torch.float32).T / (norms * self.norms)
        n_below = torch.stack([fold(cosines) for fold in self.folds]).sum(dim=0)
        return (n_below + 1) / (len(self.directions) + 1)


class _Fold(nn.Module):
    """Count the references of a fold that are at most as ordinary as an image, under the scores of the other folds."""

    weights: torch.Tensor
    intercept: torch.Tensor
    scores: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor
    others: torch.Tensor

    def __init__(self, calibration: Calibration, combination: Any):
        super().__init__()
        scorer = calibration.scorer
        self.has_columns = len(scorer.intercept) > 0
        for name, array in {
            "weights": scorer.weights, "intercept": scorer.intercept, "scores": calibration.scores,
            "mean": combination.mean, "deviation": combination.deviation,
        }.items():  # fmt: skip
            self.register_buffer(name, _float32(array))
        self.register_buffer("others", torch.from_numpy(np.flatnonzero(calibration.others)))

    def forward(self, cosines: torch.Tensor) -> torch.Tensor:
        others = cosines.index_select(1, self.others)
        scores = others.amax(dim=1, keepdim=True)
        if self.has_columns:
            outputs = others @ self.weights.T + self.intercept
            scores = torch.cat([scores, outputs.amax(dim=1, keepdim=True)], dim=1)
        combined = log_ndtr((scores - self.mean) / self.deviation).sum(dim=1, keepdim=True)
        return (self.scores <= combined).to(torch.float32).sum(dim=1)


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
