"""The outputs of an estimator and of its exported model for the same images, and how much they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sktl._head.train_head import output_values
from sktl._images.network_pixels import network_pixels
from sktl._images.problems import ImageProblem
from sktl._images.samples import Sample
from sktl._storage.cache import NO_CACHE
from sktl.exceptions import ImageFailure, InvalidImageError

from .model_format import Run

# The first batches have one and two images, because a graph may hold for one number of images only.
_FIRST_BATCHES = (1, 2)
_BATCH = 16


@dataclass(frozen=True)
class Answers:
    """Outputs for some images.

    Parameters
    ----------
    outputs : float array of shape (n_images, n_outputs)
        Probabilities, numbers or features.
    typicality : float array of shape (n_images,) or None
    """

    outputs: np.ndarray
    typicality: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.outputs)


def answers_of_estimator(estimator: Any, samples: Sequence[Sample], typicality: bool, cached: bool) -> Answers:
    """Return what a fitted estimator predicts with features in float32, in which exported files compute.

    Parameters
    ----------
    estimator : fitted estimator
    samples : sequence of Sample
    typicality : bool
    cached : bool
        Whether to use the estimator's cache of features.

    Raises
    ------
    InvalidImageError
        If samples cannot be used.
    """
    extractor = replace(estimator._fitted_extractor(), precision="float32")
    extractor = extractor if cached else replace(extractor, cache=NO_CACHE)
    features = estimator._features(samples, extractor)
    outputs = features
    if hasattr(estimator, "net_"):
        outputs = output_values(estimator.net_.module_.output, features)
        if hasattr(estimator, "classes_"):
            outputs = estimator._meaning.probabilities(outputs)
    return Answers(outputs, estimator._typicality_of(samples, extractor) if typicality else None)


def answers_of_run(run: Run, pixels: Iterable[np.ndarray]) -> Answers:
    """Return what an exported model computes for batches of pixels."""
    columns = zip(*(run(batch) for batch in pixels), strict=True)
    outputs, *others = (np.concatenate(column) for column in columns)
    return Answers(outputs, *others)


@dataclass(frozen=True)
class PixelBatches:
    """The pixels of samples in batches of different sizes, decoded when they are needed.

    Parameters
    ----------
    samples : sequence of Sample
    preprocessing : Preprocessing
    """

    samples: Sequence[Sample]
    preprocessing: Any

    def __iter__(self) -> Iterator[np.ndarray]:
        start = 0
        sizes = iter(_FIRST_BATCHES)
        while start < len(self.samples):
            stop = min(start + next(sizes, _BATCH), len(self.samples))
            yield np.stack([self._pixels(i) for i in range(start, stop)])
            start = stop

    def _pixels(self, i: int) -> np.ndarray:
        sample = self.samples[i]
        try:
            return network_pixels(sample.read(), self.preprocessing)
        except ImageProblem as problem:  # its features were in the cache, or the file has changed since
            raise InvalidImageError([ImageFailure(i, sample.name, str(problem))]) from problem
