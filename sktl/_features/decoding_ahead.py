"""The pixels of samples as network input, decoded on request or ahead of time, from what was read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from sktl._images.augmentation import View
from sktl._images.content_keys import content_key
from sktl._images.decoding import ImageProblem
from sktl._images.network_pixels import network_pixels
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample, why_changed

from .sample_windows import Budget, Content, size_of

_BYTES_AHEAD = 64 << 20


class Decoder:
    """Decode samples by their keys. Threads may call it concurrently.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
    view : View or None
        Random change of the images. Keys are then keys of the view.
    budget : Budget or None
        Is notified when the content of a sample is no longer held. None counts nothing.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        view: View | None = None,
        budget: Budget | None = None,
    ):
        self.samples = samples
        self.preprocessing = preprocessing
        self.view = view
        self.budget = budget
        self._positions: dict[bytes, int] = {}
        self._contents: dict[bytes, tuple[bytes, Content]] = {}
        self._ahead: dict[bytes, Future[np.ndarray]] = {}

    def key(self, content_key: bytes) -> bytes:
        """Return the key of a sample for the key of its content."""
        return content_key if self.view is None else self.view.key(content_key)

    def add(self, key: bytes, position: int, content_key: bytes, content: Content | None) -> None:
        """Add a sample that may be requested. If its content is not given, it is read on request."""
        self._positions[key] = position
        if content is not None:
            self._contents[key] = content_key, content

    def forget(self, key: bytes) -> None:
        """Release what is held for a sample that is not needed, or not needed soon."""
        self._taken(key)
        if (ahead := self._ahead.pop(key, None)) is not None:
            ahead.cancel()

    def __call__(self, key: bytes) -> np.ndarray:
        """Return the pixels of a sample, as uint8 of shape (H, W, 3).

        Raises
        ------
        ImageProblem
            If the sample cannot be read or decoded, or its content no longer matches its key.
        """
        ahead = self._ahead.pop(key, None)
        return self._decode(key) if ahead is None else ahead.result()

    @property
    def n_ahead(self) -> int:
        """Number of further samples that may be decoded ahead of time, so that at most 64 MiB are held."""
        height, width = self.preprocessing.crop
        return max(0, _BYTES_AHEAD // (3 * height * width) - len(self._ahead))

    def start(self, keys: Iterable[bytes], pool: ThreadPoolExecutor) -> None:
        """Let a pool decode samples ahead of time, as many as fit."""
        for key, _ in zip(keys, range(self.n_ahead), strict=False):
            self._ahead[key] = pool.submit(self._decode, key)

    def stop(self) -> None:
        """Cancel tasks that have not started. `__call__` uses the results of the others."""
        self._ahead = {key: future for key, future in self._ahead.items() if not future.cancel()}

    def _taken(self, key: bytes) -> tuple[bytes, Content] | None:
        """Return the content of a sample and its key if it is held, and hold it no longer."""
        held = self._contents.pop(key, None)
        if held is not None and self.budget is not None:
            self.budget.release(size_of(held[1]))
        return held

    def _decode(self, key: bytes) -> np.ndarray:
        if (held := self._taken(key)) is None:
            sample = self.samples[self._positions[key]]
            content = sample.read()
            # The file may have changed since its key was computed. Without the check, features of the new content would
            # be cached under the key of the old content.
            found = content_key(content)
            if key != self.key(found):
                raise ImageProblem(why_changed(sample))
        else:
            found, content = held
        if self.view is not None:
            return self.view.pixels(content, found, self.preprocessing)
        return network_pixels(content, self.preprocessing)
