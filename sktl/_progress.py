"""Progress over images: bars, and what callbacks hear of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.auto import tqdm as automatic

from ._callbacks import Steps, draws_progress, task

_MOST_PARTS = 100


class Progress:
    """How many of some images are done: a bar counts each, callbacks hear of parts of equal size."""

    def __init__(self, bar: tqdm, parts: Steps, n_parts: int, n_images: int):
        self.bar = bar
        self.parts = parts
        self.n_parts = n_parts
        self.n_images = n_images
        self._n_done = self._n_parts_done = 0
        self.parts.begin()

    def update(self, n_images: int) -> None:
        """Count further images."""
        self.bar.update(n_images)
        self._n_done += n_images
        while self._n_parts_done < self._n_done * self.n_parts // self.n_images:
            self._n_parts_done += 1
            self.parts.end()
            if self._n_parts_done < self.n_parts:
                self.parts.begin()


@contextmanager
def progress_bar(description: str, n_images: int, verbose: int) -> Iterator[Progress]:
    """Show a bar of so many images, from `verbose=1` on, with few lines where it goes to a file.

    There is no bar where scikit-learn's progress bar shows the same.
    """
    interval = 0.5 if sys.stderr.isatty() else 10.0
    n_parts = min(n_images, _MOST_PARTS)
    hidden = verbose < 1 or draws_progress()
    with (
        task(description, n_parts, "images") as parts,
        automatic(total=n_images, desc=description, unit="image", disable=hidden, mininterval=interval) as bar,
    ):
        yield Progress(bar, parts, n_parts, n_images)
