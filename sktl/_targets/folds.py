"""Folds for cross-validation within `fit`, stratified or grouped, for any classes and any number of images."""

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


def deal(codes: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> Folds:
    """Return folds with similar proportions of each class, in which samples of a group stay together.

    Parameters
    ----------
    codes : int array of shape (n_samples,)
        Class of each sample.
    groups : array of shape (n_samples,) or None
    n_folds : int
        Maximum number of folds. There are never more folds than samples or groups.
    seed : int
        Seed of the order in which samples are dealt.
    """
    if groups is None:
        n_folds = min(n_folds, len(codes))
        order = np.random.RandomState(seed).permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        of_sample = np.empty(len(codes), dtype=np.int64)
        of_sample[order] = np.arange(len(codes)) % n_folds
    else:
        of_sample = _grouped(codes, groups, min(n_folds, len(np.unique(groups))), seed)
    outside = [set(codes[of_sample != fold]) for fold in range(int(of_sample.max(initial=-1)) + 1)]
    scored = np.array([code in outside[fold] for code, fold in zip(codes, of_sample, strict=True)], dtype=bool)
    return Folds(of_sample, scored)


def _grouped(codes: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Deal whole groups, those with a large share of a class first, for similar class proportions in all folds.

    scikit-learn's `StratifiedGroupKFold` does the same, but raises an error for classes smaller than the number of
    folds.
    """
    _, groups = np.unique(groups, return_inverse=True)
    counts = np.zeros((groups.max() + 1, codes.max() + 1))
    np.add.at(counts, (groups, codes), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = np.random.RandomState(seed).permutation(len(shares))
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
