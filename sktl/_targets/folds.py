"""Folds of a cross-validation within `fit`: stratified, or grouped, whatever the classes and however few the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Folds:
    """Which fold holds each sample out, and whether it is scored there.

    Parameters
    ----------
    of_sample : int array of shape (n_samples,)
    scored : bool array of shape (n_samples,)
        False for samples of a class that the other folds do not have: nothing could be learned of it.
    """

    of_sample: np.ndarray
    scored: np.ndarray

    @property
    def n_folds(self) -> int:
        """The number of folds."""
        return int(self.of_sample.max(initial=-1)) + 1


def deal(codes: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> Folds:
    """Return folds with like shares of each class, whose samples of one group stay together.

    Parameters
    ----------
    codes : int array of shape (n_samples,)
        The class of each sample.
    groups : array of shape (n_samples,) or None
    n_folds : int
        At most; no more than there are samples, or groups.
    seed : int
        Of the order in which samples are dealt.
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
    """Deal whole groups, those with most of a class first, so that the folds' shares of classes are most alike.

    That is what scikit-learn's `StratifiedGroupKFold` does, which refuses classes smaller than the number of folds.
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
        of_group[group] = min(range(n_folds), key=lambda fold: (round(unevenness[fold], 12), sizes[fold]))
        held[of_group[group]] += shares[group]
    return of_group[groups]
