"""Training data of a tail: pixels or activations of samples, in batches, with changes determined by seeds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import torch

from sktl._images.augmentation import Change, CustomTransform, changed_pixels
from sktl._images.decoding import ImageProblem
from sktl._images.network_pixels import network_pixels
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl._targets.labeled_samples import Labeled
from sktl._training.skorch_net import LabeledDataset
from sktl._utils.random import Stream, generator
from sktl.exceptions import ImageFailure, InvalidImageError

_VALIDATION_BATCH = 64

Request: TypeAlias = Callable[[], torch.Tensor]


class Inputs(Protocol):
    """Inputs of the network or its tail, addressed by the positions of samples."""

    @property
    def unchanged(self) -> Inputs:
        """The same inputs without random changes."""

    def request(self, rows: np.ndarray, epoch: int) -> Request:
        """Start to fetch rows for an epoch. The returned function waits for them."""


@dataclass(frozen=True)
class StoredInputs:
    """Activations at the cut.

    Parameters
    ----------
    fetch : callable
        Returns the activations of given rows, as float32 of shape (n, ...).
    pool : ThreadPoolExecutor or None
        Fetches rows ahead of time. None fetches rows when they are needed.
    """

    fetch: Callable[[np.ndarray], np.ndarray]
    pool: ThreadPoolExecutor | None = None

    @property
    def unchanged(self) -> Inputs:
        return self

    def request(self, rows: np.ndarray, epoch: int) -> Request:
        if self.pool is None:
            return lambda: torch.from_numpy(self.fetch(rows))
        future = self.pool.submit(self.fetch, rows)
        return lambda: torch.from_numpy(future.result())


@dataclass(frozen=True)
class CycledInputs:
    """Several inputs of the same samples, used in turn by the epochs, and the unchanged images if they are views."""

    parts: Sequence[Inputs]
    images: Inputs | None = None

    @property
    def unchanged(self) -> Inputs:
        return self.parts[0] if self.images is None else self.images

    def request(self, rows: np.ndarray, epoch: int) -> Request:
        return self.parts[(epoch - 1) % len(self.parts)].request(rows, epoch)


@dataclass(frozen=True)
class ImageInputs:
    """Pixels of samples, decoded again in each epoch and changed at random, by a pool of threads.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
    change : Change or None
        None leaves the images unchanged.
    seed : int
        Determines the change of a sample, together with the epoch and the position of the sample.
    pool : ThreadPoolExecutor
    n_views : int or None
        Number of epochs after which the same changes are repeated. None never repeats them.
    """

    samples: Sequence[Sample]
    preprocessing: Preprocessing
    change: Change | None
    seed: int
    pool: ThreadPoolExecutor
    n_views: int | None = None

    @property
    def unchanged(self) -> Inputs:
        return replace(self, change=None)

    def request(self, rows: np.ndarray, epoch: int) -> Request:
        futures = [(int(row), self.pool.submit(self._pixels, int(row), epoch)) for row in rows]

        def wait() -> torch.Tensor:
            pixels, failures = [], []
            for row, future in futures:
                try:
                    pixels.append(future.result())
                except ImageProblem as problem:
                    failures.append(ImageFailure(row, self.samples[row].name, str(problem)))
            if failures:
                raise InvalidImageError(failures)
            return torch.from_numpy(np.stack(pixels))

        return wait

    def _pixels(self, row: int, epoch: int) -> np.ndarray:
        content = self.samples[row].read()
        if self.change is None:
            return network_pixels(content, self.preprocessing)
        draw = epoch if self.n_views is None else (epoch - 1) % self.n_views + 1
        seed = np.random.SeedSequence((self.seed, Stream.CHANGED, draw, row))
        return changed_pixels(content, self.change, self.preprocessing, seed)


def check_change(change: Change | None, sample: Sample, preprocessing: Preprocessing) -> None:
    """Raise `InvalidParameterError` if a user's function fails on a sample, before a pass over all samples."""
    if isinstance(change, CustomTransform):
        with suppress(ImageProblem):  # the sample itself cannot be used, which the pass reports
            changed_pixels(sample.read(), change, preprocessing, np.random.SeedSequence(0))


class Batch(NamedTuple):
    """A batch of training samples.

    Attributes
    ----------
    inputs : tensor
        Pixels, uint8 of shape (n, H, W, 3), or activations.
    targets : (values, weights)
    partners : tensor of int or None
        For mixup: the row with which each row is mixed.
    share : float
        Weight of each row itself in the mixture.
    seeds : tuple of int
        Seeds of the random numbers for this batch.
    """

    inputs: torch.Tensor
    targets: tuple[torch.Tensor, torch.Tensor]
    partners: torch.Tensor | None = None
    share: float = 1.0
    seeds: tuple[int, ...] = ()


class LabeledInputs(LabeledDataset):
    """Inputs of samples, with targets and weights."""

    def __init__(self, labeled: Labeled[Inputs], rank: np.ndarray):
        super().__init__(labeled.targets, rank)
        self.inputs = labeled.samples

    def count_batches(self, batch_size: int) -> int:
        """Return the number of training batches of an epoch. A last batch of one image joins the batch before it.

        BatchNorm, which is trained only without pretrained weights, cannot train on one image. Batches are the same for
        all networks.
        """
        return max(1, math.ceil((len(self) - 1) / batch_size))

    def inputs_of(self, i: int) -> torch.Tensor:
        return self.inputs.unchanged.request(np.array([i % len(self)]), 0)()[0]


class TrainingBatches:
    """Iterate over the batches of an epoch in random order. During training on a batch, the next one is fetched."""

    def __init__(self, dataset: LabeledInputs, batch_size: int, seed: int = 0, mixup_alpha: float = 0.0):
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.mixup_alpha = mixup_alpha
        self.epoch = 0

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, Stream.ORDER, self.epoch)).numpy()
        starts = self.batch_size * np.arange(1, self.dataset.count_batches(self.batch_size))
        pending: deque[tuple[np.ndarray, Request]] = deque()
        number = 0
        for rows in np.split(order, starts):
            pending.append((rows, self.dataset.inputs.request(rows, self.epoch)))
            if len(pending) > 1:
                yield self._batch(*pending.popleft(), number)
                number += 1
        yield self._batch(*pending.popleft(), number)

    def _batch(self, rows: np.ndarray, request: Request, number: int) -> Batch:
        seeds = (self.seed, self.epoch, number)
        partners, share = None, 1.0
        if self.mixup_alpha:
            rng = np.random.default_rng((*seeds, Stream.MIXED))
            partners, share = torch.from_numpy(rng.permutation(len(rows))), rng.beta(self.mixup_alpha, self.mixup_alpha)
        return Batch(request(), (self.dataset.values[rows], self.dataset.weights[rows]), partners, share, seeds)


class ValidationBatches:
    """Iterate over the batches of a validation set, or of data that callbacks predict for, unchanged and in order."""

    def __init__(self, dataset: LabeledInputs, batch_size: int):
        self.dataset = dataset

    def __iter__(self) -> Iterator[Batch]:
        for rows in np.split(
            np.arange(len(self.dataset)), range(_VALIDATION_BATCH, len(self.dataset), _VALIDATION_BATCH)
        ):
            inputs = self.dataset.inputs.unchanged.request(rows, 0)()
            yield Batch(inputs, (self.dataset.values[rows], self.dataset.weights[rows]))
