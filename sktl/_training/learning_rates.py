"""Learning rates at which stochastic gradient descent is stable on standardized features, known before training."""

from __future__ import annotations

import numpy as np

from .recipe import SHRINKAGE

# The noise of batches of this many images leaves the highest rate stable; smaller batches need a lower rate.
_QUIET_BATCH = 16


def evenness(weights: np.ndarray) -> float:
    """Return the effective number of weighted samples as a fraction of their number: 1 if all weights are equal.

    L. Kish, "Survey Sampling", Wiley 1965.
    """
    shares = weights / weights.max()
    return float(shares.mean() ** 2 / np.square(shares).mean())


def stable_lr(
    n_features: int, penalty: float = 0.0, dropout: float = 0.0, curvature: float = 1.0, batch: float = np.inf
) -> float:
    """Return a learning rate at which the output layer does not diverge, with Nesterov momentum of 0.9.

    The largest second derivative of the loss is at most the sum of all second derivatives by the weights of an output:
    `curvature` times the mean squared norm of a sample, plus the penalty. Because a standardized feature is divided by
    the square root of its variance plus the mean variance of its block, the mean squared norm is at most half the
    number of features, whatever the images are. On a quadratic function, gradient descent with Nesterov momentum m is
    stable for rates below (2 + 2 m) / (1 + 2 m), here 1.36, divided by the largest second derivative: the roots of its
    recurrence then lie within the unit circle.

    Each step of a small batch adds noise, which momentum multiplies by 10. It remains bounded if the rate is below a
    fifth of the batch size, divided by the squared norms of the samples that are the largest.

    Parameters
    ----------
    n_features : int
    penalty : float
        L2 penalty of the weights.
    dropout : float in [0, 1)
    curvature : float
        Largest second derivative of the loss with respect to an output.
    batch : float
        Effective number of samples in a batch. Infinite if each step uses all samples.
    """
    squared_norm = n_features / (1 + SHRINKAGE) / (1 - dropout)
    return min(1.0, batch / _QUIET_BATCH) / (curvature * (1 + squared_norm) + penalty)
