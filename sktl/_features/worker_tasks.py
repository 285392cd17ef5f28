"""Tasks of the workers of a cluster: how a block of samples travels, what is done with it, and what comes back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self, TypeAlias

import numpy as np

from sktl._images.decoding import decoding_rule
from sktl._images.image_urls import UrlSample
from sktl._images.problems import ImageProblem
from sktl._images.samples import ArraySample, BytesSample, FileSample, ReadSample, Sample, UnusableSample
from sktl._storage.cache import Cache
from sktl._utils.dask_and_ray import count_tasks_at_once
from sktl._utils.progress import Progress
from sktl._utils.settings_isolation import isolated
from sktl._version import __version__, version_of
from sktl.exceptions import EngineError, ImageFailure

from . import engines
from .openvino import installed_version

Entries: TypeAlias = dict[str, dict[bytes, bytes]]


class Answer(NamedTuple):
    """What a worker returns for a block.

    Parameters
    ----------
    rows : ndarray of shape (n_usable, ...) or None
        Rows of the usable samples, in their order. None if the pass has no rows.
    unusable : list of int
        Positions in the block of the samples that the worker could not use.
    entries : dict of str to dict of bytes to bytes
        Entries that the worker found in its cache or added, by space, if the caller has another cache.
    """

    rows: np.ndarray | None
    unusable: list[int]
    entries: Entries


class RowFunction(Protocol):
    """A function from samples to rows that can be spread over workers."""

    @property
    def cache(self) -> Cache:
        """The cache of the rows."""

    @abstractmethod
    def attempt(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return the rows of samples, computed in this process, and the failures; rows of failures are undefined."""

    @abstractmethod
    def with_cache(self, cache: Cache) -> Self:
        """Return the function with another cache of the rows."""

    @abstractmethod
    def silent(self, n_threads: int | None) -> Self:
        """Return the function with another number of threads, and without a progress bar."""

    @abstractmethod
    def find_cached(self, samples: Sequence[Sample]) -> tuple[dict[int, bytes], list[int]]:
        """Return the content keys known without reading a file, by position, and the positions with cached rows."""

    @abstractmethod
    def progress(self, n_images: int) -> AbstractContextManager[Progress]:
        """Return a progress bar."""


class BlockTask(Protocol):
    """What a worker does with a block."""

    def __call__(self, samples: Sequence[Sample]) -> Answer: ...


@dataclass(frozen=True)
class RowsTask:
    """Compute the rows of a block.

    Parameters
    ----------
    function : RowFunction
    address : tuple of str or None
        Address of the cache of the caller.
    versions : dict
        Versions with which the caller computes.
    """

    function: RowFunction
    address: tuple[str, ...] | None
    versions: dict[str, str] = field(default_factory=lambda: versions())

    @isolated()
    def __call__(self, samples: Sequence[Sample]) -> Answer:
        check_versions(self.versions)
        engines.registry.n_passes = count_tasks_at_once()
        recorder = Recorder(self.function.cache)
        function = self.function.with_cache(recorder)
        rows, failures = function.attempt(samples)
        unusable = [failure.position for failure in failures]
        return Answer(np.delete(rows, unusable, axis=0), unusable, recorder.entries_for(self.address))


class Recorder(Cache):
    """A cache that also records the entries that are read and written, so that they can be added to another cache.

    Parameters
    ----------
    cache : Cache
    """

    def __init__(self, cache: Cache):
        super().__init__(cache.store, cache.place)
        self._cache = cache
        self._entries: Entries = {}

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the cached values by key."""
        known = self._entries.setdefault(space, {})
        known |= self._cache.get(space, [key for key in keys if key not in known])
        return {key: known[key] for key in keys if key in known}

    def put(self, space: str, items: Sequence[tuple[bytes, bytes]], owner: str = "") -> None:
        """Store values as far as there is room, and release the owner's claims on their keys."""
        self._cache.put(space, items, owner)
        self._entries.setdefault(space, {}).update(items)

    def entries_for(self, address: tuple[str, ...] | None) -> Entries:
        """Return the entries that the cache with an address lacks."""
        return {} if address in (None, self.address) else self._entries


def portable(sample: Sample) -> Sample:
    """Return a sample that other processes can read: paths and URLs as they are, everything else as its content.

    PIL images and items of sequences belong to libraries whose objects may change when they are pickled, or may not be
    picklable at all.
    """
    plain = sample.sample if isinstance(sample, ReadSample) else sample
    if isinstance(plain, FileSample | UrlSample | BytesSample | UnusableSample):
        return sample
    try:
        content = sample.read()
    except ImageProblem as problem:
        return UnusableSample(sample.name, str(problem))
    return BytesSample(content) if isinstance(content, bytes) else ArraySample(content)


def size_of(sample: Sample) -> int:
    """Return the approximate size of a portable sample in bytes."""
    if isinstance(sample, ReadSample):
        return size_of(sample.sample)
    if isinstance(sample, BytesSample):
        return len(sample.data)
    return sample.array.nbytes if isinstance(sample, ArraySample) else 0


def versions() -> dict[str, str]:
    """Return the versions of everything that affects the rows of an image more than the processor does."""
    libraries = {name: version_of(name) for name in ("torch", "torchvision", "timm")}
    return {"sktl": __version__, **libraries, "openvino": str(installed_version()), "decoding": repr(decoding_rule())}


def check_versions(expected: dict[str, str]) -> None:
    """Raise an error if this process would compute different rows from the process with the expected versions."""
    different = {name: found for name, found in versions().items() if found != expected.get(name)}
    if different:
        listed = "; ".join(f"{name} {found} instead of {expected.get(name)}" for name, found in different.items())
        raise EngineError(f"The worker has {listed}. Install the same versions on each machine.")
