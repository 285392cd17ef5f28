"""Verify an exported file before it is renamed: how far its outputs are from the estimator's for the same images."""

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
from sktl._short_text import count
from sktl._storage.cache import NO_CACHE
from sktl.exceptions import ExportError, ImageFailure, InvalidImageError, InvalidParameterError
from sktl.runtime.document import ModelDocument

from .model_format import Run

# Largest difference that float32 may make: of probabilities, and of numbers and features relative to their largest
# deviation from their mean. The weights of a regressor may amplify rounding of features that hardly vary.
TOLERANCES = {"classes": 1e-4, "labels": 1e-4, "numbers": 1e-2, "features": 1e-3}
# What is compared, and the unit of its differences.
UNITS = {
    "classes": ("probabilities", ""),
    "labels": ("probabilities", ""),
    "numbers": ("numbers", " of their largest deviation from their mean"),
    "features": ("features", " of their largest deviation from their mean"),
}
# Largest difference of p-values, as a share and in references. Ranks of images between references may change.
_TYPICALITY_SHARE, _TYPICALITY_RANKS = 0.01, 2
_ROUNDING = float(np.finfo(np.float32).eps)
_CONSTANT = 1e-12  # rounding in float64, relative to the largest number
_FAR_FROM_ZERO = (
    "float32 has too few digits for numbers so far from 0. Subtract a constant from y, such as its mean, and fit again."
)
# The first batches have one and two images, because a graph may hold for one number of images only.
_FIRST_BATCHES = (1, 2)
_BATCH = 16
# In place of the name of an argument: images that every export has, whose features are not cached.
DRAWINGS = "drawings"


@dataclass(frozen=True)
class Comparison:
    """How far the answers of an exported model are from the answers of its estimator.

    Parameters
    ----------
    n_images : int
    difference : float
        Largest difference of probabilities; of numbers and features, relative to their largest deviation from their
        mean over the images.
    n_changed : int
        Number of images with other labels. Labels whose probabilities differ by rounding only do not count.
    drop : float
        What the change costs; see `drop_of`.
    typicality_difference : float or None
        Largest difference of p-values.
    """

    n_images: int
    difference: float
    n_changed: int
    drop: float
    typicality_difference: float | None = None

    @classmethod
    def of(cls, kind: str, found: Answers, expected: Answers) -> Comparison:
        """Return the comparison of two answers for the same images."""
        if found.outputs.shape != expected.outputs.shape or not np.isfinite(found.outputs).all():
            return cls(len(expected), np.inf, len(expected), np.inf)
        return cls(
            len(expected),
            float(_differences(kind, found.outputs, expected.outputs).max(initial=0)),
            int(_changed(kind, found.outputs, expected.outputs).sum()),
            drop_of(kind, found.outputs, expected.outputs),
            _typicality_difference(found.typicality, expected.typicality),
        )


def within_rounding(kind: str, comparison: Comparison, n_references: int) -> bool:
    """Return True if answers differ by no more than rounding in float32."""
    largest = max(_TYPICALITY_SHARE, _TYPICALITY_RANKS / (n_references + 1))
    typical = comparison.typicality_difference is None or comparison.typicality_difference <= largest
    return comparison.difference <= TOLERANCES[kind] and not comparison.n_changed and typical


def rounding_of(kind: str, outputs: np.ndarray) -> float:
    """Return the largest difference between outputs and their neighbors in float32, in the unit of `difference`."""
    return float(_differences(kind, (1 + _ROUNDING) * outputs, outputs).max(initial=0))


def drop_of(kind: str, found: np.ndarray, expected: np.ndarray) -> float:
    """Return what changed outputs cost, on average, without true labels.

    Parameters
    ----------
    kind : {"classes", "labels", "numbers", "features"}
    found, expected : array of shape (n_images, n_outputs)

    Returns
    -------
    drop : float
        For classes and labels, the expected loss of accuracy if the probabilities of the estimator are right: a changed
        label costs the difference between the probabilities of both labels. For numbers and features, 1 minus R2, the
        share of their variance that the changed outputs do not explain. A number that is the same for all images costs
        0 if it changes by no more than rounding, and otherwise 1.
    """
    if kind == "classes":
        rows = np.arange(len(expected))
        return float((expected.max(axis=1) - expected[rows, found.argmax(axis=1)]).mean())
    if kind == "labels":
        return float((np.abs(2 * expected - 1) * ((found > 0.5) != (expected > 0.5))).mean())
    squares = ((found - expected) ** 2).sum(axis=0)
    variances = ((expected - expected.mean(axis=0)) ** 2).sum(axis=0)
    largest = np.abs(expected).max(axis=0, initial=0)
    if kind == "features":  # some features hardly vary
        squares, variances = squares.sum(keepdims=True), variances.sum(keepdims=True)
        largest = largest.max(keepdims=True)
    varies = variances > len(expected) * (_CONSTANT * largest) ** 2
    changes = squares > len(expected) * (_ROUNDING * largest) ** 2
    # A constant is kept or lost as a whole, as in scikit-learn's R2.
    with np.errstate(over="ignore"):  # a variance may be as small as a float64 can be
        return float(np.where(varies, squares / np.where(varies, variances, 1.0), changes).mean())


