"""Images unlike the rest: typicality within the dataset, each image compared with images of other folds."""

from __future__ import annotations

import numpy as np

from sktl._targets.folds import deal
from sktl._targets.number_targets import MAD_TO_STD
from sktl._typicality.directions import cosines, directions_of
from sktl._typicality.scores import Combination, Scorer

_N_FOLDS = 5
# As many references as `Typicality` has at most.
_MOST_REFERENCES = 1024
_ROWS = 1024
# Deviations are at least this large, a tenth of the usual for sums of log-probabilities: among images that are almost
# equal, all that are not quite equal would otherwise be unlike the rest.
_LEAST_COSINE, _LEAST_SUM = 1e-3, 0.1


def typicalities(
    features: np.ndarray, memberships: np.ndarray, groups: np.ndarray, others: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how typical training images are of the other training images, and other images of the training images.

    Parameters
    ----------
    features : float32 array of shape (n_samples, n_features)
    memberships : array of shape (n_samples, n_columns)
        For each class or label, 1 for its images; no columns without labels.
    groups : int array of shape (n_samples,)
        Images of a group, such as copies, are not compared with each other.
    others : float32 array of shape (n_others, n_features)
    seed : int

    Returns
    -------
    scores : float64 array of shape (n_samples,)
    scores_of_others : float64 array of shape (n_others,)
        Both on the scale of deviations: 0 is an ordinary image, and lower is less typical.
    """
    rng = np.random.RandomState(seed)
    directions, of_others = directions_of(features), directions_of(others)
    memberships = memberships.astype(np.float64)
    folds = deal(np.zeros(len(features), dtype=np.int64), groups, _N_FOLDS, seed).of_sample
    if folds.max() < 1:  # a single group has no images to be compared with
        return np.zeros(len(features)), np.zeros(len(others))
    parts = np.empty((len(features), 1 + (memberships.shape[1] > 0)))
    for fold in np.unique(folds):
        references = _drawn(np.flatnonzero(folds != fold), rng)
        parts[folds == fold] = _scores(directions[references], memberships[references], directions[folds == fold])
    references = _drawn(np.arange(len(features)), rng)
    # Of one image of each group, because copies have equal scores. Medians instead of means, so that several unusual
    # images do not hide each other.
    _, different = np.unique(groups, return_index=True)
    middle, spread = np.median(parts[different], axis=0), _spread(parts[different], _LEAST_COSINE)
    combination = Combination(middle, spread, np.ones(len(middle)))
    found, strange = (
        combination(parts),
        combination(_scores(directions[references], memberships[references], of_others)),
    )
    middle, spread = np.median(found[different]), _spread(found[different], _LEAST_SUM)
    return (found - middle) / spread, (strange - middle) / spread


def _spread(scores: np.ndarray, least: float) -> np.ndarray:
    """Return the standard deviation that a normal distribution with the same lower half would have."""
    middle = np.median(scores, axis=0)
    below = np.where(scores <= middle, middle - scores, np.nan)
    return np.maximum(MAD_TO_STD * np.nanmedian(below, axis=0), least)


def _drawn(rows: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    return np.sort(rng.permutation(rows)[:_MOST_REFERENCES])


def _scores(references: np.ndarray, memberships: np.ndarray, directions: np.ndarray) -> np.ndarray:
    scorer = Scorer.of(cosines(references, references), memberships)
    blocks = [directions[start : start + _ROWS] for start in range(0, len(directions), _ROWS)]
    scores = [scorer(cosines(block, references)) for block in blocks]
    return np.concatenate([np.empty((0, 1 + (memberships.shape[1] > 0))), *scores])
