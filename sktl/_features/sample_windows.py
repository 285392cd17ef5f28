"""The samples of `X` as windows, each of which is read while others are used, and the bytes that windows may hold."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from threading import Condition
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Content: TypeAlias = "bytes | np.ndarray"


def size_of(content: Content | None) -> int:
    """Return the size of a content in bytes."""
    return 0 if content is None else len(content) if isinstance(content, bytes) else content.nbytes


class Window(NamedTuple):
    """Consecutive samples of `X` that were read.

    Attributes
    ----------
    start : int
        Position of the first sample.
    keys : list of bytes
        Content keys of the samples; placeholders for unreadable samples.
    problems : dict
        Why samples are unreadable, by their placeholders.
    contents : dict
        Contents by key, without samples that were known from their stamps. The budget counts the contents as held.
    """

    start: int
    keys: list[bytes]
    problems: dict[bytes, str]
    contents: dict[bytes, Content]


class Budget:
    """A limit on the bytes of the contents that several threads hold together.

    Parameters
    ----------
    limit : int
        Largest number of bytes.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._held = 0
        self._closed = False
        self._changed = Condition()

    def reserve(self, n_bytes: int, wait: bool) -> bool:
        """Hold more bytes. If they do not fit, wait until they do, or return False.

        Raises
        ------
        CancelledError
            If the budget is closed.
        """
        with self._changed:
            while not self._closed and self._held and self._held + n_bytes > self.limit:
                if not wait:
                    return False
                self._changed.wait()
            if self._closed:
                raise CancelledError
            self._held += n_bytes
            return True

    def release(self, n_bytes: int) -> None:
        """Hold fewer bytes; more if the number is negative."""
        with self._changed:
            self._held -= n_bytes
            self._changed.notify_all()

    def close(self) -> None:
        """Raise an error in threads that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Windows:
    """All samples of `X`, in order, as windows. Each window is read while others are used.

    Parameters
    ----------
    windows : iterator of Window
    n_samples : int
    budget : Budget
    producer : Executor
        A single thread, which waits for the readers.
    """

    def __init__(self, windows: Iterator[Window], n_samples: int, budget: Budget, producer: Executor):
        self.budget = budget
        self._windows = windows
        self._n_left = n_samples
        self._producer = producer
        self._next: Future[Window] | None = None

    @property
    def exhausted(self) -> bool:
        """Whether all windows were taken."""
        return not self._n_left

    def is_ready(self) -> bool:
        """Return True if the next window can be taken without waiting."""
        return self._next is not None and self._next.done()

    def wait(self, seconds: float | None = None, until: Future[Any] | None = None) -> None:
        """Wait until the next window is ready, for this number of seconds, or until another task is done."""
        self.start()  # otherwise, a wait before the first window is taken would never end
        tasks = [task for task in (self._next, until) if task is not None]
        wait(tasks, seconds, FIRST_COMPLETED)

    def start(self) -> None:
        """Let another thread read the first window."""
        if self._next is None and self._n_left:
            self._next = self._producer.submit(next, self._windows)

    def take(self) -> Window:
        """Return the next window."""
        # Without `start`, the calling thread reads the first window: a small set needs no other thread.
        window = next(self._windows) if self._next is None else self._next.result()
        self._n_left -= len(window.keys)
        self._next = self._producer.submit(next, self._windows) if self._n_left else None
        return window
