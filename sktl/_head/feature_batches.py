"""Training data of the output layer: standardized or rotated features, in batches whose order depends on a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch

from sktl._targets.labeled_samples import Labeled
from sktl._training.skorch_net import LabeledDataset
from sktl._utils.random import Stream, generator

from .standardization import Standardization

# Standardized features are stored if they take at most this many bytes, and otherwise recomputed for each batch.
_MAX_BYTES = 64 * 2**20
_PIECE = 64


class StandardizedFeatures(LabeledDataset):
    """Standardized features of samples, with targets and weights."""

    dtype = torch.float64

    def __init__(self, labeled: Labeled[np.ndarray], rank: np.ndarray, standardization: Standardization):
        super().__init__(labeled.targets, rank)
        self.features = torch.from_numpy(labeled.samples)
        self.standardization = standardization
        fits = self.features.numel() * self.dtype.itemsize <= _MAX_BYTES
        self.standardized = self._standardize(torch.arange(len(self.features))) if fits else None

    @property
    def n_inputs(self) -> int:
        """Number of values per sample that enter the module."""
        return self.features.shape[1]

    def inputs_of(self, i: int) -> torch.Tensor:
        return self.batch(torch.tensor([i % len(self)]))[0][0]

    def all_rows(self) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the standardized features of all samples, with targets and weights."""
        if self.standardized is None:
            return self.batch(torch.arange(len(self)))
        return self.standardized, (self.values, self.weights)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the same for some rows, with the same bits whether features are stored or standardized again."""
        made = self.standardized
        features = self._standardize(rows) if made is None else made.index_select(0, rows)
        return features, (self.values.index_select(0, rows), self.weights.index_select(0, rows))

    def _standardize(self, rows: torch.Tensor) -> torch.Tensor:
        standardized = torch.empty(len(rows), self.features.shape[1], dtype=self.dtype)
        # Each piece fits into the processor's cache. Copies of a large batch would spend their time mapping memory.
        for piece, its_rows in zip(standardized.split(_PIECE), rows.split(_PIECE), strict=True):
            raw = self.features.index_select(0, its_rows)
            piece.copy_((raw - self.standardization.mean).div_(self.standardization.scale))
        return standardized


class RotatedFeatures(LabeledDataset):
    """Rotated coordinates of samples, with targets and weights."""

    def __init__(self, labeled: Labeled[torch.Tensor], rank: np.ndarray):
        super().__init__(labeled.targets, rank)
        self.inputs = labeled.samples
        self.dtype = self.inputs.dtype

    @property
    def n_inputs(self) -> int:
        """Number of values per sample that enter the module."""
        return self.inputs.shape[1]

    def inputs_of(self, i: int) -> torch.Tensor:
        return self.inputs[i]

    def all_rows(self) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the coordinates of all samples, with targets and weights."""
        return self.inputs, (self.values, self.weights)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the same for some rows."""
        return self.inputs[rows], (self.values[rows], self.weights[rows])


HeadDataset: TypeAlias = StandardizedFeatures | RotatedFeatures


class HeadBatches:
    """Iterate over batches of tensors, reshuffled in each epoch by a seed. A single batch of all rows is stored."""

    def __init__(self, dataset: HeadDataset, batch_size: int, seed: int = 0):
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.all_rows = dataset.all_rows() if batch_size >= len(dataset) else None

    def __iter__(self) -> Iterator[Any]:
        if self.all_rows is not None:
            yield self.all_rows
            return
        self.epoch += 1
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, Stream.ORDER_OF_FEATURES, self.epoch))
        for rows in order.split(self.batch_size):
            yield self.dataset.batch(rows)
