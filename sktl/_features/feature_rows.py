"""The rows of one call: what is known about the key of each sample, and the array that fills up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sktl._images.samples import Sample
from sktl._storage.cache import Cache
from sktl.exceptions import ImageFailure

if TYPE_CHECKING:  # files of features are loaded without tqdm
    from sktl._utils.progress import Progress

# Rows per block, and bytes per block for copies from the cache.
_BLOCK = 256
COPIED_BYTES = 16 << 20

# Returns what is kept of some rows, an array of as many rows. It maps each row separately.
Kept: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Rows:
    """Rows of an array, addressed by the keys of samples and filled one by one.

    Values may be longer than a row; the numbers after the end of the row are ignored.

    Parameters
    ----------
    n_samples : int
    progress : Progress
        Is notified of the number of samples that have a row, or a reason why they have none.
    kept : callable, default=None
        What is kept of the rows. None keeps all of them.

    Attributes
    ----------
    array : ndarray of shape (n_samples, ...)
        The rows, or what is kept of them. It exists after `begin`.
    positions : dict
        Positions of the samples of each key.
    problems : dict
        Why keys have no row.
    """

    def __init__(self, n_samples: int, progress: Progress, kept: Kept | None = None):
        self.n_samples = n_samples
        self.progress = progress
        self._kept = kept or _all_of
        self.positions: dict[bytes, list[int]] = {}
        self.problems: dict[bytes, str] = {}
        self._missing: set[bytes] = set()
        self._computed: set[bytes] = set()
        self._n_unreadable = 0
        self._n_done = self._n_told = 0

    def add(self, start: int, keys: Sequence[bytes], problems: dict[bytes, str]) -> list[bytes]:
        """Add the keys of consecutive samples, and why some are unreadable. Return the new keys of the others."""
        self.problems |= problems
        self._n_unreadable += len(problems)
        new = []
        for position, key in enumerate(keys, start):
            if key not in self.positions:
                self.positions[key] = []
                if key not in problems:
                    self._missing.add(key)
                    new.append(key)
            elif key not in self._missing and key not in self.problems:  # a copy of an image that has its row
                self.array[position] = self.array[self.positions[key][0]]
            self.positions[key].append(position)
            self._n_done += key not in self._missing
        self._tell()
        return new

    def begin(self, shape: tuple[int, ...]) -> list[bytes]:
        """Begin with rows of a shape, all of them missing. Return the keys without a problem."""
        self._length = shape[0]
        nothing = self._kept(np.empty((0, *shape), np.float32))
        self.array = np.empty((self.n_samples, *nothing.shape[1:]), nothing.dtype)
        self._missing = self.positions.keys() - self.problems.keys()
        self._n_done = sum(len(self.positions[key]) for key in self.problems)
        return [key for key in self.positions if key in self._missing]

    def fill(self, keys: Sequence[bytes], cache: Cache, space: str, shape: tuple[int, ...]) -> list[bytes]:
        """Fill in cached values with the given shape. Return the keys that are not cached."""
        size = 4 * math.prod(shape)
        n_keys = rows_per_block(size, COPIED_BYTES)  # bounds the memory for copies
        for start in range(0, len(keys), n_keys):
            values = cache.get(space, keys[start : start + n_keys])
            found = {key: value for key, value in values.items() if len(value) == size}
            pairs = [(position, i) for i, key in enumerate(found) for position in self.positions[key]]
            if pairs:
                positions, sources = map(list, zip(*pairs, strict=True))
                whole = np.frombuffer(b"".join(found.values()), np.float32).reshape(-1, *shape)
                self.array[positions] = self._kept(whole[sources, : self._length])
            self._missing -= found.keys()
            self._n_done += len(pairs)
        self._tell()
        return [key for key in keys if key in self._missing]

    def put(self, key: bytes, outcome: np.ndarray | str) -> None:
        """Add the row of a key, or the reason why there is none."""
        if isinstance(outcome, str):
            self.problems[key] = outcome
        else:
            self.array[self.positions[key]] = self._kept(outcome[None, : self._length])
        self._missing.discard(key)
        self._computed.add(key)
        self._n_done += len(self.positions[key])
        self._tell()

    def _tell(self) -> None:
        """Report progress. After another call of `begin`, samples that were reported before are not reported again."""
        if self._n_done > self._n_told:
            self.progress.update(self._n_done - self._n_told)
            self._n_told = self._n_done

    def counts(self) -> tuple[int, int]:
        """Return for how many samples features were found, and for how many they were missing."""
        misses = sum(len(self.positions[key]) for key in self._computed)
        return self.n_samples - misses - self._n_unreadable, misses

    def failures(self, samples: Sequence[Sample]) -> list[ImageFailure]:
        """Return the samples without a row, with reasons, in order."""
        pairs = sorted((i, reason) for key, reason in self.problems.items() for i in self.positions[key])
        return [ImageFailure(i, samples[i].name, reason) for i, reason in pairs]


def _all_of(rows: np.ndarray) -> np.ndarray:
    return rows


def rows_per_block(row_bytes: int, n_bytes: int) -> int:
    """Return how many rows to process at once, so that they take no more than this number of bytes."""
    return max(1, min(_BLOCK, n_bytes // max(1, row_bytes)))
