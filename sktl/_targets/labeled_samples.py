"""Labeled samples: images, features or activations with their targets, for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from sktl.exceptions import InvalidParameterError

from .base_targets import Targets

Samples = TypeVar("Samples")
Others = TypeVar("Others")
# Fractions that are tried in place of one that cannot be held out.
_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Labeled(Generic[Samples]):
    """Samples with their targets.

    Parameters
    ----------
    samples : sequence of Sample, array of features, ImageFeatures, or Inputs
    targets : Targets
    """

    samples: Samples
    targets: Targets

    def take(self, rows: np.ndarray | slice) -> Labeled[Any]:
        """Return a subset of the samples with their targets."""
        samples: Any = self.samples
        if isinstance(rows, np.ndarray) and not hasattr(samples, "shape"):  # a list of samples
            return Labeled([samples[i] for i in rows], self.targets.take(rows))
        return Labeled(samples[rows], self.targets.take(rows))

    def counted(self) -> Labeled[Any]:
        """Return the samples with nonzero weight."""
        rows = self.targets.counted()
        return self if isinstance(rows, slice) else self.take(rows)

    def relative(self) -> Labeled[Samples]:
        """Return the same samples with weights divided by their mean."""
        weights = self.targets.weights / self.targets.weights.mean()
        return replace(self, targets=self.targets.with_changes(weights=weights))


@dataclass(frozen=True)
class Split(Generic[Samples]):
    """The training data, and the validation data of early stopping if it is used.

    Parameters
    ----------
    training : Labeled
    validation : Labeled or None
    """

    training: Labeled[Samples]
    validation: Labeled[Samples] | None = None

    def __iter__(self) -> Iterator[Labeled[Samples]]:
        """Yield the training data, then the validation data if there are any."""
        yield self.training
        if self.validation is not None:
            yield self.validation

    def weighted(self) -> list[Labeled[Samples]]:
        """Return both parts with the weights used in their losses. Validation weights are divided by their mean."""
        return [self.training] if self.validation is None else [self.training, self.validation.relative()]

    def map(
        self, function: Callable[[Samples], Others], of_validation: Callable[[Samples], Others] | None = None
    ) -> Split[Others]:
        """Apply a function to the samples, optionally another one to validation samples. The targets stay the same."""
        training = Labeled(function(self.training.samples), self.training.targets)
        if self.validation is None:
            return Split(training)
        return Split(training, Labeled((of_validation or function)(self.validation.samples), self.validation.targets))


def hold_out(targets: Targets, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of training and validation samples, with the same proportions of classes in both.

    Groups stay together. The proportions are then approximate. Samples of weight zero are in neither part.

    Raises
    ------
    InvalidParameterError
        If there are too few samples.
    """
    rows = np.flatnonzero(targets.weights)
    counted = targets.restricted(rows)
    try:
        train, held_out = counted.hold_out(fraction, seed)
    except ValueError as error:
        reason = str(error).rstrip(".")  # some of scikit-learn's messages end with a period
        which = " of nonzero weight" if len(rows) < len(targets) else ""
        nearest = sorted(_FRACTIONS, key=lambda other: abs(other - fraction))
        possible = next((other for other in nearest if _is_possible(counted, other, seed)), None)
        another = "" if possible is None else f"validation_fraction={possible:g}, "
        raise InvalidParameterError(
            f"early_stopping=True cannot hold out validation_fraction={fraction:g} of {len(rows)} images{which}"
            f"{counted.scarcity()}: {reason}. Pass X_val and y_val, {another}or early_stopping=False."
        ) from error
    return np.sort(rows[train]), np.sort(rows[held_out])


def _is_possible(targets: Targets, fraction: float, seed: int) -> bool:
    try:
        targets.hold_out(fraction, seed)
    except ValueError:
        return False
    return True
