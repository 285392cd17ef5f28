"""Laws of a classifier of several labels: columns do not know of each other, nor of their container and order."""

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
from sklearn.base import clone
from sklearn.metrics import accuracy_score, average_precision_score, get_scorer, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import MultiLabelBinarizer

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._training.checkpoints import SaveState
from sktl.exceptions import BackboneWarning, InvalidImageError, InvalidImageWarning, InvalidInputError, ModelFileError

pytestmark = pytest.mark.all_penalties

RNG = np.random.default_rng(0)
N = 48
Y = (RNG.random((N, 3)) < [0.5, 0.4, 0.3]).astype(int)
Y[:4] = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
# Each label is a square of its own.
X = RNG.random((N, 8, 8)) * 0.5
for label, where in enumerate((np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4])):
    X[Y[:, label] > 0, *where] += 0.3
COLUMNS = [2, 0, 1]
FITS = {
    "lbfgs": {},
    "sgd": {"optimizer": "sgd", "max_epochs": 5},
    "early stopping": {"early_stopping": True, "max_epochs": 5, "validation_fraction": 0.25},
    "stages": {"backbone": pixel_net, "trainable_stages": 1, "max_epochs": 2, "augmentation": None},
    "stages, augmentation and mixup": {
        "backbone": stochastic_net, "trainable_stages": 1, "max_epochs": 2, "augmentation": "light", "mixup_alpha": 0.3,
    },
}  # fmt: skip
fits = pytest.mark.parametrize(
    "params",
    slow_except(FITS.values(), FITS["lbfgs"], FITS["early stopping"], FITS["stages, augmentation and mixup"]),
    ids=FITS,
)
constant = pytest.mark.filterwarnings("ignore:(Every|No) image has:UserWarning")


def classifier(**params):
    return PretrainedImageClassifier(**{"backbone": Pixels, "random_state": 0, "n_jobs": 1} | params)


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(X, Y)


# -------------------------------------------------------------------------------------------------------------- answers


def test_answers_have_a_column_for_each_label(fitted):
    assert fitted.multilabel_
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.class_count_.tolist() == Y.sum(axis=0).tolist()
    probabilities, logits = fitted.predict_proba(X), fitted.decision_function(X)
    assert probabilities.shape == logits.shape == (N, 3)
    assert_array_equal(fitted.predict(X), probabilities > 0.5)
    assert fitted.predict(X).dtype == np.int64
    assert_allclose(1 / (1 + np.exp(-logits)), probabilities)
    assert_allclose(np.exp(fitted.predict_log_proba(X)), probabilities)
    assert fitted.score(X, Y) > 0.9
    assert not fitted.predict(X[3:4]).any()


@pytest.mark.thorough
def test_a_label_can_be_had_by_any_number_of_images(fitted):
    assert not classifier().fit(X, Y[:, 0]).multilabel_
    once = Y.copy()
    once[:, 2] = np.arange(N) == 7
    for params in ({}, FITS["early stopping"]):
        probabilities = classifier(**params).fit(X, once).predict_proba(X)[:, 2]
        assert probabilities.argmax() == 7


@fits
def test_permuted_columns_permute_answers_to_the_bit(params):
    expected = classifier(**params).fit(X, Y).decision_function(X)
    assert_array_equal(classifier(**params).fit(X, Y[:, COLUMNS]).decision_function(X), expected[:, COLUMNS])


@pytest.mark.thorough
@settings(max_examples=5)
@given(st.permutations(range(5)), st.sampled_from(["balanced", "dict"]))
def test_permuted_columns_have_permuted_weights(columns, class_weight):
    y = np.concatenate([Y, 1 - Y[:, :2]], axis=1)
    weights = {i: 1.0 + i for i in range(5)} if class_weight == "dict" else class_weight
    permuted = {i: weights[j] for i, j in enumerate(columns)} if class_weight == "dict" else class_weight
    of_samples = np.linspace(0.5, 2, N)
    expected = classifier(class_weight=weights).fit(X, y, of_samples).decision_function(X)
    found = classifier(class_weight=permuted).fit(X, y[:, columns], of_samples).decision_function(X)
    assert_array_equal(found, expected[:, columns])


@pytest.mark.parametrize("params", [{}, {"weight_decay": 0.03}, {"weight_decay": 0.3, "label_smoothing": 0.1}])
def test_two_equal_columns_are_the_classifier_of_two_classes(params):
    expected = classifier(**params).fit(X, Y[:, 0]).predict_proba(X)
    found = classifier(**params).fit(X, Y[:, [0, 0]]).predict_proba(X)
    assert_allclose(found, expected[:, [1, 1]], atol=1e-6)


