"""How many independent images tell as much about a share as images that come in groups."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as students_t

# The variance between groups is estimated as if there were another tenth of a group, in which all images are of the
# rarer kind. Without it, a model that is right for nearly all images seems equally good for all groups, and intervals
# contain the true share much less often than they say (benchmarks/evaluation.py). More than a tenth widens intervals
# without need if groups hardly differ.
_UNSEEN = 0.1


def effective_size(hits: np.ndarray, groups: np.ndarray | None, tail: float) -> float:
    """Return how many independent images tell as much about their share of hits.

    Parameters
    ----------
    hits : bool array of shape (n_images,)
    groups : array of shape (n_images,) or None
        The images of a group may resemble each other. None if all images are independent.
    tail : float
        The quantile of Student's distribution that limits an interval of the share, which corrects for few groups.
    """
    if groups is None or not len(hits):
        return float(len(hits))
    return float(_sizes(_running_counts(hits, groups)[:, -1:], tail)[0])


def effective_sizes(hits: np.ndarray, groups: np.ndarray | None, tail: float) -> np.ndarray:
    """Return the effective sizes of the first 1, 2, ... images."""
    if groups is None:
        return np.arange(1.0, len(hits) + 1)
    return _sizes(_running_counts(hits, groups), tail)


def _running_counts(hits: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return counts of the first 1, 2, ... images as columns.

    The rows are the number of groups, of images and of hits, and the sums over groups of squared images, of images
    times hits, and of squared hits.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], codes[order])  # where the group of an image begins
    hit = hits[order].astype(np.float64)
    n_before = np.arange(len(hits)) - first
    hits_before = np.cumsum(hit) - hit
    hits_before -= hits_before[first]
    added = np.empty((6, len(hits)))
    added[:, order] = [
        n_before == 0,
        np.ones(len(hits)),
        hit,
        2 * n_before + 1,
        hits_before + hit * (n_before + 1),
        hit * (2 * hits_before + 1),
    ]
    counts: np.ndarray = np.cumsum(added, axis=1)
    return counts


def _sizes(counts: np.ndarray, tail: float) -> np.ndarray:
    n_groups, n, n_hits, squared, crossed, squared_hits = counts
    share, several = n_hits / n, n_groups > 1
    n_groups = np.where(several, n_groups, 2)
    # Of the sums of hits - share over groups, and of hits - share if all images were independent.
    between = n_groups / (n_groups - 1) * (squared_hits - 2 * share * crossed + share**2 * squared)
    independent = n_hits * (1 - share)
    size, farthest = squared / n, np.maximum(share, 1 - share)  # of the group of an image
    between += _UNSEEN * (size * farthest) ** 2
    independent += _UNSEEN * size * farthest**2
    few = students_t.ppf(tail, np.maximum(n - 1, 1)) / students_t.ppf(tail, n_groups - 1)
    # One group says nothing about others.
    sizes: np.ndarray = np.where(several, n * np.minimum(1.0, independent / between) * few**2, 0.0)
    return sizes
