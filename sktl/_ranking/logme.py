"""LogME: how well features explain targets linearly, as the evidence of a Bayesian linear model.

You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021. A target y of n
samples is F w plus noise of variance 1/beta, with w of variance 1/alpha. The evidence p(y | F) at the best alpha and
beta measures how well the features explain the target, and does not reward a large number of features.

For a given ratio t = alpha/beta, the best beta has a closed form, so that only t is searched. Only the directions that
the features span matter. With the singular values s of F and z = U'y, the penalized residual of y is

    Q(t) = sum z^2 t / (t + s^2) + |y - U z|^2,
    log p = n/2 (log n - log Q(t) - 1 - log 2 pi) - 1/2 sum log(1 + s^2/t),

which is valid with fewer samples than features, and never subtracts nearly equal numbers.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

# The ratio t is searched within these powers of ten of the largest squared singular value. Without a bound, the
# evidence of targets that features explain exactly would grow forever.
_POWERS = (-12.0, 12.0)
_STARTS = 97
_MOST_STEPS = 200
_TOLERANCE = 1e-9


def log_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """Return LogME: the largest log evidence per sample, averaged over the targets.

    Parameters
    ----------
    features : array of shape (n_samples, n_features)
        Finite features, neither scaled nor centered, as in the paper.
    targets : float64 array of shape (n_samples, n_targets)
        One column of zeros and ones for each class or label, or one column for each number. Columns whose values are
        all equal are left out, because features of any network explain them.

    Returns
    -------
    logme : float
        Higher is better. It does not depend on the order of the samples or columns, nor on a rotation or the scale
        of the features. NaN if all columns are left out.
    """
    targets = targets[:, np.ptp(targets, axis=0) > 0]
    if not targets.shape[1]:
        return math.nan
    directions, singular, _ = scipy.linalg.svd(features.astype(np.float64), full_matrices=False, check_finite=False)
    spanned = singular > singular[0] * max(features.shape) * np.finfo(np.float64).eps
    directions, singular = directions[:, spanned], singular[spanned]
    if not len(singular):  # features that are all zero explain nothing
        return float(np.mean([_evidence(np.ones(1), np.ones(0), np.ones(0), y @ y, len(y))[0] for y in targets.T]))
    squares = (singular / singular[0]) ** 2
    coordinates = directions.T @ targets
    outside = np.square(targets - directions @ coordinates).sum(axis=0)
    outside[outside < np.square(targets).sum(axis=0) * (len(targets) * np.finfo(np.float64).eps) ** 2] = 0.0
    energies = np.square(coordinates)
    evidences = [_largest_evidence(squares, energies[:, k], outside[k], len(targets)) for k in range(targets.shape[1])]
    return float(np.mean(evidences))


def _largest_evidence(squares: np.ndarray, energies: np.ndarray, outside: float, n_samples: int) -> float:
    """Return the largest log evidence per sample of one target, by MacKay's fixed point from the best start."""
    starts = np.logspace(*_POWERS, _STARTS)
    evidences = _evidence(starts, squares, energies, outside, n_samples)
    ratio, best = float(starts[evidences.argmax()]), float(evidences.max())
    for _ in range(_MOST_STEPS):
        following = _fixed_point(ratio, squares, energies, outside, n_samples)
        if not starts[0] <= following <= starts[-1]:
            break
        best = max(best, float(_evidence(np.array([following]), squares, energies, outside, n_samples)[0]))
        if abs(following - ratio) <= _TOLERANCE * ratio:
            break
        ratio = following
    return best


def _fixed_point(ratio: float, squares: np.ndarray, energies: np.ndarray, outside: float, n_samples: int) -> float:
    """Return the next ratio: the ratio of the best alpha and beta for the weights that are optimal at this ratio."""
    shrinkage = ratio / (ratio + squares)
    n_effective = (1.0 - shrinkage).sum()
    weights = (energies * squares / (ratio + squares) ** 2).sum()
    residual = (energies * shrinkage**2).sum() + outside
    # n_samples - n_effective, in a form that does not cancel if there are as many effective directions as samples.
    n_left = n_samples - len(squares) + shrinkage.sum()
    return float(n_effective / weights * (residual / n_left)) if weights > 0 and n_left > 0 else np.inf


def _evidence(
    ratios: np.ndarray, squares: np.ndarray, energies: np.ndarray, outside: float, n_samples: int
) -> np.ndarray:
    """Return the log evidence per sample at the best beta for each ratio."""
    left = np.array([(energies * (ratio / (ratio + squares))).sum() for ratio in ratios]) + outside
    complexity = np.array([np.log1p(squares / ratio).sum() for ratio in ratios])
    with np.errstate(divide="ignore"):
        return 0.5 * (np.log(n_samples / left) - 1.0 - np.log(2 * np.pi)) - complexity / (2 * n_samples)
