"""Static quantization to int8 with ONNX Runtime: ranges from images, layers left in float, and corrected biases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from sktl.exceptions import ExportError
from sktl.runtime.document import INPUT

from .onnx_file import FEATURES, HEAD, running
from .quiet_converters import mute, silent_thread
from .verification import answers_of_run

# Operators with weights, and what stands between them. Softmax, normalization and sigmoid stay in float: they take
# little time, and 8 bits are too few for them.
_WITH_WEIGHTS = frozenset({"Conv", "Gemm", "MatMul"})
_OPERATORS = _WITH_WEIGHTS | {
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Mul", "Pad", "Relu", "Reshape",
    "Transpose",
}  # fmt: skip
# At most this share of the layers stays in float because they come first, and as many because they are most harmful.
# With more, int8 would save too little.
_MOST_IN_FLOAT = 0.25
_NAMED = 5
# Numbers of first layers that are tried in float: they see pixels, of which 8 bits lose details, and take little time.
_FIRST_IN_FLOAT = (0, 1, 3)
# Ranges leave out this percentage of the values of a tensor. A range that included a few extreme values would be too
# wide for all others, and would change twice as many labels.
_PERCENTILE = 99.999
# Images whose activations are in memory at once. More than one, because ONNX Runtime derives the bins of a histogram
# from the first group, and a blank image would make them too narrow.
_AT_ONCE = 8
_LEAST = 1e-7  # probabilities whose logarithms float32 still tells apart


@dataclass(frozen=True)
class Quantized:
    """A model in int8.

    Parameters
    ----------
    model : onnx.ModelProto
    float_layers : tuple of str
        Layers that stay in float32, as the network names them: up to three first ones, and the most harmful ones.
    """

    model: Any
    float_layers: tuple[str, ...] = ()


class _Reader:
    """One group of pixels as ONNX Runtime's calibration takes it."""

    def __init__(self, pixels: np.ndarray):
        self._groups = [pixels]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {INPUT: self._groups.pop()} if self._groups else None


