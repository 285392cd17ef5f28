"""Standardized features in coordinates in which L-BFGS needs few steps, cached for candidates of a search.

An L2 penalty is the same in every orthonormal basis of the space spanned by the samples. Along the principal axes, the
curvature of the loss is roughly proportional to the variance of the samples, so L-BFGS knows how far to go along each
axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from sktl._utils.random import generator

from .inner_products import add_products
from .sample_memo import SampleMemo
from .standardization import Standardization, standardized

# Up to this many coordinates, all principal axes are computed directly. Otherwise, `_AXES` of them are found by
# subspace iteration.
_MOST_AT_ONCE = 256
_AXES = 96
_SPARE_AXES = 16
_ITERATIONS = 2
# If not all samples fit into memory, axes are computed from some of them, with about this many numbers in all.
_DRAWN = 2**24
# If there are fewer samples than this fraction of the number of features, they are described by as many coordinates as
# there are samples. This makes each iteration cheaper.
_FEWER = 0.75


@dataclass(frozen=True)
class _Basis:
    """An orthonormal basis whose vectors are the columns of a matrix.

    Parameters
    ----------
    vectors : tensor of shape (n_features, n_coordinates)
    """

    vectors: torch.Tensor

    def coordinates(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.vectors

    def features(self, coordinates: torch.Tensor) -> torch.Tensor:
        return coordinates @ self.vectors.t()


@dataclass(frozen=True)
class _Reflections:
    """An orthonormal basis of the whole space, stored as Householder reflections in LAPACK's format.

    Parameters
    ----------
    vectors, factors : tensor
        Return values of `torch.geqrf`.
    """

    vectors: torch.Tensor
    factors: torch.Tensor

    def coordinates(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ormqr(self.vectors, self.factors, rows, left=False)

    def features(self, coordinates: torch.Tensor) -> torch.Tensor:
        return torch.ormqr(self.vectors, self.factors, coordinates, left=False, transpose=True)


Basis: TypeAlias = _Basis | _Reflections


@dataclass(frozen=True)
class Rotation:
    """Standardized features of samples in rotated coordinates, with the transformations in both directions.

    Parameters
    ----------
    standardization : Standardization
    inputs : tensor of shape (n_samples, n_coordinates)
    squares : tensor of shape (n_coordinates,)
        Weighted mean squares of the inputs.
    basis : basis
    triangle : tensor of shape (n_samples, n_samples) or None
        Cholesky factor of the inner products of the samples, if there are few samples. Its rows are coordinates in an
        orthonormal basis of the space spanned by the samples, and `basis` then refers to these coordinates.
    """

    standardization: Standardization
    inputs: torch.Tensor
    squares: torch.Tensor
    basis: Basis
    triangle: torch.Tensor | None

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        weights: np.ndarray,
        shrinkage: float,
        sizes: Sequence[int],
        dtype: torch.dtype,
    ) -> Rotation:
        """Return the rotation for weighted samples.

        It is computed in one thread, so that its bits depend only on the arguments.

        Parameters
        ----------
        features : float32 array of shape (n_samples, n_features)
        weights : float64 array of shape (n_samples,)
        shrinkage, sizes
            See `Standardization.of`.
        dtype : torch.dtype
            Data type of the inputs.
        """
        standardization = Standardization.of(features, weights, shrinkage, sizes)
        inputs = standardized(features, standardization, dtype)
        small, triangle = min(inputs.shape) <= _MOST_AT_ONCE, None
        if not small and inputs.shape[0] < _FEWER * inputs.shape[1]:
            inputs = triangle = _triangle(inputs)
        basis = _main_axes(inputs) if small else _first_axes(inputs)
        inputs = basis.coordinates(inputs).contiguous()
        return cls(standardization, inputs, _mean_squares(inputs, weights), basis, triangle)

    @classmethod
    def of_many(cls, features: np.ndarray, weights: np.ndarray, shrinkage: float, sizes: Sequence[int]) -> Rotation:
        """Return a rotation for samples that do not fit into memory, without their coordinates.

        All samples determine the standardization. Only some samples determine the axes: with other axes, training
        reaches the same layer in a few more or fewer steps.
        """
        standardization = Standardization.of(features, weights, shrinkage, sizes)
        n_samples, n_features = features.shape
        n_drawn = min(n_samples, max(2 * n_features, _DRAWN // n_features))
        rows = np.linspace(0, n_samples - 1, n_drawn).astype(np.int64)
        inputs = standardized(np.asarray(features[rows]), standardization, torch.float32)
        basis = _main_axes(inputs) if n_features <= _MOST_AT_ONCE else _first_axes(inputs)
        inputs = basis.coordinates(inputs)
        squares = _mean_squares(inputs, weights[rows] + np.finfo(np.float64).tiny)
        return cls(standardization, inputs[:0], squares, basis, None)

    def of_others(self, others: np.ndarray, features: np.ndarray) -> torch.Tensor:
        """Return the coordinates of other samples, given the features from which the rotation was computed."""
        rows = standardized(others, self.standardization, self.inputs.dtype)
        if self.triangle is not None:
            products = self._samples(features) @ rows.t()
            rows = torch.linalg.solve_triangular(self.triangle, products, upper=False).t()
        return self.basis.coordinates(rows)

    def back(self, weight: torch.Tensor, features: np.ndarray) -> torch.Tensor:
        """Return weights for standardized features that are equivalent to weights for coordinates."""
        weight = self.basis.features(weight)
        if self.triangle is None:
            return weight
        shares = torch.linalg.solve_triangular(self.triangle.t(), weight.t(), upper=True)
        return shares.t() @ self._samples(features)

    def _samples(self, features: np.ndarray) -> torch.Tensor:
        return standardized(features, self.standardization, self.inputs.dtype)


def _mean_squares(inputs: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    """Return the weighted mean squares of coordinates."""
    return torch.from_numpy(weights / weights.sum()).to(inputs.dtype) @ inputs.square()


def _triangle(samples: torch.Tensor) -> torch.Tensor:
    """Return the Cholesky factor of the inner products of samples."""
    products = torch.zeros(len(samples), len(samples), dtype=samples.dtype)
    add_products(products, samples)
    products = products.to(torch.float64)
    # Rounding may make the smallest eigenvalues negative. A multiple of the identity compensates for this, and grows
    # until the factorization succeeds. It is not 0 if all samples are 0, because their images are equal.
    eps = torch.finfo(samples.dtype).eps
    more = (200 * eps * products.diagonal().mean()).clamp_min(eps)
    while True:
        products.diagonal().add_(more)
        triangle, failed = torch.linalg.cholesky_ex(products)
        if not failed:
            return triangle.to(samples.dtype)
        more *= 10


def _main_axes(inputs: torch.Tensor) -> _Basis:
    """Return all principal axes with nonzero variance."""
    few = len(inputs) < inputs.shape[1]
    squares, axes = torch.linalg.eigh(inputs @ inputs.t() if few else inputs.t() @ inputs)
    if not few:
        return _Basis(axes)
    known = squares > len(squares) * torch.finfo(squares.dtype).eps * squares.max()
    return _Basis(inputs.t() @ (axes[:, known] * squares[known].rsqrt()))


def _first_axes(inputs: torch.Tensor) -> _Reflections:
    """Return the first principal axes, completed to an orthonormal basis of the whole space.

    Uses randomized subspace iteration (N. Halko, P. Martinsson and J. Tropp, SIAM Review 53, 2011).
    """
    n_axes = _AXES + _SPARE_AXES
    found = torch.randn(inputs.shape[1], n_axes, generator=generator(0, n_axes), dtype=inputs.dtype)
    for _ in range(_ITERATIONS):
        found = inputs.t() @ (inputs @ torch.linalg.qr(found).Q)
    basis = torch.linalg.qr(found).Q
    seen = inputs @ basis
    axes = torch.linalg.eigh(seen.t() @ seen).eigenvectors
    return _Reflections(*torch.geqrf(basis @ axes[:, -_AXES:]))


def _n_bytes(made: Rotation) -> int:
    tensors = [made.inputs, *vars(made.basis).values(), *([] if made.triangle is None else [made.triangle])]
    return sum(tensor.nbytes for tensor in tensors)


# For the folds of a search. The limit is low because joblib ends worker processes that grow by 300 MB.
memo: SampleMemo[Rotation] = SampleMemo(128 * 2**20, cost=_n_bytes)


def rotation(
    features: np.ndarray, weights: np.ndarray, shrinkage: float, sizes: Sequence[int], dtype: torch.dtype
) -> Rotation:
    """Return the result of `Rotation.of`, which is remembered for later fits on the same samples."""
    return memo.get(
        features, weights, (shrinkage, sizes, dtype), lambda: Rotation.of(features, weights, shrinkage, sizes, dtype)
    )
