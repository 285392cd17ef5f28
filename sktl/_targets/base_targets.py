"""Training targets of any kind: what a loss compares outputs with, weights, groups and folds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np

from .folds import Folds, deal, hold_out_groups, typical_fold
from .outputs import Outputs


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

    def counted(self) -> np.ndarray | slice:
        """Return the rows of the samples with nonzero weight."""
        return slice(None) if self.weights.all() else np.flatnonzero(self.weights)

    def learnable(self, weights: np.ndarray) -> np.ndarray:
        """Return which outputs can be learned from the samples with these weights, bool of shape (n_outputs,)."""
        return np.full(len(self.outputs), bool(weights.any()))

    def scored(self, learned: np.ndarray) -> np.ndarray:
        """Return which held-out samples, or which of their outputs, show how well the outputs are learned.

        Parameters
        ----------
        learned : bool array of shape (n_samples, n_outputs)
            Whether each output could be learned from the samples with which the sample's outputs were predicted.

        Returns
        -------
        scored : bool array of shape (n_samples,) for classes, otherwise (n_samples, n_outputs)
        """
        return learned

    def trained_with(self, weights: np.ndarray) -> Self:
        """Return the targets with other weights in training."""
        return self.with_changes(weights=weights)

    def restricted(self, rows: np.ndarray, present: np.ndarray | None = None) -> Self:
        """Return the targets of a subset of samples without outputs that cannot be learned from another subset.

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

    def typical_fold(self, folds: Folds, seed: int) -> int:
        """Return a fold that is like the others. Groups are dealt by size, so the first fold has the largest."""
        return 0 if self.groups is None else typical_fold(self._strata(), folds, seed)

    def thinned(self, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
        """Return the rows, or a limited number of them with similar proportions of classes or labels."""
        if len(rows) <= most:
            return rows
        ungrouped = self.with_changes(groups=None).take(rows)
        rows = rows[ungrouped.deal(-(-len(rows) // most), seed).of_sample == 0]
        # Folds of labels are not exactly of the same size.
        return np.sort(np.random.RandomState(seed).permutation(rows)[:most]) if len(rows) > most else rows

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

    def hold_out(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of training and validation samples.

        Raises
        ------
        ValueError
            If there are too few samples. The message is the reason.
        """
        if self.groups is not None:
            return hold_out_groups(self._strata(), self.groups, fraction, seed)
        return self._hold_out_samples(fraction, seed)

    @abstractmethod
    def _hold_out_samples(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same without groups."""

    def scarcity(self) -> str:
        """Return what makes samples scarce, for messages."""
        return ""
