"""Exported files, run by the libraries that they are for, without sktl; and small estimators to export."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnxruntime
import torch
from backbones import stochastic_net

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._features.openvino import core
from sktl._images.network_pixels import network_pixels
from sktl._images.samples import as_samples

SUFFIXES = [".onnx", ".xml", ".pt2"]
RNG = np.random.default_rng(0)
# Two kinds of images that differ in brightness and in their stripes.
IMAGES = [(RNG.integers(0, 120, (20, 24, 3)) + 100 * (i % 2) + 35 * (np.arange(24) % 2)[None, :, None]).astype(np.uint8)
          for i in range(24)]  # fmt: skip
NEW = RNG.integers(0, 256, (7, 20, 24, 3)).astype(np.uint8)
TARGETS = {
    "classes": np.array(["ant", "bee", "cow"])[np.arange(24) % 3],
    "binary": np.arange(24) % 2 == 1,
    "labels": np.stack([np.arange(24) % 2, np.arange(24) % 3 == 0], axis=1).astype(int),
    "number": np.array([image.mean() for image in IMAGES]) / 10,
    "numbers": np.array([[image.mean() / 10, 1000 + image.std()] for image in IMAGES]),
    "features": None,
}
SMALL = {"backbone": stochastic_net, "random_state": 0, "n_jobs": 1}


@functools.cache
def fitted(kind, **parameters):
    """Return an estimator of a kind, fitted on small images."""
    parameters = SMALL | parameters
    if parameters.get("trainable_stages"):
        parameters = {"max_epochs": 2, "augmentation": None, "lr": 0.01} | parameters
    if kind == "features":
        return PretrainedImageEncoder(**parameters).fit(IMAGES)
    regresses = kind in ("number", "numbers")
    estimator = (PretrainedImageRegressor if regresses else PretrainedImageClassifier)(**parameters)
    return estimator.fit(IMAGES, TARGETS[kind])


def answers(estimator, X):
    """Return what an estimator predicts, as one row for each image."""
    ask = next(name for name in ("predict_proba", "predict", "transform") if hasattr(estimator, name))
    found = getattr(estimator, ask)(X)
    return found[:, None] if found.ndim == 1 else found


def pixels_of(estimator, X):
    """Return the pixels that an exported model receives for images."""
    return np.stack([network_pixels(sample.read(), estimator.backbone_.preprocessing) for sample in as_samples(X)])


def run_file(path, pixels):
    """Return the outputs of an exported model for pixels."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        return session.run(None, {"images": pixels})
    if path.suffix == ".xml":
        compiled = core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [np.array(output) for output in compiled(pixels).values()]
    outputs = torch.export.load(path).module()(torch.from_numpy(pixels))
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple | list) else [outputs])]


def document_of(path):
    """Return the document in the metadata of an exported model."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        return json.loads(session.get_modelmeta().custom_metadata_map["sktl"])
    if path.suffix == ".xml":
        return json.loads(core().read_model(str(path)).get_rt_info(["sktl"]).astype(str))
    files = {"sktl.json": ""}
    torch.export.load(path, extra_files=files)
    return json.loads(files["sktl.json"])
