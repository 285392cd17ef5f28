"""Train the output layer on more features than fit into memory, by reading them in blocks.

The loss and its gradients are summed over blocks. A rotation of the features is applied to the few weights of the layer
instead of to the many features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from sktl._targets.labeled_samples import Labeled
from sktl._training.skorch_net import LabeledDataset
from sktl._utils.threads import single_threaded_pool

from .head_net import Gradients, HeadNet
from .lbfgs_rotation import Basis
from .standardization import Standardization, row_blocks

_ROWS = 1024
_BLOCKS_PER_SPAN = 16
_PIECE = 64


class FeatureBlocks:
    """Standardized features of samples, block by block.

    Parameters
    ----------
    features : float32 array of shape (n_samples, n_features), or ImageFeatures
    standardization : Standardization
    dtype : torch.dtype
        Data type of the blocks, in which they are also standardized.
    """

    def __init__(self, features: np.ndarray, standardization: Standardization, dtype: torch.dtype):
        self.features = features
        self.mean, self.scale = standardization.mean.to(dtype), standardization.scale.to(dtype)

    def __len__(self) -> int:
        return len(self.features)

    def spans(self) -> list[slice]:
        """Return the rows of spans of blocks. Sums are taken for each span, then over the spans."""
        return [*row_blocks(len(self), _ROWS * _BLOCKS_PER_SPAN)]

    def blocks(self, span: slice) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the rows of each block in a span, and their standardized features."""
        for start in range(span.start, min(span.stop, len(self)), _ROWS):
            rows = slice(start, min(start + _ROWS, span.stop))
            yield rows, self._standardized(np.asarray(self.features[rows]))

    def _standardized(self, rows: np.ndarray) -> torch.Tensor:
        raw = torch.from_numpy(rows)
        found = torch.empty(raw.shape, dtype=self.mean.dtype)
        # Each piece fits into the processor's cache, so this takes a fifth of the time.
        for piece, some in zip(found.split(_PIECE), raw.split(_PIECE), strict=True):
            torch.sub(some, self.mean, out=piece).div_(self.scale)
        return found


class StreamedFeatures(LabeledDataset):
    """Features that stay where they are, with targets and weights. Batches are `FeatureBlocks`."""

    def __init__(
        self, labeled: Labeled[np.ndarray], rank: np.ndarray, standardization: Standardization, dtype: torch.dtype
    ):
        super().__init__(labeled.targets, rank)
        self.features = labeled.samples
        self.standardization = standardization
        self.dtype = dtype

    @property
    def n_inputs(self) -> int:
        """Number of values per sample that enter the module."""
        return self.features.shape[1]

    def inputs_of(self, i: int) -> torch.Tensor:
        ((_, inputs),) = self._blocks(self.features[[i % len(self)]]).blocks(slice(0, 1))
        return inputs[0]

    def all_rows(self) -> tuple[FeatureBlocks, tuple[torch.Tensor, torch.Tensor]]:
        """Return the features of all samples, with targets and weights."""
        return self._blocks(self.features), (self.values, self.weights)

    def batch(self, rows: torch.Tensor) -> tuple[FeatureBlocks, tuple[torch.Tensor, torch.Tensor]]:
        """Return the same for some rows, in the order in which they are stored, which is faster to read."""
        rows = rows.sort().values
        values, weights = self.values.index_select(0, rows), self.weights.index_select(0, rows)
        # Rows of an array are selected for each block, not for the whole batch.
        selected = _Selected(self.features, rows.numpy())
        return self._blocks(selected), (values, weights)  # type: ignore[arg-type]

    def _blocks(self, features: np.ndarray) -> FeatureBlocks:
        return FeatureBlocks(features, self.standardization, self.dtype)


class _Selected:
    """Some rows of features, copied a few at a time."""

    def __init__(self, features: np.ndarray, rows: np.ndarray):
        self.features = features
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: slice) -> np.ndarray:
        return self.features[self.rows[key]]


class StreamedHeadNet(HeadNet):
    """A net of one layer on `FeatureBlocks`."""

    # Basis of the coordinates to which the weights of the layer apply. None means that they apply to the features.
    basis: Basis | None = None
    n_threads = 1

    def gradients(self, features: Any, values: torch.Tensor, weights: torch.Tensor) -> Gradients:
        """Return the loss and its gradients, summed over blocks in a fixed order, whatever the number of threads."""
        weight = self._weight()
        of_span = partial(self._of_span, weight, features, values, weights)
        # Dropout draws its random numbers block after block.
        n_threads = 1 if self.module_.dropout else self.n_threads
        with single_threaded_pool(n_threads) as pool:
            loss, by_weight, by_bias, curvatures = _sums(pool.map(of_span, features.spans()))
        if self.basis is not None:
            by_weight = self.basis.coordinates(by_weight)
        # No logits of all samples, which might need more memory than anything else.
        return Gradients(loss.to(weight.dtype), by_weight, by_bias, curvatures, None)

    def _of_span(
        self, weight: torch.Tensor, features: FeatureBlocks, values: torch.Tensor, weights: torch.Tensor, span: slice
    ) -> list[torch.Tensor]:
        with torch.no_grad():
            found = (
                self.gradients_of(weight, some, values[rows], weights[rows]) for rows, some in features.blocks(span)
            )
            return _sums([each.loss.double(), *each[1:4]] for each in found)

    def infer(self, x: Any, **fit_params: Any) -> torch.Tensor:
        """Return the logits of the features of a batch."""
        if not isinstance(x, FeatureBlocks):
            return super().infer(x, **fit_params)
        weight, bias = self._weight(), self.module_.output.bias
        return torch.cat([torch.addmm(bias, some, weight.t()) for span in x.spans() for _, some in x.blocks(span)])

    def _weight(self) -> torch.Tensor:
        """Return the weights of the layer for standardized features."""
        weight = self.module_.output.weight
        return weight if self.basis is None else self.basis.features(weight)

    def forget(self) -> None:
        """Release data that only training needs."""
        super().forget()
        self.basis = None


def _sums(found: Iterable[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the sums of lists of tensors."""
    iterator = iter(found)
    first = next(iterator)
    for each in iterator:
        for total, value in zip(first, each, strict=True):
            total += value
    return first
