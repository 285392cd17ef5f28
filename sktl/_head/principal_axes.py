"""Coordinates of samples along their principal axes, computed once for all candidates of a search.

A penalty is the same in rotated coordinates, and removes weights in directions that the samples do not span.
Coordinates along the principal axes are therefore all that training needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch

from sktl._utils.random import generator

from .inner_products import add_products, mirrored
from .sample_memo import SampleMemo
from .standardization import Standardization, standardized

# Float32 array of shape (n_samples, n_axes), and the mean square along each axis.
Coordinates: TypeAlias = tuple[torch.Tensor, torch.Tensor]

_AXES = 384
# More axes than needed are drawn, because subspace iteration is inaccurate for the last ones.
_SPARE_AXES = 32
# For the folds of a search. Each result takes at most 6 MB for each number of stages.
memo: SampleMemo[list[Coordinates]] = SampleMemo(6, cost=lambda found: 1)


def principal_coordinates(
    features: np.ndarray,
    weights: np.ndarray,
    block_sizes: Sequence[tuple[int, Sequence[int]]],
    shrinkage: float,
    pool: ThreadPoolExecutor,
) -> list[Coordinates]:
    """Return the coordinates of samples for each number of stages.

    Parameters
    ----------
    features : float32 array of shape (n_samples, n_features)
        Features of the largest number of stages.
    weights : float64 array of shape (n_samples,)
    block_sizes : sequence of (int, sequence of int)
        Numbers of stages in increasing order, each with the sizes of its blocks of features. Features of a block are
        standardized together. The features of fewer stages are a prefix of all features.
    shrinkage : float
        See `Recipe`.
    pool : ThreadPoolExecutor
        Pool whose threads compute with one intra-op thread each. The result does not depend on the number of threads.
    """

    def compute() -> list[Coordinates]:
        products = pool.submit(_products, features, weights, block_sizes, shrinkage).result()
        return [*pool.map(_main_axes, products)]

    return memo.get(features, weights, (block_sizes, shrinkage), compute)


def coordinates_of_many(
    features: np.ndarray, weights: np.ndarray, sizes: Sequence[int], shrinkage: float
) -> Coordinates:
    """Return the coordinates of many samples, without the inner products of all pairs. See `principal_coordinates`."""
    scaled = standardized(features, Standardization.of(features, weights, shrinkage, sizes), torch.float32)
    drawn = torch.randn(scaled.shape[1], min(_AXES + _SPARE_AXES, *scaled.shape), generator=generator(0, _AXES))
    basis = torch.linalg.qr(scaled.t() @ (scaled @ drawn)).Q
    inputs = scaled @ basis
    squares, axes = torch.linalg.eigh(inputs.t() @ inputs)
    return inputs @ axes[:, -_AXES:], squares[-_AXES:].clamp_min(0) / len(scaled)


def _products(
    features: np.ndarray, weights: np.ndarray, block_sizes: Sequence[tuple[int, Sequence[int]]], shrinkage: float
) -> list[torch.Tensor]:
    """Return the inner products of all samples for each number of stages, summed over blocks."""
    totals, total = [], torch.zeros(len(features), len(features), dtype=torch.float32)
    start, done = 0, 0
    for _, sizes in block_sizes:
        width = sum(sizes[done:])
        some = np.ascontiguousarray(features[:, start : start + width])
        scaled = standardized(some, Standardization.of(some, weights, shrinkage, sizes[done:]), torch.float32)
        add_products(total, scaled)
        totals.append(mirrored(total))
        start, done = start + width, len(sizes)
    return totals


def _main_axes(products: torch.Tensor) -> Coordinates:
    """Return coordinates of samples from their inner products.

    For many samples, uses randomized subspace iteration (N. Halko, P. Martinsson and J. Tropp, SIAM Review 53, 2011).
    """
    n = len(products)
    if n <= 2 * _AXES:
        squares, axes = torch.linalg.eigh(products)
    else:
        drawn = torch.randn(n, _AXES + _SPARE_AXES, generator=generator(0, _AXES))
        basis = torch.linalg.qr(products @ drawn).Q
        squares, axes = torch.linalg.eigh(basis.t() @ (products @ basis))
        axes = basis @ axes
    squares, axes = squares[-_AXES:].clamp_min(0), axes[:, -_AXES:]
    return axes * squares.sqrt(), squares / n
