"""Programs of torch.export: .pt2 files, which PyTorch runs without the code of the network."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sktl.runtime.document import KEY, ModelDocument

from .exported_network import TRACING
from .model_format import ModelFormat, Run

_DOCUMENT = f"{KEY}.json"


class ProgramFormat(ModelFormat):
    """A program of torch.export. A model is a `torch.export.ExportedProgram`."""

    name = "program"
    title = "torch.export program"
    runtime = "PyTorch"
    packages = ()
    suffixes = (".pt2",)
    from_onnx = False

    def convert(self, source: Any) -> Any:
        return source

    def run(self, model: Any) -> Run:
        module = model.module()

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            with torch.no_grad():
                outputs = module(torch.from_numpy(pixels))
            return [o.numpy() for o in (outputs if isinstance(outputs, tuple | list) else [outputs])]

        return run

    def write(self, model: Any, document: str, path: Path) -> None:
        # Not to the path: on a full disk, torch would end the process.
        content = io.BytesIO()
        with _without_warnings():
            torch.export.save(model, content, extra_files={_DOCUMENT: document})
        path.write_bytes(content.getbuffer())

    def read(self, path: Path) -> tuple[ModelDocument, Run]:
        extra = {_DOCUMENT: ""}
        with _without_warnings():
            program = torch.export.load(path, extra_files=extra)
        text: Any = extra[_DOCUMENT]
        document = ModelDocument.from_json(text.decode() if isinstance(text, bytes) else text, path.name)
        return document, self.run(program)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings of torch about its own code, one thread at a time: Python restores filters in any order."""
    with TRACING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
