"""A quantized model has the mean outputs of the model in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exported import IMAGES, answers, fitted, pixels_of, run_file
from onnx import numpy_helper

import sktl
from sktl._deployment.bias_correction import with_corrected_bias


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind", ["classes", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("labels", "numbers"))]
)
def test_a_shift_of_the_output_layer_is_found(kind, tmp_path):
    estimator = fitted(kind)
    sktl.export(estimator, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "head.bias"]
    before = numpy_helper.to_array(bias)
    shift = np.linspace(0.1, 0.3, len(before), dtype=np.float32)
    bias.CopyFrom(numpy_helper.from_array(before + shift, bias.name))
    pixels, expected = pixels_of(estimator, IMAGES), answers(estimator, IMAGES)
    corrected = with_corrected_bias(model, kind, [pixels[:5], pixels[5:]], expected)
    onnx.save(corrected, tmp_path / "m.onnx")
    np.testing.assert_allclose(run_file(tmp_path / "m.onnx", pixels)[0], expected, rtol=1e-3, atol=1e-3)
