"""The temperature of an output layer: what its logits are divided by, so that held-out samples become more likely.

With few samples, a strong penalty often leads to the best order of the classes, but to logits that are far too small.
At its best temperature, such a layer has a lower loss than a layer with a weaker penalty (C. Guo, G. Pleiss, Y. Sun and
K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017).
"""

from __future__ import annotations

import torch
from scipy.optimize import brentq

from sktl._training.losses import BinaryCrossEntropy, CrossEntropy

from .fold_problem import FoldProblem

# Higher temperatures are for overconfident layers, which a stronger penalty improves more.
_LOWEST, _HIGHEST = 0.01, 1.0
_TOLERANCE = 1e-3


def best_temperature(logits: torch.Tensor, problem: FoldProblem) -> float:
    """Return the temperature in [0.01, 1] with the lowest loss of held-out samples, rounded to two digits.

    Labels are smoothed as much as if one sample had a random label. Otherwise, if all samples are classified correctly,
    the lowest temperature would be the best. The result is rounded so that the order of the samples does not change it.

    Parameters
    ----------
    logits : tensor of shape (n_samples, n_outputs)
        Logits of each sample while it was held out.
    problem : FoldProblem
        Of classes or labels.
    """
    assert isinstance(problem.loss, CrossEntropy | BinaryCrossEntropy)
    weights = problem.weights_of_scores()
    n_scored = int((weights > 0).view(len(weights), -1).any(dim=1).sum())
    loss = type(problem.loss)(label_smoothing=1 / max(1, n_scored))

    def slope(sharpness: float) -> float:
        """Return the derivative of the loss with respect to the factor of the logits."""
        return float((loss.derivatives(logits * sharpness, problem.values, weights).slopes * logits).sum())

    low, high = 1 / _HIGHEST, 1 / _LOWEST
    if slope(low) >= 0:
        return _HIGHEST
    sharpness = high if slope(high) <= 0 else brentq(slope, low, high, xtol=_TOLERANCE, rtol=_TOLERANCE)
    return float(f"{1 / sharpness:.2g}")
