"""Errors of a quantized model before softmax or sigmoid, and a correction of the output layer for their average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.special import logit

from .onnx_file import HEAD, running
from .verification import answers_of_run

_LEAST = 1e-7  # probabilities whose logarithms float32 still tells apart


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
