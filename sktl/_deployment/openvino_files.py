"""OpenVINO IR: convert an ONNX model to a graph (.xml) and weights (.bin), with the document in the runtime info."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sktl._features.openvino import PROPERTIES, core, library, survived
from sktl._short_text import one_line
from sktl.exceptions import ExportError
from sktl.runtime.document import KEY, ModelDocument

from .model_format import ModelFormat, Run
from .onnx_file import serialized


class OpenVinoFormat(ModelFormat):
    """OpenVINO IR, run on the CPU. A model is an `openvino.Model`."""

    name = "openvino"
    title = "OpenVINO IR"
    runtime = "OpenVINO"
    packages = ("onnx", "onnxscript", "openvino")
    suffixes = (".xml", ".bin")

    def convert(self, source: Any) -> Any:
        if not survived():
            raise ExportError(
                "The export to OpenVINO IR is not possible in a process that was forked from one which used OpenVINO. "
                "Export in the parent process, or to another format."
            )
        return core().read_model(serialized(source), b"")

    def run(self, model: Any) -> Run:
        # The plug-in would otherwise compute in bfloat16 on processors that have it.
        request = core().compile_model(model, "CPU", PROPERTIES).create_infer_request()

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            return [np.array(output) for output in request.infer([pixels]).values()]

        return run

    def write(self, model: Any, document: str, path: Path) -> None:
        model.set_rt_info(document, [KEY])
        # Weights that should be compressed are float16 in the model already.
        try:
            library().save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:  # OpenVINO has no other
            _write_more(path.with_suffix(".bin"))
            raise OSError(f"{one_line(error)} (the disk may be full)") from error

    def read(self, path: Path) -> tuple[ModelDocument, Run]:
        model = core().read_model(path)
        return ModelDocument.from_json(model.get_rt_info([KEY]).astype(str), path.name), self.run(model)


def _write_more(path: Path) -> None:
    """Write beyond the end of a file that OpenVINO could not complete: the system says why, unlike OpenVINO."""
    with open(path, "ab") as file:
        file.write(bytes(1 << 20))
