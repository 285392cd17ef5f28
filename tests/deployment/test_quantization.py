"""Lower precisions: what int8 does to a graph, what it costs, what is refused, and how biases are corrected."""

from __future__ import annotations

import io
import logging
import os
from contextlib import redirect_stdout

import numpy as np
import onnx
import pytest
import torch
from backbones import Pixels
from exported import IMAGES, NEW, TARGETS, answers, fitted, pixels_of, run_file
from onnx import numpy_helper
from torch import nn

import sktl
from sktl import Preprocessing, PretrainedImageClassifier
from sktl._deployment.quantization import with_corrected_bias
from sktl.exceptions import ExportError

pytestmark = pytest.mark.thorough
RNG = np.random.default_rng(3)
CALIBRATION = [np.clip(image + RNG.integers(-30, 30, image.shape), 0, 255).astype(np.uint8) for image in IMAGES * 2]


class Outliers(nn.Module):
    """Convolutions, of which one has a channel that is much larger than the others: 8 bits per tensor lose those."""

    def __init__(self, size=16, largest=3e4):
        super().__init__()
        self.preprocessing = Preprocessing(size, (size, size))
        self.convolutions = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(8))
        with torch.no_grad():
            self.convolutions[3].weight[0] *= largest
            self.convolutions[4].weight[:, 0] /= largest

    def forward(self, images):
        for convolution in self.convolutions:
            images = convolution(images).relu() + 0.1
        return torch.cat([images.mean((2, 3)), images.amax((2, 3))], dim=1)


def outliers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Outliers().eval()


@pytest.fixture(scope="module")
def harmed():
    return PretrainedImageClassifier(backbone=outliers, random_state=0, weight_decay=1e-4).fit(
        IMAGES, TARGETS["binary"]
    )


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """Return an estimator, the report and the model of its export in int8, and what the export printed.

    The root logger has no handlers during the export, as in a program that has not configured its logs yet.
    """
    path = tmp_path_factory.mktemp("int8") / "m.onnx"
    clf = fitted("binary")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(logging.root, "handlers", [])
        report = sktl.export(clf, path, precision="int8", calibration=CALIBRATION, max_drop=0.05)
        assert not logging.root.handlers, "logging.basicConfig of the program would do nothing"
    return clf, report, onnx.load(path), printed.getvalue()


def test_half_of_the_calibration_images_are_held_out(int8):
    _, report, *_ = int8
    assert (report.n_calibration, report.n_images) == (24, 24)
    assert report.precision == "int8"
    assert report.drop <= 0.05
    assert "Ranges were determined on 24 other images" in str(report)


def test_weights_are_int8_for_each_channel_and_the_output_layer_is_float(int8):
    clf, report, model, _ = int8
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = [
        node for node in model.graph.node
        if node.op_type == "DequantizeLinear" and tensors.get(node.input[0]) is not None
        and tensors[node.input[0]].data_type == onnx.TensorProto.INT8
    ]  # fmt: skip
    n_convolutions = sum(isinstance(module, nn.Conv2d) for module in clf.backbone_.build().modules())
    assert len(weights) == n_convolutions - len(report.float_layers)
    for node in weights:
        scales, quantized = tensors[node.input[1]], tensors[node.input[0]]
        assert numpy_helper.to_array(scales).shape == (quantized.dims[0],)
        assert np.abs(numpy_helper.to_array(quantized)).max() >= 126  # no bit is given away
    (head,) = [node for node in model.graph.node if node.name.startswith("head/")]
    assert tensors[head.input[1]].data_type == onnx.TensorProto.FLOAT


def test_the_quantizer_prints_nothing(int8):
    assert not int8[-1]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "kind", ["labels", *(pytest.param(kind, marks=slow) for kind in ("binary", "numbers", "features"))]
)
def test_int8_is_close_for_all_kinds(kind, tmp_path):
    estimator = fitted(kind)
    name = "m.xml" if kind == "labels" else "m.onnx"
    report = sktl.export(
        estimator, tmp_path / name, precision="int8", calibration=CALIBRATION, verify=NEW, max_drop=0.1
    )
    assert report.n_images == 24 + len(NEW)
    found, expected = run_file(tmp_path / name, pixels_of(estimator, NEW))[0], answers(estimator, NEW)
    assert found.shape == expected.shape
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_too_much_loss_is_refused_with_the_layers_that_hurt(tmp_path):
    with pytest.raises(ExportError, match=r"loses \d\.\d+.*most harmful layers are blocks\.\d\.") as caught:
        sktl.export(fitted("number"), tmp_path / "m.onnx", precision="int8", calibration=CALIBRATION, max_drop=0)
    assert "max_drop is 0" in str(caught.value)
    assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_layers_that_hurt_stay_in_float(harmed, tmp_path):
    lossy = sktl.export(harmed, tmp_path / "a.onnx", precision="int8", calibration=CALIBRATION, max_drop=1)
    assert lossy.drop > 0.02
    mended = sktl.export(harmed, tmp_path / "b.onnx", precision="int8", calibration=CALIBRATION, max_drop=0.01)
    assert mended.drop <= 0.01
    # The layer that computes the large channel, and the layer that takes it.
    assert set(mended.float_layers) >= {"convolutions.3", "convolutions.4"}
    assert "convolutions.4" in mended.summary()


@pytest.mark.slow
def test_a_network_without_layers_is_an_error(tmp_path):
    clf = PretrainedImageClassifier(backbone=Pixels, random_state=0).fit(IMAGES, TARGETS["binary"])
    with pytest.raises(ExportError, match="no convolutions"):
        sktl.export(clf, tmp_path / "m.onnx", precision="int8", calibration=CALIBRATION)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["m.onnx", pytest.param("m.xml", marks=slow)])
def test_float16_halves_the_weights(name, tmp_path):
    estimator = fitted("numbers", backbone=_wide)
    exact = sktl.export(estimator, tmp_path / name)
    half = sktl.export(estimator, tmp_path / name, precision="float16", calibration=CALIBRATION)
    saved = exact.n_bytes - half.n_bytes
    n_weights = sum(parameter.numel() for parameter in estimator.backbone_.build().parameters())
    assert saved == pytest.approx(2 * n_weights, rel=0.1)
    assert 0 < half.drop < 0.005
    found, expected = run_file(tmp_path / name, pixels_of(estimator, NEW))[0], answers(estimator, NEW)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def _wide():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 3), nn.ReLU())
        network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        network.preprocessing = Preprocessing(16, (16, 16))
        return network


def test_weights_beyond_float16_are_refused(tmp_path):
    def huge():
        network = _wide()
        with torch.no_grad():
            network[0].weight *= 1e7
            network[2].weight /= 1e7
        return network

    clf = PretrainedImageClassifier(backbone=huge, random_state=0).fit(IMAGES, TARGETS["binary"])
    with pytest.raises(ExportError, match="not finite"):
        sktl.export(clf, tmp_path / "m.onnx", precision="float16")
    assert not os.listdir(tmp_path)


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
