"""Which network computed the features of a file: facts by which an estimator recognizes its own network.

These facts do not include the engine, the device and the versions of libraries, which change features only by rounding.
This module does not import PyTorch, because files of features are opened without it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

import numpy as np

from sktl._short_text import shortened

# The largest number in a file: more features or pixels do not fit into memory.
_MOST = 1 << 31
# The longest text of a file in a message.
_LENGTH = 240

# Engines, devices and versions of libraries change features by a smaller share of the largest feature; other networks
# and weights change them by more.
ANSWER_TOLERANCE = 0.02


@dataclass(frozen=True)
class FeatureSource:
    """The function from images to features.

    Parameters
    ----------
    backbone, weights : str
        Names of the network and of its weights, for messages.
    first_stages : int or None
        Number of first stages, if later stages were removed.
    preprocessing : str
        What `repr` returns for the preprocessing.
    image_size : tuple of int
        Height and width of the input of the network, in pixels.
    digest : str
        Digest of the names and values of the network's parameters and buffers.
    answer : tuple of float
        Features of an image of noise, which differ if the network computes something else with the same parameters.
    groups : tuple of (str, int)
        Block and number of features of each group in a row; the block is "" for the network's own output.
    sizes : tuple of int
        Length of the row for 1, 2, ... stages.
    precision : {"float32", "bfloat16"}
        The precision in which the network computed the features.
    """

    backbone: str
    weights: str
    first_stages: int | None
    preprocessing: str
    image_size: tuple[int, int]
    digest: str
    answer: tuple[float, ...]
    groups: tuple[tuple[str, int], ...]
    sizes: tuple[int, ...]
    precision: str = "float32"

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Convert the return value of `format` back to a source.

        Raises
        ------
        KeyError, TypeError or ValueError
            If `format` does not return such values: a value is missing, has another type or is invalid.
        """
        tuples = {name: tuple(values[name]) for name in ("image_size", "answer", "sizes")}
        found = cls(**values | tuples | {"groups": tuple((block, size) for block, size in values["groups"])})
        if not (len(found.image_size) == 2 and found.sizes and found._has_types() and found._has_a_layout()):
            raise ValueError
        return found

    def _has_types(self) -> bool:
        texts = self.backbone, self.weights, self.preprocessing, self.digest, self.precision
        n_stages = 1 if self.first_stages is None else self.first_stages
        counts = n_stages, *self.image_size, *self.sizes, *(size for _, size in self.groups)
        return (
            all(isinstance(text, str) for text in (*texts, *(block for block, _ in self.groups)))
            and all(type(n) is int and 0 < n < _MOST for n in counts)
            and all(isinstance(number, float) for number in self.answer)
        )

    def _has_a_layout(self) -> bool:
        """Return True if each number of stages has the first groups of a row, and all stages have the whole row."""
        ends = [*accumulate(size for _, size in self.groups)]
        is_sorted = all(size <= longer for size, longer in pairwise(self.sizes))
        return is_sorted and {*self.sizes} <= {*ends} and self.sizes[-1] == ends[-1]

    def format(self) -> dict[str, Any]:
        """Return the facts as values for JSON, without the precision if it is float32, once the only precision."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("precision", "float32")}

    @property
    def n_stages(self) -> int:
        """Number of stages that contribute features."""
        return len(self.sizes)

    @property
    def described(self) -> str:
        """The network in terms of parameters, for messages."""
        stages = "" if self.first_stages is None else f", n_stages={self.first_stages}"
        backbone, weights = (shortened(repr(name), _LENGTH) for name in (self.backbone, self.weights))
        height, width = self.image_size
        precision = "" if self.precision == "float32" else f" in {shortened(self.precision)}"
        return f"backbone={backbone} with weights {weights}{stages} at {height} x {width} pixels{precision}"


def relative_difference(outputs: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference relative to the largest output; infinite if shapes differ."""
    if outputs.shape != reference.shape:
        return np.inf
    largest = float(np.abs(reference).max(initial=0.0))
    return float(np.abs(outputs - reference).max(initial=0.0)) / (largest or 1.0)