def test_columns_are_fitted_as_if_each_were_alone():
    expected = classifier(weight_decay=0.1).fit(X, Y).decision_function(X)
    for i in range(3):
        alone = classifier(weight_decay=0.1).fit(X, Y[:, [i, i]]).decision_function(X)
        assert_allclose(alone[:, 0], expected[:, i], atol=1e-5)


FORMS = {
    "bool": Y.astype(bool),
    "float": Y.astype(float),
    "list": Y.tolist(),
    "list of arrays": list(Y),
    "csr_array": sparse.csr_array(Y),
    "csc_matrix of bool": sparse.csc_matrix(Y.astype(bool)),
    "pandas": pd.DataFrame(Y, columns=["a", "b", "c"]),
    "pandas of bool": pd.DataFrame(Y.astype(bool), columns=["a", "b", "c"]),
    "polars": pl.DataFrame(Y, schema=["a", "b", "c"]),
    "binarized": MultiLabelBinarizer().fit_transform([np.flatnonzero(row) for row in Y]),
}


@pytest.mark.parametrize("form", slow_except(FORMS, "list", "csr_array", "pandas"))
def test_the_container_does_not_matter(fitted, form):
    found = classifier().fit(X, FORMS[form])
    assert_array_equal(found.decision_function(X), fitted.decision_function(X))
    assert found.classes_.tolist() == (["a", "b", "c"] if hasattr(FORMS[form], "columns") else [0, 1, 2])


def test_a_missing_label_is_named_by_row_and_column():
    y = Y.astype(float)
    y[5, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"y\[5, 1\] is a missing value \(NaN\)"):
        classifier().fit(X, y)
    with pytest.raises(InvalidInputError, match=r"y\[5, 'dog'\] is a missing value"):
        classifier().fit(X, pd.DataFrame(y, columns=["cat", "dog", "owl"]))


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, FITS["stages"]])
def test_constant_columns_get_the_probability_of_the_rule_of_succession(params):
    y = np.concatenate([Y, np.ones((N, 1)), np.zeros((N, 1))], axis=1)
    with pytest.warns(UserWarning, match=r"(Every image has the label 3|No image has the label 4)\."):
        probabilities = classifier(**params).fit(X, y).predict_proba(X)[:, 3:]
    assert_allclose(probabilities, np.tile([(N + 1) / (N + 2), 1 / (N + 2)], (N, 1)), atol=1e-6)


@constant
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_suffice(n):
    assert classifier().fit(X[:n], Y[:n]).predict_proba(X).shape == (N, 3)


# -------------------------------------------------------------------------------------------------------------- weights


def test_balanced_weights_are_explicit_weights():
    counts = Y.sum(axis=0)
    explicit = [{0: N / (2 * (N - n)), 1: N / (2 * n)} for n in counts]
    expected = classifier(class_weight="balanced").fit(X, Y).decision_function(X)
    assert_allclose(classifier(class_weight=explicit).fit(X, Y).decision_function(X), expected, atol=1e-9)


@pytest.mark.parametrize("params", [{}, {"weight_decay": 0.1}])
def test_the_weights_of_a_label_change_neither_its_penalty_nor_other_labels(params):
    expected = classifier(**params).fit(X, Y).decision_function(X)
    of_both = [{0: 10, 1: 10}, {}, {}]
    assert_allclose(classifier(class_weight=of_both, **params).fit(X, Y).decision_function(X), expected, atol=1e-9)
    found = classifier(class_weight={0: 10}, weight_decay=0.1).fit(X, Y).decision_function(X)
    expected = classifier(weight_decay=0.1).fit(X, Y).decision_function(X)
    assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-5)
    assert (found[:, 0] > expected[:, 0]).all()


def test_only_the_ratio_of_the_weights_of_a_label_matters():
    expected = classifier(class_weight={0: 2}).fit(X, Y).decision_function(X)
    for explicit in ([{1: 2}, {}, {}], [{0: 0.5, 1: 1}, {}, {}], [{0: 3, 1: 6}, {0: 7, 1: 7}, {0: 0.1, 1: 0.1}]):
        assert_allclose(classifier(class_weight=explicit).fit(X, Y).decision_function(X), expected, atol=1e-9)


