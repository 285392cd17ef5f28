"""A grid of images with what was predicted for them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from backbones import small_conv_net
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sktl import (
    FeatureMapDisplay,
    PredictionsDisplay,
    PretrainedImageClassifier,
    PretrainedImageEncoder,
    PretrainedImageRegressor,
)
from sktl.exceptions import InvalidImageError, InvalidInputError, InvalidParameterError

mpl.use("Agg")  # of the tests; the package leaves the backend alone
CLASSES = np.array(["ant", "bee", "cat"])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def flat():
    clf = PretrainedImageClassifier(backbone=small_conv_net, image_shape=(6, 8), engine="torch", random_state=0)
    return clf.set_params(max_epochs=2).fit(np.random.default_rng(0).random((8, 48)), np.tile(["a", "b"], 4))


def _images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), np.uint8)


@st.composite
def predictions(draw):
    n = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    return CLASSES[rng.integers(3, size=n)], rng.dirichlet(np.ones(3), size=n)


def _choose(y, proba, **options):
    ax = Figure().add_subplot()
    return PredictionsDisplay.from_predictions(_images(len(y)), y, proba, classes=CLASSES, ax=ax, **options)


@settings(max_examples=15)
@given(predictions(), st.integers(1, 6))
def test_errors_are_the_wrong_ones_most_confident_first(found, n_images):
    y, proba = found
    display = _choose(y, proba, select="errors", n_images=n_images)
    wrong = CLASSES[proba.argmax(axis=1)] != y
    assert len(display.positions) == min(n_images, wrong.sum())
    assert wrong[display.positions].all()
    assert (np.diff(display.proba_pred) <= 0).all()
    rest = np.setdiff1d(np.flatnonzero(wrong), display.positions)
    assert proba[rest].max(initial=0) <= display.proba_pred.min(initial=1)


@settings(max_examples=15)
@given(predictions(), st.integers(1, 6))
def test_losses_are_those_whose_label_was_least_probable(found, n_images):
    y, proba = found
    display = _choose(y, proba, select="losses", n_images=n_images)
    proba_true = proba[np.arange(len(y)), np.searchsorted(CLASSES, y)]
    np.testing.assert_array_equal(display.proba_true, np.sort(proba_true)[:n_images])


@pytest.mark.thorough
@settings(max_examples=15)
@given(predictions(), st.integers(1, 6), st.integers(0, 1000))
def test_samples_are_drawn_by_the_random_state(found, n_images, seed):
    y, proba = found
    display = _choose(y, proba, n_images=n_images, random_state=seed)
    assert len(set(display.positions)) == min(n_images, len(y))
    np.testing.assert_array_equal(_choose(y, proba, n_images=n_images, random_state=seed).positions, display.positions)
    np.testing.assert_array_equal(display.y_true, y[display.positions])
    np.testing.assert_array_equal(display.y_pred, CLASSES[proba.argmax(axis=1)][display.positions])


@pytest.mark.parametrize("seed", [-1, 2**32, "x", 1.5, True])
def test_seeds_that_cannot_be_are_named(seed):
    with pytest.raises(InvalidParameterError, match=r"random_state=.* must be an integer from 0 to"):
        PredictionsDisplay.from_predictions([np.zeros((8, 8))] * 2, ["a", "b"], [[1, 0]] * 2, random_state=seed)


def test_drawing_samples_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002 - the global state is what is watched
    _choose(CLASSES, np.eye(3))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_images_are_shown_as_they_were_given(tmp_path):
    """Upright, uncropped, in their colors, whatever their form."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    encoded = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(encoded, "PNG")
    floats = pixels / 255
    X = [tmp_path / "turned.png", encoded.getvalue(), Image.fromarray(pixels), floats, floats.transpose(2, 0, 1)]
    display = PredictionsDisplay.from_predictions(X, list("ababa"), np.eye(2)[[0, 1, 0, 1, 0]], random_state=0)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    for shown, expected in zip(display.images, [np.rot90(pixels, -1), grey, *[pixels] * 3], strict=True):
        np.testing.assert_array_equal(shown, expected)
    drawn = [ax.images[0].get_array() for ax in display.axes_]
    np.testing.assert_array_equal(drawn[0], np.rot90(pixels, -1))


