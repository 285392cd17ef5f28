"""The pass over a trunk: each image missing from the cache is computed once across all threads and processes.

A pool of threads decodes images and runs chunks of a few images, while the calling thread distributes work, collects
rows and writes them to the cache in batches. Images are claimed before they are computed, so processes that need the
same images share the work, and each waits for the rows that others compute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from sktl._images.decoding import ImageProblem
from sktl._storage.cache import Cache
from sktl._storage.value_store import new_owner

from .decoding_ahead import Decoder
from .engines import Engine
from .feature_rows import Rows
from .sample_windows import Windows, size_of

# Maximum number of images that are being decoded or computed, or wait for this: a number per thread, which keeps
# threads busy while the calling thread writes rows, plus some chunks, so that full chunks can be formed meanwhile. The
# same number of images is claimed in advance, so it is small enough to share work evenly between processes.
_IMAGES_PER_THREAD = 8
_CHUNKS = 2
# Rows are written in batches, because each write locks the database. Batches are small, because other processes wait
# for rows, and rows not yet written are lost if the process is killed.
_SECONDS_BETWEEN_WRITES = 0.5
_BYTES_BETWEEN_WRITES = 16 << 20
_SECONDS_BETWEEN_LOOKS = 0.05
_KEYS_PER_LOOK = 256
_SECONDS_BETWEEN_SIGNS = 15.0  # claims expire after a minute, so they are renewed while slow chunks run
_NOT_FINITE = (
    "the network returns features of it that are not finite (NaN or infinite); leave it out, or choose another "
    "backbone or other weights"
)
Outcome: TypeAlias = np.ndarray | str
Result = TypeVar("Result")
_Decoded: TypeAlias = tuple[bytes, np.ndarray | ImageProblem]


class Source(Protocol):
    """Keys of images to compute, some of which may not be known yet."""

    @property
    def exhausted(self) -> bool:
        """Whether all keys were taken."""

    def is_ready(self) -> bool:
        """Return True if more can be taken without waiting."""

    def wait(self, seconds: float) -> None:
        """Wait until more can be taken, or for this number of seconds."""

    def take(self) -> list[bytes]:
        """Return more keys; none if the keys that became known need no computing."""


class Pass:
    """One pass over images that are missing from the cache.

    Parameters
    ----------
    engine : Engine
    decoder : Decoder
        Returns the pixels of an image for its key.
    cache : Cache
    fingerprint : str
        Space of the rows in the cache.
    """

    def __init__(self, engine: Engine, decoder: Decoder, cache: Cache, fingerprint: str):
        self.engine = engine
        self.decoder = decoder
        self.cache = cache
        self.fingerprint = fingerprint
        self.shape = engine.facts.shape
        self._owner = new_owner()
        self._open: deque[bytes] = deque()  # not claimed, as far as known
        self._mine: deque[bytes] = deque()  # claimed, but not started
        self._decoding: set[Future[_Decoded]] = set()
        self._decoded: deque[tuple[bytes, np.ndarray]] = deque()
        self._running: set[Future[dict[bytes, Outcome]]] = set()
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()  # finished tasks of both kinds
        self._elsewhere: list[bytes] = []  # claimed by another process or thread
        self._fresh: list[tuple[bytes, bytes]] = []  # computed, but not written to the cache
        self._written = self._looked = time.monotonic()

    def run(self, pool: ThreadPoolExecutor, n_workers: int, source: Source) -> Iterator[tuple[bytes, Outcome]]:
        """Yield each key with its row, or with the reason why there is no row, in order of completion."""
        n_ahead = _IMAGES_PER_THREAD * n_workers + _CHUNKS * self.engine.chunk
        try:
            while self._open or self._mine or self._is_busy() or self._elsewhere or not source.exhausted:
                self._take(source, n_ahead)
                if self._open and len(self._mine) < self.engine.chunk:
                    yield from self._claim(self._open, n_ahead)
                self._submit(pool, n_ahead, source.exhausted)
                yield from self._collect()
                self._write(at_once=not self._is_busy())
                if self._elsewhere and not self._open:
                    # Claimed images that are not started will only be computed here, so they count as work.
                    yield from self._look_elsewhere(idle=not self._is_busy() and not self._mine and source.exhausted)
        finally:
            try:
                self._write(at_once=True)
            finally:
                # Otherwise, others would wait for the remaining images until the claims expire.
                self.cache.release(self._owner)

    def _is_busy(self) -> bool:
        return bool(self._decoding or self._decoded or self._running)

    def _take(self, source: Source, n: int) -> None:
        """Take more keys from the source if there are fewer than n. Wait only if there is nothing else to do."""
        if not source.exhausted and len(self._open) + len(self._mine) < n:
            if not (self._mine or self._open or self._decoding or self._running):
                source.wait(_SECONDS_BETWEEN_LOOKS)
            if source.is_ready():
                self._open.extend(source.take())

    def _submit(self, pool: ThreadPoolExecutor, n_ahead: int, is_end: bool) -> None:
        """Let the pool decode images, at most `n_ahead`, and run chunks, which are full except the last one."""
        size = self.engine.chunk
        n_free = n_ahead - len(self._decoding) - len(self._decoded) - size * len(self._running)
        for _ in range(min(n_free, len(self._mine))):
            self._decoding.add(self._started(pool.submit(self._decode, self._mine.popleft())))
        is_end = is_end and not (self._open or self._mine or self._decoding)
        while len(self._decoded) >= size or (self._decoded and is_end):
            chunk = [self._decoded.popleft() for _ in range(min(size, len(self._decoded)))]
            self._running.add(self._started(pool.submit(self._compute, chunk)))

    def _started(self, task: Future[Result]) -> Future[Result]:
        task.add_done_callback(self._done.put)
        return task

    def _collect(self) -> Iterator[tuple[bytes, Outcome]]:
        """Wait for a task. Yield the outcomes of all that have finished."""
        if not (self._decoding or self._running):
            return
        for task in _finished(self._done):
            if task in self._running:
                self._running.discard(task)
                for key, outcome in task.result().items():
                    if isinstance(outcome, np.ndarray):
                        self._fresh.append((key, outcome.tobytes()))
                    yield key, outcome
            else:
                self._decoding.discard(task)
                key, pixels = task.result()
                if isinstance(pixels, ImageProblem):
                    yield key, str(pixels)
                else:
                    self._decoded.append((key, pixels))

    def _claim(self, candidates: deque[bytes], n: int) -> Iterator[tuple[bytes, Outcome]]:
        """Claim some of the candidates. Yield those that others have stored meanwhile."""
        some = [candidates.popleft() for _ in range(min(n, len(candidates)))]
        claimed = self.cache.claim(self.fingerprint, some, self._owner)
        elsewhere = set(some).difference(claimed)
        self._elsewhere += elsewhere
        # Others may have stored rows, and released their claims, after this pass found them missing.
        stored = self._stored(claimed)
        self._mine.extend(key for key in claimed if key not in stored)
        for key in elsewhere.union(stored):  # otherwise, their contents would use up the memory for other contents
            self.decoder.forget(key)
        yield from stored.items()

    def _look_elsewhere(self, idle: bool) -> Iterator[tuple[bytes, Outcome]]:
        """Yield rows that others have stored. Take over images that others gave up."""
        pause = self._looked + _SECONDS_BETWEEN_LOOKS - time.monotonic()
        if pause > 0 and not idle:
            return
        if idle:  # claims on failed images, for which others may be waiting
            self.cache.release(self._owner)
        time.sleep(max(0.0, pause))
        self._looked = time.monotonic()
        some, self._elsewhere = self._elsewhere[:_KEYS_PER_LOOK], self._elsewhere[_KEYS_PER_LOOK:]
        stored = self._stored(some)
        yield from stored.items()
        left = deque(key for key in some if key not in stored)
        yield from self._claim(left, len(left))

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        values = self.cache.get(self.fingerprint, keys).items()
        n_bytes = 4 * int(np.prod(self.shape))
        return {k: np.frombuffer(v, np.float32).reshape(self.shape) for k, v in values if len(v) == n_bytes}

    def _write(self, at_once: bool) -> None:
        """Write new rows to the cache if there are many, or if enough time has passed."""
        n_bytes = len(self._fresh) * len(self._fresh[0][1]) if self._fresh else 0
        late = time.monotonic() > self._written + _SECONDS_BETWEEN_WRITES
        if n_bytes and (at_once or late or n_bytes > _BYTES_BETWEEN_WRITES):
            self.cache.put(self.fingerprint, self._fresh, self._owner)
            self._fresh, self._written = [], time.monotonic()
        elif time.monotonic() > self._written + _SECONDS_BETWEEN_SIGNS:
            self.cache.renew(self.fingerprint, self._owner)
            self._written = time.monotonic()

    def _decode(self, key: bytes) -> _Decoded:
        try:
            return key, self.decoder(key)
        except ImageProblem as problem:
            return key, problem

    def _compute(self, images: Sequence[tuple[bytes, np.ndarray]]) -> dict[bytes, Outcome]:
        """Run one chunk. Slots without an image are zero, so the shape never changes."""
        chunk = self.engine.new_chunk()
        for slot, (_, pixels) in enumerate(images):
            chunk[slot] = pixels
        features = self.engine.run(chunk)
        finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
        return {key: features[slot].copy() if finite[slot] else _NOT_FINITE for slot, (key, _) in enumerate(images)}


def _finished(done: SimpleQueue[Future[Any]]) -> Iterator[Future[Any]]:
    """Yield the tasks that have finished. Wait for the first one, but not for long: claims have to be renewed."""
    try:
        yield done.get(timeout=_SECONDS_BETWEEN_LOOKS)
        while True:
            yield done.get_nowait()
    except Empty:
        return


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
