"""What a format of exported files does: convert a model, run it in its own runtime, write it, and read it again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from sktl.runtime.document import ModelDocument

# From pixels, uint8 of shape (n, H, W, 3), to the outputs of a model.
Run: TypeAlias = Callable[[np.ndarray], list[np.ndarray]]


class ModelFormat(ABC):
    """A format of exported files.

    Attributes
    ----------
    name : str
        The value of the parameter `format`.
    title, runtime : str
        The format, and the library that runs it here, as messages name them.
    packages : tuple of str
        Packages that an export needs.
    suffixes : tuple of str
        Suffixes of its files. The first one belongs to the path that users pass.
    from_onnx : bool
        Whether models are converted from ONNX. Only these have other precisions than float32.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    runtime: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[tuple[str, ...]]
    from_onnx: ClassVar[bool] = True

    @abstractmethod
    def convert(self, source: Any) -> Any:
        """Return a model in this format, from an `onnx.ModelProto`, or from a program if `from_onnx` is false."""

    @abstractmethod
    def run(self, model: Any) -> Run:
        """Return the function that a converted model computes."""

    @abstractmethod
    def write(self, model: Any, document: str, path: Path) -> None:
        """Write a converted model and its document. `path` has the first suffix; other files lie beside it.

        Raises
        ------
        OSError
            If a file cannot be written.
        """

    @abstractmethod
    def read(self, path: Path) -> tuple[ModelDocument, Run]:
        """Return the document of a written model, and the function that the model computes."""
