"""Read each sample once, ahead of its use: its content key, and the content from which its pixels are decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple, TypeVar

from sktl._images.content_keys import ContentName, content_name
from sktl._images.decoding import ImageProblem
from sktl._images.samples import ArraySample, BytesSample, FileSample, ItemSample, PILSample, Sample, Stamp, is_remote
from sktl._storage.cache import APART, Cache
from sktl._utils.threads import single_threaded_pool

from .sample_windows import Budget, Content, Window, Windows, size_of

# The number in this name changes when a file's bytes go to a different reader than in earlier versions.
_FILES = APART + "files 3"
# Maximum size of all contents that were read but not used yet. A larger content is read when no other content is held.
_BYTES_AHEAD = 64 << 20
# Samples that are looked up in the cache together. The first window is smaller, so that computing starts soon.
_FIRST_WINDOW = 64
_WINDOW = 256
# Tasks have an overhead, so each reads several samples if these are small.
_SAMPLES_PER_TASK = 16
_SMALL = 256 << 10
# Threads that wait for disks, servers and the locks of sequences.
_READERS = 8
# Assumed bytes of a content of unknown size, before any content was read.
_FIRST_GUESS = _BYTES_AHEAD // _READERS

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def read_ahead(
    samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache, keep: bool = True
) -> Iterator[Windows]:
    """Yield the windows of samples. Files whose stamps are in the cache are not read.

    Parameters
    ----------
    samples : sequence of Sample
    pool : ThreadPoolExecutor
        Reads samples that do not wait for anything, such as arrays.
    cache : Cache
        Stores content keys by stamps.
    keep : bool
        Whether windows contain the contents.
    """
    budget = Budget(_BYTES_AHEAD)
    with ThreadPoolExecutor(1, "sktl windows") as producer, single_threaded_pool(_READERS) as readers:
        try:
            reading = _Reading(samples, pool, readers, cache, budget, keep)
            yield Windows(reading.windows(), len(samples), budget, producer)
        finally:
            budget.close()


class _Read(NamedTuple):
    """What is known about a sample."""

    name: ContentName
    content: Content | None = None
    problem: str | None = None
    digest: bytes = b""  # the digest of its stamp, if the stamp would change with the content


class _Part(NamedTuple):
    """Consecutive samples from a position: known ones, or samples that one task reads."""

    start: int
    stamps: Sequence[Stamp | None]
    known: Sequence[_Read] = ()

    @property
    def stop(self) -> int:
        """The position after the last sample."""
        return self.start + max(len(self.stamps), len(self.known))


class _Begun(NamedTuple):
    """A part, and the task that reads it; None if it is known."""

    part: _Part
    task: Future[list[_Read]] | None


class _Reading:
    """Read samples by threads that wait, or by a pool that computes, within a budget."""

    def __init__(
        self,
        samples: Sequence[Sample],
        pool: Executor,
        readers: Executor,
        cache: Cache,
        budget: Budget,
        keep: bool,
    ):
        self.samples = samples
        self.pool = pool
        self.readers = readers
        self.cache = cache
        self.budget = budget
        self.keep = keep
        self._guess = _FIRST_GUESS

    def windows(self) -> Iterator[Window]:
        """Yield windows. While a window is awaited, the samples of the next window are read, too."""
        before: list[_Begun] = []
        current: list[_Begun] = []
        for part in self._parts():
            n_bytes = self._n_bytes(part)
            # Bytes are released when windows are used, so this waits only if there is no window to hand over.
            while not self.budget.reserve(n_bytes, wait=not (before or current)):
                if not before:
                    before, current = current, []
                yield self._finished(before)
                before = []
            current.append(self._begin(part, n_bytes))
            if part.stop - current[0].part.start >= (_WINDOW if current[0].part.start else _FIRST_WINDOW):
                if before:
                    yield self._finished(before)
                before, current = current, []
        yield from (self._finished(begun) for begun in (before, current) if begun)

    def _parts(self) -> Iterator[_Part]:
        """Yield all samples, in order. A part contains samples that are known, or samples for one task."""
        n, start, stop = len(self.samples), 0, _FIRST_WINDOW
        while start < n:
            yield from self._parts_of(range(start, min(stop, n)))
            start, stop = stop, stop + _WINDOW

    def _parts_of(self, positions: range) -> Iterator[_Part]:
        # For a URL, the task that reads the sample also asks the server for the stamp.
        stamps = {i: None if is_remote(self.samples[i]) else self.samples[i].stamp() for i in positions}
        digests = {i: _digest(stamp) for i, stamp in stamps.items()}
        names = self.cache.get(_FILES, [digest for digest in digests.values() if digest])
        known = {i: _Read(ContentName.decode(names[digest])) for i, digest in digests.items() if digest in names}
        for _, run in groupby(positions, lambda i: "known" if i in known else self._task_kind(i, stamps[i])):
            some = [*run]
            if some[0] in known:
                yield _Part(some[0], [], [known[i] for i in some])
                continue
            for first in range(0, len(some), _SAMPLES_PER_TASK):
                yield _Part(some[first], [stamps[i] for i in some[first : first + _SAMPLES_PER_TASK]])

    def _task_kind(self, position: int, stamp: Stamp | None) -> object:
        """Return a value that consecutive samples share if one task may read them."""
        size = _size(self.samples[position], stamp)
        return -1 - position if size is None or size > _SMALL else _waits(self.samples[position])

    def _n_bytes(self, part: _Part) -> int:
        """Return how many bytes the contents of a part are assumed to take."""
        if part.known or not self.keep:
            return 0
        sizes = [_size(self.samples[part.start + i], stamp) for i, stamp in enumerate(part.stamps)]
        return sum(self._guess if size is None else size for size in sizes)

    def _begin(self, part: _Part, n_bytes: int) -> _Begun:
        if part.known:
            return _Begun(part, None)
        executor = self.readers if _waits(self.samples[part.start]) else self.pool
        return _Begun(part, executor.submit(self._read_part, part, n_bytes))

    def _read_part(self, part: _Part, n_bytes: int) -> list[_Read]:
        """Read the samples of a part, and correct the number of bytes that were reserved for them."""
        found = []
        try:
            for i, stamp in enumerate(part.stamps, part.start):
                found.append(self._read(i, stamp))
        finally:
            if self.keep:
                sizes = [size_of(read.content) for read in found]
                self.budget.release(n_bytes - sum(sizes))
                # The largest recent size, which decays, so that one large content does not slow down all later reading.
                self._guess = max(*sizes, self._guess * 9 // 10, 1)
        return found

    def _read(self, position: int, stamp: Stamp | None) -> _Read:
        """Read a sample, unless it is at a URL whose stamp is known."""
        sample = self.samples[position]
        if is_remote(sample):
            stamp = sample.stamp()
            digest = _digest(stamp)
            if digest and (known := self.cache.get(_FILES, [digest]).get(digest)):
                return _Read(ContentName.decode(known))
        settled = stamp is not None and stamp.is_settled()
        try:
            content = sample.read()
            name = content_name(content)
        except ImageProblem as problem:
            return _Read(ContentName(b"unreadable %d" % position), problem=str(problem))
        digest = _digest(stamp) if settled and sample.stamp() == stamp else b""
        return _Read(name, content if self.keep else None, None, digest)

    def _finished(self, begun: Sequence[_Begun]) -> Window:
        """Return a window when all of its samples have been read."""
        reads = [read for part, future in begun for read in (part.known if future is None else future.result())]
        self.cache.put(_FILES, [(read.digest, read.name.encode()) for read in reads if read.digest])
        contents: dict[bytes, Content] = {}
        keys = [read.name.key for read in reads]
        for key, read in zip(keys, reads, strict=True):
            if key in contents:  # a copy
                self.budget.release(size_of(read.content))
            elif read.content is not None:
                contents[key] = read.content
        problems = {key: read.problem for key, read in zip(keys, reads, strict=True) if read.problem is not None}
        return Window(begun[0].part.start, keys, problems, contents)


def read_keys(
    samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache
) -> tuple[list[bytes], dict[bytes, str]]:
    """Return the content keys of samples, in order, and why samples are unreadable, by their placeholder keys.

    Files whose stamps are in the cache are not read again.
    """
    keys: list[bytes] = []
    problems: dict[bytes, str] = {}
    with read_ahead(samples, pool, cache, keep=False) as windows:
        while not windows.exhausted:
            window = windows.take()
            keys += window.keys
            problems |= window.problems
    return keys, problems


def known_keys(samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache) -> dict[int, bytes]:
    """Return the content keys that are known without reading a file or contacting a server, by position."""
    if cache.store is None:
        return {}
    local = [i for i, sample in enumerate(samples) if not is_remote(sample)]
    digests = {i: digest for i in local if (digest := _digest(samples[i].stamp()))}
    known = cache.get(_FILES, [*digests.values()])
    keys = {i: ContentName.decode(known[digest]).key for i, digest in digests.items() if digest in known}
    held = [i for i in local if isinstance(samples[i], BytesSample | ArraySample | PILSample)]
    names = zip(held, in_tasks(_name, [samples[i] for i in held], pool), strict=True)
    return keys | {i: name.key for i, name in names if name is not None}


def remember_contents(pairs: Iterable[tuple[Sample, Sample]], cache: Cache) -> None:
    """Remember the contents of samples that were just read. The second of a pair holds the content of the first."""
    stamped = [(stamp, content) for sample, content in pairs if (stamp := sample.stamp()) and stamp.is_settled()]
    names = [(_digest(stamp), _name(content)) for stamp, content in stamped]
    cache.put(_FILES, [(digest, name.encode()) for digest, name in names if name is not None])


def _name(sample: Sample) -> ContentName | None:
    """Return the name of the content of a sample; None if it cannot be read."""
    try:
        return content_name(sample.read())
    except ImageProblem:
        return None


def contents_digest(samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache) -> str:
    """Return a digest of the contents of samples, in order."""
    keys, _ = read_keys(samples, pool, cache)
    return hashlib.sha256(b"".join(keys)).hexdigest()


def in_tasks(function: Callable[[Item], Result], items: Sequence[Item], pool: ThreadPoolExecutor) -> list[Result]:
    """Return a function's results for all items, computed by a pool in tasks that are worth their overhead."""
    tasks = [items[start : start + _SAMPLES_PER_TASK] for start in range(0, len(items), _SAMPLES_PER_TASK)]
    return [result for results in pool.map(lambda task: [function(item) for item in task], tasks) for result in results]


def _size(sample: Sample, stamp: Stamp | None) -> int | None:
    """Return the size of the content of a sample in bytes if that is known before it is read."""
    if isinstance(sample, BytesSample):
        return len(sample.data)
    if isinstance(sample, ArraySample):
        return 3 * sample.array.shape[0] * sample.array.shape[1]
    size: int | None = getattr(stamp, "size", None)
    return size


def _waits(sample: Sample) -> bool:
    """Return True if reading a sample mostly waits: for a disk, a server, or the lock of a sequence."""
    return isinstance(sample, FileSample | ItemSample) or is_remote(sample)


def _digest(stamp: Stamp | None) -> bytes:
    if stamp is None:
        return b""
    return hashlib.blake2b(repr(tuple(stamp)).encode(errors="replace"), digest_size=16).digest()
