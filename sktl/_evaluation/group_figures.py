"""Figures of groups of images, such as patients or cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktl._targets.sample_groups import distinct_groups

from .confidence_intervals import Mean, Rate


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
    def of(cls, groups: Any, n_images: int, of: str = "X") -> Self | None:
        """Return the groups of images; None without groups. `of` names the images in messages.

        Raises
        ------
        InvalidInputError
            If there is not one group per image, or a group is missing.
        """
        found = distinct_groups(groups, n_images, of)
        return None if found is None else cls(found[1], tuple(map(_name_of, found[0])))

    def take(self, rows: np.ndarray) -> Groups:
        """Return the groups of some images. Groups without images are left out."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return Groups(codes, tuple(self.names[k] for k in present))

    def rates(self, hits: np.ndarray) -> tuple[GroupFigure, ...]:
        """Return the share of True in each group, the surely low ones first: a group of one image may be chance."""
        figures = [GroupFigure(name, len(part), Rate.of(part)) for name, part in self._parts(hits)]
        return tuple(sorted(figures, key=lambda group: (group.figure.high, group.figure.value)))

    def means(self, values: np.ndarray) -> tuple[GroupFigure, ...]:
        """Return the mean in each group, the surely high ones first."""
        figures = [GroupFigure(name, len(part), Mean.of(part)) for name, part in self._parts(values)]
        return tuple(sorted(figures, key=lambda group: (-group.figure.low, -group.figure.value)))

    def _parts(self, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name and the values of each group."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.names)))[:-1]
        yield from zip(self.names, np.split(values[order], ends), strict=True)


def _name_of(group: Any) -> str:
    """Return the text of a group. Whole floats have the text of integers, which a missing value turns to floats."""
    is_whole = isinstance(group, float | np.floating) and group.is_integer()
    return f"{group:z.0f}" if is_whole else str(group)
