"""The pass over the trunk: content to features, each distinct image once, with bounded memory. No labels here."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import joblib
import numpy as np
import torch
from tqdm.auto import tqdm

from ._backbones import Backbone
from ._cache import FeatureStore, process_store
from ._cut import Cut
from ._engines import ACCELERATOR_CHUNK, CPU_CHUNK, Engine, EngineFacts, engine_facts, open_engine
from ._images import Sample
from ._pixels import ImageProblem, content_key, decode
from ._torch import place, single_threaded_pool
from .exceptions import ImageFailure, InvalidImageError

_READS_PER_TASK = 16
_BLOCK = 256


@dataclass(frozen=True)
class FeatureExtractor:
    """How features are computed: with which network, where, by how many threads, and whether they are kept.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_jobs : int or None
        Threads of the pass; None is the number that torch uses in the calling thread, negative counts from all cores.
    cache : bool
        Whether the process keeps the features.
    verbose : int
        1 or more shows a progress bar.
    n_trainable : int
        How many of the last stages are left out; with 0 the rows are features, else activations.
    engine : {"auto", "torch", "openvino"}
        Which engine runs the network.
    """

    backbone: Backbone
    device: torch.device
    n_jobs: int | None = None
    cache: bool = True
    verbose: int = 0
    n_trainable: int = 0
    engine: str = "auto"

    @property
    def n_features(self) -> int:
        """The number of features of one image."""
        return self._facts().shape[0]

    @property
    def engine_name(self) -> str:
        """The engine that runs the network, "torch" or "openvino"."""
        return self._facts().engine

    def _facts(self) -> EngineFacts:
        return engine_facts(self.backbone, self.device, self.n_trainable, self.engine)

    def __call__(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the features or activations of samples, float32 of shape (n_samples, ...).

        Raises
        ------
        InvalidImageError
            If samples cannot be read or decoded, listing all of them; the features of the others are kept.
        """
        facts = self._facts()
        store = process_store if self.cache and facts.fingerprint is not None else FeatureStore(max_bytes=0)
        fingerprint = facts.fingerprint or ""
        progress = tqdm(
            total=len(samples), desc="features", unit="image", disable=self.verbose < 1, mininterval=_interval()
        )
        with single_threaded_pool(n_threads(self.n_jobs)) as pool, progress:
            keys, problems = _read_keys(samples, pool)
            rows = store.find(fingerprint, [key for key in keys if key not in problems])
            progress.update(sum(key in rows for key in keys))
            if len(rows) + len(problems) < len(set(keys)):
                with store.exclusive(fingerprint):
                    rows |= store.find(fingerprint, keys, count=False)
                    known = rows.keys() | problems.keys()
                    missing = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
                    engine = open_engine(self.backbone, self.device, self.n_trainable, self.engine)
                    engine.reserve(n_threads(self.n_jobs))
                    work = _Pass(engine, samples, keys, store, fingerprint)
                    found, failed = work.run(sorted(missing.values()), pool, progress)
                    rows |= found
                    problems |= failed
        if problems:
            pairs = enumerate(zip(keys, samples, strict=True))
            raise InvalidImageError(
                [ImageFailure(i, sample.name, problems[key]) for i, (key, sample) in pairs if key in problems]
            )
        return np.stack([rows[key] for key in keys])


