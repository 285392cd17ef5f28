"""The outputs of an estimator and of its exported model for the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from sktl._head.train_head import output_values
from sktl._images.network_pixels import network_pixels
from sktl._images.problems import ImageProblem, as_argument
from sktl._images.samples import Sample
from sktl._storage.cache import NO_CACHE
from sktl.exceptions import ImageFailure, InvalidImageError

from .model_format import Run

# The first batches have one and two images, because a graph may hold for one number of images only.
_FIRST_BATCHES = (1, 2)
_BATCH = 16
# In place of the name of an argument: images that every export has, whose features are not cached.
DRAWINGS = "drawings"


class GivenImage(NamedTuple):
    """An image of an export, and where it was passed.

    Attributes
    ----------
    sample : Sample
    argument : str
    position : int
        Position of the sample in the argument.
    """

    sample: Sample
    argument: str
    position: int


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

    def __getitem__(self, rows: np.ndarray | slice) -> Answers:
        return Answers(self.outputs[rows], None if self.typicality is None else self.typicality[rows])


def answers_of_estimator(estimator: Any, images: Iterable[GivenImage], typicality: bool) -> Answers:
    """Return what a fitted estimator predicts with features in float32, in which exported files compute.

    Parameters
    ----------
    estimator : fitted estimator
    images : iterable of GivenImage
        All images of each argument, one argument after the other.
    typicality : bool

    Raises
    ------
    InvalidImageError
        If images cannot be used. It lists all of the first argument that has such images.
    """
    parts = []
    for argument, part in groupby(images, lambda image: image.argument):
        with as_argument(argument):
            samples = [image.sample for image in part]
            parts.append(_answers_of_samples(estimator, samples, typicality, cached=argument != DRAWINGS))
    return _joined(parts)


def _answers_of_samples(
    estimator: Any, samples: Sequence[Sample], typicality: bool, cached: bool
) -> tuple[np.ndarray, ...]:
    extractor = replace(estimator._fitted_extractor(), precision="float32")
    extractor = extractor if cached else replace(extractor, cache=NO_CACHE)
    features = estimator._features(samples, extractor)
    outputs = features
    if hasattr(estimator, "net_"):
        outputs = output_values(estimator.net_.module_.output, features)
        if hasattr(estimator, "classes_"):
            outputs = estimator._meaning.probabilities(outputs)
    return (outputs, estimator._typicality_of(samples, extractor)) if typicality else (outputs,)


def answers_of_run(run: Run, pixels: Iterable[np.ndarray]) -> Answers:
    """Return what an exported model computes for batches of pixels."""
    return _joined(run(batch) for batch in pixels)


def _joined(parts: Iterable[Sequence[np.ndarray]]) -> Answers:
    outputs, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Answers(outputs, *others)


@dataclass(frozen=True)
class PixelBatches:
    """The pixels of images in batches of different sizes, decoded when they are needed.

    Parameters
    ----------
    images : sequence of GivenImage
    preprocessing : Preprocessing
    """

    images: Sequence[GivenImage]
    preprocessing: Any

    def __iter__(self) -> Iterator[np.ndarray]:
        start = 0
        sizes = iter(_FIRST_BATCHES)
        while start < len(self.images):
            stop = min(start + next(sizes, _BATCH), len(self.images))
            yield np.stack([self._pixels(image) for image in self.images[start:stop]])
            start = stop

    def _pixels(self, image: GivenImage) -> np.ndarray:
        try:
            return network_pixels(image.sample.read(), self.preprocessing)
        except ImageProblem as problem:  # its features were in the cache, or the file has changed since
            failure = ImageFailure(image.position, image.sample.name, str(problem))
            raise InvalidImageError([failure], image.argument) from problem
