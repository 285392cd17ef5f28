"""The pixels of samples as a network takes them: decoded when they are asked for, or by a pool ahead of that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np

from sktl._images.augmentation import View
from sktl._images.decoding import ImageProblem, content_key, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl.exceptions import DeviceMemoryError

_BYTES_AHEAD = 64 << 20


def network_pixels(content: bytes | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return the content of a sample as a network takes it, unchanged: uint8 pixels (H, W, 3).

    What checks images before a fit and what computes their features both come here, so that they agree.

    Raises
    ------
    ImageProblem
        If the content is no image, or one that cannot be resized.
    DeviceMemoryError
        If there is no memory for an image of the size that the network takes.
    """
    image = decode(content, preprocessing)
    try:
        return preprocessing.pixels(image)
    except (MemoryError, OverflowError) as error:  # sizes beyond 31 bits overflow before they are allocated
        height, width = preprocessing.crop
        raise DeviceMemoryError(
            f"There is not enough memory to resize an image to {width} x {height} pixels; pass a smaller image_size, "
            "or free memory."
        ) from error
    except ValueError as error:
        width, height = image.size
        raise ImageProblem(f"has {width} x {height} pixels, which cannot be resized: {error}; crop it") from error


class Decoder:
    """Decodes samples that are found by their keys; threads may call it at once.

    Parameters
    ----------
    samples : sequence of Sample
    positions : mapping
        Key to position, of the samples that may be asked for.
    preprocessing : Preprocessing
    view : View or None
        How images are changed; their keys are then those of the view.
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
        """Return the pixels of a sample, uint8 of shape (H, W, 3).

        Raises
        ------
        ImageProblem
            If it cannot be read or decoded, or is not what its key says.
        """
        ahead = self._ahead.pop(key, None)
        return self._decode(key) if ahead is None else ahead.result()

    @contextmanager
    def ahead(self, keys: Iterable[bytes], pool: ThreadPoolExecutor) -> Iterator[None]:
        """Let a pool decode as many of the first samples as fit into 64 MiB, until the block ends."""
        height, width = self.preprocessing.crop
        for key in islice(keys, _BYTES_AHEAD // (3 * height * width)):
            self._ahead[key] = pool.submit(self._decode, key)
        try:
            yield
        finally:
            self._ahead = {key: future for key, future in self._ahead.items() if not future.cancel()}

    def _decode(self, key: bytes) -> np.ndarray:
        content = self.samples[self.positions[key]].read()
        found = content_key(content)
        if key != (found if self.view is None else self.view.key(found)):
            raise ImageProblem("changed while it was being read; fit again when nothing writes to it")
        if self.view is not None:
            return self.view.pixels(content, found, self.preprocessing)
        return network_pixels(content, self.preprocessing)
