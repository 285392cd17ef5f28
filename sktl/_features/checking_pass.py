"""Find samples that cannot be used as images: a pass that only decodes and remembers what it has decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from sktl._images.decoding import ImageProblem, decoding_rule
from sktl._images.image_reader import ImageReader
from sktl._images.preprocessing import Preprocessing
from sktl._images.problems import limits
from sktl._images.samples import Sample, as_samples
from sktl._short_text import shown_value
from sktl._storage.cache import APART, Cache, open_cache
from sktl._utils.dask_and_ray import Cluster, active_cluster
from sktl._utils.progress import Progress, progress_bar
from sktl._utils.settings_isolation import isolated
from sktl._utils.threads import n_threads, single_threaded_pool
from sktl.exceptions import ImageFailure, InvalidParameterError

from .cluster_pass import SMALLEST_BLOCK, SpreadPass, is_ready
from .decoding_ahead import Decoder
from .reading_ahead import in_tasks, known_keys, read_ahead
from .sample_windows import Window
from .worker_tasks import Answer, Recorder, check_versions, versions

_DECODED = APART + "decoded"
_PREPROCESSING = Preprocessing(256, (224, 224))


def find_failures(
    samples: Sequence[Sample], preprocessing: Preprocessing, cache: Cache, n_jobs: int | None, verbose: int
) -> list[ImageFailure]:
    """Return the unusable samples and the reasons, in order. Each content is decoded once.

    If joblib's active backend has a cluster, its workers decode the samples.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
        Preprocessing of a network, which determines the scale at which JPEG files are decoded.
    cache : Cache
        Stores which contents can be decoded. Contents that cannot be decoded are tried again each time.
    n_jobs : int or None
        Number of threads, as in `FeatureExtractor`.
    verbose : int
        Whether to show a progress bar.
    """
    cluster = active_cluster()
    with progress_bar("images checked", len(samples), verbose) as progress:
        if cluster is not None and len(samples) > SMALLEST_BLOCK:
            return _found_by_workers(samples, preprocessing, cache, n_jobs, progress, cluster)
        return _found_here(samples, preprocessing, cache, n_jobs, progress.update)


def _found_by_workers(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    cache: Cache,
    n_jobs: int | None,
    progress: Progress,
    cluster: Cluster,
) -> list[ImageFailure]:
    """Return the unusable samples. Workers decode all samples that this process does not know to be good."""
    with single_threaded_pool(n_threads(n_jobs)) as pool:
        keys = known_keys(samples, pool, cache)
    marks = _marks(keys.values())
    good = cache.get(_DECODED, [*marks.values()])
    rest = [i for i in range(len(samples)) if i not in keys or marks[keys[i]] not in good]
    if len(rest) <= SMALLEST_BLOCK or not is_ready(cluster):
        return _found_here(samples, preprocessing, cache, n_jobs, progress.update)
    progress.update(len(samples) - len(rest))

    def attempt(some: Sequence[Sample]) -> tuple[None, list[ImageFailure]]:
        return None, _found_here(some, preprocessing, cache, n_jobs)

    task = ChecksTask(preprocessing, cache, cluster.n_threads, cache.address)
    spread = SpreadPass(cluster, task, attempt, cache, progress)
    with closing(spread.run(samples, rest, keys)) as results:
        for _ in results:
            pass
    return spread.failures


@dataclass(frozen=True)
class ChecksTask:
    """Find the unusable samples of a block on a worker of a cluster.

    Parameters
    ----------
    preprocessing : Preprocessing
    cache : Cache
    n_threads : int
    address : tuple of str or None
        Address of the cache of the caller.
    versions : dict
        Versions with which the caller decodes.
    """

    preprocessing: Preprocessing
    cache: Cache
    n_threads: int
    address: tuple[str, ...] | None
    versions: dict[str, str] = field(default_factory=versions)

    @isolated()
    def __call__(self, samples: Sequence[Sample]) -> Answer:
        check_versions(self.versions)
        recorder = Recorder(self.cache)
        failures = _found_here(samples, self.preprocessing, recorder, self.n_threads)
        return Answer(None, [failure.position for failure in failures], recorder.entries_for(self.address))


def _found_here(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    cache: Cache,
    n_jobs: int | None,
    update: Callable[[int], object] = bool,
) -> list[ImageFailure]:
    """Return the unusable samples, found by this process."""
    problems: dict[int, str] = {}
    with single_threaded_pool(n_threads(n_jobs)) as pool, read_ahead(samples, pool, cache) as windows:
        check = _Check(Decoder(samples, preprocessing, budget=windows.budget), cache, pool)
        while not windows.exhausted:
            window = windows.take()
            problems |= {window.start + i: reason for i, reason in check.problems(window).items()}
            update(len(window.keys))
    return [ImageFailure(i, samples[i].name, reason) for i, reason in sorted(problems.items())]


def _marks(keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the keys under which the cache stores that contents can be decoded, by content key."""
    state = repr((decoding_rule(), limits())).encode()
    return {key: hashlib.sha256(state + key).digest() for key in keys}


