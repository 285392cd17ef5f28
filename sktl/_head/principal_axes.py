"""Coordinates of samples along their principal axes, computed once for all candidates of a search.

A penalty is the same in rotated coordinates, and removes weights in directions that the samples do not span.
Coordinates along the principal axes are therefore all that training needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from sktl._utils.random import generator

from .inner_products import add_products, mirrored
from .sample_memo import SampleMemo
from .standardization import Standardization, row_blocks, standardized

# Float32 array of shape (n_samples, n_axes), and the mean square along each axis.
Coordinates: TypeAlias = tuple[torch.Tensor, torch.Tensor]

# Number of axes for each loss. Along 384 axes, the best penalty of numbers would be too strong. For classes and labels,
# more axes change the penalty, but hardly the predictions.
AXES = {"cross_entropy": 384, "binary_cross_entropy": 384, "squared_error": 768, "huber": 768}
# More axes than needed are drawn, because subspace iteration is inaccurate for the last ones.
_SPARE_AXES = 32
_ROWS_AT_ONCE = 1024


def _n_bytes(found: list[Coordinates]) -> int:
    return sum(inputs.nbytes + squares.nbytes for inputs, squares in found)


# For the five folds of a search of up to 4,096 numbers, or more images with classes, and for both rounds of an audit.
# The limit is low because joblib ends worker processes that grow by 300 MB.
memo: SampleMemo[list[Coordinates]] = SampleMemo(152 * 2**20, cost=_n_bytes)


def principal_coordinates(
    n_axes: int,
    features: np.ndarray,
    weights: np.ndarray,
    block_sizes: Sequence[tuple[int, Sequence[int]]],
    shrinkage: float,
    pool: ThreadPoolExecutor,
) -> list[Coordinates]:
    """Return the coordinates of samples for each number of stages, or the remembered result for the same samples.

    Parameters
    ----------
    n_axes : int
        Maximum number of axes.
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
        products = _products(features, weights, block_sizes, shrinkage, pool)
        return [*pool.map(partial(_main_coordinates, n_axes), products)]

    return memo.get(features, weights, (n_axes, block_sizes, shrinkage), compute)


def coordinates_of_many(
    n_axes: int,
    features: np.ndarray,
    weights: np.ndarray,
    sizes: Sequence[int],
    shrinkage: float,
    pool: ThreadPoolExecutor,
) -> Coordinates:
    """Return the coordinates of many samples along at most `n_axes` axes, without the inner products of all pairs.

    Features are standardized block by block, because a copy of all would take as much memory as the features. Like
    `principal_coordinates`, remembers the result.

    Parameters
    ----------
    n_axes : int
    sizes : sequence of int
        The sizes of the blocks of all features.
    features, weights, shrinkage, pool
        See `principal_coordinates`.
    """

    def compute() -> list[Coordinates]:
        scaled = partial(_scaled, features, Standardization.of(features, weights, shrinkage, sizes))
        rows = [*row_blocks(len(features), _ROWS_AT_ONCE)]
        n_drawn = min(n_axes + _SPARE_AXES, *features.shape)
        drawn = torch.randn(features.shape[1], n_drawn, generator=generator(0, n_axes))

        def spanned(block: slice) -> torch.Tensor:
            some = scaled(block)
            return some.t() @ (some @ drawn)

        total = torch.zeros(features.shape[1], n_drawn)
        for found in pool.map(spanned, rows):
            total += found
        basis = pool.submit(lambda: torch.linalg.qr(total).Q).result()
        inputs = torch.cat([*pool.map(lambda block: scaled(block) @ basis, rows)])
        squares, axes = pool.submit(lambda: torch.linalg.eigh(inputs.t() @ inputs)).result()
        turned = pool.submit(lambda: inputs @ axes[:, -n_axes:]).result()
        return [(turned, squares[-n_axes:].clamp_min(0) / len(features))]

    return memo.get(features, weights, ("many", n_axes, sizes, shrinkage), compute)[0]


def _products(
    features: np.ndarray,
    weights: np.ndarray,
    block_sizes: Sequence[tuple[int, Sequence[int]]],
    shrinkage: float,
    pool: ThreadPoolExecutor,
) -> list[torch.Tensor]:
    """Return the inner products of all samples for each number of stages, summed over blocks."""
    totals, total = [], torch.zeros(len(features), len(features), dtype=torch.float32)
    start, done = 0, 0
    for _, sizes in block_sizes:
        width = sum(sizes[done:])
        some = features[:, start : start + width]
        standardization = Standardization.of(some, weights, shrinkage, sizes[done:])
        scaled = torch.cat([*pool.map(partial(_scaled, some, standardization), row_blocks(len(some), _ROWS_AT_ONCE))])
        add_products(total, scaled, pool)
        totals.append(pool.submit(mirrored, total).result())
        start, done = start + width, len(sizes)
    return totals


def _scaled(features: np.ndarray, standardization: Standardization, rows: slice) -> torch.Tensor:
    return standardized(np.ascontiguousarray(features[rows]), standardization, torch.float32)


def _main_coordinates(n_axes: int, products: torch.Tensor) -> Coordinates:
    """Return coordinates of samples along at most `n_axes` axes, from their inner products.

    For many samples, uses randomized subspace iteration (N. Halko, P. Martinsson and J. Tropp, SIAM Review 53, 2011).
    """
    n = len(products)
    if n <= 2 * n_axes:
        squares, axes = torch.linalg.eigh(products)
    else:
        drawn = torch.randn(n, n_axes + _SPARE_AXES, generator=generator(0, n_axes))
        basis = torch.linalg.qr(products @ drawn).Q
        squares, axes = torch.linalg.eigh(basis.t() @ (products @ basis))
        axes = basis @ axes
    squares, axes = squares[-n_axes:].clamp_min(0), axes[:, -n_axes:]
    return axes * squares.sqrt(), squares / n