def test_large_images_are_shrunk_and_keep_their_proportions():
    X = [np.zeros((1200, 3000), np.uint8)]
    display = PredictionsDisplay.from_predictions(X, ["a"], [[1.0]])
    assert display.images[0].shape == (205, 512, 3)


def test_flattened_images_take_the_shape_of_the_estimator():
    X = np.random.default_rng(0).random((8, 48))
    clf = PretrainedImageClassifier(backbone=small_conv_net, image_shape=(6, 8), engine="torch", random_state=0)
    y = np.tile(["a", "b"], 4)
    search = GridSearchCV(clf, {"lr": [0.01]}, cv=2).fit(X, y)
    for estimator in (search, search.best_estimator_):
        display = PredictionsDisplay.from_estimator(estimator, X, y, select="losses", n_images=3)
        assert {image.shape for image in display.images} == {(6, 8, 3)}
        proba = search.predict_proba(X)[np.arange(8), (y == "b").astype(int)]
        np.testing.assert_array_equal(display.proba_true, np.sort(proba)[:3])


@pytest.mark.parametrize("form", [np.ndarray.tolist, list, lambda X: X.astype(object), pd.DataFrame])
@pytest.mark.parametrize("wrap", [lambda clf: clf, lambda clf: make_pipeline("passthrough", clf)])
def test_flattened_images_come_in_any_form_that_the_estimator_takes(flat, form, wrap):
    X, y = np.random.default_rng(0).random((8, 48)), np.tile(["a", "b"], 4)
    estimator = wrap(flat).fit(X, y)
    expected = PredictionsDisplay.from_estimator(flat, X, y, n_images=8).images
    display = PredictionsDisplay.from_estimator(estimator, form(X), y, n_images=8)
    np.testing.assert_array_equal(display.images, expected)
    mapped = FeatureMapDisplay.from_estimator(estimator, form(X), y, thumbnails=True)
    np.testing.assert_array_equal(mapped.thumbnails, expected)


def test_rows_that_are_no_numbers_are_refused():
    X = np.array([["a", 1], [2, 3]], dtype=object)
    for rows in (X, [[1.0, 2.0], [1.0]]):
        with pytest.raises(InvalidInputError, match="one row of numbers"):
            PredictionsDisplay.from_predictions(rows, ["a", "b"], np.eye(2), image_shape=(1, 2))


def test_titles_say_what_is_right_and_what_is_not():
    names = np.array(["right", "American_Staffordshire_terrier of the long-haired $kind$"])
    proba = [[0.9, 0.1], [0.7, 0.3]]
    display = PredictionsDisplay.from_predictions(_images(2), names, proba, classes=names, random_state=0)
    first, second = (ax.get_title() for ax in display.axes_)
    assert first == "right (90 %)"
    assert second.replace("\n", " ").startswith("right (70 %) true: American")
    assert second.endswith("… (30 %)")
    assert display.axes_[0].title.get_color() != display.axes_[1].title.get_color()
    display.figure_.canvas.draw()


def test_titles_of_right_predictions_have_the_color_of_the_style():
    with plt.style.context("dark_background"):
        display = PredictionsDisplay.from_predictions(_images(3), CLASSES, np.eye(3))
        assert {ax.title.get_color() for ax in display.axes_} == {plt.rcParams["text.color"]}


@pytest.mark.parametrize("setting", ["text.color", "axes.titlecolor"])
def test_a_prediction_that_became_right_has_the_color_of_the_style_in_the_same_axes(setting):
    with plt.rc_context({setting: "green"}):
        axes = Figure().subplots(1, 3)
        for proba in (np.roll(np.eye(3), 1, axis=0), np.eye(3)):
            PredictionsDisplay.from_predictions(_images(3), CLASSES, proba, ax=axes)
        assert {ax.title.get_color() for ax in axes} == {"green"}


