"""Confidence intervals of proportions and means over images, which may come in groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import t as students_t

from .effective_sizes import effective_size, effective_sizes

# All intervals have this confidence.
CONFIDENCE = 0.95
_TAIL = 0.5 + CONFIDENCE / 2
_Z = 1.959963984540054  # the quantile of the normal distribution at _TAIL


@dataclass(frozen=True)
class Rate:
    """A share of images, with its 95 % confidence interval.

    The interval is Wilson's [1]_, which also suits shares near 0 or 1 [2]_. With groups, such as patients, images count
    as fewer independent images: as many as would have the variance that the shares of the groups have [3]_. This
    variance is estimated too low if hits or misses are rare [4]_, so it is estimated as if there were another tenth of
    a group, in which all images are of the rarer kind. If all images agree, at most as many images count as there are
    groups.

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
    .. [2] L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science
       16, 2001.
    .. [3] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
       counts estimated from survey data", Survey Methodology 24, 1998.
    .. [4] C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative study of confidence intervals for
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
        low, high = _wilson(n_hits / max(n, 1), effective_size(hits, groups, _TAIL))
        return cls(n_hits, n, float(low), float(high))

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


def lower_limits(hits: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the lower limits of the intervals of the share of True in the first 1, 2, ... elements."""
    shares = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return _wilson(shares, effective_sizes(hits, groups, _TAIL))[0]


def fewest_images(share: float) -> int:
    """Return how many independent images, all of them hits, have an interval whose lower limit is at least a share."""
    return math.ceil(_Z**2 * share / (1 - share))


def unit_of(numbers: np.ndarray) -> float:
    """Return the power of 2 below the largest number, by which divisions are exact.

    In this unit, sums and squares of very large or small numbers are finite and not 0.
    """
    return math.ldexp(1.0, math.frexp(float(np.abs(numbers).max()))[1] - 1)


def _wilson(share: float | np.ndarray, n: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's intervals for shares of numbers of independent images, which need not be whole."""
    size = np.where(n > 0, n, 1)
    center, spread = share + _Z**2 / (2 * size), _Z * np.sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    scale = 1 + _Z**2 / size
    # Rounding must not exclude a share of 0 or 1.
    low, high = np.clip((center - spread) / scale, 0, share), np.clip((center + spread) / scale, share, 1)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def _sums_of_groups(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        return values
    return np.bincount(np.unique(groups, return_inverse=True)[1], weights=values)
