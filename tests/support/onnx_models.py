"""Small exported models, made without PyTorch: classes, labels, numbers or features from the mean color of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sktl._images.preprocessing import Preprocessing
from sktl.runtime.document import KEY, OUTPUTS, ModelDocument, References

CROP = (32, 24)
COLORS = ("red", "green", "blue")
REFERENCES = np.random.default_rng(0).integers(0, 256, (3, *CROP, 3), np.uint8)
LAST = {"classes": "Softmax", "labels": "Sigmoid", "numbers": "Identity", "features": "Identity"}


def document(kind: str = "classes", **changes: Any) -> ModelDocument:
    """Return a document; its references are set by `content`."""
    named = kind in ("classes", "labels")
    found = ModelDocument(
        kind=kind, names=COLORS if named else None, dtype="<U5" if named else None, is_vector=False,
        precision="float32", preprocessing=Preprocessing(36, CROP, "bicubic"), image_reader=None,
        versions={"sktl": "0"}, card={"n_images": 3}, references=References((), ()),
    )  # fmt: skip
    return replace(found, **changes)


def graph(kind: str = "classes", typicality: bool = False, size: Any = ("n", *CROP, 3)) -> onnx.ModelProto:
    """Return a network whose outputs are linear in the mean color, between 0 and 1, times 4."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["channels_first"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"], axis=1),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        helper.make_node(LAST[kind], ["logits"], [OUTPUTS[kind]]),
    ]
    outputs = [helper.make_tensor_value_info(OUTPUTS[kind], TensorProto.FLOAT, ["n", 3])]
    if typicality:
        nodes.append(helper.make_node("ReduceMax", ["mean"], ["typicality"], axes=[1], keepdims=0))
        outputs.append(helper.make_tensor_value_info("typicality", TensorProto.FLOAT, ["n"]))
    weights = {"scale": np.float32(1 / 255), "weight": 4 * np.eye(3, dtype=np.float32)}
    found = helper.make_graph(
        nodes, "colors", [helper.make_tensor_value_info("images", TensorProto.UINT8, list(size))], outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs_for(kind: str, pixels: np.ndarray) -> np.ndarray:
    """Return the first output of `graph`."""
    logits = 4 * (pixels / 255).mean(axis=(1, 2))
    if LAST[kind] == "Identity":
        return logits
    return 1 / (1 + np.exp(-logits)) if kind == "labels" else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def with_text(model: onnx.ModelProto, text: str | None) -> bytes:
    """Return the bytes of a model with a document, whatever the text is."""
    if text is not None:
        helper.set_model_props(model, {KEY: text})
    return model.SerializeToString()


def described(kind: str, **changes: Any) -> ModelDocument:
    """Return the document of a model, with references."""
    references = References.of(REFERENCES, outputs_for(kind, REFERENCES))
    return document(kind, **{"references": references} | changes)


def content(kind: str = "classes", typicality: bool = False, **changes: Any) -> bytes:
    """Return the bytes of an exported model."""
    return with_text(graph(kind, typicality), described(kind, **changes).to_json())