def test_without_errors_it_says_so():
    display = PredictionsDisplay.from_predictions(_images(3), CLASSES, np.eye(3), select="errors")
    assert display.images == []
    assert [text.get_text() for text in display.axes_[0].texts] == ["no wrong prediction"]
    display.figure_.canvas.draw()


def test_what_does_not_go_together_is_refused():
    X = _images(3)
    with pytest.raises(InvalidInputError, match=r"labels have shape \(2,\)"):
        PredictionsDisplay.from_predictions(X, ["a", "b"], np.eye(3)[:, :2])
    with pytest.raises(InvalidInputError, match=r"the estimator does not have: 'z'\. Pass labels as in fit, or"):
        PredictionsDisplay.from_predictions(X, ["ant", "bee", "z"], np.eye(3), classes=CLASSES)
    with pytest.raises(InvalidInputError, match=r"must be \(3, 2\)"):
        PredictionsDisplay.from_predictions(X, ["ant", "bee", "bee"], np.eye(3))
    with pytest.raises(InvalidParameterError, match="'errors'"):
        PredictionsDisplay.from_predictions(X, CLASSES, np.eye(3), select="best")
    with pytest.raises(InvalidParameterError, match="'errors'"):
        PredictionsDisplay.from_predictions(X, CLASSES, np.eye(3), select=np.array(["errors", "losses"]))
    with pytest.raises(InvalidParameterError, match="n_images=0"):
        PredictionsDisplay.from_predictions(X, CLASSES, np.eye(3), n_images=0)


@pytest.mark.parametrize("y", [np.array([3, 5, 3], dtype=object), [3, 5, 3], np.array([3.0, 5.0, 3.0])])
def test_labels_may_be_of_any_type_that_a_fit_takes(y):
    display = PredictionsDisplay.from_predictions(_images(3), y, np.eye(2)[[0, 1, 1]], n_images=3)
    assert display.y_true.tolist() == [3, 5, 3]
    assert display.y_pred.tolist() == [3, 5, 5]


@pytest.mark.parametrize("y", [[0.5, 1.5, 2.5], [b"a", b"b", b"c"], ["a", None, "b"], np.array([0, np.nan, 1])])
def test_labels_that_are_none_are_refused(y):
    with pytest.raises(InvalidInputError):
        PredictionsDisplay.from_predictions(_images(3), y, np.eye(3))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 5.2])
def test_what_is_no_probability_is_refused(wrong):
    proba = np.eye(3)
    proba[1, 2] = wrong
    with pytest.raises(InvalidInputError, match=r"y_proba\[1, 2\] is .*\[0, 1\]"):
        PredictionsDisplay.from_predictions(_images(3), CLASSES, proba)
    with pytest.raises(InvalidInputError, match="must be numbers"):
        PredictionsDisplay.from_predictions(_images(3), CLASSES, [["x"] * 3] * 3)


def test_probabilities_may_miss_their_bounds_by_rounding():
    proba = np.array([[1 + 1e-7, -1e-7], [0, 1]])
    display = PredictionsDisplay.from_predictions(_images(2), ["a", "b"], proba, n_images=2)
    assert display.proba_pred.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["n_images", "n_columns"])
@pytest.mark.parametrize("value", [0, -1, 2.5, None, True])
def test_numbers_are_checked_before_anything_is_predicted(name, value):
    with pytest.raises(InvalidParameterError, match=f"{name}={value} must be an integer of at least 1"):
        PredictionsDisplay.from_estimator(None, _images(3), CLASSES, **{name: value})
    with pytest.raises(InvalidParameterError, match=f"{name}={value} must be an integer of at least 1"):
        PredictionsDisplay.from_predictions(_images(3), CLASSES, np.eye(3), **{name: value})


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    X = [_images(1)[0], tmp_path / "none.png"]
    with pytest.raises(InvalidImageError, match=r"X\[1\].*none.png.*no such file"):
        PredictionsDisplay.from_predictions(X, ["a", "b"], np.eye(2))


