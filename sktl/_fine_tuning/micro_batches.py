"""Micro-batches of training: in parallel on a CPU, and few enough images at once for the memory of an accelerator.

On a CPU, each thread of a pool processes a micro-batch of fixed size from pixels to gradients with one intra-op thread.
Large batches would spend their time mapping memory, and a sum in the order of the micro-batches depends neither on the
number of threads nor on their timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sktl._training.optimizers import shares
from sktl._training.recipe import TailRecipe
from sktl._utils.devices import halved, within_memory
from sktl._utils.warnings import warn
from sktl.exceptions import DeviceMemoryError, DeviceWarning

from .tail_batches import ImageInputs, Inputs

_MICRO_BATCH = 8
_MICRO_BATCH_OF_PIXELS = 4  # smaller, because more layers have to store activations for the gradients


@dataclass(frozen=True)
class Workers:
    """The device, and threads with one intra-op thread each, which fetch inputs and, on a CPU, also compute."""

    pool: ThreadPoolExecutor
    device: torch.device


@dataclass
class MicroBatchRunner:
    """Run a function on micro-batches: in the threads of a pool on a CPU, and one after the other elsewhere.

    A batch is `divisible` into smaller micro-batches unless BatchNorm learns from it.
    """

    pool: ThreadPoolExecutor | None
    size: int
    device: torch.device
    divisible: bool = True
    warned: bool = False
    has_trained: bool = False

    @classmethod
    def of(cls, batch_size: int, inputs: Inputs, recipe: TailRecipe, workers: Workers) -> MicroBatchRunner:
        """Return a runner of micro-batches on a CPU. Elsewhere, or if BatchNorm learns, it runs whole batches."""
        divisible = recipe.keeps_statistics
        if workers.device.type != "cpu" or not divisible:
            return cls(None, batch_size + 1, workers.device, divisible)
        size = _MICRO_BATCH_OF_PIXELS if isinstance(inputs, ImageInputs) else _MICRO_BATCH
        return cls(workers.pool, size, workers.device, divisible)

    def __call__(self, function: Callable[[slice, int], Any], n: int, n_alone: int = 0) -> list[Any]:
        """Return the results for all micro-batches, which become smaller if an accelerator is out of memory.

        The first `n_alone` micro-batches run one after the other, before the others.
        """

        def shrink() -> None:
            self._shrink(min(self.size, n))

        return within_memory(lambda: self._run(function, n, n_alone), shrink, self.device)

    def _shrink(self, size: int) -> None:
        where = f"the memory of device={str(self.device)!r}"
        if not self.divisible:
            raise DeviceMemoryError(
                f"A batch of {size} images does not fit into {where}, and BatchNorm, which learns with weights=None, "
                "needs all of it at once. Pass a smaller batch_size or image_size."
            )
        self.size = halved(size, "training", self.device)
        if not self.warned:
            warn(
                f"Training on {size} images at once exceeds {where}. From now on, fewer are processed at once, "
                "which is slower and changes the last bits of results.",
                DeviceWarning,
            )
        self.warned = True

    def _run(self, function: Callable[[slice, int], Any], n: int, n_alone: int) -> list[Any]:
        rows = [slice(start, min(start + self.size, n)) for start in range(0, n, self.size)]
        alone = [function(part, number) for number, part in enumerate(rows[:n_alone])]
        return alone + self.each(function, rows[n_alone:], range(n_alone, len(rows)))

    def each(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Return a function's results for several arguments."""
        run = map if self.pool is None else self.pool.map
        return list(run(function, *arguments))

    def each_share(
        self, function: Callable[[list[nn.Parameter]], Any], parameters: Iterable[nn.Parameter]
    ) -> list[Any]:
        """Return a function's results for several lists into which parameters are divided."""
        return self.each(function, [list(parameters)] if self.pool is None else shares(parameters))
