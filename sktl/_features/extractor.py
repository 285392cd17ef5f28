"""Convert samples to features or activations, from the cache or by a pass over the rest. No labels here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from sktl._backbones.backbone import Backbone
from sktl._backbones.taps import StageLayout
from sktl._images.augmentation import View
from sktl._images.samples import Sample
from sktl._storage.cache import APART, NO_CACHE, Cache
from sktl._storage.value_store import BULKY
from sktl._utils.devices import within_memory
from sktl._utils.freed_memory import freed_memory_kept
from sktl._utils.progress import Progress, progress_bar
from sktl._utils.threads import n_threads, single_threaded_pool
from sktl._utils.warnings import warn_once
from sktl.exceptions import BackboneWarning, ImageFailure, InvalidImageError, InvalidParameterError

from . import engines
from .cluster_pass import attempted
from .decoding_ahead import Decoder
from .engines import FrozenPart
from .feature_files import ImageFeatures
from .feature_rows import COPIED_BYTES, Kept, Rows, rows_per_block
from .features_as_input import check_images, layout_of, stored_rows
from .frozen_trunk import EngineFacts
from .reading_ahead import contents_digest, known_keys, read_ahead, read_keys
from .trunk_pass import Pass, RowSpace, Wanted

_ENGINES = APART + "engines"


@dataclass(frozen=True)
class FeatureExtractor:
    """How features are computed: by which network, on which device, with how many threads, and with which cache.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_jobs : int or None
        Number of threads of the pass. None uses torch's number in the calling thread; negative numbers count from all
        cores.
    cache : Cache
        Cache for the features.
    verbose : int
        Whether to show a progress bar.
    n_tail_stages : int
        Number of last stages that are left out. With 0, rows are features; otherwise, rows are activations.
    feature_stages : int, "auto" or "all"
        Number of last stages that contribute features; see `layout`. Cached rows serve any number of stages.
    view : View or None
        Random change of the images.
    engine : {"auto", "torch", "openvino"}
        The engine that runs the network.
    precision : {"float32", "bfloat16"}
        The precision in which the engine computes. Rows are float32 in either case.
    title : str
        Title of the progress bar.
    kept : callable or None
        What is kept of the rows, so that not all of them are in memory at once. None keeps all of them.
    """

    backbone: Backbone
    device: torch.device
    n_jobs: int | None = None
    cache: Cache = NO_CACHE
    verbose: int = 0
    n_tail_stages: int = 0
    feature_stages: int | str = 1
    view: View | None = None
    engine: str = "auto"
    precision: str = "float32"
    title: str = "features of images"
    kept: Kept | None = None

    @property
    def n_features(self) -> int:
        """Number of features per image."""
        return self._row_shape(self._facts())[0]

    @property
    def layout(self) -> StageLayout:
        """Layout of the features. No network is built if facts about its engine are cached."""
        return self._facts().layout

    def layout_of(self, samples: Sequence[Sample]) -> StageLayout:
        """Return the layout of the features of samples, which may be stored features of fewer stages."""
        return layout_of(samples.source) if isinstance(samples, ImageFeatures) else self.layout

    def count_feature_stages(self, feature_stages: int | str) -> int:
        """Return the number of stages for a `feature_stages` parameter.

        Raises
        ------
        InvalidParameterError
            If there are fewer stages. The message lists them.
        """
        if feature_stages == 1:
            return 1
        return self._counted(feature_stages, self.layout)

    def _counted(self, feature_stages: int | str, layout: StageLayout) -> int:
        wanted = layout.count(feature_stages)
        because = self._why_one_stage(layout)
        if feature_stages == "all" and because:
            warn_once(
                f"feature_stages='all' has no effect: {self.backbone.described} has only its output layer's "
                f"features{because}. Pass feature_stages=1 to confirm this, or change the network.",
                BackboneWarning,
            )
        if wanted <= layout.n_stages:
            return wanted
        name = f"feature_stages={feature_stages!r}"
        if layout.n_stages == 1:
            raise InvalidParameterError(
                f"{name} is not possible: {self.backbone.described} has only its output layer's features{because}; "
                "pass feature_stages=1."
            )
        listed = ", ".join(stage.name for stage in self.backbone.stages)
        raise InvalidParameterError(
            f"{name} is more than the {layout.n_stages} stages of {self.backbone.described}: {listed}. Pass at "
            f'most {layout.n_stages}, or "all".'
        )

    def _why_one_stage(self, layout: StageLayout) -> str:
        """Return the error for which there are no features of other stages, if there was one, as part of a sentence."""
        reason = self.backbone.why_untapped if layout.n_stages == 1 else None
        return f", because its stages cannot be found ({reason})" if reason else ""

    def _row_shape(self, facts: EngineFacts) -> tuple[int, ...]:
        """Return the shape of one row, which is a prefix of the cached row."""
        if self.n_tail_stages:
            return facts.shape
        return (facts.layout.length(self._counted(self.feature_stages, facts.layout)),)

    @property
    def row_bytes(self) -> int:
        """Size of the cached row of one image, in bytes."""
        return 4 * math.prod(self._facts().shape)

    @property
    def engine_name(self) -> str:
        """Name of the engine that runs the network, "torch" or "openvino"."""
        return self._facts().engine

    @property
    def _part(self) -> FrozenPart:
        return FrozenPart(self.backbone, self.device, self.n_tail_stages, self.engine, self.precision)

    def _facts(self) -> EngineFacts:
        """Return the facts about the engine. Open the engine if they are unknown."""
        if (facts := self._known_facts()) is None:
            facts = engines.registry.open(self._part, n_threads(self.n_jobs)).facts
            self._cache_facts(facts)
        return facts

    def _known_facts(self) -> EngineFacts | None:
        """Return what this process or the cache knows about the engine, without building a network."""
        if (facts := engines.registry.facts(self._part)) is None:
            name = engines.registry.facts_key(self._part)
            if facts := EngineFacts.parse(self.cache.get(_ENGINES, [name]).get(name)):
                engines.registry.remember(self._part, facts)
        return facts

    def _cache_facts(self, facts: EngineFacts) -> None:
        if facts.fingerprint is not None:
            self.cache.put(_ENGINES, [(engines.registry.facts_key(self._part), facts.format())])

    @property
    def fingerprint(self) -> str | None:
        """Identifier of the function from images to rows; None if repeated runs return different rows."""
        return self._facts().fingerprint

    def open(self) -> None:
        """Open the engine if it is not open, so that the time of the next pass depends only on the images."""
        self._cache_facts(engines.registry.open(self._part, n_threads(self.n_jobs)).facts)

    def count_missing(self, samples: Sequence[Sample]) -> int:
        """Return the number of different images that would have to pass through the network."""
        with single_threaded_pool(n_threads(self.n_jobs)) as pool:
            keys, problems = read_keys(samples, pool, self.cache)
        readable = [*{key for key in keys if key not in problems}]
        return len(readable) - len(self._cached(readable))

    def digest(self, samples: Sequence[Sample]) -> str:
        """Return a digest of the contents of samples, in order."""
        if isinstance(samples, ImageFeatures):
            return samples.digest()
        with single_threaded_pool(n_threads(self.n_jobs)) as pool:
            return contents_digest(samples, pool, self.cache)

    def __call__(self, samples: Sequence[Sample]) -> np.ndarray:
        """Return the features or activations of samples, float32 of shape (n_samples, ...), or what is kept of them.

        Stored features are not computed again. If they do not fit into memory, they stay in their file. If joblib's
        active backend has a cluster, its workers compute the features of images.

        Raises
        ------
        InvalidInputError
            If stored features come from another network, or from fewer stages.
        InvalidImageError
            If samples cannot be read or decoded, or the network returns features that are not finite. The error lists
            all such samples. Features of the other samples are cached.
        DeviceMemoryError
            If not even one image fits into the memory of an accelerator. Otherwise, fewer images are processed at once.
        """
        rows, failures = self._rows_and_failures(samples)
        if failures:
            raise InvalidImageError(failures)
        return rows

    def usable(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return the rows of all usable samples, in order, and the failures of the others.

        Raises
        ------
        DeviceMemoryError
            If not even one image fits into the memory of an accelerator. Otherwise, fewer images are processed at once.
        """
        rows, failures = self._rows_and_failures(samples)
        return np.delete(rows, [failure.position for failure in failures], axis=0) if failures else rows, failures

    def _rows_and_failures(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return rows and failures: from a file, from workers of a cluster, or computed in this process."""
        if isinstance(samples, ImageFeatures):
            return self._stored(samples), []
        return self.attempt(samples) if self.n_tail_stages else attempted(self, samples)

    def _stored(self, features: ImageFeatures) -> np.ndarray:
        if self.n_tail_stages or self.view is not None:
            check_images(features)
        # The output layer, the choice of its features and penalty, and typicality accept rows of either kind.
        rows = cast(np.ndarray, stored_rows(features, self.backbone, self.feature_stages, self.precision))
        return rows if self.kept is None else self.kept(rows)

    def attempt(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return the rows of samples, computed in this process, and the failures; rows of failures are undefined."""
        shrink = partial(engines.registry.shrink, self._part)
        return within_memory(partial(self._read_and_computed, samples), shrink, self.device)

    def with_cache(self, cache: Cache) -> FeatureExtractor:
        """Return the extractor with another cache."""
        return dataclasses.replace(self, cache=cache)

    def silent(self, n_threads: int | None) -> FeatureExtractor:
        """Return the extractor without a progress bar, and with another number of threads unless it is None."""
        return dataclasses.replace(self, verbose=0, n_jobs=n_threads or self.n_jobs)

    def find_cached(self, samples: Sequence[Sample]) -> tuple[dict[int, bytes], list[int]]:
        """Return the content keys known without reading a file, by position, and the positions with cached rows."""
        with single_threaded_pool(n_threads(self.n_jobs)) as pool:
            keys = known_keys(samples, pool, self.cache)
        of_rows = {i: key if self.view is None else self.view.key(key) for i, key in keys.items()}
        found = self._cached([*of_rows.values()])
        return keys, [i for i, key in of_rows.items() if key in found]

    def _cached(self, keys: list[bytes]) -> set[bytes]:
        """Return the keys under which rows are cached."""
        if (facts := self._known_facts()) is None:
            return set()
        space, n_keys = self._space(facts), rows_per_block(self.row_bytes, COPIED_BYTES)
        blocks = (keys[start : start + n_keys] for start in range(0, len(keys), n_keys))
        return {key for block in blocks for key in space.cache.get(space.name, block)}

    def _read_and_computed(self, samples: Sequence[Sample]) -> tuple[np.ndarray, list[ImageFailure]]:
        n_workers = n_threads(self.n_jobs)
        with (
            self.progress(len(samples)) as progress,
            freed_memory_kept.block(),
            single_threaded_pool(n_workers) as pool,
            read_ahead(samples, pool, self.cache) as windows,
        ):
            decoder = Decoder(samples, self.backbone.preprocessing, self.view, windows.budget)
            rows = Rows(len(samples), progress, self.kept)
            wanted = Wanted(windows, rows, decoder)
            if self._is_computing(wanted, pool):
                engine = engines.registry.open(self._part, n_workers)
                self._cache_facts(engine.facts)  # this process may have learned them while it used another cache
                space = self._space(engine.facts)
                for key, outcome in Pass(engine, decoder, space.cache, space.name).run(pool, n_workers, wanted):
                    rows.put(key, outcome)
            self._space(self._facts()).cache.count(*rows.counts())
            return rows.array, rows.failures(samples)

    def _is_computing(self, wanted: Wanted, pool: ThreadPoolExecutor) -> bool:
        """Take samples until one is missing from the cache, and open the engine then. Return False if none is."""
        if (facts := self._known_facts()) is not None:
            wanted.begin(self._space(facts))
            while not wanted.exhausted and not wanted.look_ahead():
                pass
            if wanted.exhausted:
                return False
        if (found := self._open(wanted, pool)) != facts:
            # Nothing was looked up, or the cached rows were computed in another state of this machine.
            wanted.begin(self._space(found))
        return True

    def _open(self, wanted: Wanted, pool: ThreadPoolExecutor) -> EngineFacts:
        """Return the facts of the engine. One thread of a pool opens it while the others decode the first images."""
        if not engines.registry.is_open(self._part):
            opening = pool.submit(engines.registry.open, self._part, n_threads(self.n_jobs))
            wanted.decode_ahead(opening, pool)
            self._cache_facts(opening.result().facts)
        return self._facts()

    def _space(self, facts: EngineFacts) -> RowSpace:
        """Return where the rows are cached, and their shapes."""
        shapes = facts.shape, self._row_shape(facts)
        if facts.fingerprint is None:
            return RowSpace(NO_CACHE, "", *shapes)
        # Activations must not evict features: features of many stages are almost as large, but more useful.
        name = BULKY + facts.fingerprint if self.n_tail_stages else facts.fingerprint
        return RowSpace(self.cache if self.view is None or self.view.known else NO_CACHE, name, *shapes)

    def progress(self, n_images: int) -> AbstractContextManager[Progress]:
        """Return a progress bar."""
        return progress_bar(self.title, n_images, self.verbose)
