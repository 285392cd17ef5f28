"""The images of both parts with their names, labels and groups: what findings say about an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktl._evaluation.evaluated_images import taken
from sktl._images.samples import Sample
from sktl._images.url_text import masked

# Larger floats are whole numbers, whatever was meant.
MOST_EXACT = 2**53
_ARGUMENTS = {"train": "X", "test": "X_test"}


@dataclass(frozen=True)
class Part:
    """The images of `X` or `X_test`.

    Attributes
    ----------
    items : sequence or array
        The images, without the container in which they were passed.
    samples : list of Sample
    labels : list of str
        Labels for people, "" without labels.
    values : array of shape (n_samples, n_columns) or None
        What `y` says of each image: the code of its class, its row of zeros and ones, or its numbers. None without `y`.
    given : array-like of shape (n_samples, ...)
        `X` or `X_test` as it was passed, which may be a table with other columns.
    """

    items: Sequence[Any] | np.ndarray
    samples: list[Sample]
    labels: list[str]
    values: np.ndarray | None = None
    given: Any = None


@dataclass(frozen=True)
class Subjects:
    """All images, those of `X` first.

    Attributes
    ----------
    parts : dict of str to Part
    groups : int array of shape (n_train,) or None
        Groups of the images of `X`.
    """

    parts: dict[str, Part]
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return sum(len(part.samples) for part in self.parts.values())

    @property
    def n_train(self) -> int:
        """Number of images of `X`."""
        return len(self.parts["train"].samples)

    @property
    def samples(self) -> list[Sample]:
        """The samples of all images."""
        return [sample for part in self.parts.values() for sample in part.samples]

    def part_of(self, number: int) -> str:
        """Return the part that an image is in."""
        return "test" if number >= self.n_train else "train"

    def position(self, number: int) -> int:
        """Return the position of an image in its part."""
        return number - self.n_train if number >= self.n_train else number

    def item(self, number: int) -> Any:
        """Return an image as it was passed."""
        return self.parts[self.part_of(number)].items[self.position(number)]

    def given(self, numbers: np.ndarray) -> Any:
        """Return some images of one part in a container like the one in which they were passed."""
        part = self.part_of(int(numbers[0]))
        return taken(self.parts[part].given, numbers - self.n_train * (part == "test"))

    def name(self, number: int) -> str:
        """Return the file name as it was given, a URL without secrets, or the place of the image."""
        item = self.item(number)
        if isinstance(item, np.ndarray) and item.ndim == 0:
            item = item.item()
        if isinstance(item, str | os.PathLike):
            return masked(os.fsdecode(item))
        return f"{_ARGUMENTS[self.part_of(number)]}[{self.position(number)}]"

    def label(self, number: int) -> str:
        """Return the label of an image."""
        return self.parts[self.part_of(number)].labels[self.position(number)]

    def value(self, number: int) -> np.ndarray | None:
        """Return what `y` says of an image, of shape (n_columns,). Codes are the same in both parts."""
        values = self.parts[self.part_of(number)].values
        return None if values is None else np.asarray(values[self.position(number)])

    def values(self) -> np.ndarray:
        """Return what `y` says of the images, of shape (n_labeled, n_columns). Test images may have no labels."""
        values = [part.values for part in self.parts.values() if part.values is not None]
        return np.concatenate(values) if values else np.empty((0, 1))

    def whole(self) -> np.ndarray:
        """Return whether all training images have whole numbers, for each number. Larger floats are always whole."""
        numbers = np.asarray(self.parts["train"].values)
        return np.asarray(((numbers == np.floor(numbers)) & (np.abs(numbers) < MOST_EXACT)).all(axis=0))

    def describe(self, number: int) -> dict[str, Any]:
        """Return the fields of an issue that name an image."""
        return {
            "part": self.part_of(number), "position": self.position(number), "name": self.name(number),
            "label": self.label(number),
        }  # fmt: skip

    def describe_other(self, number: int) -> dict[str, Any]:
        """Return the fields of an issue that name the other image of a pair."""
        part, position = self.part_of(number), self.position(number)
        return {
            "other_part": part, "other_position": position, "other_name": self.name(number),
            "other_label": self.label(number),
        }  # fmt: skip
