"""Confidence intervals of proportions and means over images, which may come in groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import t as students_t

# All intervals have this confidence.
CONFIDENCE = 0.95
_TAIL = 0.5 + CONFIDENCE / 2
_Z = 1.959963984540054  # the quantile of the normal distribution at _TAIL


@dataclass(frozen=True)
class Rate:
    """A share of images, with its 95 % confidence interval.

    The interval is Wilson's [1]_. With groups, such as patients, images count as fewer independent images: as many as
    would have the variance that the shares of the groups have [2]_. The correction cannot be estimated if all images
    agree; then only the number of groups widens the interval. With few groups and a share near 0 or 1, such intervals
    are somewhat too narrow [3]_.

    Parameters
    ----------
    n_hits, n : int
        Number of images that count, and of all images.
    low, high : float
        Limits of the interval.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
       Statistical Association 22, 1927.
    .. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
       counts estimated from survey data", Survey Methodology 24, 1998.
    .. [3] C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative study of confidence intervals for
       proportions in complex sample surveys", Journal of Survey Statistics and Methodology 7, 2019.
    """

    n_hits: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Return the share of True in a bool array, whose elements may come in groups."""
        n_hits, n = int(np.count_nonzero(hits)), len(hits)
        return cls(n_hits, n, *_wilson(n_hits / n if n else 0.0, _effective_size(hits, groups)))

    @classmethod
    def of_rows(cls, hits: np.ndarray, rows: np.ndarray, groups: np.ndarray | None) -> Self:
        """Return the share of True in some rows."""
        return cls.of(hits[rows], None if groups is None else groups[rows])

    @property
    def value(self) -> float:
        """The share; NaN without images."""
        return self.n_hits / self.n if self.n else math.nan


@dataclass(frozen=True)
class Mean:
    """A mean over images, with its 95 % confidence interval by Student's distribution.

    With groups, the variance is estimated from the sums of the groups, with one degree of freedom less than groups
    (K.-Y. Liang and S. L. Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73, 1986).

    Parameters
    ----------
    value : float
    low, high : float
        Limits of the interval; infinite if there are fewer than two images or groups.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Return the mean of finite numbers, of at least one image."""
        unit = unit_of(values)
        mean = float((values / unit).mean())
        sums = _sums_of_groups(values / unit - mean, groups)
        if len(sums) < 2:
            return cls(mean * unit, -math.inf, math.inf)
        error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values)
        reach = float(students_t.ppf(_TAIL, len(sums) - 1)) * error
        return cls(mean * unit, (mean - reach) * unit, (mean + reach) * unit)


def unit_of(numbers: np.ndarray) -> float:
    """Return the power of 2 below the largest number, by which divisions are exact.

    In this unit, sums and squares of very large or small numbers are finite and not 0.
    """
    return math.ldexp(1.0, math.frexp(float(np.abs(numbers).max()))[1] - 1)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's interval for the share of a number of independent images, which need not be whole."""
    if n <= 0:
        return 0.0, 1.0
    center, spread = share + _Z**2 / (2 * n), _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    # Rounding must not exclude a share of 0 or 1.
    return max(0.0, min(share, (center - spread) / scale)), min(1.0, max(share, (center + spread) / scale))


def _effective_size(hits: np.ndarray, groups: np.ndarray | None) -> float:
    """Return how many independent images tell as much about their share."""
    n = len(hits)
    if groups is None or not n:
        return float(n)
    share = float(np.mean(hits))
    sums = _sums_of_groups(hits - share, groups)
    if len(sums) < 2:
        return 0.0  # one group says nothing about others
    variance = len(sums) / (len(sums) - 1) * float((sums**2).sum()) / n
    independent = share * (1 - share)
    size = n * min(1.0, independent / variance) if variance > 0 else float(n)
    # Few groups determine the variance poorly.
    return size * float(students_t.ppf(_TAIL, n - 1) / students_t.ppf(_TAIL, len(sums) - 1)) ** 2


def _sums_of_groups(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        return values
    return np.bincount(np.unique(groups, return_inverse=True)[1], weights=values)
