"""Exported models compute what their estimators predict: families of networks, kinds of targets, trained stages."""

from __future__ import annotations

import numpy as np
import pytest
from exported import IMAGES, NEW, SUFFIXES, TARGETS, answers, fitted, pixels_of, run_file
from representatives import slow_except

import sktl
from sktl import PretrainedImageClassifier
from sktl.datasets import make_cats

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")


def check_same(estimator, X, path):
    """Compare an exported model with its estimator, for one image, two, and all."""
    expected, pixels = answers(estimator, X), pixels_of(estimator, X)
    for n in (1, 2, len(X)):
        found = run_file(path, pixels[:n])[0]
        assert found.dtype == np.float32
        assert found.shape == expected[:n].shape
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(found, expected[:n], rtol=0, atol=1e-4)
        else:
            np.testing.assert_allclose(found, expected[:n], rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    if hasattr(estimator, "predict_proba"):
        predicted = found > 0.5 if estimator.multilabel_ else estimator.classes_[found.argmax(axis=1)]
        np.testing.assert_array_equal(predicted, estimator.predict(X))


slow = pytest.mark.slow
QUICK = [
    ("classes", ".onnx"), ("binary", ".pt2"), ("labels", ".onnx"), ("number", ".pt2"), ("numbers", ".xml"),
    ("features", ".pt2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "suffix"),
    slow_except(
        QUICK,
        ("classes", ".onnx"),
        ("numbers", ".xml"),
        ("features", ".pt2"),
        thorough=[("classes", ".onnx"), ("numbers", ".xml")],
    ),
)
def test_all_kinds_of_outputs(kind, suffix, tmp_path):
    estimator = fitted(kind, feature_stages=2)
    path = tmp_path / f"model{suffix}"
    sktl.export(estimator, path, verify=NEW)
    check_same(estimator, [*NEW, *IMAGES[:5]], path)


TRAINED = [(2, 1, ".pt2"), (2, 2, ".onnx"), ("all", 1, ".pt2"), ("all", 2, ".pt2")]


@pytest.mark.parametrize(
    ("trainable_stages", "feature_stages", "suffix"),
    slow_except(TRAINED, *(of_each := [(2, 2, ".onnx"), ("all", 1, ".pt2")]), thorough=of_each),
)
def test_trained_stages(trainable_stages, feature_stages, suffix, tmp_path):
    estimator = fitted("classes", trainable_stages=trainable_stages, feature_stages=feature_stages)
    before = answers(estimator, NEW)
    path = tmp_path / f"model{suffix}"
    sktl.export(estimator, path)
    check_same(estimator, NEW, path)
    np.testing.assert_array_equal(answers(estimator, NEW), before)  # an export changes nothing


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("trainable_stages", "suffix"),
    [(0, ".onnx"), pytest.param(1, ".pt2", marks=slow), pytest.param(0, ".xml", marks=slow)],
)
def test_first_stages(trainable_stages, suffix, tmp_path):
    estimator = fitted("classes", n_stages=3, trainable_stages=trainable_stages)
    path = tmp_path / f"model{suffix}"
    sktl.export(estimator, path)
    check_same(estimator, NEW, path)


def family(name, size, **parameters):
    """Return a classifier with random weights, and the images on which it was fitted."""
    X, y = _cats()
    clf = PretrainedImageClassifier(
        backbone=name, weights=None, image_size=size, random_state=0, cache=False, **parameters
    )
    return clf.fit(X, y), X


def _cats():
    cats = make_cats(12, image_size=64, random_state=0)
    return cats.data, cats.target


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "size"), [("timm/test_vit", 64), pytest.param("timm/test_convnext", None, marks=slow)]
)
def test_families(name, size, tmp_path):
    clf, X = family(name, size, feature_stages=2)
    sktl.export(clf, tmp_path / "model.onnx")
    check_same(clf, X, tmp_path / "model.onnx")


@pytest.mark.slow
def test_the_bundled_network(tmp_path):
    X, y = _cats()
    clf = PretrainedImageClassifier(random_state=0, image_size=64).fit(X, y)
    sktl.export(clf, tmp_path / "model.xml", verify=X)
    check_same(clf, X, tmp_path / "model.xml")


FAMILIES = {
    "resnet18": 64, "resnet50": 64, "convnext_tiny": 64, "vit_b_16": 64, "swin_t": 64, "swin_v2_t": 64,
    "mobilenet_v2": 64, "mobilenet_v3_small": 64, "regnet_y_400mf": 64, "regnet_x_400mf": 64, "densenet121": 64,
    "efficientnet_b0": 64, "googlenet": 64, "shufflenet_v2_x0_5": 64, "timm/test_efficientnet": None,
    "timm/test_nfnet": None, "timm/test_byobnet": None, "timm/vit_tiny_patch16_224": 64, "timm/mixer_s32_224": None,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("trainable_stages", [0, 1, "all"])
@pytest.mark.parametrize("name", FAMILIES)
def test_more_families(name, trainable_stages, tmp_path):
    trained = {"trainable_stages": trainable_stages, "max_epochs": 1, "augmentation": None} if trainable_stages else {}
    clf, X = family(name, FAMILIES[name], feature_stages=1, **trained)
    for suffix in SUFFIXES:
        sktl.export(clf, tmp_path / f"model{suffix}")
        check_same(clf, X, tmp_path / f"model{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", TARGETS)
def test_all_kinds_in_all_formats(kind, suffix, tmp_path):
    for trainable_stages in (0, 1, "all"):
        estimator = fitted(kind) if kind == "features" else fitted(kind, trainable_stages=trainable_stages)
        sktl.export(estimator, tmp_path / f"model{suffix}")
        check_same(estimator, NEW, tmp_path / f"model{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "timm/test_vit"])
def test_more_kinds(name, kind, tmp_path):
    estimator = fitted(kind, backbone=name, weights=None, image_size=None if "/" in name else 64, feature_stages=2)
    for suffix in (".onnx", ".xml"):
        sktl.export(estimator, tmp_path / f"model{suffix}")
        check_same(estimator, NEW, tmp_path / f"model{suffix}")
