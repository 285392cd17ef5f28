"""How reliable probabilities are: their calibration, and the accuracy if uncertain predictions are rejected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Self

import numpy as np

from .confidence_intervals import Rate

_N_BINS = 10
# Accuracies for which the page says how many images must be rejected.
TARGETS = (0.9, 0.95, 0.99)
_FEWEST_DIGITS = 3


def threshold_between(low: float, high: float) -> float:
    """Return a number above `low` and not above `high` that people can write: it has the fewest digits after the point.

    There are at least three. Rounded for a table, a threshold such as 0.99998 would be 1.000, which rejects all images.
    """
    exact, n_digits = Decimal(repr(float(high))), _FEWEST_DIGITS
    while (found := float(exact.quantize(Decimal(1).scaleb(-n_digits), ROUND_FLOOR))) <= low:
        n_digits += 1
    return found


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
        The error to expect from chance alone if probabilities were right: it is never 0 with finitely many images [2]_.
    probability, share : float
        Mean probability, and share of predictions that are true.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.
    .. [2] R. Roelofs, N. Cain, J. Shlens and M. C. Mozer, "Mitigating bias in calibration error estimation", AISTATS
       2022.
    """

    bins: tuple[CalibrationBin, ...]
    error: float
    chance: float
    probability: float
    share: float

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
        n = len(hits)
        return cls(tuple(bins), error / n, chance / n, float(probabilities.mean()), float(np.mean(hits)))


@dataclass(frozen=True)
class CoverageTarget:
    """What reaching an accuracy costs.

    Parameters
    ----------
    accuracy : float
        The accuracy to reach.
    threshold : float or None
        Images with a lower probability are rejected; None if no threshold reaches the accuracy. It lies between the
        probabilities of two images, and has as few digits as possible.
    turned_away : float
        Share of images that are rejected; 1 without a threshold.
    kept : Rate
        Accuracy for the images that are kept.
    """

    accuracy: float
    threshold: float | None
    turned_away: float
    kept: Rate


@dataclass(frozen=True, eq=False)
class Coverage:
    """Accuracy for the surest images, of each share of all images.

    Parameters
    ----------
    thresholds : float64 array of shape (n_points,)
        Different probabilities, from the highest.
    n_kept, n_right : int64 array of shape (n_points,)
        Number of images with at least this probability, and of right predictions for them.
    targets : tuple of CoverageTarget

    References
    ----------
    .. [1] Y. Geifman and R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.
    """

    thresholds: np.ndarray
    n_kept: np.ndarray
    n_right: np.ndarray
    targets: tuple[CoverageTarget, ...]

    @classmethod
    def of(cls, probabilities: np.ndarray, hits: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Order predictions by their probabilities. Images of one probability are rejected together."""
        thresholds, places = np.unique(-probabilities, return_inverse=True)
        n_kept = np.cumsum(np.bincount(places, minlength=len(thresholds)))
        n_right = np.cumsum(np.bincount(places, weights=hits, minlength=len(thresholds))).astype(np.int64)
        found = cls(-thresholds, n_kept, n_right, ())
        targets = [found._target(accuracy, probabilities, hits, groups) for accuracy in TARGETS]
        return cls(-thresholds, n_kept, n_right, tuple(targets))

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy for the images that are kept, at each threshold."""
        accuracies: np.ndarray = self.n_right / self.n_kept
        return accuracies

    @property
    def shares(self) -> np.ndarray:
        """Share of all images that are kept, at each threshold."""
        shares: np.ndarray = self.n_kept / self.n_kept[-1]
        return shares

    def _target(
        self, accuracy: float, probabilities: np.ndarray, hits: np.ndarray, groups: np.ndarray | None
    ) -> CoverageTarget:
        reached = np.flatnonzero(self.accuracies >= accuracy)
        if not len(reached):
            return CoverageTarget(accuracy, None, 1.0, Rate.of(hits[:0]))
        rejected = self.thresholds[reached[-1] + 1 :]
        threshold = threshold_between(float(rejected.max(initial=-math.inf)), float(self.thresholds[reached[-1]]))
        rate = Rate.of_rows(hits, probabilities >= threshold, groups)
        return CoverageTarget(accuracy, threshold, 1 - float(self.shares[reached[-1]]), rate)
