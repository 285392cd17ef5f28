"""`Typicality`: references drawn from the training images, and cross-conformal p-values of other images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from sktl._targets.targets import Targets
from sktl.exceptions import TypicalityError

from .directions import cosines, directions_of
from .scores import Combination, Scorer

_N_FOLDS = 5
# Limits of the references that are kept, and saved with a model. More would hardly change p-values.
_MOST_REFERENCES = 1024
_MOST_BYTES = 1_800_000
# Images of which cosines are computed at once, to bound the memory.
_BLOCK = 1024


class Calibration(NamedTuple):
    """How images are scored without the references of one fold, and the sorted scores of these references."""

    others: np.ndarray
    scorer: Scorer
    scores: np.ndarray


@dataclass(frozen=True)
class Typicality:
    """How typical images are of the training images.

    The p-value of an image is the share of references, including the image itself, that are at most as ordinary as the
    image. Each reference is compared under a scorer that is fitted without the reference's fold (V. Vovk,
    "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015).

    Parameters
    ----------
    directions : int8 array of shape (n_references, n_features)
        Directions of the features of the references.
    memberships : uint8 array of shape (n_references, n_columns)
        For each class or label, 1 for its references. Numbers have no columns.
    folds : uint8 array of shape (n_references,)
        Fold of each reference. References of a group are in the same fold.
    """

    directions: np.ndarray
    memberships: np.ndarray
    folds: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: Targets, seed: int) -> Self:
        """Draw references at random from training images with nonzero weight.

        Parameters
        ----------
        features : float32 array of shape (n_samples, n_features)
            Features that do not depend on the targets.
        targets : Targets
        seed : int
            Seed of the references and of the folds.
        """
        n_bytes = features.shape[1] + targets.take(slice(0, 1)).memberships().shape[1]
        rng = np.random.RandomState(seed)
        drawn = rng.permutation(np.flatnonzero(targets.weights > 0))
        rows = np.sort(drawn[: max(2, min(_MOST_REFERENCES, _MOST_BYTES // n_bytes))])
        drawn_targets = targets.take(rows)
        groups = np.arange(len(rows))
        if drawn_targets.groups is not None:
            _, groups = np.unique(drawn_targets.groups, return_inverse=True)
        folds = rng.permutation(np.arange(groups.max() + 1) % _N_FOLDS)[groups]
        memberships = drawn_targets.memberships().astype(np.uint8)
        return cls(directions_of(np.asarray(features[rows])), memberships, folds.astype(np.uint8))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that determine the p-values."""
        return {name: getattr(self, name) for name in ("directions", "memberships", "folds")}

    @property
    def is_valid(self) -> bool:
        """Whether the arrays have values such as `of` returns."""
        return bool(len(self.folds) and (self.folds < _N_FOLDS).all() and (self.memberships <= 1).all())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the p-values of images, float64 of shape (n_images,) in (0, 1]."""
        combination, calibrations = self.calibrations
        p_values = np.empty(len(features))
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            products = cosines(directions_of(np.asarray(features[rows])), self.directions)
            p_values[rows] = self._p_values(products, combination, calibrations)
        return p_values

    def _p_values(self, products: np.ndarray, combination: Combination, calibrations: list[Calibration]) -> np.ndarray:
        """Return the p-values of images from their cosines to the references."""
        n_below = np.ones(len(products), dtype=np.int64)
        for others, scorer, scores in calibrations:
            found = combination(scorer(products[:, others]))
            n_below += np.searchsorted(scores, found, side="right")
        return n_below / (len(self.directions) + 1)

    @cached_property
    def calibrations(self) -> tuple[Combination, list[Calibration]]:
        """How scores are combined, and the calibration of each fold.

        Computed when p-values are first needed, and not saved, because the references determine it.
        """
        folds = np.unique(self.folds)
        if len(folds) < 2:
            raise TypicalityError(
                "typicality compares training images with each other, and the estimator was fitted on a single image, "
                "or on a single group of images, with nonzero weight. Fit it on more."
            )
        products = cosines(self.directions, self.directions)
        scored = []
        for fold in folds:
            others, held_out = self.folds != fold, self.folds == fold
            scorer = Scorer.of(products[np.ix_(others, others)], self.memberships[others])
            scored.append((others, scorer, scorer(products[np.ix_(held_out, others)])))
        combination = Combination.of(np.concatenate([scores for *_, scores in scored]))
        return combination, [
            Calibration(others, scorer, np.sort(combination(scores))) for others, scorer, scores in scored
        ]

    def __getstate__(self) -> dict[str, Any]:
        return self.arrays()
