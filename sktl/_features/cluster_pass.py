"""A pass spread over the workers of a cluster: blocks of samples go out, and rows come back in bounded memory.

The calling process takes cached rows from its own cache, sends blocks of the other samples, and processes samples that
do not come back or that workers cannot use. Results and errors are the same as without a cluster.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from sktl._images.image_urls import UrlSample
from sktl._images.samples import BytesSample, FileSample, ItemSample, Sample
from sktl._short_text import LONGEST_REASON, one_line
from sktl._storage.cache import Cache
from sktl._utils.dask_and_ray import Cluster, Submit, active_cluster
from sktl._utils.progress import Progress
from sktl._utils.warnings import warn
from sktl.exceptions import ClusterWarning, ImageFailure

from .reading_ahead import remember_contents
from .worker_tasks import Answer, BlockTask, RowFunction, RowsTask, portable, size_of

# A lost block costs little. Blocks become smaller toward the end, so that the workers finish at about the same time.
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 64
_BYTES_PER_BLOCK = 16 << 20
_BLOCK_HERE = 1024  # in this process
_BLOCKS_AHEAD = 2  # per task that can run at once, so that no worker waits for its next block
_TRIES = 3  # dask and ray also repeat a task whose worker dies, three times by default
# Seconds without an answer after which the calling process computes blocks as well.
_PATIENCE = 60.0
_PATIENCE_WITHOUT_WORKERS = 10.0
_SECONDS_BETWEEN_COUNTS = 1.0


def attempted(function: RowFunction, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
    """Return the result of `function.attempt`, computed by workers if joblib's active backend has a cluster."""
    cluster = active_cluster()
    if cluster is None or len(samples) <= SMALLEST_BLOCK:
        return function.attempt(samples)
    keys, cached = function.find_cached(samples)
    rest = np.setdiff1d(np.arange(len(samples)), cached).tolist()
    if len(rest) <= SMALLEST_BLOCK or not is_ready(cluster):
        return function.attempt(samples)
    with function.progress(len(samples)) as progress:
        attempt = function.silent(None).attempt
        rows = _Rows(len(samples))
        task = RowsTask(function.silent(cluster.n_threads), function.cache.address)
        spread = SpreadPass(cluster, task, attempt, function.cache, progress)
        with closing(spread.run(samples, rest, keys, here=cached)) as results:
            for positions, found in results:
                rows.put(positions, found)
        return rows.array, spread.failures


def is_ready(cluster: Cluster) -> bool:
    """Return True if a cluster has more than one worker. Warn if it has none."""
    try:
        cluster.wait_for_workers()
        return cluster.count_slots() > 1
    except Exception as error:  # of dask or ray
        warn(
            f"No worker of the cluster is available: {error}. The images are computed in this process.", ClusterWarning
        )
        return False


class _Rows:
    """Rows whose shape is known when the first of them arrive."""

    def __init__(self, n_samples: int):
        self._n_samples = n_samples
        self.array = np.empty((n_samples, 0), np.float32)

    def put(self, positions: Sequence[int], rows: np.ndarray) -> None:
        if self.array.shape[1:] != rows.shape[1:]:
            self.array = np.empty((self._n_samples, *rows.shape[1:]), rows.dtype)
        self.array[positions] = rows


@dataclass
class _Block:
    positions: list[int]
    samples: list[Sample]
    n_failed: int = 0