def _groups(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pixels of batches in groups of equal sizes, except the last one."""
    images = (image for batch in batches for image in batch)
    while group := list(islice(images, _AT_ONCE)):
        yield np.stack(group)


def quantize(
    model: Any,
    batches: Iterable[np.ndarray],
    correct: Callable[[Any], Any],
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
    correct : callable
        Returns a quantized model with a corrected output layer.
    drop_of : callable
        Returns what a quantized model loses, measured on other images.
    harm_of : callable
        Returns how far the outputs of a quantized model are from the outputs in float32, on a few of these images.
    max_drop : float

    Raises
    ------
    ExportError
        If the model loses more than `max_drop` even if the most harmful layers stay in float32, or if it has no layers
        that can be quantized.
    """
    with silent_thread(), tempfile.TemporaryDirectory(prefix="sktl.") as folder:
        quantizer = _Quantizer(model, batches, correct, Path(folder))
        if not quantizer.layers:
            raise ExportError('precision="int8" is not possible: the network has no convolutions or matrix products.')
        # Squared differences also rank models that change no label of these images.
        first = min(quantizer.beginnings(), key=lambda layers: harm_of(quantizer.without(layers)))
        found = quantizer.without(first)
        if (drop := drop_of(found)) <= max_drop:
            return Quantized(found, layer_names(first))
        return _with_worst_in_float(quantizer, first, drop, drop_of, harm_of, max_drop)


def _with_worst_in_float(
    quantizer: _Quantizer,
    first: tuple[str, ...],
    drop: float,
    drop_of: Callable[[Any], float],
    harm_of: Callable[[Any], float],
    max_drop: float,
) -> Quantized:
    """Return a model in which the most harmful layers stay in float, as few as possible."""
    others = [layer for layer in quantizer.layers if layer not in first]
    harms = {layer: harm_of(quantizer.only(layer)) for layer in others}
    worst = sorted(others, key=lambda layer: -harms[layer])
    n_layers, least = 1, drop
    while n_layers <= _MOST_IN_FLOAT * len(quantizer.layers):
        kept = (*first, *worst[:n_layers])
        found = quantizer.without(kept)
        if (dropped := drop_of(found)) <= max_drop:
            return Quantized(found, layer_names(kept))
        least = min(least, dropped)
        n_layers *= 2
    raise _too_lossy(drop, least, max_drop, worst)


def _too_lossy(drop: float, least: float, max_drop: float, worst: list[str]) -> ExportError:
    return ExportError(
        f'precision="int8" loses {drop:.4f}, and {least:.4f} with the most harmful layers in float32; max_drop is '
        f"{max_drop:g}. The most harmful layers are {', '.join(layer_names(worst[:_NAMED]))}. No file was written. "
        'Pass more calibration images or a larger max_drop, use precision="float16", or fit with '
        'backbone="efficientnet_lite0", which was made for int8.'
    )


def layer_names(layers: Iterable[str]) -> tuple[str, ...]:
    """Return the names of layers as the network has them."""
    return tuple(layer.removeprefix(f"{FEATURES}.").rpartition("/")[0] for layer in layers)


class _Quantizer:
    """Quantized versions of one model, with ranges that are determined once.

    Attributes
    ----------
    layers : list of str
        Names of the operators with weights within the network, input first.
    """

    def __init__(self, model: Any, batches: Iterable[np.ndarray], correct: Callable[[Any], Any], folder: Path):
        import onnx
        from onnxruntime.quantization import calibrate
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

        mute("onnxruntime.quantization")

        self._correct = correct
        self._model = save_and_reload_model_with_shape_infer(model)
        path = folder / "model.onnx"
        onnx.save_model(self._model, str(path))
        calibrator = calibrate.create_calibrator(
            path,
            [*_OPERATORS],
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=calibrate.CalibrationMethod.Percentile,
            extra_options={"percentile": _PERCENTILE},
        )
        # One by one, because the calibrator holds the activations of all images that it gets in one call.
        for pixels in _groups(batches):
            calibrator.collect_data(_Reader(pixels))
        self._ranges = calibrator.compute_data()
        self._nodes = [node.name for node in self._model.graph.node]
        self._within = {name for name in self._nodes if name.startswith((f"{FEATURES}.", f"{FEATURES}/"))}
        constants = {tensor.name for tensor in self._model.graph.initializer}
        self.layers = [
            node.name
            for node in self._model.graph.node
            if node.op_type in _WITH_WEIGHTS and node.name in self._within and node.input[1] in constants
        ]
        self._all_layers = frozenset(self.layers)

    def beginnings(self) -> list[tuple[str, ...]]:
        """Return the groups of first layers that are tried in float, the smallest first."""
        most = _MOST_IN_FLOAT * len(self.layers)
        return [tuple(self.layers[:n]) for n in _FIRST_IN_FLOAT if n <= most]

    def without(self, layers: Collection[str]) -> Any:
        """Return a model in which all layers are quantized, except some."""
        return self._quantized(self._all_layers - set(layers))

    def only(self, layer: str) -> Any:
        """Return a model in which one layer is quantized."""
        return self._quantized({layer})

    def _with_followers(self, layers: Collection[str]) -> set[str]:
        """Return some layers, and the operators without weights that follow them up to the next layer.

        Operators that follow a layer in float stay in float: their inputs may need more than 8 bits, as before an
        activation that removes most of the values.
        """
        sources = {output: node.name for node in self._model.graph.node for output in node.output}
        found: set[str] = set()
        for node in self._model.graph.node:  # inputs first
            is_layer = node.name in self._all_layers
            follows = not is_layer and any(sources.get(name) in found for name in node.input)
            if node.name in (layers if is_layer else self._within) and (is_layer or follows):
                found.add(node.name)
        return found

    def _quantized(self, chosen: Collection[str]) -> Any:
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantized = self._with_followers(chosen)
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
        return self._correct(quantizer.model.model)


def with_corrected_bias(model: Any, kind: str, pixels: Iterable[np.ndarray], expected: np.ndarray) -> Any:
    """Return a quantized model whose outputs before softmax or sigmoid have the same mean as those in float32.

    Rounding shifts the means of features, and through the output layer the outputs, in the same direction for all
    images (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019).

    Parameters
    ----------
    model : onnx.ModelProto
        Its bias is changed in place.
    kind : {"classes", "labels", "numbers", "features"}
    pixels : iterable of uint8 arrays of shape (n, H, W, 3)
        Images that are not used to measure the model.
    expected : array of shape (n_images, n_outputs)
        Outputs for these images in float32.
    """
    from onnx import numpy_helper

    names = {node.input[2] for node in model.graph.node if node.name == f"{HEAD}/Gemm" and len(node.input) == 3}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            found = answers_of_run(running(model.SerializeToString()), pixels).outputs
            shift = (before_activation(kind, expected) - before_activation(kind, found)).mean(axis=0)
            bias = numpy_helper.to_array(tensor) + shift.astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    return model


def harm(kind: str, outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean squared error before softmax or sigmoid, which also tells apart models that change no label."""
    return float(((before_activation(kind, outputs) - before_activation(kind, expected)) ** 2).mean())


def before_activation(kind: str, outputs: np.ndarray) -> np.ndarray:
    """Return outputs before softmax or sigmoid; for softmax, with a mean of 0 for each image."""
    if kind == "classes":
        logs = np.log(np.maximum(outputs, _LEAST))
        return logs - logs.mean(axis=1, keepdims=True)
    if kind == "labels":
        return logit(np.clip(outputs.astype(np.float64), _LEAST, 1 - _LEAST))
    return outputs
