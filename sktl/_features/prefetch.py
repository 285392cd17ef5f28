"""The pixels of samples as network input, decoded on request or ahead of time by a pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np

from sktl._images.augmentation import View
from sktl._images.decoding import ImageProblem, content_key
from sktl._images.network_pixels import network_pixels
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample, why_changed

_BYTES_AHEAD = 64 << 20


class Decoder:
    """Decode samples by their keys. Threads may call it concurrently.

    Parameters
    ----------
    samples : sequence of Sample
    positions : mapping
        Maps the keys of samples that may be requested to positions.
    preprocessing : Preprocessing
    view : View or None
        Random change of the images. Keys are then keys of the view.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        positions: Mapping[bytes, int],
        preprocessing: Preprocessing,
        view: View | None = None,
    ):
        self.samples = samples
        self.positions = positions
        self.preprocessing = preprocessing
        self.view = view
        self._ahead: dict[bytes, Future[np.ndarray]] = {}

    def __call__(self, key: bytes) -> np.ndarray:
        """Return the pixels of a sample, as uint8 of shape (H, W, 3).

        Raises
        ------
        ImageProblem
            If the sample cannot be read or decoded, or its content no longer matches its key.
        """
        ahead = self._ahead.pop(key, None)
        return self._decode(key) if ahead is None else ahead.result()

    @contextmanager
    def ahead(self, keys: Iterable[bytes], pool: ThreadPoolExecutor) -> Iterator[None]:
        """Let a pool decode the first samples, as many as fit into 64 MiB, until the block ends."""
        height, width = self.preprocessing.crop
        for key in islice(keys, _BYTES_AHEAD // (3 * height * width)):
            self._ahead[key] = pool.submit(self._decode, key)
        try:
            yield
        finally:
            # Running and finished tasks stay, because `__call__` uses their results.
            self._ahead = {key: future for key, future in self._ahead.items() if not future.cancel()}

    def _decode(self, key: bytes) -> np.ndarray:
        sample = self.samples[self.positions[key]]
        content = sample.read()
        # The file may have changed since its key was computed. Without the check, features of the new content would be
        # cached under the key of the old content.
        found = content_key(content)
        if key != (found if self.view is None else self.view.key(found)):
            raise ImageProblem(why_changed(sample))
        if self.view is not None:
            return self.view.pixels(content, found, self.preprocessing)
        return network_pixels(content, self.preprocessing)
