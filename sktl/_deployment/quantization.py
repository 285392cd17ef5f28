"""Static quantization to int8 by ONNX Runtime: ranges from images, weights per channel, some layers left in float."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sktl.exceptions import ExportError
from sktl.runtime.document import INPUT

from .onnx_file import FEATURES

# Operators with weights, and what stands between them. Softmax, normalization and sigmoid stay in float: they take
# little time, and 8 bits are too few for them.
_WITH_WEIGHTS = frozenset({"Conv", "Gemm", "MatMul"})
_OPERATORS = _WITH_WEIGHTS | {
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul", "Pad", "Relu", "Reshape",
    "Transpose",
}  # fmt: skip
# At most this share of the layers stays in float. With more, int8 would save too little.
_MOST_IN_FLOAT = 0.25
_NAMED = 5
# Activations that a quantized layer takes over: its outputs are quantized after them.
_TAKEN_OVER = frozenset({"Clip", "Relu"})


@dataclass(frozen=True)
class Quantized:
    """A model in int8.

    Parameters
    ----------
    model : onnx.ModelProto
    float_layers : tuple of str
        Layers that stay in float32, the most harmful first.
    """

    model: Any
    float_layers: tuple[str, ...] = ()


class _Reader:
    """Batches of pixels as ONNX Runtime's calibration takes them."""

    def __init__(self, batches: Iterable[np.ndarray]):
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantize(
    model: Any,
    batches: Iterable[np.ndarray],
    drop_of: Callable[[Any], float],
    harm_of: Callable[[Any], float],
    max_drop: float,
) -> Quantized:
    """Quantize the network of a model to int8; the output layer and everything after it stay in float32.

    Parameters
    ----------
    model : onnx.ModelProto
    batches : iterable of uint8 arrays of shape (n, H, W, 3)
        Pixels that determine the ranges of activations.
    drop_of : callable
        Returns what a quantized model loses, measured on other images.
    harm_of : callable
        Orders layers by what a model loses in which only this layer is quantized. Runs once for each layer, if needed.
    max_drop : float

    Raises
    ------
    ExportError
        If the model loses more than `max_drop` even if the most harmful layers stay in float32, or if it has no layers
        that can be quantized.
    """
    with _quiet(), tempfile.TemporaryDirectory(prefix="sktl.") as folder:
        quantizer = _Quantizer(model, batches, Path(folder))
        if not quantizer.layers:
            raise ExportError('precision="int8" is not possible: the network has no convolutions or matrix products.')
        found = quantizer.without(())
        if (drop := drop_of(found)) <= max_drop:
            return Quantized(found)
        harms = {layer: harm_of(quantizer.only(layer)) for layer in quantizer.layers}
        worst = sorted(quantizer.layers, key=lambda layer: -harms[layer])
        n_layers, least = 1, drop
        while n_layers <= _MOST_IN_FLOAT * len(worst):
            kept = tuple(worst[:n_layers])
            found = quantizer.without(kept)
            if (dropped := drop_of(found)) <= max_drop:
                return Quantized(found, kept)
            least = min(least, dropped)
            n_layers *= 2
    raise _too_lossy(drop, least, max_drop, worst)


def _too_lossy(drop: float, least: float, max_drop: float, worst: list[str]) -> ExportError:
    return ExportError(
        f'precision="int8" loses {drop:.4f}, and {least:.4f} with the most harmful layers in float32; max_drop is '
        f"{max_drop:g}. The most harmful layers are {', '.join(worst[:_NAMED])}. No file was written. Pass more "
        'calibration images or a larger max_drop, use precision="float16", or fit with backbone="efficientnet_lite0", '
        "which was made for int8."
    )


class _Quantizer:
    """Quantized versions of one model, with ranges that are determined once.

    Attributes
    ----------
    layers : list of str
        Names of the operators with weights within the network, input first.
    """

    def __init__(self, model: Any, batches: Iterable[np.ndarray], folder: Path):
        import onnx
        from onnxruntime.quantization.calibrate import create_calibrator
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

        self._model = save_and_reload_model_with_shape_infer(model)
        path = folder / "model.onnx"
        onnx.save_model(self._model, str(path))
        calibrator = create_calibrator(path, [*_OPERATORS], augmented_model_path=str(folder / "augmented.onnx"))
        calibrator.collect_data(_Reader(batches))
        self._ranges = calibrator.compute_data()
        self._nodes = [node.name for node in self._model.graph.node]
        self._within = {name for name in self._nodes if name.startswith(FEATURES)}
        constants = {tensor.name for tensor in self._model.graph.initializer}
        self.layers = [
            node.name
            for node in self._model.graph.node
            if node.op_type in _WITH_WEIGHTS and node.name in self._within and node.input[1] in constants
        ]

    def without(self, layers: Collection[str]) -> Any:
        """Return a model in which all layers are quantized, except some."""
        return self._quantized(self._within - set(layers))

    def only(self, layer: str) -> Any:
        """Return a model in which one layer is quantized."""
        return self._quantized({layer})

    def _with_activations(self, chosen: Collection[str]) -> set[str]:
        """Return the operators that are quantized. An activation is, if the layer before it is.

        Otherwise, outputs of a layer in float would be quantized before their activation, and lose most of their
        resolution to values that the activation removes.
        """
        sources = {output: node.name for node in self._model.graph.node for output in node.output}
        found = set(chosen)
        for node in self._model.graph.node:
            if node.op_type in _TAKEN_OVER and node.name in self._within:
                follows = sources.get(node.input[0]) in found
                (found.add if follows else found.discard)(node.name)
        return found

    def _quantized(self, chosen: Collection[str]) -> Any:
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantized = self._with_activations(chosen)
        copied = onnx.ModelProto()
        copied.CopyFrom(self._model)
        quantizer = QDQQuantizer(
            copied,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[name for name in self._nodes if name not in quantized],
            op_types_to_quantize=[*_OPERATORS],
            extra_options={},
        )
        quantizer.quantize_model()
        return quantizer.model.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer, which reports its progress to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
