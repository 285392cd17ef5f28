"""Samples, features or activations with what is to be learned of them, for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from .targets import Targets

Samples = TypeVar("Samples")
Others = TypeVar("Others")


@dataclass(frozen=True)
class Labelled(Generic[Samples]):
    """Samples with what is to be learned of them.

    Parameters
    ----------
    samples : sequence of Sample, array of features, or Inputs
    targets : Targets
    """

    samples: Samples
    targets: Targets

    def take(self, rows: np.ndarray | slice) -> Labelled[Any]:
        """Return some of them."""
        samples: Any = self.samples
        if isinstance(rows, np.ndarray) and not isinstance(samples, np.ndarray):
            return Labelled([samples[i] for i in rows], self.targets.take(rows))
        return Labelled(samples[rows], self.targets.take(rows))

    def relative(self) -> Labelled[Samples]:
        """Return the same with weights relative to their mean."""
        weights = self.targets.weights / self.targets.weights.mean()
        return replace(self, targets=replace(self.targets, weights=weights))


@dataclass(frozen=True)
class Split(Generic[Samples]):
    """What is trained on, and what early stopping watches, if it does.

    Parameters
    ----------
    training : Labelled
    validation : Labelled or None
    """

    training: Labelled[Samples]
    validation: Labelled[Samples] | None = None

    def __iter__(self) -> Iterator[Labelled[Samples]]:
        """Give the training samples, and then those of validation if there are any."""
        yield self.training
        if self.validation is not None:
            yield self.validation

    def weighted(self) -> list[Labelled[Samples]]:
        """Return the parts with the weights that their losses have: those of validation are relative to their mean."""
        return [self.training] if self.validation is None else [self.training, self.validation.relative()]

    def map(
        self, function: Callable[[Samples], Others], of_validation: Callable[[Samples], Others] | None = None
    ) -> Split[Others]:
        """Return what a function, or another one for validation, makes of the samples, with the same targets."""
        training = Labelled(function(self.training.samples), self.training.targets)
        if self.validation is None:
            return Split(training)
        return Split(training, Labelled((of_validation or function)(self.validation.samples), self.validation.targets))
