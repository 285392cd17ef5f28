"""Inner products of samples, summed block by block of features."""

from __future__ import annotations

import torch

_BLOCK = 256


def add_products(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add the inner products of all pairs of rows on and below the diagonal, and only some above it."""
    for start in range(0, len(rows), _BLOCK):
        total[start:, start : start + _BLOCK].addmm_(rows[start:], rows[start : start + _BLOCK].t())


def mirrored(total: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix with the given values on and below the diagonal."""
    return total.tril().add_(total.tril(-1).t())
