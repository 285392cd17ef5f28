"""What displays find out about an estimator, alone or in a search or a pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backbones import Pixels
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
from sktl import (
    FeatureMapDisplay,
    PredictionsDisplay,
    PretrainedImageClassifier,
    PretrainedImageRegressor,
    evaluation_report,
)
from sktl._estimators.innermost import predicts_labels, predicts_numbers
from sktl.exceptions import InvalidInputError

X = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
WRAPS = [
    lambda estimator: estimator,
    lambda estimator: make_pipeline("passthrough", estimator),
    lambda estimator: GridSearchCV(estimator, {"image_size": [8]}, cv=2),
    lambda estimator: GridSearchCV(make_pipeline(estimator), {}, cv=2),
]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    ("kind", "y", "labels", "numbers"),
    [
        (PretrainedImageClassifier, np.tile(["a", "b"], 4), False, False),
        (PretrainedImageClassifier, np.tile([[1, 0], [0, 1]], (4, 1)), True, False),
        (PretrainedImageRegressor, np.arange(8.0), None, True),
    ],
)
def test_it_is_known_what_an_estimator_predicts(wrap, kind, y, labels, numbers):
    estimator = wrap(kind(backbone=Pixels, random_state=0, optimizer="lbfgs", weight_decay=1.0)).fit(X, y)
    assert predicts_labels(estimator) is labels
    assert predicts_numbers(estimator) is numbers


def test_of_other_estimators_it_is_not():
    assert predicts_labels(LogisticRegression()) is None
    assert not predicts_numbers(object())


@pytest.mark.parametrize("display", [PredictionsDisplay, FeatureMapDisplay])
@pytest.mark.parametrize("estimator", [PretrainedImageClassifier(), PretrainedImageRegressor()])
def test_an_estimator_that_is_not_fitted_says_so(display, estimator):
    for y in (np.arange(8), np.eye(8, dtype=int)):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            display.from_estimator(estimator, X, y)


@pytest.mark.parametrize("display", [PredictionsDisplay, FeatureMapDisplay])
def test_a_class_is_refused(display):
    with pytest.raises(InvalidInputError, match="estimator is the class PretrainedImageRegressor: pass a fitted"):
        display.from_estimator(PretrainedImageRegressor, X, np.arange(8))


@pytest.mark.parametrize(
    "call", [PredictionsDisplay.from_estimator, FeatureMapDisplay.from_estimator, evaluation_report]
)
@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (X, "^estimator is an ndarray: pass a fitted estimator first, and then X and y"),
        (["a.jpg"], "^estimator is a list: pass a fitted estimator first"),
        (None, "^estimator is None: pass a fitted estimator first"),
        ("cats.sktl", r"^estimator is a path: pass the estimator in the file, sktl\.load\('cats\.sktl'\)"),
        (Path("cats.sktl"), r"sktl\.load\('cats\.sktl'\)"),
    ],
)
def test_what_is_no_estimator_is_refused_in_a_short_text(call, estimator, words):
    with pytest.raises(InvalidInputError, match=words) as caught:
        call(estimator, X, np.arange(8))
    assert len(str(caught.value)) < 100
