"""Targets of training, whatever they are: what a loss compares outputs with, weights, groups, folds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self, cast

import numpy as np

from .folds import Folds, deal
from .outputs import Outputs

# Groups are dealt to at most so many folds, of which some are held out.
_MOST_PARTS = 20


class Targets(ABC):
    """The targets of training: for each sample, what the outputs should be, its weight and its group.

    Attributes
    ----------
    weights : float64 array of shape (n_samples,)
        Weights of the samples.
    groups : int array of shape (n_samples,) or None
        Samples of the same group are not split between training and validation.
    """

    weights: np.ndarray
    groups: np.ndarray | None

    def __len__(self) -> int:
        return len(self.weights)

    @property
    @abstractmethod
    def loss(self) -> str:
        """The name of the loss, a key of `sktl._training.losses.LOSSES`."""

    @property
    @abstractmethod
    def outputs(self) -> Outputs:
        """What the columns of the output layer mean."""

    @property
    @abstractmethod
    def rank(self) -> np.ndarray:
        """The column of the output layer in training for each column of the outputs.

        The order depends on the samples alone. Renaming or permuting columns changes nothing but the names.
        """

    @abstractmethod
    def values(self) -> np.ndarray:
        """Return what the loss compares outputs with: codes of shape (n_samples,), or one column per output."""

    def memberships(self) -> np.ndarray:
        """Return one column for each class or label, which is 1 for its samples. Numbers have no columns."""
        return np.empty((len(self), 0))

    def ranked_values(self, rank: np.ndarray) -> np.ndarray:
        """Return the values for outputs in the order of training."""
        return np.ascontiguousarray(self.values()[:, np.argsort(rank)])

    def ranked_weights(self, rank: np.ndarray) -> np.ndarray:
        """Return the weights in the loss, of shape (n_samples,), or (n_samples, 1 or n_outputs), in that order."""
        return self.weights[:, None]

    def with_changes(self, **fields: Any) -> Self:
        """Return the same targets with other values of some fields."""
        return replace(cast(Any, self), **fields)

    def take(self, rows: np.ndarray | slice) -> Self:
        """Return the targets of a subset of samples."""
        groups = None if self.groups is None else self.groups[rows]
        return self.with_changes(weights=self.weights[rows], groups=groups, **self._of_samples(rows))

    @abstractmethod
    def _of_samples(self, rows: np.ndarray | slice) -> dict[str, Any]:
        """Return the fields of a subset of samples, except for weights and groups."""

    def restricted(self, rows: np.ndarray, present: np.ndarray | None = None) -> Self:
        """Return the targets of a subset of samples without classes that no sample of another subset has.

        Parameters
        ----------
        rows : int array of shape (n_rows,)
        present : int array or None
            Rows of the other subset. None is the same subset.
        """
        return self.take(rows)

    def losing(self, rows: np.ndarray) -> np.ndarray:
        """Return the positions of the samples whose class would be lost if only the samples in `rows` were used."""
        return np.empty(0, dtype=np.int64)

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to learn, because all samples have the same class."""
        return False

    @abstractmethod
    def ordered(self) -> Self:
        """Return the same targets with columns in the order of training."""

    @abstractmethod
    def narrowed(self, n_columns: int, rng: np.random.RandomState) -> tuple[np.ndarray, Self]:
        """Return the rows of samples with nonzero weight, and targets with no more than so many random columns."""

    def deal(self, n_folds: int, seed: int) -> Folds:
        """Return folds for cross-validation. Samples of a group stay together."""
        return deal(self._strata(), self.groups, n_folds, seed)

    @abstractmethod
    def _strata(self) -> np.ndarray:
        """Return what folds balance: the code of each sample's class, or a column of memberships for each label."""

    @abstractmethod
    def of_validation(self, y: Any, sample_weight: Any, n_samples: int) -> Self:
        """Check the targets and weights of a validation set, and return its targets.

        Raises
        ------
        InvalidInputError
            If they do not fit these targets, or not the number of images.
        """

    @abstractmethod
    def hold_out(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of training and validation samples.

        Raises
        ------
        ValueError
            If there are too few samples. The message is the reason.
        """

    def _hold_out_groups(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Hold out whole groups, about a fraction of the samples, without losing a class.

        Groups are dealt to folds of similar proportions. Folds are held out as long as that brings their share closer
        to the fraction.
        """
        n_parts = max(2, Fraction(fraction).limit_denominator(_MOST_PARTS).denominator)
        folds = self.deal(n_parts, seed)
        if folds.n_folds < 2:
            raise ValueError("groups has effectively only one group")
        sizes, wanted = np.bincount(folds.of_sample), fraction * len(self)
        held_out = np.zeros(len(self), dtype=bool)
        for fold in np.argsort(np.abs(sizes - len(self) / n_parts), kind="stable"):
            more = held_out | (folds.of_sample == fold)
            is_closer = not held_out.any() or abs(more.sum() - wanted) < abs(held_out.sum() - wanted)
            if is_closer and not more.all() and not len(self.losing(np.flatnonzero(~more))):
                held_out = more
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def scarcity(self) -> str:
        """Return what makes samples scarce, for messages."""
        return ""
