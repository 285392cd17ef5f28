"""Features kept in memory, by the content of the image and the function that was applied to it."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

_MAX_BYTES = 1 << 30
# A row this many times as large as those of another network does not push them out.
_LARGER = 8


class CacheInfo(NamedTuple):
    """Statistics of the cache, as :func:`functools.lru_cache` gives them.

    Attributes
    ----------
    hits, misses : int
        Images whose features were found, and were not, since the process began or the cache was cleared.
    images : int
        Images whose features are kept now.
    bytes, max_bytes : int
        Size of these features, and its bound.
    """

    hits: int
    misses: int
    images: int
    bytes: int
    max_bytes: int


class FeatureStore:
    """A bounded map from (fingerprint, content key) to one row of features.

    When it is full, the features of the network that was used longest ago go first. If there is but one network, what
    is kept stays and the rest is computed anew each time: dropping the oldest would never hit under the cyclic scans
    of a search. Activations do not push out features, which are many times smaller.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES):
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._passes: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._rows: OrderedDict[str, dict[bytes, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    @contextmanager
    def exclusive(self, fingerprint: str) -> Iterator[None]:
        """Let one thread at a time compute with a network, so that none computes what another is about to store."""
        with self._lock:
            turn = self._passes[fingerprint]
        with turn:
            yield

    def find(self, fingerprint: str, keys: Sequence[bytes], count: bool = True) -> dict[bytes, np.ndarray]:
        """Return the rows that are kept, by key."""
        with self._lock:
            rows = self._rows.get(fingerprint, {})
            if rows:
                self._rows.move_to_end(fingerprint)
            found = {key: rows[key] for key in keys if key in rows}
            if count:
                hits = sum(key in found for key in keys)
                self._hits += hits
                self._misses += len(keys) - hits
            return found

    def put(self, fingerprint: str, key: bytes, row: np.ndarray) -> None:
        """Keep a row, which nobody may change afterwards, if there is room for it."""
        if row.nbytes > self.max_bytes:
            return
        with self._lock:
            while self._bytes + row.nbytes > self.max_bytes and (oldest := self._dispensable(fingerprint, row)):
                self._bytes -= sum(old.nbytes for old in self._rows.pop(oldest).values())
            if self._bytes + row.nbytes <= self.max_bytes:
                rows = self._rows.setdefault(fingerprint, {})
                if key not in rows:
                    rows[key] = row
                    self._bytes += row.nbytes

    def _dispensable(self, fingerprint: str, row: np.ndarray) -> str | None:
        """Return the network used longest ago whose rows a new row may push out: small ones save more per byte."""
        for name, rows in self._rows.items():
            if name != fingerprint and next(iter(rows.values())).nbytes * _LARGER >= row.nbytes:
                return name
        return None

    def info(self) -> CacheInfo:
        with self._lock:
            images = sum(map(len, self._rows.values()))
            return CacheInfo(self._hits, self._misses, images, self._bytes, self.max_bytes)

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()
            self._bytes = self._hits = self._misses = 0


process_store = FeatureStore()


def cache_info() -> CacheInfo:
    """Return statistics of the features that this process keeps.

    Returns
    -------
    CacheInfo
        Named tuple of hits, misses, images, bytes, max_bytes.

    Examples
    --------
    >>> import sktl
    >>> sktl.clear_cache()
    >>> sktl.cache_info().images
    0
    """
    return process_store.info()


def clear_cache() -> None:
    """Forget all features that this process keeps, and set the statistics to zero."""
    process_store.clear()
