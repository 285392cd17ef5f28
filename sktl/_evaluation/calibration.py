"""Calibration: whether probabilities equal the shares of predictions that are true."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import betainc

from .confidence_intervals import Rate
from .effective_sizes import effective_size

_N_BINS = 10
# The share of models with right probabilities that are called too sure or too cautious.
_LEVEL = 0.01
_TAIL = 1 - _LEVEL / 2
# Smaller differences between mean probability and share do not matter, however certain they are.
_SMALLEST = 0.005


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose probabilities are in one range.

    Parameters
    ----------
    low, high : float
        The range.
    probability : float
        Mean probability in it.
    rate : Rate
        Share of the images for which the prediction is true.
    """

    low: float
    high: float
    probability: float
    rate: Rate


@dataclass(frozen=True)
class Calibration:
    """Probabilities compared with how often predictions are true, in ten ranges of equal width.

    Parameters
    ----------
    bins : tuple of CalibrationBin
        Ranges with images.
    error : float
        Expected calibration error: the mean difference between probability and share of the ranges, weighted by images
        [1]_.
    chance : float
        The error to expect from chance alone if probabilities were right and images independent: it is never 0 with
        finitely many images [2]_.
    probability, share : float
        Mean probability, and share of predictions that are true.
    p_value : float
        If all probabilities were right, the probability that the mean probability and the share differ at least this
        much in one direction, twice. With probabilities that differ, the number of true predictions varies less than a
        binomial number [3]_, so the p-value is rather too large. With groups, images count as fewer independent images
        [4]_.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.
    .. [2] R. Roelofs, N. Cain, J. Shlens and M. C. Mozer, "Mitigating bias in calibration error estimation", AISTATS
       2022.
    .. [3] W. Hoeffding, "On the distribution of the number of successes in independent trials", Annals of Mathematical
       Statistics 27, 1956.
    .. [4] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
       counts estimated from survey data", Survey Methodology 24, 1998.
    """

    bins: tuple[CalibrationBin, ...]
    error: float
    chance: float
    probability: float
    share: float
    p_value: float

    @classmethod
    def of(cls, probabilities: np.ndarray, hits: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Compare probabilities in [0, 1] with a bool array of what is true."""
        numbers = np.minimum((probabilities * _N_BINS).astype(np.int64), _N_BINS - 1)
        bins, error, chance = [], 0.0, 0.0
        for number in np.unique(numbers).tolist():
            rows = numbers == number
            some, rate = probabilities[rows], Rate.of_rows(hits, rows, groups)
            bins.append(CalibrationBin(number / _N_BINS, (number + 1) / _N_BINS, float(some.mean()), rate))
            error += abs(float(some.sum()) - rate.n_hits)
            # The mean absolute value of a normal distribution is its standard deviation times this factor.
            chance += math.sqrt(2 / math.pi * float((some * (1 - some)).sum()))
        n, probability, share = len(hits), float(probabilities.mean()), float(np.mean(hits))
        p_value = _binomial_p_value(probability, share, effective_size(hits, groups, _TAIL))
        return cls(tuple(bins), error / n, chance / n, probability, share, p_value)

    @property
    def differs(self) -> bool:
        """Whether the probabilities are too high or too low on average, and chance alone hardly explains it."""
        return self.p_value < _LEVEL and abs(self.probability - self.share) >= _SMALLEST


def _binomial_p_value(probability: float, share: float, n: float) -> float:
    """Return twice the probability of a binomial number at least as far from its mean, for n that need not be whole."""
    n_hits, n_misses, probability = share * n, (1 - share) * n, min(probability, 1.0)
    at_least = betainc(n_hits, n_misses + 1, probability) if n_hits else 1.0
    at_most = betainc(n_misses, n_hits + 1, 1 - probability) if n_misses else 1.0
    return float(min(1.0, 2 * at_least, 2 * at_most))
