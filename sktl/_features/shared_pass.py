"""The pass over a trunk: each image missing from the cache is computed once across all threads and processes.

A pool of threads decodes and runs chunks of a few images, while the calling thread distributes work, collects rows and
writes them to the cache in batches. Images are claimed before they are computed, so processes that need the same images
share the work, and each waits for the rows that others compute.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from sktl._images.decoding import ContentName, ImageProblem, content_name
from sktl._images.samples import ArraySample, BytesSample, PILSample, Sample, Stamp, is_remote
from sktl._storage.cache import APART, Cache
from sktl._storage.value_store import new_owner

from .engines import Engine
from .prefetch import Decoder

# With a number, which changes when the bytes of a file belong to another reader than before.
_FILES = APART + "files 2"
_READS_PER_TASK = 16
# Threads that wait for servers. Each holds the bytes of at most one file.
_REMOTE_READERS = 8
# Number of chunks per thread that are claimed in advance: enough to make a claim cheap, but few enough to share work
# evenly between processes.
_CHUNKS_AHEAD = 4
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


class Pass:
    """One pass over images that are missing from the cache.

    Parameters
    ----------
    engine : Engine
    decoder : Decoder
        Returns the pixels of an image for its key.
    wanted : iterable of bytes
        Keys of the images to compute.
    cache : Cache
    fingerprint : str
        Space of the rows in the cache.
    """

    def __init__(self, engine: Engine, decoder: Decoder, wanted: Iterable[bytes], cache: Cache, fingerprint: str):
        self.engine = engine
        self.decoder = decoder
        self.cache = cache
        self.fingerprint = fingerprint
        self.shape = engine.facts.shape
        self._owner = new_owner()
        self._open = deque(wanted)  # not claimed, as far as known
        self._mine: deque[bytes] = deque()  # claimed, but not started
        self._elsewhere: list[bytes] = []  # claimed by another process or thread
        self._fresh: list[tuple[bytes, bytes]] = []  # computed, but not written to the cache
        self._written = self._looked = time.monotonic()

    def run(self, pool: ThreadPoolExecutor, n_workers: int) -> Iterator[tuple[bytes, Outcome]]:
        """Yield each key with its row, or with the reason why there is no row, in order of completion."""
        running: set[Future[dict[bytes, Outcome]]] = set()
        size = self.engine.chunk
        try:
            while self._open or self._mine or self._elsewhere or running:
                if self._open and len(self._mine) < n_workers * size:
                    yield from self._claim(self._open, n_workers * size * _CHUNKS_AHEAD)
                while self._mine and len(running) < 2 * n_workers:
                    chunk = [self._mine.popleft() for _ in range(min(size, len(self._mine)))]
                    running.add(pool.submit(self._compute, chunk))
                done, running = wait(running, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                for future in done:
                    yield from self._collect(future.result())
                self._write(at_once=not running)
                if self._elsewhere and not self._open:
                    # Claimed images that are not started will only be computed here, so they count as work.
                    yield from self._look_elsewhere(idle=not running and not self._mine)
        finally:
            try:
                self._write(at_once=True)
            finally:
                # Otherwise, others would wait for the remaining images until the claims expire.
                self.cache.release(self._owner)

    def _claim(self, candidates: deque[bytes], n: int) -> Iterator[tuple[bytes, Outcome]]:
        """Claim some of the candidates. Yield those that others have stored meanwhile."""
        some = [candidates.popleft() for _ in range(min(n, len(candidates)))]
        claimed = self.cache.claim(self.fingerprint, some, self._owner)
        self._elsewhere += set(some).difference(claimed)
        # Others may have stored rows, and released their claims, after this pass found them missing.
        stored = self._stored(claimed)
        self._mine.extend(key for key in claimed if key not in stored)
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

    def _collect(self, outcomes: Mapping[bytes, Outcome]) -> Iterator[tuple[bytes, Outcome]]:
        for key, outcome in outcomes.items():
            if isinstance(outcome, np.ndarray):
                self._fresh.append((key, outcome.tobytes()))
            yield key, outcome

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

    def _compute(self, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Decode, preprocess and run one chunk. The slots of failed images stay zero, so the shape never changes."""
        pixels = self.engine.new_chunk()
        outcomes: dict[bytes, Outcome] = {}
        good = []
        for slot, key in enumerate(keys):
            try:
                pixels[slot] = self.decoder(key)
                good.append((slot, key))
            except ImageProblem as problem:
                outcomes[key] = str(problem)
        if good:
            features = self.engine.run(pixels)
            finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
            outcomes |= {key: features[slot].copy() if finite[slot] else _NOT_FINITE for slot, key in good}
        return outcomes


