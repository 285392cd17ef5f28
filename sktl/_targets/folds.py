"""Folds for cross-validation within `fit`, stratified or grouped, for classes or labels, of any number of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Folds:
    """The fold in which each sample is held out, and whether the sample is scored.

    Parameters
    ----------
    of_sample : int array of shape (n_samples,)
    scored : bool array of shape (n_samples,)
        False for samples whose class does not occur in other folds, so it cannot be learned there.
    """

    of_sample: np.ndarray
    scored: np.ndarray

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.of_sample.max(initial=-1)) + 1


def deal(strata: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> Folds:
    """Return folds with similar proportions of each class or label, in which samples of a group stay together.

    Parameters
    ----------
    strata : array of shape (n_samples,) or (n_samples, n_labels)
        Class of each sample, an integer, or whether it has each of several labels.
    groups : array of shape (n_samples,) or None
    n_folds : int
        Maximum number of folds. There are never more folds than samples or groups.
    seed : int
        Seed of the order in which samples are dealt.
    """
    rng = np.random.RandomState(seed)
    if groups is not None:
        of_sample = _grouped(_memberships(strata), groups, min(n_folds, len(np.unique(groups))), rng)
    elif strata.ndim == 2:
        n_folds = min(n_folds, len(strata))
        of_sample = stratify(strata, np.full(n_folds, 1 / n_folds), rng)
    else:
        of_sample = _dealt(strata, min(n_folds, len(strata)), rng)
    return Folds(of_sample, _scored(strata, of_sample))


def _dealt(codes: np.ndarray, n_folds: int, rng: np.random.RandomState) -> np.ndarray:
    """Deal samples in turn, class by class."""
    order = rng.permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    of_sample = np.empty(len(codes), dtype=np.int64)
    of_sample[order] = np.arange(len(codes)) % n_folds
    return of_sample


def _scored(strata: np.ndarray, of_sample: np.ndarray) -> np.ndarray:
    """Return whether the class of each sample occurs in other folds, or for labels, whether there are other folds."""
    n_folds = int(of_sample.max(initial=-1)) + 1
    if strata.ndim == 2:
        return np.full(len(of_sample), n_folds > 1)
    classes, codes = np.unique(strata, return_inverse=True)
    counts = np.bincount(of_sample * len(classes) + codes, minlength=n_folds * len(classes)).reshape(n_folds, -1)
    return np.asarray(counts.sum(axis=0)[codes] > counts[of_sample, codes])


def _memberships(strata: np.ndarray) -> np.ndarray:
    """Return one column for each class or label, which is 1 for its samples."""
    if strata.ndim == 2:
        return np.concatenate([strata, np.ones((len(strata), 1))], axis=1)
    return (strata[:, None] == np.arange(strata.max(initial=0) + 1)).astype(np.float64)


def stratify(labels: np.ndarray, shares: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Divide samples with several labels each into parts with similar proportions of each label.

    Samples of the rarest label are dealt first, each to the part that lacks most of this label (K. Sechidis,
    G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011).

    Parameters
    ----------
    labels : array of shape (n_samples, n_labels)
        1 if a sample has a label and 0 otherwise.
    shares : float64 array of shape (n_parts,)
        Shares of the parts, which sum to 1.
    rng : RandomState
        Determines the order of the samples.

    Returns
    -------
    parts : int64 array of shape (n_samples,)
    """
    order = rng.permutation(len(labels))
    has = labels[order] > 0
    lacking, open_places = np.outer(shares, has.sum(axis=0)), shares * len(has)
    parts = np.full(len(has), -1)
    left = has.sum(axis=0)
    while left.any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        for row in np.flatnonzero(has[:, label] & (parts < 0)):
            # Rounded, so that differences due to rounding errors do not decide.
            parts[row] = part = np.lexsort((-open_places.round(9), -lacking[:, label].round(9)))[0]
            lacking[part] -= has[row]
            open_places[part] -= 1
            left -= has[row]
    for row in np.flatnonzero(parts < 0):
        parts[row] = part = int(open_places.round(9).argmax())
        open_places[part] -= 1
    found = np.empty_like(parts)
    found[order] = parts
    return found


def _grouped(memberships: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.RandomState) -> np.ndarray:
    """Deal whole groups, those with a large share of a class first, for similar class proportions in all folds.

    scikit-learn's `StratifiedGroupKFold` does the same, but raises an error for classes smaller than the number of
    folds.
    """
    _, groups = np.unique(groups, return_inverse=True)
    counts = np.zeros((groups.max() + 1, memberships.shape[1]))
    np.add.at(counts, groups, memberships)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = rng.permutation(len(shares))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    held, of_group = np.zeros((n_folds, shares.shape[1])), np.empty(len(shares), dtype=np.int64)
    for group in order:
        unevenness = [
            np.std(held + shares[group] * (np.arange(n_folds) == fold)[:, None], axis=0).sum()
            for fold in range(n_folds)
        ]
        sizes = held.sum(axis=1)
        # Rounded, so that differences due to rounding errors do not decide: among equal folds, the smallest is chosen.
        of_group[group] = min(range(n_folds), key=lambda fold: (round(unevenness[fold], 12), sizes[fold]))
        held[of_group[group]] += shares[group]
    return of_group[groups]
