"""The output layer on features predicts what the estimator predicts on images."""

from __future__ import annotations

import numpy as np
import pytest
from backbones import Pixels
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor

from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._backbones.taps import StageLayout
from sktl._ranking.features_estimator import FeaturesEstimator

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (24, 8, 8, 3), np.uint8)
LAYOUT = StageLayout.of_output(64)


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (PretrainedImageClassifier, np.tile(["a", "b"], 12)),
        (PretrainedImageClassifier, np.tile(["a", "b", "c"], 8)),
        (PretrainedImageClassifier, RNG.integers(0, 2, (24, 3))),
        (PretrainedImageRegressor, RNG.normal(size=24)),
        (PretrainedImageRegressor, RNG.normal(size=(24, 2))),
    ],
    ids=["two classes", "classes", "labels", "number", "numbers"],
)
def test_it_answers_as_the_estimator_does(estimator, y):
    whole = estimator(backbone=Pixels, random_state=0, n_jobs=1).fit(X, y)
    seeds = whole._seeds()
    layer = clone(FeaturesEstimator(estimator(), LAYOUT, (seeds.head, seeds.choice))).fit(whole.transform(X), y)
    assert (is_classifier(layer), is_regressor(layer)) == (is_classifier(whole), is_regressor(whole))
    for method in ("predict", "predict_proba", "decision_function"):
        assert hasattr(layer, method) == hasattr(whole, method)
        if hasattr(whole, method):
            found, expected = getattr(layer, method)(whole.transform(X)), getattr(whole, method)(X)
            if is_regressor(whole):  # its layer already contains the unit of y, so the last bits differ
                assert_allclose(found, expected, rtol=1e-9)
            else:
                assert_array_equal(found, expected)
    assert hasattr(layer, "classes_") == hasattr(whole, "classes_")


def test_a_guess_has_the_form_of_what_is_learned():
    noise = RNG.random((24, 2), dtype=np.float32)
    numbers = FeaturesEstimator(PretrainedImageRegressor(), LAYOUT).guess(noise, 100 + RNG.normal(size=(24, 2)))
    assert numbers.predict(noise).shape == (24, 2)
    assert (np.abs(numbers.predict(noise) - 100) < 3).all()
    table = FeaturesEstimator(PretrainedImageClassifier(), LAYOUT).guess(noise, RNG.integers(0, 2, (24, 3)))
    assert set(np.unique(table.predict(noise))) <= {0, 1}
    assert table.predict_proba(noise).shape == (24, 3)


def test_a_fold_may_lack_a_class_that_has_a_weight():
    y = np.tile(["a", "b", "c"], 8)
    clf = PretrainedImageClassifier(class_weight={"a": 2.0, "c": 3.0}, max_epochs=2)
    layer = FeaturesEstimator(clf, LAYOUT).fit(X.reshape(24, -1)[:, :64].astype(np.float32)[y != "c"], y[y != "c"])
    assert layer.classes_.tolist() == ["a", "b"]
    assert clf.class_weight == {"a": 2.0, "c": 3.0}