@dataclass(frozen=True)
class _Check:
    """How windows of samples are checked.

    Parameters
    ----------
    decoder : Decoder
    cache : Cache
    pool : ThreadPoolExecutor
    reasons : dict
        Why contents of earlier windows are unusable, by content key; None for usable ones.
    """

    decoder: Decoder
    cache: Cache
    pool: ThreadPoolExecutor
    reasons: dict[bytes, str | None] = field(default_factory=dict)

    def problems(self, window: Window) -> dict[int, str]:
        """Return why samples are unusable, by their positions in a window."""
        readable = {key: i for i, key in reversed([*enumerate(window.keys)]) if key not in window.problems}
        marks = _marks(key for key in readable if key not in self.reasons)
        known = self.cache.get(_DECODED, [*marks.values()])
        unknown = {key: mark for key, mark in marks.items() if mark not in known}
        for key, i in readable.items():
            self.decoder.add(key, window.start + i, key, window.contents.get(key))
            if key not in unknown:
                self.decoder.forget(key)
        self.reasons.update(zip(unknown, in_tasks(self._problem, [*unknown], self.pool), strict=True))
        self.cache.put(_DECODED, [(mark, b"\1") for key, mark in unknown.items() if self.reasons[key] is None])
        found = {key: reason for key in readable if (reason := self.reasons.get(key)) is not None} | window.problems
        return {i: found[key] for i, key in enumerate(window.keys) if key in found}

    def _problem(self, key: bytes) -> str | None:
        try:
            self.decoder(key)
        except ImageProblem as problem:
            return str(problem)
        return None


@isolated()
def check_images(
    X: Any,
    *,
    image_shape: Sequence[int] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
    image_reader: ImageReader | None = None,
) -> list[ImageFailure]:
    """Find images that cannot be used, and why, before a fit or a search.

    Every image is read and decoded as in `fit`, without running a network. The cache of this process remembers which
    contents were decoded, so another call does not decode them again. `fit` with ``invalid_images="skip"`` does not
    need this check, because it finds unusable images while it computes features.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images in any format that :class:`PretrainedImageClassifier` accepts.
    image_shape : tuple of int, default=None
        Shape of one image, if `X` contains flattened rows.
    n_jobs : int, default=None
        Number of threads. None uses torch's number of threads, and -1 uses all cores.
    verbose : int, default=0
        Set to 1 to show a progress bar.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read, as in :class:`PretrainedImageClassifier`.

    Returns
    -------
    failures : list of ImageFailure
        Position in `X`, name and reason of each image that cannot be used, in the order of `X`. Empty if all images can
        be used.

    Raises
    ------
    InvalidInputError
        If `X` as a whole is not in a supported format.
    InvalidParameterError
        If `n_jobs`, `image_shape` or `image_reader` is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from sktl import check_images
    >>> X = [np.zeros((8, 8), np.uint8), np.full((8, 8), np.inf), b"<html>not found</html>"]
    >>> for failure in check_images(X):
    ...     print(failure)
    X[1] (ndarray): contains infinity; every pixel must be a finite number
    X[2] (bytes): is an HTML page, perhaps from a failed download; download it again
    >>> wrong = {failure.position for failure in check_images(X)}
    >>> [i for i in range(len(X)) if i not in wrong]
    [0]
    """
    if n_jobs is not None and (not isinstance(n_jobs, Integral) or isinstance(n_jobs, bool) or n_jobs == 0):
        raise InvalidParameterError(
            f"n_jobs={shown_value(n_jobs)} must be None, a number of threads, or -1 for all cores."
        )
    samples = as_samples(X, image_shape, lenient=True, image_reader=image_reader)
    return find_failures(samples, _PREPROCESSING, open_cache("auto"), n_jobs, verbose)
