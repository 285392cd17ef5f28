"""Standardized features in coordinates in which L-BFGS takes few steps, kept for the candidates of a search.

An L2 penalty is the same in coordinates of any orthonormal basis of what the samples span. Along their main axes the
loss curves by as much as the samples spread, which tells L-BFGS how far to go along each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ._isolation import fork_safe_lock
from ._standardization import Standardization, add_products, standardized
from ._torch import generator

# Up to so many coordinates all main axes are found at once. Of more, so many are found, by subspace iteration.
_MOST_AT_ONCE = 256
_AXES = 64
_SPARE_AXES = 16
_ITERATIONS = 2
# Samples that are fewer than features by this factor are described by as many coordinates as there are samples.
_FEWER = 0.75
# Features and coordinates of the folds of a search: bytes, and how many at most.
_MOST_BYTES = 256 * 2**20
_MOST_KEPT = 12


@dataclass(frozen=True)
class _Basis:
    """An orthonormal basis, its vectors side by side.

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
    """An orthonormal basis of the whole space, as LAPACK keeps the product of Householder reflections.

    Parameters
    ----------
    vectors, factors : tensor
        What `torch.geqrf` returns.
    """

    vectors: torch.Tensor
    factors: torch.Tensor

    def coordinates(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ormqr(self.vectors, self.factors, rows, left=False)

    def features(self, coordinates: torch.Tensor) -> torch.Tensor:
        return torch.ormqr(self.vectors, self.factors, coordinates, left=False, transpose=True)


@dataclass(frozen=True)
class _Span:
    """An orthonormal basis of what samples span: the rows of the inverse of a triangle times the samples.

    Parameters
    ----------
    samples : tensor of shape (n_samples, n_features)
    triangle : tensor of shape (n_samples, n_samples)
        The Cholesky factor of their inner products.
    """

    samples: torch.Tensor
    triangle: torch.Tensor

    @classmethod
    def of(cls, samples: torch.Tensor) -> _Span:
        products = torch.zeros(len(samples), len(samples), dtype=samples.dtype)
        add_products(products, samples)
        products = products.to(torch.float64)
        # What rounding takes from the smallest squares is given back, and more of it where that was not enough.
        more = 200 * torch.finfo(samples.dtype).eps * products.diagonal().mean()
        while True:
            products.diagonal().add_(more)
            triangle, failed = torch.linalg.cholesky_ex(products)
            if not failed:
                return cls(samples, triangle)
            more *= 10

    def coordinates(self, rows: torch.Tensor) -> torch.Tensor:
        products = (self.samples @ rows.t()).to(torch.float64)
        return torch.linalg.solve_triangular(self.triangle, products, upper=False).t().to(rows.dtype)

    def features(self, coordinates: torch.Tensor) -> torch.Tensor:
        shares = torch.linalg.solve_triangular(self.triangle.t(), coordinates.to(torch.float64).t(), upper=True)
        return shares.t().to(coordinates.dtype) @ self.samples


@dataclass(frozen=True)
class Rotation:
    """Standardized features of samples in other coordinates, and the way there and back.

    Parameters
    ----------
    standardization : Standardization
    inputs : tensor of shape (n_samples, n_coordinates)
    squares : tensor of shape (n_coordinates,)
        Weighted mean squares of the inputs.
    bases : tuple of bases
        One after the other.
    """

    standardization: Standardization
    inputs: torch.Tensor
    squares: torch.Tensor
    bases: tuple[_Basis | _Reflections | _Span, ...]

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        weights: np.ndarray,
        shrinkage: float,
        sizes: Sequence[int] | None,
        dtype: torch.dtype,
    ) -> Rotation:
        """Return that of weighted samples, in one thread: its bits depend on nothing else.

        Parameters
        ----------
        features : float32 array of shape (n_samples, n_features)
        weights : float64 array of shape (n_samples,)
        shrinkage, sizes
            As in `Standardization.of`.
        dtype : torch.dtype
            Of the inputs.
        """
        standardization = Standardization.of(features, weights, shrinkage, sizes)
        inputs = standardized(features, standardization, dtype)
        bases: list[_Basis | _Reflections | _Span] = []
        if min(inputs.shape) > _MOST_AT_ONCE and inputs.shape[0] < _FEWER * inputs.shape[1]:
            bases.append(_Span.of(inputs))
            inputs = bases[-1].triangle.to(dtype)
        bases.append(_main_axes(inputs) if min(inputs.shape) <= _MOST_AT_ONCE else _first_axes(inputs))
        inputs = bases[-1].coordinates(inputs).contiguous()
        shares = torch.from_numpy(weights / weights.sum()).to(dtype)
        return cls(standardization, inputs, shares @ inputs.square(), tuple(bases))

    def of_others(self, features: np.ndarray) -> torch.Tensor:
        """Return the coordinates of other samples."""
        rows = standardized(features, self.standardization, self.inputs.dtype)
        for basis in self.bases:
            rows = basis.coordinates(rows)
        return rows

    def features(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weights of standardized features that do what weights of coordinates do."""
        for basis in reversed(self.bases):
            weight = basis.features(weight)
        return weight


def _main_axes(inputs: torch.Tensor) -> _Basis:
    """Return all main axes along which there is anything."""
    few = len(inputs) < inputs.shape[1]
    squares, axes = torch.linalg.eigh(inputs @ inputs.t() if few else inputs.t() @ inputs)
    if not few:
        return _Basis(axes)
    known = squares > len(squares) * torch.finfo(squares.dtype).eps * squares.max()
    return _Basis(inputs.t() @ (axes[:, known] * squares[known].rsqrt()))


def _first_axes(inputs: torch.Tensor) -> _Reflections:
    """Return the first main axes, and a basis of all that is orthogonal to them.

    By randomized subspace iteration (N. Halko, P. Martinsson and J. Tropp, SIAM Review 53, 2011).
    """
    n_axes = _AXES + _SPARE_AXES
    found = torch.randn(inputs.shape[1], n_axes, generator=generator(0, n_axes), dtype=inputs.dtype)
    for _ in range(_ITERATIONS):
        found = inputs.t() @ (inputs @ torch.linalg.qr(found).Q)
    basis = torch.linalg.qr(found).Q
    seen = inputs @ basis
    axes = torch.linalg.eigh(seen.t() @ seen).eigenvectors
    return _Reflections(*torch.geqrf(basis @ axes[:, -_AXES:]))


_lock = fork_safe_lock()
# Copies of features and weights, the other arguments, and the rotation, the latest last.
_kept: list[tuple[torch.Tensor, np.ndarray, tuple[object, ...], Rotation]] = []


def rotation(
    features: np.ndarray, weights: np.ndarray, shrinkage: float, sizes: Sequence[int] | None, dtype: torch.dtype
) -> Rotation:
    """Return what `Rotation.of` returns, which is kept for later fits on the same samples."""
    raw, rest = torch.from_numpy(features), (shrinkage, None if sizes is None else tuple(sizes), dtype)
    with _lock:
        for i, entry in enumerate(_kept):
            if entry[2] == rest and np.array_equal(entry[1], weights) and torch.equal(entry[0], raw):
                _kept.append(_kept.pop(i))
                return entry[3]
    made = Rotation.of(features, weights, shrinkage, sizes, dtype)
    with _lock:
        _kept.append((raw.clone(), weights.copy(), rest, made))
        while len(_kept) > _MOST_KEPT or sum(map(_n_bytes, _kept)) > _MOST_BYTES:
            del _kept[0]
    return made


def _n_bytes(entry: tuple[torch.Tensor, np.ndarray, tuple[object, ...], Rotation]) -> int:
    features, _, _, made = entry
    tensors = [features, made.inputs, *(tensor for basis in made.bases for tensor in vars(basis).values())]
    return sum(tensor.nbytes for tensor in tensors)
