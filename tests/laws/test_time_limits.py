"""A time limit that strikes at any moment is raised unchanged: it is no verdict on a file, an image or a network."""

import io

import numpy as np
import onnx_models
import pytest
import safetensors.torch
import timm
from interruptions import InterruptionError, interrupted
from PIL import Image

import sktl
from sktl.runtime import open_model

_N_PLACES = 12


def _png(height):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


PHOTOS = [_png(30), _png(32), _png(34), _png(36)]


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    path, weights = str(folder / "model.sktl"), str(folder / "weights.safetensors")
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), weights)
    network = {"backbone": "timm/test_resnet", "weights": weights, "image_size": 32, "engine": "torch"}
    clf = sktl.PretrainedImageClassifier(**network, random_state=0, n_jobs=1, cache=False)
    clf.fit(PHOTOS, [0, 1, 0, 1]).save(path)
    exported = onnx_models.content()
    opened = open_model(exported, n_threads=1)
    return {
        "predict": lambda: clf.predict(PHOTOS),
        "load": lambda: sktl.load(path),
        "open an exported model": lambda: open_model(exported, n_threads=1),
        "predict by an exported model": lambda: opened.predict(PHOTOS),
        "predict by an exported model from PIL images": lambda: opened.predict([Image.open(io.BytesIO(PHOTOS[0]))]),
    }


@pytest.mark.parametrize(
    "name",
    [
        "predict",
        "load",
        "open an exported model",
        "predict by an exported model",
        "predict by an exported model from PIL images",
    ],
)
def test_a_time_limit_is_raised_unchanged(calls, name):
    call = calls[name]
    call()  # imports
    n_raised = 0
    for place in np.linspace(1, interrupted(call, 0), _N_PLACES).astype(int):
        try:
            interrupted(call, place)
        except InterruptionError:
            n_raised += 1
    assert n_raised > _N_PLACES / 2  # Python ignores errors in callbacks of weak references, for example
