"""Inner products of samples, summed block by block of features."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch

_BLOCK = 256


def add_products(total: torch.Tensor, rows: torch.Tensor, pool: ThreadPoolExecutor | None = None) -> None:
    """Add the inner products of all pairs of rows on and below the diagonal, and only some above it.

    The threads of a pool each add some columns, so the result does not depend on their number.
    """

    def add(start: int) -> None:
        total[start:, start : start + _BLOCK].addmm_(rows[start:], rows[start : start + _BLOCK].t())

    deque((map if pool is None else pool.map)(add, range(0, len(rows), _BLOCK)), maxlen=0)


def mirrored(total: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix with the given values on and below the diagonal."""
    return total.tril().add_(total.tril(-1).t())