class SpreadPass:
    """One pass over samples by the workers of a cluster.

    Parameters
    ----------
    cluster : Cluster
    task : BlockTask
        What a worker does with a block.
    attempt : callable
        Processes samples in this process: returns their rows, or None, and the failures of the unusable samples.
    cache : Cache
        Receives the entries of the workers' caches.
    progress : Progress

    Attributes
    ----------
    failures : list of ImageFailure
        The unusable samples, in their order, once the pass is complete.
    """

    def __init__(
        self,
        cluster: Cluster,
        task: BlockTask,
        attempt: Callable[[Sequence[Sample]], tuple[np.ndarray | None, list[ImageFailure]]],
        cache: Cache,
        progress: Progress,
    ):
        self.cluster = cluster
        self.task = task
        self.attempt = attempt
        self.cache = cache
        self.progress = progress
        self.failures: list[ImageFailure] = []
        self._unusable: list[int] = []  # for workers
        self._lost: list[int] = []  # in blocks that failed each time
        self._reason = ""
        self._n_slots, self._counted = 0, -_SECONDS_BETWEEN_COUNTS

    def run(
        self,
        samples: Sequence[Sample],
        positions: Sequence[int],
        keys: Mapping[int, bytes],
        here: Sequence[int] = (),
    ) -> Generator[tuple[list[int], Any]]:
        """Yield positions with their rows, in order of completion. Samples with equal keys or paths are sent once.

        Samples at the positions `here` are not sent.
        """
        self._samples = samples
        sent = _copies(samples, positions, keys)
        copies = sent | {position: [position] for position in here}
        for some, rows in chain(self._computed_here(here), self._computed([*sent])):
            chosen = [(copy, i) for i, position in enumerate(some) for copy in copies[position]]
            self.progress.update(len(chosen))
            if rows is not None and chosen:
                yield [copy for copy, _ in chosen], rows[[i for _, i in chosen]]
        # Only the first of several copies was computed, so its failure is reported for each copy.
        self.failures = sorted(
            failure._replace(position=copy, name=samples[copy].name)
            for failure in self.failures
            for copy in copies[failure.position]
        )

    def _computed(self, positions: list[int]) -> Iterator[tuple[list[int], Any]]:
        with ExitStack() as stack:
            try:
                submit = stack.enter_context(self.cluster.tasks(self.task))
            except Exception as error:  # of dask or ray, or of objects that cannot be pickled
                self._lose(positions, error)
            else:
                yield from self._by_workers(submit, deque(positions))
        if self._lost:
            warn(
                f"{len(self._lost)} images came back from no worker of the cluster and are computed in this process. "
                f"The first error: {self._reason}",
                ClusterWarning,
            )
        yield from self._computed_here(self._lost)
        n_before = len(self.failures)
        yield from self._computed_here(self._unusable)
        n_usable = len(self._unusable) - (len(self.failures) - n_before)
        if n_usable:
            warn(
                f"Workers of the cluster could not use {n_usable} images, which were computed in this process. Pass "
                "paths that exist on each worker, and set up each worker to read the same formats.",
                ClusterWarning,
            )

    def _by_workers(self, submit: Submit, waiting: deque[int]) -> Iterator[tuple[list[int], Any]]:
        again: deque[_Block] = deque()
        running: dict[Future[Any], _Block] = {}
        heard = time.monotonic()
        while waiting or again or running:
            while (waiting or again) and len(running) < _BLOCKS_AHEAD * self._count_slots():
                block = again.popleft() if again else self._cut(waiting)
                try:
                    running[submit(block.samples)] = block
                except Exception as error:  # of dask or ray, or of objects that cannot be pickled
                    self._retry(block, again, error)
            patience = (_PATIENCE if self._count_slots() else _PATIENCE_WITHOUT_WORKERS) + heard - time.monotonic()
            if not running and patience > 0:
                time.sleep(0.05)  # for workers
            done, _ = wait(running, min(max(patience, 0.0), _SECONDS_BETWEEN_COUNTS), FIRST_COMPLETED)
            for future in done:
                block = running.pop(future)
                try:
                    answer = future.result()
                except Exception as error:  # of any type: a dead worker, or what the task raises
                    self._retry(block, again, error)
                else:
                    heard = time.monotonic()
                    yield self._accept(block, answer)
            if patience < 0 and not done and (waiting or again or running):
                block = again.popleft() if again else self._cut(waiting) if waiting else _give_up(running)
                yield from self._computed_here(block.positions)

    def _cut(self, waiting: deque[int]) -> _Block:
        """Take the next block from the waiting samples."""
        share = len(waiting) // (_BLOCKS_AHEAD * max(1, self._n_slots))
        size = min(max(share - share % SMALLEST_BLOCK, SMALLEST_BLOCK), LARGEST_BLOCK)  # full chunks of the network
        block, n_bytes = _Block([], []), 0
        while waiting and len(block.positions) < size and n_bytes < _BYTES_PER_BLOCK:
            position = waiting.popleft()
            sample = portable(self._samples[position])
            n_bytes += size_of(sample)
            block.positions.append(position)
            block.samples.append(sample)
        # Workers receive the contents of items, without the stamps by which this process knows them.
        pairs = [(self._samples[i], sent) for i, sent in zip(block.positions, block.samples, strict=True)]
        remember_contents([pair for pair in pairs if isinstance(pair[0], ItemSample)], self.cache)
        return block

    def _count_slots(self) -> int:
        if time.monotonic() > self._counted + _SECONDS_BETWEEN_COUNTS:
            try:
                self._n_slots = self.cluster.count_slots()
            except Exception as error:  # the scheduler is lost
                self._n_slots, self._reason = 0, self._reason or _described(error)
            self._counted = time.monotonic()
        return self._n_slots

    def _accept(self, block: _Block, answer: Answer) -> tuple[list[int], Any]:
        for space, entries in answer.entries.items():
            self.cache.put(space, [*entries.items()])
        unusable = set(answer.unusable)
        self._unusable += [block.positions[i] for i in answer.unusable]
        return [position for i, position in enumerate(block.positions) if i not in unusable], answer.rows

    def _retry(self, block: _Block, again: deque[_Block], error: Exception) -> None:
        block.n_failed += 1
        if block.n_failed < _TRIES:
            again.append(block)
        else:
            self._lose(block.positions, error)

    def _lose(self, positions: Sequence[int], error: Exception) -> None:
        self._lost += positions
        self._reason = self._reason or _described(error)

    def _computed_here(self, positions: Sequence[int]) -> Iterator[tuple[list[int], Any]]:
        """Process samples in this process. Yield the positions of the usable samples with their rows."""
        for start in range(0, len(positions), _BLOCK_HERE):
            some = positions[start : start + _BLOCK_HERE]
            rows, failures = self.attempt([self._samples[i] for i in some])
            self.failures += [failure._replace(position=some[failure.position]) for failure in failures]
            unusable = [failure.position for failure in failures]
            yield np.delete(some, unusable).tolist(), None if rows is None else np.delete(rows, unusable, axis=0)


def _give_up(running: dict[Future[Any], _Block]) -> _Block:
    """Take back the block that has been running for the longest time."""
    future = next(iter(running))
    future.cancel()
    return running.pop(future)


def _copies(samples: Sequence[Sample], positions: Sequence[int], keys: Mapping[int, bytes]) -> dict[int, list[int]]:
    """Return the positions of samples that are known to be equal, by the first of these positions."""
    first: dict[object, int] = {}
    copies: dict[int, list[int]] = {}
    for position in positions:
        sample = samples[position]
        by_value = isinstance(sample, FileSample | UrlSample | BytesSample)
        identity = keys.get(position) or (sample if by_value else position)
        copies.setdefault(first.setdefault(identity, position), []).append(position)
    return copies


def _described(error: Exception) -> str:
    error = getattr(error, "cause", None) or error  # ray's own text is a traceback in color
    return one_line(f"{type(error).__name__}: {error}", LONGEST_REASON)
