"""ONNX files: convert a program to an ONNX model with the document in its metadata, and run it in ONNX Runtime."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from sktl._utils.onnx_runtime import onnxruntime
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import ExportError
from sktl.runtime.document import INPUT, KEY, ModelDocument
from sktl.runtime.model_source import ModelSource
from sktl.runtime.session import Session

from .exported_network import TRACING, not_exportable
from .model_format import ModelFormat, Run
from .quiet_converters import quiet_exporter

# Runtimes from 2024 on read it, in browsers too.
_OPSET = 20
# Names of operators of the network, and of the output layer, begin with these attributes of `PixelGraph`.
FEATURES, HEAD = "features", "head"
_TAPPED = f"{FEATURES}.tapped.network"
# Bytes of weights. Protocol Buffers hold less than 2 GiB, of which the rest is for the graph and the document.
_LARGEST = (2 << 30) - (64 << 20)
# Smaller tensors are not worth an operation.
_LEAST_HALVED = 256


class OnnxFormat(ModelFormat):
    """ONNX, run by ONNX Runtime on the CPU. A model is an `onnx.ModelProto`."""

    name = "onnx"
    title = "ONNX"
    packages = ("onnx", "onnxscript", "onnxruntime")
    runtime = "ONNX Runtime"
    suffixes = (".onnx",)

    def convert(self, source: Any) -> Any:
        return source

    def run(self, model: Any) -> Run:
        return running(serialized(model))

    def write(self, model: Any, document: str, path: Path) -> None:
        model.metadata_props.clear()
        model.metadata_props.add(key=KEY, value=document)
        path.write_bytes(serialized(model))

    def read(self, path: Path) -> tuple[ModelDocument, Run]:
        # As users of the file do, who have no other part of sktl.
        session = Session(ModelSource.of(str(path)), joblib.cpu_count())
        return session.document, session.run


def to_onnx(program: torch.export.ExportedProgram, output_names: Sequence[str], backbone_name: str) -> Any:
    """Convert a program to an `onnx.ModelProto`.

    Raises
    ------
    ExportError
        If ONNX lacks an operation of the network.
    """
    try:
        with TRACING, quiet_exporter():
            found = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(output_names),
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
            assert found is not None
            model = found.model_proto
    except Exception as error:  # converters of operations may raise anything
        raise_process_error(error)
        raise not_exportable(backbone_name, error.__cause__ or error) from error
    _tidy(model)
    return model


def check_size(model: Any) -> None:
    """Raise `ExportError` if an `onnx.ModelProto` is too large to be written or passed to a runtime."""
    n_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)  # `ByteSize` fails above 2 GiB
    if n_bytes > _LARGEST:
        raise ExportError(
            f"The model has {n_bytes / 2**30:.1f} GiB, and ONNX, from which OpenVINO IR is converted too, holds less "
            'than 2 GiB. Export to a .pt2 file or, if half of the size fits, with precision="float16".'
        )


def serialized(model: Any) -> bytes:
    """Return an `onnx.ModelProto` as the content of a file.

    Raises
    ------
    ExportError
        If it would be too large.
    """
    check_size(model)
    content: bytes = model.SerializeToString()
    return content


def _tidy(model: Any) -> None:
    """Name operators after the modules that they come from, and remove what torch notes about its own code.

    The notes contain paths of this machine, and would be as large as a small network.
    """
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        place = _place_of(node)
        counts[place] += 1
        node.name = place if counts[place] == 1 else f"{place}:{counts[place]}"
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.name = KEY
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"


def _place_of(node: Any) -> str:
    """Return the path of the innermost module that an operator comes from, and the operator."""
    notes = {prop.key: prop.value for prop in node.metadata_props}
    try:
        scopes = [scope for scope in ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))[:-1] if scope]
    except (ValueError, SyntaxError):
        scopes = []
    place = scopes[-1].replace(_TAPPED, FEATURES, 1) if scopes else "graph"
    return f"{place}/{node.op_type}"


def with_half_weights(model: Any) -> Any:
    """Return a copy whose weights are stored in float16. Runtimes convert them once, and compute in float32."""
    import onnx
    from onnx import numpy_helper

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    conversions = []
    for tensor in copied.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims, dtype=int) >= _LEAST_HALVED:
            name = tensor.name
            with np.errstate(over="ignore"):  # infinite weights are found in the verification
                half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_float16"))
            conversions.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*conversions, *copied.graph.node]
    copied.graph.ClearField("node")
    copied.graph.node.extend(nodes)
    return copied


def running(content: bytes) -> Run:
    """Return the function from pixels to outputs of an ONNX model."""
    runtime = onnxruntime("sktl.export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = joblib.cpu_count()  # otherwise, threads are pinned to cores
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, {INPUT: pixels})
        return outputs

    return run