@dataclass(frozen=True)
class _Pass:
    """One pass of the images that are missing from the store."""

    engine: Engine
    samples: Sequence[Sample]
    keys: Sequence[bytes]
    store: FeatureStore
    fingerprint: str

    def run(
        self, positions: Sequence[int], pool: ThreadPoolExecutor, progress: tqdm
    ) -> tuple[dict[bytes, np.ndarray], dict[bytes, str]]:
        """Return the rows of the samples at these positions, and the reasons why there are none, by key."""
        size = self.engine.chunk
        chunks = [positions[start : start + size] for start in range(0, len(positions), size)]
        rows: dict[bytes, np.ndarray] = {}
        problems: dict[bytes, str] = {}
        for future in as_completed([pool.submit(self._chunk, chunk) for chunk in chunks]):
            found, failed = future.result()
            rows |= found
            problems |= failed
            progress.update(len(found) + len(failed))
        return rows, problems

    def _chunk(self, positions: Sequence[int]) -> tuple[dict[bytes, np.ndarray], dict[bytes, str]]:
        """Decode, preprocess and run one chunk; a failed image leaves its place empty."""
        pixels = self.engine.new_chunk()
        problems: dict[bytes, str] = {}
        good = []
        for slot, position in enumerate(positions):
            try:
                pixels[slot] = self._pixels(position)
                good.append((slot, self.keys[position]))
            except ImageProblem as problem:
                problems[self.keys[position]] = str(problem)
        features = self.engine.run(pixels) if good else pixels
        rows = {key: features[slot].copy() for slot, key in good}
        for key, row in rows.items():
            self.store.put(self.fingerprint, key, row)
        return rows, problems

    def _pixels(self, position: int) -> np.ndarray:
        content = self.samples[position].read()
        if content_key(content) != self.keys[position]:
            raise ImageProblem("changed while it was being read; fit again when nothing writes to it")
        preprocessing = self.engine.backbone.preprocessing
        return preprocessing.pixels(decode(content, preprocessing))


@dataclass(frozen=True)
class TailExtractor:
    """The features of a network with a tail of its own: kept activations of the trunk, and the tail on them.

    Parameters
    ----------
    trunk : FeatureExtractor
    cut : Cut
        In eval mode, on the CPU.
    """

    trunk: FeatureExtractor
    cut: Cut

    def __call__(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features), block by block of samples."""
        features: list[np.ndarray] = []
        failures: list[ImageFailure] = []
        trunk = dataclasses.replace(self.trunk, verbose=0)
        shown = tqdm(total=len(samples), desc="features", unit="image", disable=self.trunk.verbose < 1)
        with shown as progress:
            for start in range(0, len(samples), _BLOCK):
                block = samples[start : start + _BLOCK]
                try:
                    activations = trunk(block)
                except InvalidImageError as error:
                    failures += [failure._replace(position=failure.position + start) for failure in error.failures]
                    continue
                features.append(tail_features(self.cut, activations, trunk.device, trunk.n_jobs))
                progress.update(len(block))
        if failures:
            raise InvalidImageError(failures)
        return np.concatenate(features)


def tail_features(cut: Cut, activations: np.ndarray, device: torch.device, n_jobs: int | None) -> np.ndarray:
    """Return the features of activations, float32 of shape (n_samples, n_features), in chunks of one shape."""
    on_cpu = device.type == "cpu"
    size = CPU_CHUNK if on_cpu else ACCELERATOR_CHUNK
    tail = (cut if on_cpu else place(copy.deepcopy(cut), device).eval()).tail

    def run(start: int) -> np.ndarray:
        rows = activations[start : start + size]
        chunk = torch.from_numpy(np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)]))
        with torch.inference_mode():
            moved = chunk.to(device)
            ready = moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved
            return tail(ready)[: len(rows)].to("cpu", torch.float32).numpy()

    with single_threaded_pool(n_threads(n_jobs) if on_cpu else 1) as pool:
        return np.concatenate(list(pool.map(run, range(0, len(activations), size))))


def _read_keys(samples: Sequence[Sample], pool: ThreadPoolExecutor) -> tuple[list[bytes], dict[bytes, str]]:
    """Return the content keys of samples, in order; for one that cannot be read its position, and the reason why."""

    def read(start: int) -> list[tuple[bytes, str | None]]:
        return [_read_key(samples[i], i) for i in range(start, min(start + _READS_PER_TASK, len(samples)))]

    found = [pair for task in pool.map(read, range(0, len(samples), _READS_PER_TASK)) for pair in task]
    return [key for key, _ in found], {key: reason for key, reason in found if reason is not None}


def _read_key(sample: Sample, position: int) -> tuple[bytes, str | None]:
    try:
        return content_key(sample.read()), None
    except ImageProblem as problem:
        return b"unreadable %d" % position, str(problem)


def _interval() -> float:
    """Return the seconds between two updates of a progress bar: few lines where they go to a file."""
    return 0.5 if sys.stderr.isatty() else 10.0


def n_threads(n_jobs: int | None) -> int:
    """Return the number of threads that an `n_jobs` parameter asks for."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)
