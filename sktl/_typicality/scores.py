"""Scores of images relative to reference images, higher for more ordinary images.

Three scores complement each other. The cosine to the nearest reference finds images unlike all references. The largest
output of a ridge regression on classes or labels finds images that resemble references without belonging to a class.
The cosine between textures, to the reference with the nearest texture, finds images of other surfaces or cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.special import log_ndtr

from sktl._utils.threads import single_threaded

# Chosen among 0.1, 0.3 and 1. The mean square of a direction is 1.
_PENALTY = 0.3
# Chosen among 0.25, 0.5 and 1: with 1, new classes of objects of the same texture are found less often.
_TEXTURE_WEIGHT = 0.5


@dataclass(frozen=True)
class Scorer:
    """The scores of one set of references.

    Parameters
    ----------
    weights : float64 array of shape (n_columns, n_references)
        Coefficients of the ridge regression for the cosines to the references.
    intercept : float64 array of shape (n_columns,)
    """

    weights: np.ndarray
    intercept: np.ndarray

    @classmethod
    def of(cls, products: np.ndarray, memberships: np.ndarray) -> Self:
        """Fit the ridge regression.

        Parameters
        ----------
        products : float64 array of shape (n_references, n_references)
            Cosines between the references.
        memberships : array of shape (n_references, n_columns)
            For each class or label, 1 for its references and 0 for the others. Without columns, only the nearest
            reference counts.
        """
        # The output of a label that all references have would be the largest for every image.
        memberships = np.where(memberships.all(axis=0), 0, memberships)
        intercept = memberships.mean(axis=0)
        system = torch.from_numpy(products + _PENALTY * np.eye(len(products)))
        with single_threaded():
            weights = torch.linalg.solve(system, torch.from_numpy(memberships - intercept))
        return cls(np.ascontiguousarray(weights.numpy().T), intercept)

    def __call__(self, products: np.ndarray, *textures: np.ndarray) -> np.ndarray:
        """Return the scores of images from their cosines to the references, of shape (n_images, n_scores).

        Parameters
        ----------
        products, *textures : float64 array of shape (n_images, n_references)
            Cosines of features, and those of textures if they are compared.
        """
        products = np.ascontiguousarray(products)
        found = [products.max(axis=1)]
        if len(self.intercept):
            # With a BLAS, the bits of a row in a matrix product would depend on the number of rows.
            found.append((np.einsum("nr,kr->nk", products, self.weights) + self.intercept).max(axis=1))
        return np.stack([*found, *(some.max(axis=1) for some in textures)], axis=1)


@dataclass(frozen=True)
class Combination:
    """One score from several: the weighted sum of log-probabilities of scores at most as large, as if each were normal.

    The sum only orders images. An extreme value of one score outweighs ordinary values of the other.

    Parameters
    ----------
    mean, deviation, weights : float64 array of shape (n_scores,)
    """

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, has_textures: bool = False) -> Self:
        """Return the combination whose distributions have the mean and standard deviation of these scores.

        Parameters
        ----------
        scores : float64 array of shape (n_samples, n_scores)
        has_textures : bool
            Whether the last score is of textures.
        """
        weights = np.ones(scores.shape[1])
        weights[-1] = _TEXTURE_WEIGHT if has_textures else 1.0
        return cls(scores.mean(axis=0), np.maximum(scores.std(axis=0), np.finfo(np.float32).eps), weights)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return one score for each row."""
        return (log_ndtr((scores - self.mean) / self.deviation) * self.weights).sum(axis=1)