def _differences(kind: str, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    differences = np.abs(found - expected)
    if kind in ("classes", "labels"):
        return differences
    axis = 0 if kind == "numbers" else None
    largest = np.abs(expected).max(axis=axis, initial=0)
    deviation = np.abs(expected - expected.mean(axis=0)).max(axis=axis, initial=0)
    # Constant columns do not deviate. Others may vary by less than float32 can tell, and are then not exported.
    scale = np.where(deviation > _CONSTANT * largest, deviation, 1e4 * _ROUNDING * largest)
    return differences / np.where(scale > 0, scale, 1.0)


def _changed(kind: str, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the images whose labels differ, though their probabilities differ by more than rounding."""
    if kind == "classes":
        rows = np.arange(len(expected))
        margin = expected.max(axis=1) - expected[rows, found.argmax(axis=1)]
        return margin > TOLERANCES[kind]
    if kind == "labels":
        other = (found > 0.5) != (expected > 0.5)
        return (other & (np.abs(expected - 0.5) > TOLERANCES[kind])).any(axis=1)
    return np.zeros(len(expected), dtype=bool)


def _typicality_difference(found: np.ndarray | None, expected: np.ndarray | None) -> float | None:
    if found is None or expected is None:
        return None
    return float(np.abs(found - expected).max(initial=0))


def check_document(written: ModelDocument, read: ModelDocument, run: Run) -> None:
    """Raise `ExportError` unless a file has its document, and gives the reference outputs in it."""
    if read != written:
        raise ExportError("The file does not contain the document that was written to it. No file was written.")
    pixels = read.references.pixels(read.preprocessing.crop)
    outputs = np.array(read.references.outputs)
    scale = 1.0 if read.kind in ("classes", "labels") else float(np.abs(outputs).max()) or 1.0
    found = run(pixels)[0]
    if found.shape != outputs.shape or not np.abs(found - outputs).max() <= TOLERANCES[read.kind] * scale:
        raise ExportError("The file, loaded again, computes other outputs than before. No file was written.")


def check_variance(kind: str, precision: str, images: Iterable[GivenImage], outputs: np.ndarray) -> None:
    """Raise `InvalidParameterError` if the images do not show what a lower precision costs.

    Images of the user only: a regressor that returns the same number for drawings and noise does so for all images.
    """
    arguments = sorted({image.argument for image in images} - {DRAWINGS})
    if precision == "float32" or kind in ("classes", "labels") or not arguments or (outputs != outputs[0]).any():
        return
    raise InvalidParameterError(
        f"The {kind} are the same for all images of {' and '.join(arguments)}, so the cost of precision={precision!r}, "
        "a share of their variance, cannot be measured. Pass several different images, or none."
    )


def check_rounding(kind: str, comparison: Comparison, expected: Answers, n_references: int, runtime: str) -> None:
    """Raise `ExportError` if a file in float32 differs from its estimator by more than rounding."""
    if within_rounding(kind, comparison, n_references):
        return
    what, unit = UNITS[kind]
    reasons = [f"{what} differ by up to {comparison.difference:.1e}{unit}"]
    if comparison.n_changed:
        reasons.append(f"{comparison.n_changed} labels differ")
    if comparison.typicality_difference is not None:
        reasons.append(f"p-values of typicality differ by up to {comparison.typicality_difference:.1e}")
    is_far = kind == "numbers" and rounding_of(kind, expected.outputs) > TOLERANCES[kind] / 10
    raise ExportError(
        f"The exported model differs from the estimator on {count(comparison.n_images)} in {runtime}: "
        f"{' and '.join(reasons)}; at most {TOLERANCES[kind]:g} and no label are allowed. No file was written. "
        f"{_FAR_FROM_ZERO if is_far else 'Export to another format, or fit with another backbone.'}"
    )


def check_drop(precision: str, comparison: Comparison, max_drop: float) -> None:
    """Raise `ExportError` if a lower precision costs too much."""
    if comparison.drop <= max_drop:
        return
    raise ExportError(
        f"precision={precision!r} loses {comparison.drop:.4f} on {count(comparison.n_images)}, and "
        f"{comparison.n_changed} labels change; max_drop is {max_drop:g}. No file was written. Pass a larger max_drop, "
        "or choose a higher precision."
    )


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
