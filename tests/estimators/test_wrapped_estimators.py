"""What displays, reports and audits find out about an estimator, alone or in meta-estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from backbones import Pixels
from onnx_models import content
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
from sktl import (
    FeatureMapDisplay,
    PredictionsDisplay,
    PretrainedImageClassifier,
    PretrainedImageEncoder,
    PretrainedImageRegressor,
    evaluation_report,
)
from sktl._estimators.wrapped_estimators import (
    freezes_predictor,
    images_for,
    innermost,
    number_names,
    own_estimators,
    parameter,
    predicts_labels,
    predicts_numbers,
    samples_for,
)
from sktl.exceptions import InvalidInputError
from sktl.runtime import OnnxClassifier, open_model

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


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_names_of_numbers_are_those_that_predict_returns(wrap):
    regressor = PretrainedImageRegressor(backbone=Pixels, random_state=0, weight_decay=1.0)
    frame = pd.DataFrame({"left": np.arange(8.0), "right": np.arange(8.0) ** 2})
    assert number_names(wrap(regressor).fit(X, frame)) == ["left", "right"]
    assert number_names(wrap(regressor).fit(X, frame.to_numpy())) is None


def test_names_that_a_scaler_gave_to_numbers_are_not_those_of_y():
    regressor = PretrainedImageRegressor(backbone=Pixels, random_state=0, weight_decay=1.0)
    scaled = TransformedTargetRegressor(regressor, transformer=StandardScaler().set_output(transform="pandas"))
    scaled.fit(X, pd.DataFrame({"left": np.arange(8.0), "right": np.arange(8.0) ** 2}))
    assert scaled.regressor_.output_names_.tolist() == ["x0", "x1"]
    assert number_names(scaled) is None


def test_exported_models_are_known():
    regressor, tagger = (open_model(content(kind, names=("p", "q", "r"))) for kind in ("numbers", "labels"))
    assert (predicts_numbers(regressor), number_names(regressor)) == (True, ["p", "q", "r"])
    assert (predicts_numbers(tagger), predicts_labels(tagger)) == (False, True)


def test_images_are_read_as_an_exported_model_reads_them():
    model = OnnxClassifier(content(), image_reader=lambda source: np.full((4, 5), len(source), np.uint8))
    assert (np.asarray(samples_for(model, [b"abc"])[0].read()) == 3).all()


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


OWN = {"backbone": Pixels, "random_state": 0, "optimizer": "lbfgs", "weight_decay": 1.0, "image_shape": (8, 8, 3)}
AB = np.tile(["a", "b"], 4)


@pytest.mark.parametrize(
    "wrap",
    [
        *WRAPS,
        lambda own: VotingClassifier([("one", own)]),
        lambda own: StackingClassifier([("other", LogisticRegression()), ("one", own)]),
        lambda own: make_pipeline(make_union(own), LogisticRegression()),
        lambda own: make_pipeline(make_column_transformer((own, "path")), LogisticRegression()),
        lambda own: GridSearchCV(CalibratedClassifierCV(own), {}),
        lambda own: GridSearchCV(make_pipeline("passthrough"), {"passthrough": [None, own]}),
        lambda own: OneVsRestClassifier(TunedThresholdClassifierCV(own)),
        TransformedTargetRegressor,
        FrozenEstimator,
    ],
)
def test_every_meta_estimator_has_the_parameters_of_the_estimator_in_it(wrap):
    own = PretrainedImageClassifier(**OWN)
    assert [*own_estimators(wrap(own))] == [own]
    assert parameter(wrap(own), "image_shape") == (8, 8, 3)
    assert parameter(wrap(LogisticRegression()), "image_shape") is None


def test_fitted_estimators_come_before_those_that_a_search_was_given():
    own = PretrainedImageClassifier(**OWN | {"image_shape": None})
    search = GridSearchCV(own, {"image_shape": [(8, 8, 3)]}, cv=2).fit(X.reshape(8, -1), AB)
    assert next(own_estimators(search)) is search.best_estimator_


@pytest.mark.parametrize(
    ("wrap", "is_one"),
    [
        (lambda own: FixedThresholdClassifier(own, pos_label="b"), True),
        (lambda own: TunedThresholdClassifierCV(own, scoring="accuracy", cv=2), True),
        (lambda own: CalibratedClassifierCV(FrozenEstimator(own.fit(X, AB)), cv=2), True),
        (lambda own: FrozenEstimator(make_pipeline(own.fit(X, AB))), True),
        (lambda own: CalibratedClassifierCV(own, cv=2), False),
        (lambda own: VotingClassifier([("one", own)], voting="soft"), False),
        (lambda own: BaggingClassifier(own, n_estimators=1, random_state=0), False),
    ],
)
def test_what_a_meta_estimator_adds_to_a_single_model_is_seen_through(wrap, is_one):
    rows = X.reshape(8, -1)
    model = wrap(PretrainedImageClassifier(**OWN)).fit(rows, AB)
    inner, seen = innermost(model, rows)
    assert seen is rows
    assert inner._compare_with_training(rows)[1].all() if is_one else inner is model


@pytest.mark.parametrize("columns", ["path", ["path"], [False, True], slice(1, 2), make_column_selector("path")])
def test_the_images_of_a_table_are_the_column_that_reaches_the_encoder(columns):
    table = pd.DataFrame({"age": [1, 2, 3], "path": [*"xyz"]})
    encoded = make_column_transformer(("passthrough", ["age"]), (make_union(PretrainedImageEncoder()), columns))
    nested = make_column_transformer((encoded, ["age", "path"]))
    for model in (encoded, make_pipeline(nested, LogisticRegression())):
        assert np.ravel(images_for(model, table)).tolist() == [*"xyz"]
        with pytest.raises(InvalidInputError, match="cannot be selected"):
            images_for(make_column_transformer((encoded, ["place"])), table)
    assert images_for(LogisticRegression(), table) is table
    assert images_for(encoded, [*"xyz"]) == [*"xyz"]
    with pytest.raises(InvalidInputError, match="cannot be selected"):
        images_for(make_column_transformer((PretrainedImageEncoder(), ["place"])), pl.DataFrame(table))


def test_a_selection_of_features_is_not_seen_through():
    """Its `estimator_` receives some of the columns."""
    rows = np.random.default_rng(0).random((8, 3))
    for selection in (RFE(LogisticRegression(), n_features_to_select=1), SelectFromModel(LogisticRegression())):
        model = selection.fit(rows, AB)
        assert innermost(make_pipeline(model), rows) == (model, rows)


def test_only_classifiers_and_regressors_learn_from_labels_before_they_are_frozen():
    own, encoder = PretrainedImageClassifier(), PretrainedImageEncoder()
    assert freezes_predictor(CalibratedClassifierCV(FrozenEstimator(make_pipeline(encoder, own))))
    assert not freezes_predictor(make_pipeline(FrozenEstimator(encoder), LogisticRegression()))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_not_asked_for_its_shape():
    nested = torch.nested.nested_tensor([torch.zeros(2, 2), torch.zeros(3, 3)])
    assert images_for(PretrainedImageClassifier(), nested) is nested
