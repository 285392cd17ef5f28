"""Folds for cross-validation within `fit`, stratified or grouped, for classes or labels, of any number of images."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.sparse import csr_array, hstack

# Groups are dealt to at most so many folds, of which some are held out.
_MOST_PARTS = 20


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
        of_sample = _grouped(strata, groups, min(n_folds, len(np.unique(groups))), rng)
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


def hold_out_groups(
    strata: np.ndarray, groups: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of training samples and held-out samples: whole groups, about a fraction of the samples.

    Groups are dealt to folds with similar proportions. Folds of a typical size come first, then folds with typical
    proportions of classes or labels. Equally typical folds are in random order. A fold is held out if this brings the
    share of held-out samples closer to the fraction, unless training would lose a class, or all samples with a label or
    without it. If that holds for every fold, the fold with the fewest such labels is held out, but none with a class.

    Parameters
    ----------
    strata, groups, seed
        See `deal`.
    fraction : float

    Raises
    ------
    ValueError
        If no fold can be held out. The message is the reason.
    """
    possible = min(max(fraction, 1 / _MOST_PARTS), 1 - 1 / _MOST_PARTS)
    n_parts = Fraction(possible).limit_denominator(_MOST_PARTS).denominator
    folds = deal(strata, groups, n_parts, seed)
    if folds.n_folds < 2:
        raise ValueError("groups has effectively only one group")
    counts, sizes = _counts(strata, folds.of_sample).toarray(), np.bincount(folds.of_sample)
    taken, wanted = np.zeros(len(sizes), dtype=bool), fraction * sizes.sum()
    each_alone = np.eye(len(sizes), dtype=bool)[_typical_first(counts, sizes, n_parts, seed)]
    for alone in each_alone:
        more = taken | alone
        is_closer = not taken.any() or abs(sizes[more].sum() - wanted) < abs(sizes[taken].sum() - wanted)
        if is_closer and not _n_lost(counts, sizes, more):
            taken = more
    if not taken.any() and strata.ndim == 2:  # labels that are rare may each be in a group of their own
        taken = min(each_alone, key=lambda alone: _n_lost(counts, sizes, alone))
    if not taken.any():
        raise ValueError("each fold of groups has all images of some class")
    return np.flatnonzero(~taken[folds.of_sample]), np.flatnonzero(taken[folds.of_sample])


def typical_fold(strata: np.ndarray, folds: Folds, seed: int) -> int:
    """Return a fold of about the mean size, in which classes or labels are about as frequent as in all."""
    counts, sizes = _counts(strata, folds.of_sample).toarray(), np.bincount(folds.of_sample)
    return int(_typical_first(counts, sizes, len(sizes), seed)[0])


def _typical_first(counts: np.ndarray, sizes: np.ndarray, n_parts: int, seed: int) -> np.ndarray:
    """Return folds by their size, then by their proportions of classes or labels, then in random order."""
    unlike = np.abs(counts - np.outer(sizes, counts.sum(axis=0) / sizes.sum())).sum(axis=1)
    # Not the random numbers with which groups were dealt: the same group would be held out for every seed.
    drawn = np.random.RandomState([seed, 1]).permutation(len(sizes))
    return np.lexsort((drawn, unlike.round(9), np.abs(sizes - sizes.sum() / n_parts)))


def _n_lost(counts: np.ndarray, sizes: np.ndarray, held_out: np.ndarray) -> int:
    """Return of how many classes or labels training would lose all samples with them, or all without them."""
    return int((_lacks(counts, sizes, ~held_out) & ~_lacks(counts, sizes, sizes > 0)).sum())


def _lacks(counts: np.ndarray, sizes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return whether folds together have no sample of each class or label, and whether they have no other sample."""
    found = counts[folds].sum(axis=0)
    return np.stack([found == 0, found == sizes[folds].sum()])


def _counts(strata: np.ndarray, parts: np.ndarray) -> csr_array:
    """Return the number of samples of each class, or with each label, in each part.

    Sparse, because there may be almost as many classes and parts as samples.
    """
    if strata.ndim == 2:
        samples, columns = np.nonzero(strata)
        n_columns = strata.shape[1]
    else:
        samples, columns, n_columns = np.arange(len(strata)), strata, strata.max(initial=0) + 1
    found = csr_array((np.ones(len(samples)), (parts[samples], columns)), shape=(parts.max(initial=-1) + 1, n_columns))
    found.sum_duplicates()
    return found


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


def _grouped(strata: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.RandomState) -> np.ndarray:
    """Deal whole groups, those with a large share of a class first, for similar class proportions in all folds.

    scikit-learn's `StratifiedGroupKFold` does the same, but raises an error for classes smaller than the number of
    folds.
    """
    _, groups = np.unique(groups, return_inverse=True)
    counts = _counts(strata, groups)
    if strata.ndim == 2:  # samples without labels count, too
        counts = csr_array(hstack([counts, np.bincount(groups)[:, None]]))
    shares = counts.data / counts.sum(axis=0)[counts.indices]
    of_groups = [slice(*ends) for ends in zip(counts.indptr[:-1], counts.indptr[1:], strict=True)]
    largest = np.maximum.reduceat(shares, counts.indptr[:-1])
    order = rng.permutation(len(largest))
    order = order[np.argsort(-largest[order], kind="stable")]
    held, sizes, of_group = np.zeros((n_folds, counts.shape[1])), np.zeros(n_folds), np.empty(len(largest), np.int64)
    for group in order:
        columns, more = counts.indices[of_groups[group]], shares[of_groups[group]]
        # Only in the classes of the group does it matter for the unevenness to which fold the group is dealt.
        dealt = held[:, columns] + np.eye(n_folds)[:, :, None] * more
        unevenness = dealt.std(axis=1).sum(axis=1)
        # Rounded, so that differences due to rounding errors do not decide: among equal folds, the smallest is chosen.
        of_group[group] = fold = np.lexsort((sizes.round(12), unevenness.round(12)))[0]
        held[fold, columns] += more
        sizes[fold] += more.sum()
    return of_group[groups]
