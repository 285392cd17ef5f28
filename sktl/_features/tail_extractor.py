"""Convert samples to features of a network with trained stages: cached activations of its trunk, then its own tail."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from sktl._backbones.cut import Cut
from sktl._images.samples import Sample
from sktl._storage.cache import NO_CACHE, Cache
from sktl._utils.devices import halved, within_memory
from sktl._utils.progress import Progress
from sktl._utils.threads import n_threads, single_threaded_pool
from sktl._utils.torch_kernels import place
from sktl.exceptions import ImageFailure, InvalidImageError

from .cluster_pass import attempted
from .extractor import FeatureExtractor
from .feature_rows import rows_per_block
from .frozen_trunk import chunk_size

# Bytes per block of activations that go through a tail. Blocks bound the memory for sets of any size.
_TAIL_BYTES = 128 << 20


@dataclass(frozen=True)
class TailExtractor:
    """Features of a network with its own tail: cached activations of the trunk, followed by the tail.

    Parameters
    ----------
    trunk : FeatureExtractor
        What it keeps of rows is kept of the features.
    cut : Cut
        The cut network, in eval mode on the CPU.
    """

    trunk: FeatureExtractor
    cut: Cut

    @property
    def cache(self) -> Cache:
        """`NO_CACHE`, because features are not cached. Activations are cached in the cache of the trunk."""
        return NO_CACHE

    def with_cache(self, cache: Cache) -> TailExtractor:
        """Return the same extractor."""
        return self

    def silent(self, n_threads: int | None) -> TailExtractor:
        """Return the extractor without a progress bar, and with another number of threads unless it is None."""
        return dataclasses.replace(self, trunk=self.trunk.silent(n_threads))

    def find_cached(self, samples: Sequence[Sample]) -> tuple[dict[int, bytes], list[int]]:
        """Return nothing, because features are not cached."""
        return {}, []

    def progress(self, n_images: int) -> AbstractContextManager[Progress]:
        """Return a progress bar."""
        return self.trunk.progress(n_images)

    def __call__(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features), or what is kept of them.

        If joblib's active backend has a cluster, its workers compute the features.
        """
        rows, failures = attempted(self, samples)
        if failures:
            raise InvalidImageError(failures)
        return rows

    def attempt(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return the features of samples, or what is kept of them, computed in this process, and the failures.

        Rows of unusable samples are undefined.
        """
        found: list[np.ndarray] = []
        failures: list[ImageFailure] = []
        trunk = dataclasses.replace(self.trunk, verbose=0, kept=None)
        with self.trunk.progress(len(samples)) as progress:
            size = max(chunk_size(trunk.device), rows_per_block(trunk.row_bytes, _TAIL_BYTES))
            for start in range(0, len(samples), size):
                block = samples[start : start + size]
                activations, failed = trunk.usable(block)
                failures += [failure._replace(position=failure.position + start) for failure in failed]
                if len(activations):
                    features = tail_features(self.cut, activations, trunk.device, trunk.n_jobs)
                    found.append(features if self.trunk.kept is None else self.trunk.kept(features))
                progress.update(len(block))
        some = np.concatenate(found) if found else np.empty((0, 0), np.float32)
        if not failures:
            return some, []
        rows = np.empty((len(samples), *some.shape[1:]), some.dtype)
        rows[np.delete(np.arange(len(samples)), [failure.position for failure in failures])] = some
        return rows, failures


def tail_features(cut: Cut, activations: np.ndarray, device: torch.device, n_jobs: int | None) -> np.ndarray:
    """Return the features for activations as float32 of shape (n_samples, n_features), in chunks of one shape."""
    size = chunk_size(device)

    def shrink() -> None:
        nonlocal size
        size = halved(size, "the trained stages", device)

    return within_memory(lambda: _in_chunks(cut, activations, size, device, n_jobs), shrink, device)


def _in_chunks(cut: Cut, activations: np.ndarray, size: int, device: torch.device, n_jobs: int | None) -> np.ndarray:
    on_cpu = device.type == "cpu"
    cut = cut if on_cpu else place(copy.deepcopy(cut), device).eval()

    def run(start: int) -> np.ndarray:
        rows = activations[start : start + size]
        chunk = torch.from_numpy(np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)]))
        with torch.inference_mode():
            return cut.tail(cut.laid_out(chunk.to(device)))[: len(rows)].to("cpu", torch.float32).numpy()

    with single_threaded_pool(n_threads(n_jobs) if on_cpu else 1) as pool:
        return np.concatenate(list(pool.map(run, range(0, len(activations), size))))
