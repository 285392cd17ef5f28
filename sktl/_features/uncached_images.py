"""The images whose features a call has to compute, as its samples are read and looked up in the cache."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from sktl._storage.cache import Cache

from .decoding_ahead import Decoder
from .engines import Engine
from .feature_rows import Rows
from .sample_windows import Windows, size_of


class RowSpace(NamedTuple):
    """Where the rows of an engine are cached, and the shapes of a whole row and of the part that is wanted."""

    cache: Cache
    name: str
    whole: tuple[int, ...]
    wanted: tuple[int, ...]


class Wanted:
    """Keys of samples whose rows are missing, window by window.

    Parameters
    ----------
    windows : Windows
    rows : Rows
        Receives the keys, and the rows that are cached.
    decoder : Decoder
        Receives the contents of the other samples.
    """

    def __init__(self, windows: Windows, rows: Rows, decoder: Decoder):
        self.windows = windows
        self.rows = rows
        self.decoder = decoder
        self.space: RowSpace | None = None
        self._left: list[bytes] = []

    def begin(self, space: RowSpace) -> None:
        """Look up the keys of all windows taken so far, and of later windows as they are taken."""
        self.space = space
        self._left = self._missing(self.rows.begin(space.wanted))

    @property
    def exhausted(self) -> bool:
        """Whether all keys were taken."""
        return not self._left and self.windows.exhausted

    def is_ready(self) -> bool:
        """Return True if more can be taken without waiting for samples to be read."""
        return bool(self._left) or self.windows.is_ready()

    def wait(self, seconds: float) -> None:
        """Wait until more can be taken, or for this number of seconds."""
        if not self._left:
            self.windows.wait(seconds)

    def take(self) -> list[bytes]:
        """Return more keys: the missing keys of the next window, or all of its keys before `begin`."""
        left, self._left = self._left, []
        return left or self._of_next_window()

    def look_ahead(self) -> list[bytes]:
        """Return the keys of the next window, which `take` will return again."""
        found = self._of_next_window()
        self._left += found
        return found

    def decode_ahead(self, opening: Future[Engine], pool: ThreadPoolExecutor) -> None:
        """Let a pool decode the first samples until another of its tasks, `opening`, is done."""
        self.windows.start()
        self.decoder.start(self._left, pool)
        while self.decoder.n_ahead and not self.windows.exhausted and not opening.done():
            self.windows.wait(until=opening)
            if self.windows.is_ready():
                self.decoder.start(self.look_ahead(), pool)
        wait([opening])
        self.decoder.stop()

    def _of_next_window(self) -> list[bytes]:
        start, content_keys, problems, contents = self.windows.take()
        keys = [key if key in problems else self.decoder.key(key) for key in content_keys]
        new = self.rows.add(start, keys, problems)
        for key in new:
            position = self.rows.positions[key][0]
            content_key = content_keys[position - start]
            self.decoder.add(key, position, content_key, contents.pop(content_key, None))
        for content in contents.values():  # of copies of images in windows before this one
            self.windows.budget.release(size_of(content))
        return self._missing(new)

    def _missing(self, keys: list[bytes]) -> list[bytes]:
        """Fill in cached rows. Return the other keys."""
        if self.space is None:
            return keys
        missing = self.rows.fill(keys, self.space.cache, self.space.name, self.space.whole)
        for key in set(keys).difference(missing):
            self.decoder.forget(key)
        return missing
