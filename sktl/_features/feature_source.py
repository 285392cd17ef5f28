"""Which network computed the features of a file: facts by which an estimator recognizes its own network.

These facts do not include the engine, the device and the versions of libraries, which change features only by rounding.
This module does not import PyTorch, because files of features are opened without it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


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
            If `format` does not return such values.
        """
        tuples = {name: tuple(values[name]) for name in ("image_size", "answer", "sizes")}
        found = cls(**values | tuples | {"groups": tuple((block, size) for block, size in values["groups"])})
        if not found.sizes or not all(isinstance(text, str) for text in (found.backbone, found.weights, found.digest)):
            raise ValueError
        return found

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
        height, width = self.image_size
        size = f"{height} x {width} pixels" + (f" in {self.precision}" if self.precision != "float32" else "")
        return f"backbone={self.backbone!r} with weights {self.weights!r}{stages} at {size}"