TABLE = np.random.default_rng(1).integers(0, 2, (12, 3))
NUMBERS = np.random.default_rng(2).normal(size=12)
TINY = {"backbone": small_conv_net, "engine": "torch", "random_state": 0, "weight_decay": 1.0}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: clf,
        lambda clf: make_pipeline("passthrough", clf),
        lambda clf: GridSearchCV(clf, {"weight_decay": [1.0]}, cv=2),
        OneVsRestClassifier,
        MultiOutputClassifier,
    ],
    ids=["alone", "pipeline", "search", "one versus rest", "one for each"],
)
def test_several_labels_are_shown_whatever_predicts_them(wrap):
    frame = pd.DataFrame(TABLE, columns=CLASSES)
    estimator = wrap(PretrainedImageClassifier(**TINY)).fit(_images(12), frame)
    display = PredictionsDisplay.from_estimator(estimator, _images(12), frame, n_images=12)
    np.testing.assert_array_equal(display.y_true, TABLE)
    np.testing.assert_array_equal(display.y_pred, estimator.predict(_images(12)))
    assert display.names.tolist() == CLASSES.tolist()
    for ax, has, guessed in zip(display.axes_, display.y_true > 0, display.y_pred > 0, strict=True):
        lines = ax.get_title().split("\n")
        assert {line.rpartition(" (")[0] for line in lines if line.startswith("missed")} == {
            f"missed: {name}" for name in CLASSES[has & ~guessed]
        }
    display.figure_.canvas.draw()


@pytest.mark.parametrize("wrap", [lambda clf: clf, MultiOutputClassifier], ids=["classes", "labels"])
def test_what_predict_returns_is_shown_also_below_a_half(wrap):
    X, y = _images(12), TABLE[:, 0] if wrap is not MultiOutputClassifier else TABLE
    model = FixedThresholdClassifier(PretrainedImageClassifier(**TINY), threshold=0.0, pos_label=1)
    estimator = wrap(model).fit(X, y)
    display = PredictionsDisplay.from_estimator(estimator, X, y, n_images=12)
    np.testing.assert_array_equal(display.y_pred, estimator.predict(X))
    assert display.proba_pred.min() < 0.5
    display = PredictionsDisplay.from_estimator(estimator, X, y, select="errors", n_images=12)
    wrong = (estimator.predict(X) != y).reshape(12, -1).any(axis=1)
    assert sorted(display.positions) == np.flatnonzero(wrong).tolist()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("wrap", [lambda reg: reg, lambda reg: make_pipeline("passthrough", reg), MultiOutputRegressor])
def test_numbers_are_shown_with_the_largest_errors_first(wrap, columns):
    y = np.c_[NUMBERS, NUMBERS**2][:, :columns]
    regressor = wrap(PretrainedImageRegressor(**TINY)).fit(_images(12), y)
    display = PredictionsDisplay.from_estimator(regressor, _images(12), y, select="errors", n_images=3)
    errors = np.abs(regressor.predict(_images(12)).reshape(y.shape) - y) / y.std(axis=0)
    assert display.positions.tolist() == np.argsort(-errors.max(axis=1))[:3].tolist()
    np.testing.assert_array_equal(display.y_true.reshape(3, -1), y[display.positions])
    assert display.proba_true is display.proba_pred is None
    assert "true" in display.axes_[0].get_title()
    assert display.axes_[0].title.get_color() == "black"
    again = PredictionsDisplay(**{name: value for name, value in vars(display).items() if not name.endswith("_")})
    assert [ax.get_title() for ax in again.plot().axes_] == [ax.get_title() for ax in display.axes_]


