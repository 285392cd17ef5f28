"""Laws of the regressor: predictions follow the unit, the order and the container of the numbers."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from backbones import Pixels, pixel_net, stochastic_net
from forging import forged, setting
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from representatives import slow_except
from scipy import sparse
from sklearn.base import clone, is_regressor
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multioutput import MultiOutputRegressor

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._training.checkpoints import SaveState
from sktl.exceptions import (
    BackboneWarning,
    InvalidImageError,
    InvalidImageWarning,
    InvalidInputError,
    InvalidParameterError,
    ModelFileError,
)

RNG = np.random.default_rng(0)
N = 48
X = RNG.random((N, 8, 8))
# The brightness of a quarter, of another, and of both together, in different units.
QUARTERS = np.stack([X[:, :4, :4].mean((1, 2)), X[:, 4:, :4].mean((1, 2))], axis=1)
Y = np.column_stack([QUARTERS * [100, 1], QUARTERS.sum(axis=1) - 3])
COLUMNS = [2, 0, 1]
FITS = {
    "lbfgs": {},
    "huber": {"loss": "huber"},
    "sgd": {"optimizer": "sgd", "max_epochs": 5},
    "early stopping": {"early_stopping": True, "max_epochs": 5, "validation_fraction": 0.25},
    "stages": {"backbone": pixel_net, "trainable_stages": 1, "max_epochs": 2, "augmentation": None},
    "stages, augmentation and mixup": {
        "backbone": stochastic_net, "trainable_stages": 1, "max_epochs": 2, "augmentation": "light", "mixup_alpha": 0.3,
    },
}  # fmt: skip
fits = pytest.mark.parametrize(
    "params",
    slow_except(FITS.values(), FITS["lbfgs"], FITS["huber"], FITS["stages, augmentation and mixup"]),
    ids=FITS,
)


def regressor(**params):
    return PretrainedImageRegressor(**{"backbone": Pixels, "random_state": 0, "n_jobs": 1} | params)


# ---------------------------------------------------------------------------------------------------------- predictions


def test_predictions_have_the_unit_and_the_shape_of_y():
    one, several = regressor().fit(X, Y[:, 0]), regressor().fit(X, Y)
    assert is_regressor(one)
    assert one.predict(X).shape == (N,)
    assert several.predict(X).shape == (N, 3)
    assert (one.n_outputs_, several.n_outputs_) == (1, 3)
    assert one.predict(X).dtype == np.float64
    assert one.score(X, Y[:, 0]) > 0.99
    assert several.score(X, Y) == pytest.approx(r2_score(Y, several.predict(X)))
    column = regressor().fit(X, Y[:, :1]).predict(X)
    assert_array_equal(column, one.predict(X)[:, None])


@pytest.mark.parametrize("weights", [None, np.arange(N) / N])
def test_the_score_is_r2_whatever_holds_the_numbers(weights):
    reg = regressor(**QUICK).fit(X, Y)
    expected = r2_score(Y, reg.predict(X), sample_weight=weights)
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    for form in (Y, Y.tolist(), sparse.csr_array(Y), frame, frame.astype("Float64"), frame.astype(object)):
        assert reg.score(X, form, weights) == expected
    one = regressor(**QUICK).fit(X, Y[:, 0])
    for form in (Y[:, 0], Y[:, :1], frame["a"].astype("Float64")):
        assert one.score(X, form, weights) == r2_score(Y[:, 0], one.predict(X), sample_weight=weights)


def test_the_score_refuses_other_columns_than_those_of_the_fit():
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    reg = regressor(**QUICK).fit(X, frame)
    assert reg.score(X, frame) == reg.score(X, Y)
    for other in (frame[["b", "a", "c"]], frame[["a", "b"]]):
        with pytest.raises(InvalidInputError, match=r"y has .*, but the estimator has"):
            reg.score(X, other)


def test_it_is_the_ridge_regression_of_standardized_features_and_numbers():
    reg = regressor(weight_decay=0.3).fit(X, Y)
    features = reg.transform(X)
    variances = features.var(axis=0)
    scaled = (features - features.mean(axis=0)) / np.sqrt(variances + variances.mean())
    expected = Ridge(alpha=0.3 * N).fit(scaled, (Y - Y.mean(axis=0)) / Y.std(axis=0)).predict(scaled)
    assert_allclose(reg.predict(X), expected * Y.std(axis=0) + Y.mean(axis=0), rtol=1e-5)


@fits
def test_permuted_columns_permute_predictions_to_the_bit(params):
    expected = regressor(**params).fit(X, Y).predict(X)
    assert_array_equal(regressor(**params).fit(X, Y[:, COLUMNS]).predict(X), expected[:, COLUMNS])


@pytest.mark.thorough
@settings(max_examples=5)
@given(st.permutations(range(5)), st.sampled_from(["squared_error", "huber"]))
def test_permuted_columns_with_weights(columns, loss):
    y, weights = np.column_stack([Y, Y[:, :2] ** 2]), np.linspace(0.5, 2, N)
    expected = regressor(loss=loss).fit(X, y, weights).predict(X)
    found = regressor(loss=loss).fit(X, np.asfortranarray(y[:, columns]), weights).predict(X)
    assert_array_equal(found, expected[:, columns])


@fits
def test_predictions_follow_the_unit_of_y(params):
    expected = regressor(**params).fit(X, Y[:, 0]).predict(X)
    found = regressor(**params).fit(X, Y[:, 0] / 1024 + 50).predict(X)
    assert_allclose((found - 50) * 1024, expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_numbers_may_be_very_large_or_small(unit):
    expected = regressor().fit(X, Y).predict(X)
    assert_allclose(regressor().fit(X, Y * unit).predict(X) / unit, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_predictions_follow_the_sign_of_y(loss):
    y = Y[:, 0] + 50 * (np.arange(N) < 4)
    expected = regressor(loss=loss).fit(X, y).predict(X)
    assert_allclose(regressor(loss=loss).fit(X, -y).predict(X), -expected, rtol=1e-4)


def test_columns_are_fitted_as_if_each_were_alone():
    expected = regressor(weight_decay=0.1).fit(X, Y).predict(X)
    for i in range(3):
        assert_allclose(regressor(weight_decay=0.1).fit(X, Y[:, i]).predict(X), expected[:, i], rtol=1e-6)


@pytest.mark.parametrize(
    "container", slow_except([list, tuple, np.ndarray.tolist, pd.Series, pl.Series, pd.Index], list, pd.Series)
)
def test_the_container_of_one_number_does_not_matter(container):
    expected = regressor().fit(X, Y[:, 0]).predict(X)
    assert_array_equal(regressor().fit(X, container(Y[:, 0])).predict(X), expected)


@pytest.mark.parametrize(
    "container",
    slow_except(
        [list, np.ndarray.tolist, np.asfortranarray, pd.DataFrame, pl.DataFrame], np.asfortranarray, pl.DataFrame
    ),
)
def test_the_container_of_several_numbers_does_not_matter(container):
    assert_array_equal(regressor().fit(X, container(Y)).predict(X), regressor().fit(X, Y).predict(X))


def test_a_missing_number_is_named_by_its_place():
    y = Y.copy()
    y[5, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"y\[5, 1\] is a missing value \(NaN\)"):
        regressor().fit(X, y)
    with pytest.raises(InvalidInputError, match=r"y\[5, 'age'\] is a missing value"):
        regressor().fit(X, pd.DataFrame(y, columns=["size", "age", "count"]))
    with pytest.raises(InvalidInputError, match=r"y\[5\] is a missing value"):
        regressor().fit(X, y[:, 1])


def test_one_number_wrong_by_far_moves_robust_predictions_little():
    wrong = Y[:, 0].copy()
    wrong[7] += 1e4
    moved = {
        loss: np.abs(regressor(loss=loss).fit(X, wrong).predict(X) - Y[:, 0]).max()
        for loss in ("squared_error", "huber")
    }
    assert moved["huber"] < 20 < 50 < moved["squared_error"]


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_suffice(loss, n):
    found = regressor(loss=loss).fit(X[:n], Y[:n, 0]).predict(X[:n])
    assert (found >= Y[:n, 0].min() - 1e-6).all()
    assert (found <= Y[:n, 0].max() + 1e-6).all()


@pytest.mark.parametrize("params", [{}, {"loss": "huber"}, FITS["sgd"]])
def test_equal_numbers_are_predicted_for_all_images(params):
    y = np.column_stack([np.full(N, 7.0), Y[:, 0]])
    assert_allclose(regressor(**params).fit(X, y).predict(X)[:, 0], 7, atol=0.01)
    assert_allclose(regressor(**params).fit(X, y[:, 0]).predict(X), 7, atol=0.01)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InvalidParameterError, match="The 'loss' parameter of PretrainedImageRegressor must be"):
        regressor(loss="hinge").fit(X, Y)


# -------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_a_sample_weight_of_2_is_a_repetition(loss):
    weights, repeated = np.where(np.arange(N) < 9, 2.0, 1), np.r_[0:N, 0:9]
    found = regressor(weight_decay=0.1, loss=loss).fit(X, Y, weights).predict(X)
    assert_allclose(found, regressor(weight_decay=0.1, loss=loss).fit(X[repeated], Y[repeated]).predict(X), rtol=1e-5)


@pytest.mark.parametrize("name", ["lbfgs", "huber", "early stopping", "stages"])
def test_numbers_of_samples_of_weight_zero_do_not_matter(name):
    params = FITS[name]
    weights, others = (np.arange(N) >= 9).astype(float), np.where(np.arange(N) < 9, 1e3, Y[:, 0])
    expected = regressor(**params).fit(X, Y[:, 0], weights).predict(X)
    assert_allclose(regressor(**params).fit(X, others, weights).predict(X), expected, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ validation and groups


def test_validation_images_are_passed_or_held_out():
    passed = regressor(early_stopping=True, max_epochs=8).fit(X[9:], Y[9:], X_val=X[:9], y_val=Y[:9])
    assert "valid_loss" in passed.history_[0]
    held_out = regressor(early_stopping=True, max_epochs=8, validation_fraction=0.25).fit(X, Y)
    assert held_out.history_[-1]["valid_loss"] < held_out.history_[0]["valid_loss"]
    with pytest.raises(InvalidInputError, match="y_val has 1 columns, but y has 3"):
        passed.fit(X, Y, X_val=X[:9], y_val=Y[:9, 0])


def test_groups_are_held_out_together():
    """Near copies in other folds give a number away: groups prevent it, and a stronger penalty is chosen."""
    rng, copies = np.random.default_rng(1), np.repeat(np.arange(12), 4)
    images, numbers = rng.random((12, 8, 8))[copies], rng.normal(size=12)[copies]
    near = np.clip(images + rng.normal(scale=0.01, size=images.shape), 0, 1)
    alone, grouped = (regressor().fit(near, numbers, groups=groups) for groups in (None, copies))
    assert grouped.recipe_.weight_decay > alone.recipe_.weight_decay
    repeated = regressor().fit(images, numbers)  # copies are of one group anyway
    assert repeated.recipe_.weight_decay == grouped.recipe_.weight_decay
    assert regressor(**FITS["early stopping"]).fit(X, Y, groups=np.arange(N) // 4).predict(X).shape == Y.shape
    with pytest.raises(InvalidParameterError, match="groups has effectively only one group"):
        regressor(**FITS["early stopping"]).fit(X, Y, groups=np.zeros(N))


# ---------------------------------------------------------------------------------------------------------- fine-tuning


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("params", [{}, {"mixup_alpha": 0.4}, {"early_stopping": True, "validation_fraction": 0.25}])
def test_the_loss_falls_as_a_stage_is_trained(loss, params):
    tuned = {"backbone": pixel_net, "trainable_stages": 1, "augmentation": None, "weight_decay": 1.0, "batch_size": 8}
    reg = regressor(**tuned, loss=loss, max_epochs=8, backbone_lr_ratio=0.5, **params).fit(X, Y)
    losses = reg.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert reg.score(X, Y) > 0


@pytest.mark.thorough
def test_the_trial_of_augmentations_knows_numbers():
    reg = regressor(backbone=stochastic_net, trainable_stages=2, max_epochs=1, freeze_epochs=2)
    assert reg.fit(np.repeat(X, 2, axis=0), np.repeat(Y, 2, axis=0)).predict(X).shape == Y.shape


# ------------------------------------------------------------------------------------------------------- invalid images


def test_unusable_images_are_left_out_with_their_numbers():
    broken, y = [*X], Y.copy()
    broken[5], y[5] = b"nonsense", 1e6
    with pytest.warns(InvalidImageWarning, match="1 of 48 images"):
        reg = regressor(invalid_images="skip").fit(broken, y)
    rest = np.delete(np.arange(N), 5)
    assert_array_equal(reg.predict(X), regressor().fit(X[rest], Y[rest]).predict(X))


def test_validation_numbers_have_the_unit_of_the_images_that_are_left():
    reg = regressor(invalid_images="skip", early_stopping=True, max_epochs=3)
    with pytest.warns(InvalidImageWarning):
        reg.fit([*X, b"no image"], np.append(Y, 1e6 * Y[:1], axis=0), X_val=X[:8], y_val=Y[:8])
    expected = regressor(early_stopping=True, max_epochs=3).fit(X, Y, X_val=X[:8], y_val=Y[:8])
    assert reg.history_[:, "valid_loss"] == expected.history_[:, "valid_loss"]


@pytest.mark.parametrize(("n_good", "words"), [(0, "no image"), (4, "only images of weight zero")])
def test_a_fit_needs_a_usable_image(n_good, words):
    broken = [*X[:n_good]] + [b"nonsense"] * (N - n_good)
    with pytest.raises(InvalidImageError, match=f"^invalid_images='skip' would leave {words}"):
        regressor(invalid_images="skip").fit(broken, Y, np.arange(N) >= 4)


# ---------------------------------------------------------------------------------------------------- with scikit-learn

QUICK = {"optimizer": "sgd", "max_epochs": 3}


@pytest.mark.thorough
def test_a_search_and_a_cross_validation():
    search = GridSearchCV(regressor(**QUICK), {"loss": ["squared_error", "huber"]}, cv=2).fit(X, Y)
    assert search.score(X, Y) == pytest.approx(r2_score(Y, search.predict(X)))
    assert cross_val_predict(regressor(**QUICK), X, Y, cv=2).shape == Y.shape
    assert cross_val_predict(regressor(**QUICK), X, Y[:, 0], cv=2).shape == (N,)
    assert MultiOutputRegressor(regressor(**QUICK)).fit(X, Y).predict(X).shape == Y.shape


@pytest.mark.parametrize("params", [{}, FITS["stages"]])
def test_clones_copies_and_pickles_predict_the_same(params):
    reg = regressor(**params).fit(X, Y)
    for other in (pickle.loads(pickle.dumps(reg)), copy.deepcopy(reg), clone(reg).fit(X, Y)):
        assert_array_equal(other.predict(X), reg.predict(X))


def test_a_fit_of_another_shape_replaces_all():
    reg = regressor().fit(X, Y).fit(X, Y[:, 0])
    assert reg.n_outputs_ == 1
    assert_array_equal(reg.predict(X), regressor().fit(X, Y[:, 0]).predict(X))


def test_regressors_have_no_methods_of_classifiers():
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        assert not hasattr(regressor().fit(X, Y), method)
        assert hasattr(PretrainedImageClassifier(), method)


# ------------------------------------------------------------------------------------------ checkpoints and model files


class Interruption(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("name", slow_except(["sgd", "early stopping", "stages"], "sgd", "stages"))
def test_a_fit_that_was_interrupted_ends_the_same(tmp_path, monkeypatch, name):
    fit = FITS[name] | {"checkpoint": tmp_path, "loss": "huber"}
    expected = regressor(**FITS[name], loss="huber").fit(X, Y).predict(X)
    save, epochs = SaveState.on_epoch_end, []

    def interrupted(self, net, **kwargs):
        save(self, net, **kwargs)
        epochs.append(1)
        if len(epochs) == 2:
            raise Interruption

    monkeypatch.setattr(SaveState, "on_epoch_end", interrupted)
    with pytest.raises(Interruption):
        regressor(**fit).fit(X, Y)
    # Another loss is another fit.
    n_epochs = len(epochs)
    regressor(**fit | {"loss": "squared_error"}).fit(X, Y)
    n_epochs, whole = len(epochs), len(epochs) - n_epochs
    assert_array_equal(regressor(**fit).fit(X, Y).predict(X), expected)
    assert len(epochs) - n_epochs == whole - 2


TINY = {"backbone": "timm/test_vit", "weights": None, "image_size": 32, "max_epochs": 2}
untrained = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")


@untrained
@pytest.mark.parametrize(
    ("params", "y"),
    [
        pytest.param({"loss": "huber"}, Y, marks=pytest.mark.thorough),
        ({"trainable_stages": 1}, Y[:, 0]),
        pytest.param({"trainable_stages": 1}, Y[:, :1], marks=pytest.mark.thorough),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path, params, y):
    reg = regressor(**TINY | params).fit(X, y)
    reg.save(tmp_path / "model")
    loaded = sktl.load(tmp_path / "model")
    assert type(loaded) is PretrainedImageRegressor
    assert (loaded.n_outputs_, loaded.loss, loaded.recipe_) == (reg.n_outputs_, reg.loss, reg.recipe_)
    assert_array_equal(loaded.predict(X), reg.predict(X))
    assert_array_equal(loaded.transform(X), reg.transform(X))


CLASSES = {"labels": ["a", "b", "c"], "dtype": "<U1", "counts": [1, 1, 1], "multilabel": False}
FORGERIES = {
    "classes": lambda d, t: [d.pop("numbers"), d.update(classes=CLASSES)],
    "classes too": setting("classes", value=CLASSES),
    "a classifier": setting("estimator", value="PretrainedImageClassifier"),
    "an encoder": setting("estimator", value="PretrainedImageEncoder"),
    "no outputs": setting("numbers", "n_outputs", value=0),
    "negative outputs": setting("numbers", "n_outputs", value=-3),
    "more outputs": setting("numbers", "n_outputs", value=4),
    "many outputs": setting("numbers", "n_outputs", value=2**60),
    "half an output": setting("numbers", "n_outputs", value=3.0),
    "a truth of outputs": setting("numbers", "n_outputs", value=True),
    "vector": setting("numbers", "is_vector", value=True),
    "vectors": setting("numbers", "is_vector", value="yes"),
    "no word on vectors": lambda d, t: d["numbers"].pop("is_vector"),
    "numbers of another kind": setting("numbers", value=[3, False]),
    "unknown loss": setting("training", "recipe", "of", "loss", value="hinge"),
    "loss of classes": setting("training", "recipe", "of", "loss", value="cross_entropy"),
    "unknown loss among the parameters": setting("parameters", "loss", value="hinge"),
}


@pytest.fixture(scope="module")
def saved():
    """Return a model file as bytes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackboneWarning)
        regressor(**TINY, trainable_stages=1).fit(X, Y).save(file)
    return file.getvalue()


@untrained
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_is_refused_by_name(tmp_path, saved, forgery):
    (tmp_path / "model").write_bytes(saved)
    forged(tmp_path / "model", FORGERIES[forgery])
    with pytest.raises((ModelFileError, InvalidParameterError), match=r"model|loss"):
        sktl.load(tmp_path / "model")
