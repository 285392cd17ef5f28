"""Selective classification: the accuracy for the images that are kept if uncertain predictions are rejected."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Self

import numpy as np

from .confidence_intervals import Rate, lower_limits

# Accuracies for which the page says how many images must be rejected.
TARGETS = (0.9, 0.95, 0.99)
_FEWEST_DIGITS = 3


def threshold_between(low: float, high: float) -> float:
    """Return a number above `low` and not above `high` that people can write: it has the fewest digits after the point.

    There are at least three. Rounded for a table, a threshold such as 0.99998 would be 1.000, which rejects all images.
    NumPy compares a threshold with float32 probabilities in float32, so it has enough digits for the type of `high`.
    """
    exact, n_digits, rounded = Decimal(repr(float(high))), _FEWEST_DIGITS, type(high)
    while rounded(found := float(exact.quantize(Decimal(1).scaleb(-n_digits), ROUND_FLOOR))) <= low:
        n_digits += 1
    return found


@dataclass(frozen=True)
class CoverageTarget:
    """What reaching an accuracy costs.

    A threshold reaches an accuracy if the lower limit of the confidence interval of the accuracy for the images that
    are kept is at least this accuracy. The accuracy itself would be reached by chance: there are as many thresholds as
    images, and many thresholds keep only a few images.

    Parameters
    ----------
    accuracy : float
        The accuracy to reach.
    threshold : float or None
        Images with a lower probability are rejected. The lowest threshold that reaches the accuracy, None if there is
        none. It lies between the probabilities of two images, and has as few digits as possible.
    turned_away : float
        Share of images that are rejected; 1 without a threshold.
    kept : Rate
        Accuracy for the images that are kept.
    """

    accuracy: float
    threshold: float | None
    turned_away: float
    kept: Rate

    @classmethod
    def of(
        cls,
        accuracy: float,
        threshold: float | None,
        probabilities: np.ndarray,
        hits: np.ndarray,
        groups: np.ndarray | None,
    ) -> Self:
        """Reject the images below a threshold, or all of them without one."""
        kept = probabilities >= (math.inf if threshold is None else threshold)
        return cls(accuracy, threshold, 1 - float(kept.mean()), Rate.of_rows(hits, kept, groups))


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
        order = np.argsort(-probabilities, kind="stable")
        thresholds, counts = np.unique(-probabilities, return_counts=True)
        n_kept = np.cumsum(counts)
        found = cls(-thresholds, n_kept, np.cumsum(hits[order])[n_kept - 1], ())
        limits = lower_limits(hits[order], None if groups is None else groups[order])[n_kept - 1]
        chosen = [(accuracy, found._lowest_threshold(limits >= accuracy)) for accuracy in TARGETS]
        return replace(found, targets=tuple(CoverageTarget.of(*pair, probabilities, hits, groups) for pair in chosen))

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

    def _lowest_threshold(self, reached: np.ndarray) -> float | None:
        """Return the lowest of the thresholds that reach an accuracy, None without any."""
        if not reached.any():
            return None
        last = int(np.flatnonzero(reached)[-1])
        return threshold_between(self.thresholds[last + 1 :].max(initial=-math.inf), self.thresholds[last])
