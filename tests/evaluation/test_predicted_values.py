"""Classes and labels are what `predict` returns, whatever threshold it has; our classifiers see each image once."""

from __future__ import annotations

import numpy as np
import pytest
from backbones import small_conv_net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import content
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline

from sktl import PretrainedImageClassifier
from sktl._evaluation.predicted_values import class_answers, label_answers
from sktl.exceptions import InvalidInputError
from sktl.runtime import OnnxClassifier

SEEDS = st.integers(0, 2**32 - 1)
X = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
TINY = {"backbone": small_conv_net, "engine": "torch", "random_state": 0, "weight_decay": 1.0, "max_epochs": 2}


class Rows(ClassifierMixin, BaseEstimator):
    """Predicts the rows of X as probabilities."""

    def __init__(self, classes=("ant", "bee"), threshold=0.5, convert=np.asarray):
        self.classes, self.threshold, self.convert = classes, threshold, convert

    def fit(self, X, y):
        self.classes_ = np.asarray(self.classes)
        return self

    def predict_proba(self, X):
        return np.asarray(X)

    def predict(self, X):
        return self.convert((np.asarray(X) > self.threshold).astype(int))


@settings(max_examples=20)
@given(SEEDS, st.floats(0, 1), st.sampled_from([("ant", "bee"), (7, 3), (False, True)]))
def test_classes_are_what_predict_returns_at_every_threshold(seed, threshold, classes):
    high = np.random.default_rng(seed).random(12)
    rows, y = np.c_[1 - high, high], np.array(classes)[[0, 1] * 6]
    model = FixedThresholdClassifier(Rows(classes), threshold=threshold, pos_label=classes[1]).fit(rows, y)
    proba, codes = class_answers(model, rows)
    np.testing.assert_array_equal(proba, rows)
    np.testing.assert_array_equal(model.classes_[codes], model.predict(rows))


@settings(max_examples=20)
@given(SEEDS, st.floats(0, 1), st.sampled_from([np.asarray, csr_array]))
def test_labels_are_what_predict_returns_at_every_threshold(seed, threshold, convert):
    rows = np.random.default_rng(seed).random((12, 2))
    model = Rows(threshold=threshold, convert=convert).fit(rows, None)
    proba, predicted, names = label_answers(model, rows)
    np.testing.assert_array_equal(proba, rows)
    np.testing.assert_array_equal(predicted, rows > threshold)
    assert names.tolist() == ["ant", "bee"]


def test_a_class_that_the_estimator_does_not_have_is_refused():
    with pytest.raises(InvalidInputError, match=r"predict\(X\) has labels that classes_ does not have: 0"):
        class_answers(Rows().fit(None, None), [[0.0, 0.0]])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: clf,
        lambda clf: make_pipeline("passthrough", clf),
        lambda clf: GridSearchCV(clf, {"weight_decay": [1.0]}, cv=2),
    ],
    ids=["alone", "pipeline", "search"],
)
@pytest.mark.parametrize("several", [False, True])
def test_our_classifiers_see_each_image_once(monkeypatch, wrap, several):
    y = np.random.default_rng(1).integers(0, 2, (8, 3)) if several else np.tile(["a", "b"], 4)
    model = wrap(PretrainedImageClassifier(**TINY)).fit(X, y)
    expected, computed = model.predict(X), PretrainedImageClassifier._outputs
    passes = []
    monkeypatch.setattr(PretrainedImageClassifier, "_outputs", lambda *args: passes.append(1) or computed(*args))
    predicted = label_answers(model, X)[1] if several else model.classes_[class_answers(model, X)[1]]
    np.testing.assert_array_equal(predicted, expected)
    assert len(passes) == 1


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_exported_classifiers_see_each_image_once(monkeypatch, kind):
    model = OnnxClassifier(content(kind))
    expected, computed = model.predict(X), OnnxClassifier._outputs
    passes = []
    monkeypatch.setattr(OnnxClassifier, "_outputs", lambda *args: passes.append(1) or computed(*args))
    predicted = label_answers(model, X)[1] if kind == "labels" else model.classes_[class_answers(model, X)[1]]
    np.testing.assert_array_equal(predicted, expected)
    assert len(passes) == 1
