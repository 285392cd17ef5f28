"""Recent results for samples, remembered in the process because candidates of a search train on the same folds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from sktl._utils.locks import fork_safe_lock

from .standardization import row_blocks

Result = TypeVar("Result")


class SampleMemo(Generic[Result]):
    """Results addressed by the samples that they were computed from. The most recently used results are remembered.

    Parameters
    ----------
    limit : int
        Maximum total cost of all results.
    cost : callable
        Returns the cost of a result, such as its size in bytes.
    """

    def __init__(self, limit: int, cost: Callable[[Result], int]):
        self.limit = limit
        self.cost = cost
        self._lock = fork_safe_lock()
        self._results: OrderedDict[bytes, Result] = OrderedDict()

    def get(
        self, features: np.ndarray, weights: np.ndarray, parameters: object, compute: Callable[[], Result]
    ) -> Result:
        """Return the result of `compute`, or an earlier result for equal samples and parameters.

        Two threads may compute the same result. Waiting for each other would take as long.
        """
        key = _key(features, weights, parameters)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        found = compute()
        # A result above the limit would evict all others, and then itself.
        if self.cost(found) <= self.limit:
            with self._lock:
                self._results[key] = found
                while self.total_cost() > self.limit:
                    self._results.popitem(last=False)
        return found

    def total_cost(self) -> int:
        """Return the total cost of all results."""
        return sum(map(self.cost, self._results.values()))

    def clear(self) -> None:
        """Remove all results."""
        with self._lock:
            self._results.clear()


def _key(features: np.ndarray, weights: np.ndarray, parameters: object) -> bytes:
    # SHA-256 is the fastest digest on processors that have instructions for it.
    digest = hashlib.sha256(repr((features.shape, parameters)).encode())
    for rows in row_blocks(len(features)):  # a copy of all would take as much memory as the features
        digest.update(np.ascontiguousarray(features[rows]).data)
    digest.update(weights.tobytes())
    return digest.digest()
