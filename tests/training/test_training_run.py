"""Training that ends far above the loss of the same prediction for every image is reported."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from backbones import small_conv_net
from sklearn.exceptions import ConvergenceWarning

from sktl import PretrainedImageClassifier, PretrainedImageRegressor

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (24, 16, 16, 3), np.uint8)
LABELS = np.tile(["pug", "ant", "cat"], 8)
TABLE = np.tile([[0, 1], [1, 1], [1, 0]], (8, 1))
NUMBERS = RNG.normal(5, 3, 24)
# Targets, changed parameters, and the loss of outputs that are 0.
TARGETS = {
    "classes": (PretrainedImageClassifier, LABELS, {}, math.log(3)),
    "smoothed": (PretrainedImageClassifier, LABELS, {"label_smoothing": 0.2}, math.log(3)),
    "weighted": (PretrainedImageClassifier, LABELS, {"class_weight": {"pug": 5, "ant": 1, "cat": 1}}, math.log(3)),
    "several labels": (PretrainedImageClassifier, TABLE, {}, 2 * math.log(2)),
    "numbers": (PretrainedImageRegressor, NUMBERS, {}, 0.5),
    "a constant number": (PretrainedImageRegressor, np.full(24, 2.0), {}, 0.0),
}


def fitted(kind, **changed):
    estimator, y, params, _ = TARGETS[kind]
    shared = {"backbone": small_conv_net, "max_epochs": 3, "augmentation": None, "random_state": 0, "n_jobs": 1}
    return estimator(**shared | {"device": "cpu"} | params | changed).fit(X, y)


@pytest.mark.parametrize("kind", TARGETS)
def test_the_loss_of_zeros_is_that_of_the_same_prediction_for_every_image(kind):
    assert fitted(kind).net_.loss_of_zeros_ == pytest.approx(TARGETS[kind][-1], abs=1e-6)


@pytest.mark.parametrize("kind", ["classes", "several labels", "numbers"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lr": 1e4}, r"phase 'output layer' ended at .*\. Lower lr=10000, for instance to 0\.\d+\.$"),
        (
            {"lr": 300.0, "trainable_stages": 1, "freeze_epochs": 0},
            r"'stages' .*Lower lr=300, for instance to 0\.\d+\.$",
        ),
    ],
)
def test_a_loss_far_above_it_at_the_end_is_a_warning(kind, changed, words):
    with pytest.warns(ConvergenceWarning, match=words) as caught:
        clf = fitted(kind, **changed)
    assert clf.history_[-1]["train_loss"] > 2 * clf.net_.loss_of_zeros_
    advised = float(re.search(r"for instance to (.*)\.$", str(caught[0].message))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted(kind, **changed | {"lr": advised})


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("trainable_stages", [0, 1])
def test_training_with_a_suitable_rate_is_no_warning(kind, trainable_stages):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        fitted(kind, trainable_stages=trainable_stages)


def test_neither_is_training_whose_best_epoch_is_returned():
    with pytest.warns(ConvergenceWarning, match="the initial weights are returned") as caught:
        fitted("classes", lr=1e4, early_stopping=True, validation_fraction=0.25)
    assert len(caught) == 1
