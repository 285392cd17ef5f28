"""Groups of images, such as patients or cameras, and figures of each group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktl._targets.labels import check_complete
from sktl._targets.sample_weights import check_groups

from .evaluation_intervals import Mean, Rate


@dataclass(frozen=True)
class GroupFigure:
    """A figure of one group.

    Parameters
    ----------
    name : str
    n : int
        Number of images.
    figure : Rate or Mean
        Accuracy, share of images whose labels are all right, or mean absolute error. Its interval treats the images of
        the group as independent.
    """

    name: str
    n: int
    figure: Rate | Mean


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each image.

    Parameters
    ----------
    codes : int64 array of shape (n_images,)
        Positions in `names`.
    names : tuple of str
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, groups: Any, n_images: int) -> Self | None:
        """Return the groups of images; None without groups.

        Raises
        ------
        InvalidInputError
            If there is not one group per image, or a group is missing.
        """
        codes = check_groups(groups, n_images)
        if codes is None:
            return None
        return cls(codes, tuple(str(name) for name in np.unique(check_complete(groups, "groups"))))

    def take(self, rows: np.ndarray) -> Groups:
        """Return the groups of some images. Groups without images are left out."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return Groups(codes, tuple(self.names[k] for k in present))

    def rates(self, hits: np.ndarray) -> tuple[GroupFigure, ...]:
        """Return the share of True in each group, the lowest first."""
        return self._each(hits, Rate.of, sign=1)

    def means(self, values: np.ndarray) -> tuple[GroupFigure, ...]:
        """Return the mean in each group, the highest first."""
        return self._each(values, Mean.of, sign=-1)

    def _each(
        self, values: np.ndarray, figure_of: Callable[[np.ndarray], Rate | Mean], sign: int
    ) -> tuple[GroupFigure, ...]:
        order = np.argsort(self.codes, kind="stable")
        parts = np.split(values[order], np.cumsum(np.bincount(self.codes, minlength=len(self.names)))[:-1])
        figures = [GroupFigure(name, len(part), figure_of(part)) for name, part in zip(self.names, parts, strict=True)]
        return tuple(sorted(figures, key=lambda group: (sign * group.figure.value, -group.n)))
