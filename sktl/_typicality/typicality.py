"""`Typicality`: references drawn from the training images, and cross-conformal p-values of other images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Self

import numpy as np

from sktl._backbones.taps import TEXTURE_STAGES, StageLayout
from sktl._targets.base_targets import Targets
from sktl._targets.sample_groups import with_copies_together
from sktl.exceptions import TypicalityError

from .directions import cosines, directions_of
from .scores import Combination, Scorer

_N_FOLDS = 5
# Limits of the references that are kept, and saved with a model. More would hardly change p-values.
_MOST_REFERENCES = 1024
_MOST_BYTES = 1_800_000
# Share of the numbers of an 8-bit direction that another engine or machine may change by 1. Different images, even of
# flat noise, differ by at least six times as much.
_ROUNDED = 0.005
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
    textures : int8 array of shape (n_references, n_textures)
        Directions of the texture features of the references. Without columns, textures are not compared.
    """

    directions: np.ndarray
    memberships: np.ndarray
    folds: np.ndarray
    textures: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, layout: StageLayout, targets: Targets, seed: int) -> Self:
        """Draw references at random from training images with nonzero weight.

        Parameters
        ----------
        features : float32 array of shape (n_samples, n_features)
            Features that do not depend on the targets.
        layout : StageLayout
            Layout of the features, of which only the network's own output and the textures are used.
        targets : Targets
        seed : int
            Seed of the references and of the folds.
        """
        own, textures = _parts(np.empty((0, features.shape[1])), layout)
        n_bytes = own.shape[1] + textures.shape[1] + targets.take(slice(0, 1)).memberships().shape[1]
        rng = np.random.RandomState(seed)
        drawn = rng.permutation(np.flatnonzero(targets.weights > 0))
        rows = np.sort(drawn[: most_references(n_bytes)])
        parts = _parts(np.asarray(features[rows]), layout)
        drawn_targets = with_copies_together(targets.take(rows), parts[0])
        groups = np.arange(len(rows))
        if drawn_targets.groups is not None:
            _, groups = np.unique(drawn_targets.groups, return_inverse=True)
        folds = rng.permutation(np.arange(groups.max() + 1) % _N_FOLDS)[groups]
        memberships = drawn_targets.memberships().astype(np.uint8)
        directions, of_textures = map(directions_of, parts)
        return cls(directions, memberships, folds.astype(np.uint8), of_textures)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that determine the p-values."""
        return {name: getattr(self, name) for name in ("directions", "memberships", "folds", "textures")}

    @property
    def is_valid(self) -> bool:
        """Whether the arrays have values such as `of` returns."""
        return bool(len(self.folds) and (self.folds < _N_FOLDS).all() and (self.memberships <= 1).all())

    @property
    def n_references(self) -> int:
        """Number of references."""
        return len(self.folds)

    @property
    def compared(self) -> list[np.ndarray]:
        """The directions with which images are compared: of features and, if there are any, of textures."""
        return [some for some in (self.directions, self.textures) if some.shape[1]]

    @property
    def n_stages(self) -> int:
        """Number of last stages whose features are compared."""
        return TEXTURE_STAGES if self.textures.shape[1] else 1

    def fits(self, layout: StageLayout) -> bool:
        """Return True if features of a layout can be compared with the references."""
        found = _parts(np.empty((0, layout.length(layout.n_stages))), layout)
        return all(a.shape[1] == b.shape[1] for a, b in zip(found, self.compared, strict=False))

    @property
    def reduction(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function from features of `n_stages` stages to the directions that are compared, a tenth of their size."""
        return partial(_reduced, self.directions.shape[1], self.textures.shape[1])

    def __call__(self, directions: np.ndarray) -> np.ndarray:
        """Return the p-values of images, float64 of shape (n_images,) in (0, 1].

        Parameters
        ----------
        directions : int8 array of shape (n_images, n_compared)
            What `reduction` makes of the features of the images.
        """
        combination, calibrations = self.calibrations
        p_values = np.empty(len(directions))
        for rows, parts in self._blocks(directions):
            products = [cosines(*pair) for pair in zip(parts, self.compared, strict=True)]
            p_values[rows] = self._p_values(products, combination, calibrations)
        return p_values

    def are_references(self, directions: np.ndarray) -> np.ndarray:
        """Return which images have the features of a reference, apart from rounding errors; bool of shape (n_images,).

        The argument is as for p-values.
        """
        found = np.empty(len(directions), dtype=bool)
        for rows, parts in self._blocks(directions):
            nearest = cosines(parts[0], self.directions).argmax(axis=1)
            pairs = zip(parts, self.compared, strict=True)
            found[rows] = np.all([_are_rounded(some, references[nearest]) for some, references in pairs], axis=0)
        return found

    def _blocks(self, directions: np.ndarray) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Yield the rows of some images at a time, and the directions of their features and of their textures."""
        for start in range(0, len(directions), _BLOCK):
            rows = slice(start, start + _BLOCK)
            parts = np.split(directions[rows], [self.directions.shape[1]], axis=1)
            yield rows, parts[: len(self.compared)]

    def _p_values(
        self, products: list[np.ndarray], combination: Combination, calibrations: list[Calibration]
    ) -> np.ndarray:
        """Return the p-values of images from their cosines to the references."""
        n_below = np.ones(len(products[0]), dtype=np.int64)
        for others, scorer, scores in calibrations:
            found = combination(scorer(*(some[:, others] for some in products)))
            n_below += np.searchsorted(scores, found, side="right")
        return n_below / (self.n_references + 1)

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
        products = [cosines(some, some) for some in self.compared]
        scored = []
        for fold in folds:
            others, held_out = self.folds != fold, self.folds == fold
            scorer = Scorer.of(products[0][np.ix_(others, others)], self.memberships[others])
            block = np.ix_(held_out, others)
            scored.append((others, scorer, scorer(*(some[block] for some in products))))
        combination = Combination.of(np.concatenate([scores for *_, scores in scored]), len(self.compared) > 1)
        return combination, [
            Calibration(others, scorer, np.sort(combination(scores))) for others, scorer, scores in scored
        ]

    def __getstate__(self) -> dict[str, Any]:
        return self.arrays()


def _reduced(n_own: int, n_textures: int, features: np.ndarray) -> np.ndarray:
    """Return the directions of the first columns and of the last ones, side by side, int8 of as many rows."""
    reduced = []
    for start in range(0, max(1, len(features)), _BLOCK):
        block = np.asarray(features[start : start + _BLOCK])  # features in a file are read here
        parts = block[:, :n_own], block[:, block.shape[1] - n_textures :]
        reduced.append(np.concatenate([*map(directions_of, parts)], axis=1))
    return np.concatenate(reduced)


def _are_rounded(directions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which directions equal others, row by row, apart from rounding errors."""
    errors = np.square(directions.astype(np.float64) - others).sum(axis=1)
    return np.asarray(errors <= max(1.0, _ROUNDED * directions.shape[1]))


def most_references(n_bytes: int) -> int:
    """Return the largest number of references of which each takes `n_bytes` bytes."""
    return max(2, min(_MOST_REFERENCES, _MOST_BYTES // n_bytes))


def _parts(features: np.ndarray, layout: StageLayout) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the network's own output, and those of textures, without columns if there are none."""
    own, textures = slice(layout.length(1)), layout.texture
    return features[:, own], features[:, textures if textures.stop <= features.shape[1] else slice(0)]
