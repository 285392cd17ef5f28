"""Progress over images, shown by a bar and reported to callbacks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from tqdm import tqdm
from tqdm.auto import tqdm as automatic

from .fit_tasks import Steps, draws_progress, task

_MOST_PARTS = 100


class Progress:
    """The progress of a pass over images. The bar counts images, and callbacks are notified of equal parts."""

    def __init__(self, count: Callable[[int], Any], parts: Steps, n_parts: int, n_images: int):
        self.count = count
        self.parts = parts
        self.n_parts = n_parts
        self.n_images = n_images
        self._n_done = self._n_parts_done = 0
        self.parts.begin()

    def update(self, n_images: int) -> None:
        """Count more images as done."""
        self.count(n_images)
        self._n_done += n_images
        while self._n_parts_done < self._n_done * self.n_parts // self.n_images:
            self._n_parts_done += 1
            self.parts.end()
            if self._n_parts_done < self.n_parts:
                self.parts.begin()


@contextmanager
def progress_bar(description: str, n_images: int, verbose: int) -> Iterator[Progress]:
    """Show a progress bar for `n_images` images if `verbose` is at least 1, with few updates if it goes to a file.

    No bar is shown if scikit-learn's progress bar already shows the fit.
    """
    n_parts = min(n_images, _MOST_PARTS)
    shown = verbose >= 1 and _can_draw()
    bar = _bar(description, n_images) if shown else nullcontext(_nothing)
    with task(description, n_parts, "images") as parts, bar as count:
        yield Progress(count, parts, n_parts, n_images)


@contextmanager
def training_bar(description: str, n_images: int, verbose: int) -> Iterator[Callable[[int], Any]]:
    """Show a progress bar for the images of all epochs if `verbose` is 1. Yield a function that counts more images.

    Epochs are reported to callbacks elsewhere. With a higher `verbose`, a line is printed for each epoch instead.
    """
    with _bar(description, n_images) if verbose == 1 and _can_draw() else nullcontext(_nothing) as count:
        yield count


def _nothing(n_images: int) -> None:
    """Show nothing."""


def _can_draw() -> bool:
    return not draws_progress() and _can_write(sys.stderr)


@contextmanager
def _bar(description: str, n_images: int) -> Iterator[Callable[[int], Any]]:
    """Show a bar, and yield a function that counts more images. A bar that cannot be written is no longer shown.

    Otherwise, a full disk or a closed pipe at the end of standard error would end hours of training.
    """
    interval = 0.5 if _is_watched(sys.stderr) else 10.0
    bars: list[tqdm] = []

    def attempt(act: Callable[[], Any]) -> None:
        try:
            act()
        except (OSError, ValueError, TypeError):
            for bar in bars:
                bar.disable = True

    def open_bar() -> None:
        bars.append(automatic(total=n_images, desc=description, unit="image", mininterval=interval))

    attempt(open_bar)
    try:
        yield lambda n: attempt(lambda: [bar.update(n) for bar in bars])
    finally:
        attempt(lambda: [bar.close() for bar in bars])


def _can_write(stream: Any) -> bool:
    """Return True if text can be written to a stream: services and windowed programs have none, or a closed one."""
    return callable(getattr(stream, "write", None)) and not getattr(stream, "closed", False)


def _is_watched(stream: Any) -> bool:
    """Return True if a stream is shown to a person: in a terminal or a notebook. Objects with only `write` are not."""
    # The stream of a notebook's kernel is no terminal, but it sends what was written at this interval.
    if hasattr(stream, "flush_interval"):
        return True
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False
