"""The samples of `X` as batches of pixels, decoded by several threads a bounded number of images ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from sktl._images.network_pixels import network_pixels
from sktl._images.preprocessing import Preprocessing
from sktl._images.problems import ImageProblem
from sktl._images.samples import Sample
from sktl.exceptions import ImageFailure, InvalidImageError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Pixels of a batch: 4 images of 224 x 224. Larger batches are not faster, and need more memory.
_PIXELS = 4 * 224 * 224


def batches(samples: Sequence[Sample], preprocessing: Preprocessing, n_threads: int) -> Iterator[np.ndarray]:
    """Yield the pixels of samples in their order, as uint8 arrays of shape (n, H, W, 3).

    Raises
    ------
    InvalidImageError
        If samples cannot be used. After the first one, batches are no longer yielded, and the error lists all.
    """
    height, width = preprocessing.crop
    size = max(1, _PIXELS // (height * width))

    def decode(sample: Sample) -> np.ndarray | ImageProblem:
        try:
            return network_pixels(sample.read(), preprocessing)
        except ImageProblem as problem:
            return problem

    batch: list[np.ndarray] = []
    failures: list[ImageFailure] = []
    for position, found in enumerate(_map_ahead(decode, samples, n_threads, max(2 * size, n_threads))):
        if isinstance(found, ImageProblem):
            failures.append(ImageFailure(position, samples[position].name, str(found)))
        elif not failures:
            batch.append(found)
        if batch and not failures and (len(batch) == size or position == len(samples) - 1):
            yield np.stack(batch)
            batch = []
    if failures:
        raise InvalidImageError(failures)


def _map_ahead(
    function: Callable[[_Item], _Result], items: Sequence[_Item], n_threads: int, n_ahead: int
) -> Iterator[_Result]:
    """Yield what a function returns for items, in their order, computed by threads at most `n_ahead` items ahead."""
    if n_threads == 1 or len(items) == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(n_threads, "sktl")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
