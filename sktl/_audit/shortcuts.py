"""Shortcuts: properties of files and images, other than what the images show, that tell classes apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sklearn.tree import ExtraTreeClassifier

from sktl._short_text import percent
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets

from .issues import Issue
from .out_of_fold import OutOfFold
from .thumbnails import Thumbnail

# A shortcut is worth a warning if it gains this many standard errors and this much accuracy over chance, and this share
# of what the images gain.
_ERRORS, _LEAST_GAIN, _SHARE = 4.0, 0.1, 0.6
_N_TREES = 50
_SMALLEST_LEAF = 3
# The memory for a tree grows with the product of images and classes. With more, some images stand for all.
_MOST_CELLS = 50_000_000
# Categories with fewer images than this are one category.
_COMMON = 5


def shortcuts(targets: Targets, thumbnails: list[Thumbnail], predicted: OutOfFold, seed: int) -> Iterator[Issue]:
    """Yield the properties that tell classes apart almost as well as the images do.

    Parameters
    ----------
    targets : Targets
        Only classes are checked.
    thumbnails : list of Thumbnail
    predicted : OutOfFold
        Predictions from the images alone, whose folds are used.
    seed : int
    """
    scored = np.flatnonzero(predicted.folds >= 0)
    if not isinstance(targets, ClassTargets) or not len(scored):
        return
    codes = targets.codes[scored]
    chance = np.bincount(codes).max() / len(codes)
    real = float((np.nan_to_num(predicted.values[scored]).argmax(axis=1) == codes).mean())
    for name, table in _properties([thumbnails[i] for i in scored]).items():
        if len(np.unique(table, axis=0)) < 2:
            continue
        accuracy = _accuracy(table, codes, predicted.folds[scored], seed)
        error = np.sqrt(max(chance * (1 - chance), 1e-12) / len(codes))
        least_gain = max(_ERRORS * error, _LEAST_GAIN)
        if accuracy - chance > max(least_gain, _SHARE * (real - chance)):
            yield _shortcut(name, accuracy, chance, real, least_gain)


def _shortcut(name: str, accuracy: float, chance: float, real: float, least_gain: float) -> Issue:
    is_unused = accuracy > real + least_gain
    unused = f" The model hardly uses the {name}, perhaps because the network does not see it." if is_unused else ""
    return Issue(
        kind="shortcut",
        name=name,
        score=float(min(1.0, (accuracy - chance) / max(real - chance, 1e-12))) if real > chance else 1.0,
        suggestion=(
            f"The {name} alone predicts the class with an accuracy of {percent(accuracy, 0)}; chance is "
            f"{percent(chance, 0)}, and a model reaches {percent(real, 0)} by what the network sees of the images."
            f"{unused} If it differs between classes only because of how the images were collected, a model may learn "
            "it instead of what the images show: test on images from elsewhere."
        ),
    )


def _properties(thumbnails: list[Thumbnail]) -> Mapping[str, np.ndarray]:
    """Return a table of numbers for each property that may be a shortcut."""
    return {
        "border": np.stack([kept.rim for kept in thumbnails]).astype(np.float32),
        "mean color": np.stack([kept.color for kept in thumbnails]),
        "image size": np.array([kept.shape for kept in thumbnails], dtype=np.float32),
        "file size": np.array([[kept.n_bytes] for kept in thumbnails], dtype=np.float32),
        "file format": _indicators([kept.format for kept in thumbnails]),
        # Each by itself, because a manufacturer may have many models, and a model many stations that are all rare.
        "camera": np.hstack([_indicators(names) for names in np.array([kept.camera for kept in thumbnails]).T]),
    }


def _indicators(names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return one column for each common name."""
    values, counts = np.unique(names, return_counts=True)
    common = values[counts >= _COMMON]
    return (np.asarray(names)[:, None] == common).astype(np.float32)


def _accuracy(table: np.ndarray, codes: np.ndarray, folds: np.ndarray, seed: int) -> float:
    """Return the share of images whose class a forest of extremely randomized trees predicts from a table."""
    n_classes = int(codes.max()) + 1
    if len(codes) * n_classes > _MOST_CELLS:
        rows = np.random.RandomState(seed).permutation(len(codes))[: _MOST_CELLS // n_classes]
        table, codes, folds = table[rows], codes[rows], folds[rows]
    hits = 0
    for fold in np.unique(folds):
        held_out = folds == fold
        if held_out.all():
            return 0.0
        hits += int((_predicted(table[~held_out], codes[~held_out], table[held_out], seed) == codes[held_out]).sum())
    return hits / len(codes)


def _predicted(table: np.ndarray, codes: np.ndarray, wanted: np.ndarray, seed: int) -> np.ndarray:
    """Return the predictions of scikit-learn's `ExtraTreesClassifier`, which would hold all its trees in memory."""
    rng, votes, weights = np.random.RandomState(seed), np.zeros(1), np.ones(len(codes))
    if 2 * len(np.unique(codes)) >= len(codes):
        # Each tree would warn that y may be numbers. Trees ignore images of weight 0, which make the images more.
        table, codes, weights = np.tile(table, (2, 1)), np.tile(codes, 2), np.append(weights, 0 * weights)
    for _ in range(_N_TREES):
        tree = ExtraTreeClassifier(min_samples_leaf=_SMALLEST_LEAF, random_state=rng.randint(np.iinfo(np.int32).max))
        votes = votes + tree.fit(table, codes, weights).predict_proba(wanted)
    return np.asarray(tree.classes_[votes.argmax(axis=1)])