def test_numbers_have_the_names_of_the_estimator():
    frame = pd.DataFrame({"left": NUMBERS, "right": NUMBERS**2})
    regressor = PretrainedImageRegressor(**TINY).fit(_images(12), frame)
    for y in (frame, frame.to_numpy()):
        display = PredictionsDisplay.from_estimator(regressor, _images(12), y, n_images=1)
        assert display.names.tolist() == ["left", "right"]
    with pytest.raises(InvalidInputError, match="columns 'right', 'left', but the estimator has 'left', 'right'"):
        PredictionsDisplay.from_estimator(regressor, _images(12), frame[["right", "left"]])


def test_a_display_of_labels_is_drawn_again_from_its_attributes():
    display = PredictionsDisplay.from_predictions(_images(12), TABLE, np.full((12, 3), 0.6), select="losses")
    again = PredictionsDisplay(**{name: value for name, value in vars(display).items() if not name.endswith("_")})
    assert [ax.get_title() for ax in again.plot().axes_] == [ax.get_title() for ax in display.axes_]


def test_predicted_numbers_need_the_task():
    X = _images(12)
    display = PredictionsDisplay.from_predictions(X, NUMBERS, NUMBERS + 1, task="regression", random_state=0)
    np.testing.assert_array_equal(display.y_pred, NUMBERS + 1)
    for y in (NUMBERS, np.c_[NUMBERS, NUMBERS]):
        with pytest.raises(InvalidInputError, match=r'[Ff]or numbers, pass task="regression"'):
            PredictionsDisplay.from_predictions(X, y, y)
    with pytest.raises(InvalidInputError, match='for predicted numbers, pass task="regression"'):
        PredictionsDisplay.from_predictions(X, np.arange(12), np.arange(12))
    with pytest.raises(InvalidParameterError, match='task=\'auto\' must be "classification" or "regression"'):
        PredictionsDisplay.from_predictions(X, NUMBERS, NUMBERS, task="auto")
    with pytest.raises(InvalidParameterError, match='classes has no meaning with task="regression"'):
        PredictionsDisplay.from_predictions(X, NUMBERS, NUMBERS, task="regression", classes=["a"])


def test_exact_numbers_are_no_wrong_predictions():
    display = PredictionsDisplay.from_predictions(_images(12), NUMBERS, NUMBERS, task="regression", select="errors")
    assert [text.get_text() for text in display.axes_[0].texts] == ["no wrong prediction"]


def test_what_does_not_suit_the_estimator_is_refused():
    X = _images(12)
    labels, classes = (PretrainedImageClassifier(**TINY).fit(X, y) for y in (TABLE, np.tile(["a", "b"], 6)))
    with pytest.raises(InvalidInputError, match=r"y_true has shape \(12,\), but must be a table"):
        PredictionsDisplay.from_estimator(labels, X, TABLE[:, 0])
    with pytest.raises(InvalidInputError, match=r"pass y_true.argmax\(axis=1\)"):
        PredictionsDisplay.from_estimator(classes, X, TABLE)
    with pytest.raises(InvalidInputError, match="PretrainedImageEncoder, which predicts neither"):
        PredictionsDisplay.from_estimator(PretrainedImageEncoder(), X, TABLE)
    words = np.tile([["a", "x"], ["b", "y"]], (6, 1))
    several = MultiOutputClassifier(PretrainedImageClassifier(**TINY)).fit(X, words)
    with pytest.raises(InvalidInputError, match=r"several columns of classes.*Show one column at a time"):
        PredictionsDisplay.from_estimator(several, X, words)
    first = several.predict_proba(X)[0]
    display = PredictionsDisplay.from_predictions(X, words[:, 0], first, classes=several.classes_[0], n_images=12)
    np.testing.assert_array_equal(display.y_true, words[:, 0])


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_a_display_of_no_numbers_says_so(shape):
    nothing = np.empty(shape)
    display = PredictionsDisplay([], y_true=nothing, y_pred=nothing, positions=np.empty(0, int)).plot()
    assert display.axes_[0].texts[0].get_text() == "no image"
