"""Compare the outputs of an exported model with the estimator's outputs: rounding, or what precision costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .paired_outputs import Answers

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