class _Content(NamedTuple):
    """The result of reading a sample."""

    name: ContentName
    problem: str | None = None
    settled: bool = False  # whether the file's stamp would change with its content

    @property
    def key(self) -> bytes:
        return self.name.key


def read_keys(
    samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache
) -> tuple[list[bytes], dict[bytes, str]]:
    """Return the content keys of samples, in order, and the reasons for unreadable samples by their placeholder keys.

    Files whose stamps are in the cache are not read again.
    """
    digests = _digests(samples)
    known = cache.get(_FILES, [digest for digest in digests if digest])
    unknown = [i for i, digest in enumerate(digests) if digest not in known]
    remote = [i for i in unknown if is_remote(samples[i])]
    contents = _from_servers(lambda i: _read(samples[i], i), remote)
    local = [i for i in unknown if i not in contents]
    contents |= zip(local, in_tasks(lambda i: _read(samples[i], i), local, pool), strict=True)
    cache.put(_FILES, [(digests[i], content.name.encode()) for i, content in contents.items() if content.settled])
    keys = [
        contents[i].key if i in contents else ContentName.decode(known[digest]).key for i, digest in enumerate(digests)
    ]
    return keys, {content.key: content.problem for content in contents.values() if content.problem is not None}


def known_keys(samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache) -> dict[int, bytes]:
    """Return the content keys by position that are known without reading a file or asking a server."""
    if cache.store is None:
        return {}
    local = [i for i, sample in enumerate(samples) if not is_remote(sample)]
    digests = {i: digest for i in local if (digest := _digest(samples[i].stamp()))}
    known = cache.get(_FILES, [*digests.values()])
    keys = {i: ContentName.decode(known[digest]).key for i, digest in digests.items() if digest in known}
    held = [i for i in local if isinstance(samples[i], BytesSample | ArraySample | PILSample)]
    contents = zip(held, in_tasks(lambda i: _read(samples[i], i), held, pool), strict=True)
    return keys | {i: content.key for i, content in contents if content.problem is None}


def remember_contents(pairs: Iterable[tuple[Sample, Sample]], cache: Cache) -> None:
    """Remember the contents of samples that were just read. The second of a pair holds the content of the first."""
    stamped = [(stamp, content) for sample, content in pairs if (stamp := sample.stamp()) and stamp.is_settled()]
    contents = [(_digest(stamp), _read(content, 0)) for stamp, content in stamped]
    cache.put(_FILES, [(digest, content.name.encode()) for digest, content in contents if content.problem is None])


def contents_digest(samples: Sequence[Sample], pool: ThreadPoolExecutor, cache: Cache) -> str:
    """Return a digest of the contents of samples, in order."""
    keys, _ = read_keys(samples, pool, cache)
    return hashlib.sha256(b"".join(keys)).hexdigest()


def in_tasks(function: Callable[[int], Result], positions: Sequence[int], pool: ThreadPoolExecutor) -> list[Result]:
    """Return a function's results for all positions, computed by a pool in tasks large enough for their overhead."""
    tasks = [positions[start : start + _READS_PER_TASK] for start in range(0, len(positions), _READS_PER_TASK)]
    return [result for results in pool.map(lambda task: [function(i) for i in task], tasks) for result in results]


def _digests(samples: Sequence[Sample]) -> list[bytes]:
    """Return the digests of stamps, in order; empty for samples without a stamp."""
    at_urls = [i for i, sample in enumerate(samples) if is_remote(sample)]
    remote = _from_servers(lambda i: _digest(samples[i].stamp()), at_urls)
    # Stamps of local files are read too fast to gain from threads.
    return [remote[i] if i in remote else _digest(sample.stamp()) for i, sample in enumerate(samples)]


def _from_servers(function: Callable[[int], Result], positions: Sequence[int]) -> dict[int, Result]:
    """Return a function's results by position, computed by more threads than there are cores, which mostly wait."""
    if not positions:
        return {}
    with ThreadPoolExecutor(min(_REMOTE_READERS, len(positions))) as readers:
        return dict(zip(positions, readers.map(function, positions), strict=True))


def _digest(stamp: Stamp | None) -> bytes:
    if stamp is None:
        return b""
    return hashlib.blake2b(repr(tuple(stamp)).encode(errors="replace"), digest_size=16).digest()


def _read(sample: Sample, position: int) -> _Content:
    stamp = sample.stamp()
    settled = stamp is not None and stamp.is_settled()
    try:
        name = content_name(sample.read())
    except ImageProblem as problem:
        return _Content(ContentName(b"unreadable %d" % position), str(problem))
    return _Content(name, settled=settled and sample.stamp() == stamp)