def test_a_weight_of_2_for_both_labels_is_a_repetition_up_to_the_scale_of_the_features():
    """Weights of labels leave the means and variances of the features alone; repetitions do not."""
    y, repeated = Y[:, [0, 0]], np.r_[0:N, np.flatnonzero(Y[:, 0])]
    found = classifier(weight_decay=1e-4, class_weight={0: 2, 1: 2}).fit(X, y).predict_proba(X)
    expected = classifier(weight_decay=1e-4).fit(X[repeated], y[repeated]).predict_proba(X)
    assert_allclose(found, expected, atol=0.02)


def test_a_sample_weight_of_2_is_a_repetition():
    weights = np.where(np.arange(N) < 9, 2.0, 1)
    repeated = np.r_[0:N, 0:9]
    found = classifier(weight_decay=0.1).fit(X, Y, weights).decision_function(X)
    expected = classifier(weight_decay=0.1).fit(X[repeated], Y[repeated]).decision_function(X)
    assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("params", [{}, {"weight_decay": 0.1}, FITS["stages"]])
def test_labels_of_samples_of_weight_zero_do_not_matter(params):
    weights, others = (np.arange(N) >= 9).astype(float), np.where(np.arange(N)[:, None] < 9, 1 - Y, Y)
    expected = classifier(**params).fit(X, Y, weights).decision_function(X)
    assert_allclose(classifier(**params).fit(X, others, weights).decision_function(X), expected, atol=1e-3)


# ------------------------------------------------------------------------------------------------ validation and groups


def test_validation_images_are_passed_or_held_out():
    passed = classifier(early_stopping=True, max_epochs=8).fit(X[9:], Y[9:], X_val=X[:9], y_val=Y[:9])
    assert "valid_loss" in passed.history_[0]
    held_out = classifier(early_stopping=True, max_epochs=8, validation_fraction=0.25).fit(X, Y)
    assert held_out.history_[-1]["valid_loss"] < held_out.history_[0]["valid_loss"]
    with pytest.raises(InvalidInputError, match=r"y_val has shape \(9, 2\); pass 9 rows"):
        passed.fit(X, Y, X_val=X[:9], y_val=Y[:9, :2])
    with pytest.raises(InvalidInputError, match="y_val should be a 1d array"):
        passed.fit(X, Y[:, 0], X_val=X[:9], y_val=Y[:9])


