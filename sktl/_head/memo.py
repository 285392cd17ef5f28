"""What was computed of samples last, kept in the process: candidates of a search train on the same folds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from sktl._utils.isolation import fork_safe_lock

Result = TypeVar("Result")


class SampleMemo(Generic[Result]):
    """Results by the samples that they were computed of; those used last, as many as a bound allows.

    Parameters
    ----------
    limit : int
        What all results together may cost.
    cost : callable
        Returns what a result costs, such as its bytes.
    """

    def __init__(self, limit: int, cost: Callable[[Result], int]):
        self.limit = limit
        self.cost = cost
        self._lock = fork_safe_lock()
        self._results: OrderedDict[bytes, Result] = OrderedDict()

    def get(
        self, features: np.ndarray, weights: np.ndarray, parameters: object, compute: Callable[[], Result]
    ) -> Result:
        """Return what `compute` returns, or returned for equal samples and parameters.

        Two threads may compute the same: waiting for each other would cost as much.
        """
        key = _key(features, weights, parameters)
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        found = compute()
        with self._lock:
            self._results[key] = found
            while self.total_cost() > self.limit:
                self._results.popitem(last=False)
        return found

    def total_cost(self) -> int:
        """Return what all results cost together."""
        return sum(map(self.cost, self._results.values()))

    def clear(self) -> None:
        """Forget all results."""
        self._results.clear()


def _key(features: np.ndarray, weights: np.ndarray, parameters: object) -> bytes:
    digest = hashlib.sha256(repr((features.shape, parameters)).encode())  # the quickest where processors help with it
    digest.update(np.ascontiguousarray(features).data)
    digest.update(weights.tobytes())
    return digest.digest()
