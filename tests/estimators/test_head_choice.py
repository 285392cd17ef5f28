"""What a fit of the output layer alone chooses, and how it is trained."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from backbones import stochastic_net
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.utils import Bunch, estimator_html_repr

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, cache_info
from sktl._head import penalty_selection
from sktl.datasets import make_cats, make_surface_defects
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

pytestmark = pytest.mark.all_penalties

NOISE = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
CODES = np.arange(12) % 3
SHARED = {"image_size": 32, "random_state": 0, "engine": "torch"}


@pytest.fixture(scope="module")
def defects():
    """Return drawn surfaces; what tells them apart are textures."""
    data = make_surface_defects(40, random_state=0)
    return Bunch(X=list(data.data), y=np.asarray(data.target))


def classifier(**params):
    return PretrainedImageClassifier(**SHARED | params)


@pytest.fixture(scope="module")
def fitted(defects):
    return classifier().fit(defects.X, defects.y)


@pytest.mark.thorough
def test_features_and_penalty_are_chosen_and_recorded(fitted):
    table = fitted.selection_
    assert set(table["param_feature_stages"]) == {1, 2, 6}
    best = np.flatnonzero(
        (table["param_feature_stages"] == fitted.feature_stages_)
        & (table["param_weight_decay"] == fitted.recipe_.weight_decay)
        & (table["temperature"] == fitted.recipe_.temperature)
    )
    own = np.where(table["param_feature_stages"] == fitted.feature_stages_, table["mean_log_loss"], np.inf)
    own[table["temperature"] < fitted.recipe_.temperature] = np.inf
    assert best == [np.nanargmin(own)]
    assert fitted.recipe_.feature_stages == fitted.feature_stages_
    assert fitted.recipe_.optimizer == "lbfgs"


@pytest.mark.parametrize("n_stages", [1, 2, 3, "all"])
def test_the_output_layer_sees_the_features_of_the_encoder(defects, n_stages):
    clf = classifier(feature_stages=n_stages, weight_decay=0.03).fit(defects.X, defects.y)
    encoder = PretrainedImageEncoder(image_size=32, engine="torch", feature_stages=n_stages).fit(defects.X)
    features = encoder.transform(defects.X)
    assert_array_equal(clf.transform(defects.X), features)
    layer = clf.net_.module_.output
    logits = features.astype(np.float64) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    scores = logits if logits.shape[1] > 2 else logits[:, 1] - logits[:, 0]
    assert_allclose(clf.decision_function(defects.X), scores, atol=1e-8)
    assert clf.feature_stages_ == encoder.feature_stages_
    names = [name.replace("encoder", "classifier") for name in encoder.get_feature_names_out()]
    assert clf.get_feature_names_out().tolist() == names
    assert not hasattr(clf, "selection_")


def test_with_more_images_than_choose_the_features_the_penalty_is_refined(defects, tmp_path, monkeypatch):
    monkeypatch.setattr(penalty_selection, "_MOST_IMAGES", len(defects.y) // 2)
    clf = classifier(feature_stages=2).fit(defects.X, defects.y)
    table, is_refined = clf.selection_, clf.selection_["refined"]
    losses = np.where(is_refined, table["mean_log_loss"], np.inf)
    assert clf.recipe_.weight_decay == table["param_weight_decay"][np.nanargmin(losses)]
    first = table["param_weight_decay"][np.nanargmin(np.where(is_refined, np.inf, table["mean_log_loss"]))]
    assert table["param_weight_decay"][is_refined].max() == first
    clf.save(tmp_path / "model.sktl")
    loaded = sktl.load(tmp_path / "model.sktl")
    for key, column in table.items():
        assert_array_equal(loaded.selection_[key], column)
        assert loaded.selection_[key].dtype == column.dtype


def test_giving_one_value_leaves_the_choice_of_the_other(defects):
    decays = classifier(feature_stages=2).fit(defects.X, defects.y)
    assert set(decays.selection_["param_feature_stages"]) == {2}
    stages = classifier(weight_decay=0.01).fit(defects.X, defects.y)
    assert set(stages.selection_["param_weight_decay"]) == {0.01}
    assert stages.recipe_.weight_decay == 0.01


@pytest.mark.parametrize(
    ("params", "optimizer"),
    [
        ({}, "lbfgs"),
        ({"lr": 0.03}, "sgd"),
        ({"lr_schedule": "cosine"}, "sgd"),
        ({"batch_size": 16}, "sgd"),
        ({"max_epochs": 3}, "sgd"),
        ({"dropout": 0.1}, "sgd"),
        ({"early_stopping": True}, "sgd"),
        ({"net_params": {"optimizer__momentum": 0.8}}, "sgd"),
        ({"label_smoothing": 0.1}, "lbfgs"),
    ],
)
def test_steps_are_taken_where_a_parameter_of_steps_is_given(defects, params, optimizer):
    clf = classifier(**params).fit(defects.X, defects.y)
    assert clf.recipe_.optimizer == optimizer
    assert (clf.selection_["temperature"] == 1).sum() == 33  # the choice of the penalty is the same


@pytest.mark.thorough
def test_logits_are_those_of_the_chosen_penalty_divided_by_the_chosen_temperature():
    data = make_cats(40, random_state=2)
    X, y = list(data.data), np.asarray(data.target)
    params = {"random_state": 0, "engine": "torch"}  # at the network's own size
    clf = PretrainedImageClassifier(**params).fit(X, y)
    recipe = clf.recipe_
    assert recipe.temperature < 1
    params |= {"feature_stages": clf.feature_stages_, "weight_decay": recipe.weight_decay}
    given = PretrainedImageClassifier(**params).fit(X, y)
    assert given.recipe_.temperature == 1
    assert_allclose(clf.decision_function(X) * recipe.temperature, given.decision_function(X), rtol=1e-9, atol=1e-9)
    table = clf.selection_
    chosen = np.flatnonzero(
        (table["param_feature_stages"] == clf.feature_stages_)
        & (table["param_weight_decay"] == recipe.weight_decay)
        & (table["temperature"] == recipe.temperature)
    )
    plain = np.where(table["temperature"] == 1, table["mean_log_loss"], np.inf)
    assert table["mean_log_loss"][chosen] < 0.98 * np.nanmin(plain)
    assert f"at temperature {recipe.temperature:g}, chosen" in estimator_html_repr(clf)
    clf.save(file := io.BytesIO())
    loaded = sktl.load(file.getvalue())
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert loaded.recipe_ == recipe


def test_an_optimizer_that_decays_by_itself_keeps_its_own_decay(defects):
    clf = classifier(optimizer="adamw").fit(defects.X, defects.y)
    assert clf.recipe_.weight_decay == 1
    assert clf.feature_stages_ in (1, 2, 6)
    assert not hasattr(classifier(optimizer="adamw", feature_stages=1).fit(defects.X, defects.y), "selection_")


@pytest.mark.parametrize("params", [{"cache": False}, {"n_jobs": 2}, {"cache": "fresh"}])
def test_the_same_fit_gives_the_same_bits(defects, fitted, params, tmp_path):
    params = {"cache": tmp_path / "features"} if params.get("cache") == "fresh" else params
    for _ in range(2):  # cold and warm
        again = classifier(**params).fit(defects.X, defects.y)
        assert_array_equal(again.predict_proba(defects.X), fitted.predict_proba(defects.X))
        assert again.selection_.keys() == fitted.selection_.keys()
        for key, column in fitted.selection_.items():
            assert_array_equal(again.selection_[key], column)


def test_the_random_start_hardly_shows(defects):
    one, other = (
        classifier(random_state=i, feature_stages=1, weight_decay=0.01).fit(defects.X, defects.y) for i in (1, 2)
    )
    assert_allclose(one.predict_proba(defects.X), other.predict_proba(defects.X), atol=1e-4)


@pytest.mark.thorough
def test_a_search_over_stages_makes_one_pass(defects, tmp_path):
    grid = {"feature_stages": [1, 2, "all"], "weight_decay": [0.01, 0.1]}
    search = GridSearchCV(classifier(cache=tmp_path), grid, cv=2, error_score="raise").fit(defects.X, defects.y)
    assert cache_info(tmp_path).misses == len(defects.X)
    assert search.best_score_ > 0.5


def test_a_fit_whose_features_are_kept_builds_no_network(defects, tmp_path, monkeypatch):
    expected = classifier(cache=tmp_path).fit(defects.X, defects.y).predict_proba(defects.X)
    monkeypatch.setattr("sktl._features.engines.registry", type(sktl._features.engines.registry)())
    monkeypatch.setattr("sktl._backbones.backbone.Backbone._build", lambda self: pytest.fail("a network was built"))
    found = classifier(cache=tmp_path).fit(defects.X, defects.y).predict_proba(defects.X)
    assert_array_equal(found, expected)


@pytest.mark.thorough
def test_saved_models_pickles_and_the_module_give_the_same(defects, tmp_path):
    clf = classifier(feature_stages=2).fit(defects.X, defects.y)
    clf.save(tmp_path / "model.sktl")
    expected = clf.predict_proba(defects.X)
    for other in (sktl.load(tmp_path / "model.sktl"), pickle.loads(pickle.dumps(clf))):
        assert_array_equal(other.predict_proba(defects.X), expected)
        assert other.feature_stages_ == 2
        assert other.get_feature_names_out().tolist() == clf.get_feature_names_out().tolist()
        for key, column in clf.selection_.items():
            assert_array_equal(other.selection_[key], column)
    images = torch.stack(
        [clf.backbone_.preprocessing(sktl._images.decoding.Image.fromarray(x).convert("RGB")) for x in defects.X[:4]]
    )
    found = clf.module_(images).softmax(dim=1).detach().numpy()
    assert_allclose(found, expected[:4], atol=1e-4)


def test_groups_are_not_split(defects):
    groups = np.arange(len(defects.y)) // 2
    clf = classifier().fit(defects.X, defects.y, groups=groups)
    plain = classifier().fit(defects.X, defects.y)
    assert (clf.selection_["mean_log_loss"] != plain.selection_["mean_log_loss"]).any()
    with pytest.raises(InvalidInputError, match="groups has 3 entries"):
        classifier().fit(defects.X, defects.y, groups=[1, 2, 3])
    with pytest.raises(InvalidInputError, match=r"groups\[1\] is a missing value"):
        classifier().fit(defects.X[:3], ["a", "b", "a"], groups=["a", None, "b"])


ONE, ALIKE = "All training images are of one group", "None of the {} has training images of several groups"


@pytest.mark.parametrize(
    ("y", "groups", "params", "words"),
    [
        (CODES, CODES * 0, {}, f"{ONE}, .* feature_stages=1 and weight_decay=0.03 are used. .* fit without groups"),
        (CODES, CODES, {}, f"{ALIKE.format('classes')}, .* Add images of the same classes from other groups"),
        (CODES, CODES, {"weight_decay": 1.0}, f"{ALIKE.format('classes')}, .*, and feature_stages=1 is used"),
        (CODES, CODES, {"feature_stages": 2}, f"{ALIKE.format('classes')}, .*, and weight_decay=0.03 is used"),
        (np.eye(3, 2, dtype=int)[CODES], CODES, {}, ALIKE.format("labels")),
        (CODES / 4, CODES * 0, {}, f"{ONE}, .* and weight_decay=0.03 are used"),
    ],
    ids=["one group", "groups are classes", "penalty given", "features given", "groups are labels", "numbers"],
)
def test_groups_that_cannot_be_held_out_are_said(y, groups, params, words):
    kind = PretrainedImageRegressor if y.dtype == float else PretrainedImageClassifier
    estimator = kind(backbone=stochastic_net, random_state=0, **params)
    with pytest.warns(InputWarning, match=words):
        estimator.fit(NOISE, y, groups=groups)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(All|None)", category=InputWarning)
        estimator.fit(NOISE, y, groups=np.arange(12) // 3)
        estimator.set_params(feature_stages=1, weight_decay=1.0).fit(NOISE, y, groups=groups)  # nothing to choose


@pytest.mark.parametrize(
    ("y", "groups", "words"),
    [
        ([*"aaaaaabbbccc"], [0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4], "All training images of 'b', 'c' are of one group"),
        ([*"aaaaaaaaaaab"], np.arange(12), None),
    ],
    ids=["some classes", "a class of one image"],
)
def test_the_classes_of_one_group_are_named(y, groups, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PretrainedImageClassifier(backbone=stochastic_net, random_state=0).fit(NOISE, y, groups=groups)
    found = [str(warning.message) for warning in caught if "group" in str(warning.message)]
    assert [words in text for text in found] == ([True] if words else [])


def test_constant_numbers_are_not_blamed_on_groups():
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        PretrainedImageRegressor(backbone=stochastic_net, random_state=0).fit(NOISE, np.ones(12), groups=CODES)


def test_early_stopping_holds_out_whole_groups(defects):
    groups = np.arange(len(defects.y)) // 5
    rows = sktl._targets.labeled_samples.hold_out(
        sktl._targets.class_targets.check_classes(defects.y, None, None, len(defects.y), groups=groups), 0.2, 0
    )
    assert not set(groups[rows[0]]) & set(groups[rows[1]])
    assert sorted(np.concatenate(rows)) == list(range(len(defects.y)))


def test_two_images_are_enough(defects):
    rows = [0, len(defects.y) - 1]
    clf = classifier().fit([defects.X[i] for i in rows], defects.y[rows])
    assert (clf.feature_stages_, clf.recipe_.weight_decay) == (1, 0.03)
    assert np.isnan(clf.selection_["mean_log_loss"]).all()


@pytest.mark.parametrize("value", [0, -1, 1.5, "some", 99])
def test_impossible_stages_are_refused(defects, value):
    with pytest.raises(InvalidParameterError, match="feature_stages"):
        classifier(feature_stages=value).fit(defects.X, defects.y)


@pytest.mark.parametrize(("n_stages", "n_trained"), [(2, 1), (4, 3), ("all", 2)])
def test_only_trained_stages_contribute_features_while_stages_are_trained(defects, n_stages, n_trained):
    expected = rf"feature_stages={n_stages!r} is more than the .*={n_trained}: .* at most {n_trained}, or \"auto\""
    with pytest.raises(InvalidParameterError, match=expected):
        classifier(feature_stages=n_stages, trainable_stages=n_trained).fit(defects.X, defects.y)
    with pytest.raises(InvalidParameterError, match="feature_stages=99 is more than the 6 stages"):
        classifier(feature_stages=99, trainable_stages="all").fit(defects.X, defects.y)