def test_groups_are_held_out_together():
    """Near copies in other folds give a label away: groups prevent it, and a stronger penalty is chosen."""
    rng = np.random.default_rng(1)
    images, labels = rng.random((12, 8, 8)), rng.integers(0, 2, (12, 3))
    labels[:2] = [[0, 0, 0], [1, 1, 1]]
    copies = np.repeat(np.arange(12), 4)
    near = np.clip(images[copies] + rng.normal(scale=0.01, size=(48, 8, 8)), 0, 1)
    alone = classifier().fit(near, labels[copies])
    grouped = classifier().fit(near, labels[copies], groups=copies)
    assert grouped.recipe_.weight_decay > alone.recipe_.weight_decay
    assert classifier(**FITS["early stopping"]).fit(X, Y, groups=np.arange(N) // 4).predict(X).shape == Y.shape


# ---------------------------------------------------------------------------------------------------------- fine-tuning


@pytest.mark.parametrize("params", [{}, {"mixup_alpha": 0.4}, {"early_stopping": True, "validation_fraction": 0.25}])
def test_the_loss_falls_as_a_stage_is_trained(params):
    tuned = {"backbone": pixel_net, "trainable_stages": 1, "augmentation": None, "weight_decay": 1.0, "batch_size": 8}
    clf = classifier(**tuned, max_epochs=8, backbone_lr_ratio=0.5, **params).fit(X, Y)
    losses = clf.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert clf.score(X, Y) > 0.5


@pytest.mark.thorough
def test_the_trial_of_augmentations_knows_several_labels():
    images = np.repeat(X, 2, axis=0)
    clf = classifier(backbone=stochastic_net, trainable_stages=2, max_epochs=1, freeze_epochs=2)
    assert clf.fit(images, np.repeat(Y, 2, axis=0)).predict(X).shape == Y.shape


# ------------------------------------------------------------------------------------------------------- invalid images


def test_unusable_images_are_left_out_with_their_labels():
    broken = [*X]
    broken[5] = b"nonsense"
    with pytest.warns(InvalidImageWarning, match="1 of 48 images"):
        clf = classifier(invalid_images="skip").fit(broken, Y)
    rest = np.delete(np.arange(N), 5)
    assert_array_equal(clf.class_count_, Y[rest].sum(axis=0))
    assert_array_equal(clf.decision_function(X), classifier().fit(X[rest], Y[rest]).decision_function(X))


@constant
@pytest.mark.parametrize(("n_good", "words"), [(0, "no image"), (4, "only images of weight zero")])
def test_a_fit_needs_a_usable_image(n_good, words):
    broken = [*X[:n_good]] + [b"nonsense"] * (N - n_good)
    with pytest.raises(InvalidImageError, match=f"^invalid_images='skip' would leave {words}"):
        classifier(invalid_images="skip").fit(broken, Y, np.arange(N) >= 4)


# ---------------------------------------------------------------------------------------------------- with scikit-learn

QUICK = {"optimizer": "sgd", "max_epochs": 3}


def test_a_search_scores_by_average_precision():
    search = GridSearchCV(classifier(**QUICK), {"weight_decay": [0.1, 0.01]}, scoring="average_precision", cv=2)
    search.fit(X, Y)
    assert 0.5 < search.best_score_ <= 1
    assert search.score(X, Y) == pytest.approx(average_precision_score(Y, search.predict_proba(X)))


@pytest.mark.parametrize("weights", [None, np.arange(N) / N])
def test_the_score_is_the_accuracy_whatever_holds_the_labels(fitted, weights):
    y = np.where(np.arange(N)[:, None] < 9, 1 - Y, Y)
    expected = accuracy_score(y, fitted.predict(X), sample_weight=weights)
    frame = pd.DataFrame(y, columns=["a", "b", "c"])
    forms = [frame.astype(dtype) for dtype in ("Int64", "boolean", "category", object)]
    for form in (y, y > 0, y.tolist(), sparse.csr_array(y), pl.DataFrame(y), *forms):
        assert fitted.score(X, form, weights) == expected
    with pytest.raises(InvalidInputError, match=r"is 2, but a table of several labels has only 0 and 1"):
        fitted.score(X, y + 1)


def test_the_score_refuses_other_columns_than_those_of_the_fit():
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    clf = classifier(**QUICK).fit(X, frame)
    assert clf.score(X, frame) == clf.score(X, Y)
    for other in (frame[["b", "a", "c"]], frame[["a", "b"]], frame["a"]):
        with pytest.raises(InvalidInputError, match="y has "):
            clf.score(X, other)


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one:UserWarning")
def test_scorers_see_the_probabilities_of_both_of_two_numbered_labels():
    """scikit-learn would take two integers for the classes of a binary task, and pass on one column."""
    two = classifier(weight_decay=1.0).fit(X, Y[:, :2])
    assert (two.classes_.tolist(), two.classes_.dtype) == ([0, 1], object)
    assert -get_scorer("neg_log_loss")(two, X, Y[:, :2]) == log_loss(Y[:, :2], two.predict_proba(X))


@pytest.mark.parametrize(
    ("method", "form"),
    slow_except(
        [(method, y) for method in ("predict", "predict_proba", "decision_function") for y in ("array", "pandas")],
        ("predict", "pandas"), ("predict_proba", "array"), ("decision_function", "array"),
    ),
)  # fmt: skip
def test_cross_validated_answers_have_a_column_for_each_label(method, form):
    found = cross_val_predict(classifier(**QUICK), X, FORMS.get(form, Y), cv=2, method=method)
    assert found.shape == Y.shape
    assert ((found > (0 if method == "decision_function" else 0.5)) == Y).mean() > 0.7


def test_one_classifier_per_label_is_possible_too():
    found = MultiOutputClassifier(classifier(**QUICK)).fit(X, Y)
    assert found.predict(X).shape == Y.shape
    assert not found.estimators_[0].multilabel_


@pytest.mark.parametrize("params", [{}, FITS["stages"]])
def test_clones_copies_and_pickles_answer_the_same(params):
    clf = classifier(**params).fit(X, FORMS["pandas"])
    expected = clf.decision_function(X)
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf), clone(clf).fit(X, FORMS["pandas"])):
        assert_array_equal(other.decision_function(X), expected)
        assert_array_equal(other.classes_, clf.classes_)


def test_a_fit_of_another_kind_replaces_all():
    clf = classifier().fit(X, Y).fit(X, Y[:, 0])
    assert not clf.multilabel_
    assert clf.predict(X).shape == (N,)
    assert_array_equal(clf.decision_function(X), classifier().fit(X, Y[:, 0]).decision_function(X))


# ------------------------------------------------------------------------------------------ checkpoints and model files


class Interruption(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("name", slow_except(["sgd", "early stopping", "stages"], "early stopping", "stages"))
def test_a_fit_that_was_interrupted_ends_the_same(tmp_path, monkeypatch, name):
    fit = FITS[name] | {"checkpoint": tmp_path}
    expected = classifier(**FITS[name]).fit(X, Y).decision_function(X)
    save, epochs = SaveState.on_epoch_end, []

    def interrupted(self, net, **kwargs):
        save(self, net, **kwargs)
        epochs.append(1)
        if len(epochs) == 2:
            raise Interruption

    monkeypatch.setattr(SaveState, "on_epoch_end", interrupted)
    with pytest.raises(Interruption):
        classifier(**fit).fit(X, Y)
    assert_array_equal(classifier(**fit).fit(X, Y).decision_function(X), expected)


TINY = {"backbone": "timm/test_vit", "weights": None, "image_size": 32, "max_epochs": 2}
untrained = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")


@untrained
@pytest.mark.parametrize(
    ("params", "y"),
    [
        ({"class_weight": [{1: 2}, {0: 0.5}, {}]}, Y),
        pytest.param({"trainable_stages": 1}, FORMS["pandas"], marks=pytest.mark.thorough),
    ],
)
def test_what_is_loaded_is_what_was_saved(tmp_path, params, y):
    clf = classifier(**TINY | params).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = sktl.load(tmp_path / "model")
    assert loaded.multilabel_
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.classes_.tolist() == clf.classes_.tolist()
    assert loaded.recipe_ == clf.recipe_
    assert loaded.class_weight == clf.class_weight
    assert_array_equal(loaded.class_count_, clf.class_count_)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        assert_array_equal(getattr(loaded, method)(X), getattr(clf, method)(X))


@untrained
def test_labels_that_a_file_cannot_hold_are_refused_when_it_is_written(tmp_path):
    clf = classifier(**TINY).fit(X, pd.DataFrame(Y, columns=[np.nan, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"in classes_ is a .*, which cannot be saved"):
        clf.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


NUMBERS = {"n_outputs": 3, "is_vector": False}
FORGERIES = {
    "numbers": lambda d, t: [d.pop("classes"), d.update(numbers=NUMBERS)],
    "numbers too": setting("numbers", value=NUMBERS),
    "one label": setting("classes", "multilabel", value="yes"),
    "no word on labels": lambda d, t: d["classes"].pop("multilabel"),
    "negative count": setting("classes", "counts", value=[-1, 1, 1]),
    "fewer labels": setting("classes", "labels", value=[0, 1]),
    "equal labels": setting("classes", "labels", value=[0, 1, 1]),
    "unknown loss": setting("training", "recipe", "of", "loss", value="hinge"),
    "loss of classes": setting("training", "recipe", "of", "loss", value="cross_entropy"),
    "a regressor": setting("estimator", value="PretrainedImageRegressor"),
}


@pytest.fixture(scope="module")
def saved():
    """Return a model file as bytes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BackboneWarning)
        classifier(**TINY, trainable_stages=1).fit(X, Y).save(file)
    return file.getvalue()


@untrained
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_is_refused_by_name(tmp_path, saved, forgery):
    (tmp_path / "model").write_bytes(saved)
    forged(tmp_path / "model", FORGERIES[forgery])
    with pytest.raises(ModelFileError, match="model"):
        sktl.load(tmp_path / "model")


@untrained
@pytest.mark.parametrize("params", [{}, {"trainable_stages": 1}])
def test_a_file_of_a_version_without_several_labels_loads(tmp_path, params):
    clf = classifier(**TINY | params).fit(X, np.array(["cat", "dog"])[Y[:, 0]])
    clf.save(tmp_path / "model")

    def of_old(document, tensors):
        classes = document.pop("classes")
        old = {"classes": classes["labels"], "dtype": classes["dtype"], "class_count": classes["counts"]}
        document["classifier"] = document.pop("training") | old
        del document["classifier"]["recipe"]["of"]["loss"]

    forged(tmp_path / "model", of_old)
    loaded = sktl.load(tmp_path / "model")
    assert not loaded.multilabel_
    assert loaded.recipe_ == clf.recipe_
    assert_array_equal(loaded.predict(X), clf.predict(X))
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@untrained
def test_numbers_of_columns_that_earlier_versions_saved_as_integers_are_loaded_as_fit_has_them(tmp_path):
    clf = classifier(**TINY).fit(X, Y)
    clf.save(tmp_path / "model")
    forged(tmp_path / "model", setting("classes", "dtype", value="<i8"))
    loaded = sktl.load(tmp_path / "model")
    assert (loaded.classes_.dtype, loaded.classes_.tolist()) == (clf.classes_.dtype, clf.classes_.tolist())


def test_a_regressor_has_no_classes():
    assert not hasattr(PretrainedImageRegressor(), "predict_proba")
