"""Images as points of a plane."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from backbones import small_conv_net
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
import matplotlib as mpl
from matplotlib.figure import Figure

from sktl import FeatureMapDisplay, PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._inspection.feature_map_display import _principal
from sktl._inspection.figure_layout import style
from sktl.exceptions import InvalidInputError, InvalidParameterError

mpl.use("Agg")  # of the tests; the package leaves the backend alone
X = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
Y = np.tile(["ant", "bee", "cat"], 4)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def encoder():
    return PretrainedImageEncoder(backbone=small_conv_net, engine="torch").fit(X)


def test_the_coordinates_do_not_depend_on_settings_of_scikit_learn(monkeypatch):
    features = np.random.default_rng(0).random((12, 1100))  # from 1,000 features on, PCA is randomized
    expected = _principal(features)
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with config_context(array_api_dispatch=True, transform_output="pandas"):
        found = _principal(features)
    assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


def test_the_coordinates_are_the_principal_components_of_the_features(encoder):
    clf = PretrainedImageClassifier(backbone=small_conv_net, engine="torch", random_state=0, max_epochs=2).fit(X, Y)
    search = GridSearchCV(clf, {"lr": [0.01]}, cv=2).fit(X, Y)
    pca = PCA(2)
    expected = pca.fit_transform(encoder.transform(X).astype(float))
    for estimator in (encoder, clf, search):
        display = FeatureMapDisplay.from_estimator(estimator, X, Y)
        np.testing.assert_allclose(np.abs(display.coordinates), np.abs(expected), rtol=1e-3, atol=1e-6)
    share = f"{pca.explained_variance_ratio_[0]:.0%}".replace("%", " %")
    assert display.ax_.get_xlabel() == f"principal component 1 ({share} of variance)"


def test_a_map_with_thumbnails_does_not_need_the_images_again(encoder):
    images = X.copy()
    display = FeatureMapDisplay.from_estimator(encoder, images, thumbnails=True)
    images[:] = 0
    for same in (display, pickle.loads(pickle.dumps(display)), copy.deepcopy(display)):
        assert_array_equal(same.thumbnails, X)
        assert len(same.plot(ax=Figure(figsize=(20, 20)).add_subplot()).shown_) == len(X)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_have_a_map_too(encoder, n):
    display = FeatureMapDisplay.from_estimator(encoder, X[:n], thumbnails=True)
    assert display.coordinates.shape == (n, 2)
    assert np.isfinite(display.coordinates).all()
    display.figure_.canvas.draw()


def test_any_projection_is_taken_and_left_as_it_is(encoder):
    features = encoder.transform(X)
    tsne = TSNE(perplexity=3, random_state=0, max_iter=250)
    display = FeatureMapDisplay.from_estimator(encoder, X, Y, projection=tsne)
    np.testing.assert_allclose(
        display.coordinates, TSNE(perplexity=3, random_state=0, max_iter=250).fit_transform(features)
    )
    assert not hasattr(tsne, "embedding_")
    assert display.ax_.get_ylabel() == "TSNE 2"


def test_labels_reach_a_projection_only_where_it_needs_them(encoder):
    lda = LinearDiscriminantAnalysis()
    display = FeatureMapDisplay.from_estimator(encoder, X, Y, projection=lda)
    np.testing.assert_allclose(display.coordinates, lda.fit_transform(encoder.transform(X), Y)[:, :2])
    with pytest.raises(InvalidInputError, match="LinearDiscriminantAnalysis needs labels or numbers: pass y"):
        FeatureMapDisplay.from_estimator(encoder, X, projection=lda)


@pytest.mark.parametrize("n_classes", [1, 2, 12, 100])
def test_each_class_has_its_points_and_its_line_in_the_legend(n_classes):
    rng = np.random.default_rng(0)
    y, coordinates = rng.permutation(np.arange(300) % n_classes), rng.normal(size=(300, 2))
    display = FeatureMapDisplay(coordinates, y=y).plot()
    assert len(display.scatters_) == n_classes
    for label, scatter in enumerate(display.scatters_):
        np.testing.assert_array_equal(scatter.get_offsets(), coordinates[y == label])
    texts = display.ax_.get_legend().get_texts()
    assert [text.get_text() for text in texts] == [str(label) for label in range(n_classes)]
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    right, top = display.figure_.bbox.max
    assert all(box.x1 <= right and box.y0 >= 0 and box.y1 <= top for box in boxes)
    assert all(box.x0 > display.ax_.get_window_extent().x1 for box in boxes)


def test_thumbnails_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    pictures = [np.zeros((8, 12, 3), np.uint8)] * 80
    y = np.arange(80) % 12
    display = FeatureMapDisplay(rng.normal(size=(80, 2)), y=y, thumbnails=pictures).plot()
    display.figure_.canvas.draw()
    boxes = [artist.get_window_extent() for artist in display.ax_.artists]
    assert len(boxes) == len(display.shown_) > 10
    assert display.shown_[0] == 0
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frames = [mpl.colors.to_hex(artist.patch.get_edgecolor()).upper() for artist in display.ax_.artists]
    assert frames == [style(y[i], display.ax_)[0] for i in display.shown_]
    assert [line.get_marker() for line in display.ax_.lines] == [style(y[i], display.ax_)[1] for i in display.shown_]


@pytest.mark.parametrize("name", ["c", "color", "facecolor", "facecolors", "fc"])
def test_the_color_of_points_has_all_its_names(name):
    display = FeatureMapDisplay(np.eye(2), y=["a", "b"]).plot(scatter_kw={name: "red"})
    for scatter in display.scatters_:
        assert mpl.colors.same_color(scatter.get_facecolor()[:, :3], [[1, 0, 0]])


@pytest.mark.parametrize("name", ["linewidth", "linewidths", "lw"])
def test_the_width_of_edges_has_all_its_names(name):
    display = FeatureMapDisplay(np.eye(2)).plot(scatter_kw={name: 2, "ec": "blue"})
    assert display.scatters_[0].get_linewidths() == [2]
    assert mpl.colors.same_color(display.scatters_[0].get_edgecolor()[:, :3], [[0, 0, 1]])


def test_markers_of_thumbnails_grow_with_the_fonts():
    sizes = []
    for size in (10, 20):
        with mpl.rc_context({"font.size": size}):
            display = FeatureMapDisplay(np.zeros((1, 2)), y=["ant"], thumbnails=[X[0]]).plot()
        sizes += [line.get_markersize() for line in display.ax_.lines]
    assert sizes == [6, 12]


def test_thumbnails_in_a_subfigure_do_not_cover_each_other():
    _, right = Figure(figsize=(8, 4)).subfigures(1, 2)
    pictures = [np.zeros((8, 12, 3), np.uint8)] * 80
    coordinates = np.random.default_rng(0).normal(size=(80, 2))
    display = FeatureMapDisplay(coordinates, thumbnails=pictures).plot(ax=right.subplots())
    display.figure_.canvas.draw()
    boxes = [artist.get_window_extent() for artist in display.ax_.artists]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_it_draws_where_it_is_told_to(encoder):
    ax = Figure().add_subplot()
    display = FeatureMapDisplay.from_estimator(encoder, X, ax=ax, scatter_kw={"s": 5})
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert ax.get_legend() is None
    assert display.scatters_[0].get_sizes() == [5]


@pytest.mark.parametrize("y", [["a", None, "b"], np.array(["a", np.nan, "b"], dtype=object), np.array([0, np.nan, 1])])
@pytest.mark.parametrize("thumbnails", [False, True])
def test_a_missing_label_is_refused(encoder, y, thumbnails):
    with pytest.raises(InvalidInputError, match=r"y\[1\] is a missing value|y contains NaN"):
        FeatureMapDisplay.from_estimator(encoder, X[:3], y, thumbnails=thumbnails)
    with pytest.raises(InvalidInputError, match=r"y\[1\] is a missing value|y contains NaN"):
        FeatureMapDisplay(np.eye(3)[:, :2], y=y).plot()


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(InvalidInputError, match=r"coordinates have shape \(3, 3\)"):
        FeatureMapDisplay(np.eye(3)).plot()
    with pytest.raises(InvalidInputError, match=r"coordinates have shape \(3,\)"):
        FeatureMapDisplay(np.arange(3)).plot()
    with pytest.raises(InvalidInputError, match=r"3 images, but y has shape \(2,\)"):
        FeatureMapDisplay(np.eye(3)[:, :2], y=["a", "b"]).plot()
    with pytest.raises(InvalidInputError, match="3 points, but 2 thumbnails"):
        FeatureMapDisplay(np.eye(3)[:, :2], thumbnails=[np.zeros((2, 2, 3), np.uint8)] * 2).plot()


def test_what_cannot_be_drawn_is_refused(encoder):
    with pytest.raises(InvalidParameterError, match="projection='umap' must be"):
        FeatureMapDisplay.from_estimator(encoder, X, projection="umap")
    with pytest.raises(InvalidInputError, match=r"12 images, but y has shape \(11,\)"):
        FeatureMapDisplay.from_estimator(encoder, X, Y[:-1])
    with pytest.raises(InvalidInputError, match=r"PCA returned an array of shape \(12, 1\)"):
        FeatureMapDisplay.from_estimator(encoder, X, projection=PCA(1))


NUMBERS = np.arange(12.0) ** 2


@pytest.fixture(scope="module")
def regressor():
    return PretrainedImageRegressor(backbone=small_conv_net, engine="torch", random_state=0).fit(X, NUMBERS)


@pytest.mark.parametrize("y", [NUMBERS, NUMBERS.astype(int), NUMBERS[:, None], NUMBERS.tolist(), np.ones(12)])
def test_numbers_are_shown_on_a_scale(regressor, encoder, y):
    for estimator, task in ((regressor, "auto"), (encoder, "regression")):
        display = FeatureMapDisplay.from_estimator(estimator, X, y, task=task)
        (scatter,) = display.scatters_
        np.testing.assert_array_equal(scatter.get_array(), np.ravel(y))
        assert display.colorbar_.mappable is scatter
        assert display.ax_.get_legend() is None
        display.figure_.canvas.draw()


def test_frames_of_thumbnails_have_the_colors_of_their_numbers(regressor):
    display = FeatureMapDisplay.from_estimator(regressor, X, NUMBERS, thumbnails=True)
    frames = [artist.patch.get_edgecolor() for artist in display.ax_.artists]
    np.testing.assert_allclose(frames, display.scatters_[0].to_rgba(NUMBERS[display.shown_]))


@pytest.mark.parametrize("scatter_kw", [{"c": "red"}, {"color": "red"}, {"fc": "red"}])
def test_a_scale_that_no_point_shows_is_not_drawn(regressor, scatter_kw):
    display = FeatureMapDisplay.from_estimator(regressor, X, NUMBERS, scatter_kw=scatter_kw)
    assert display.colorbar_ is None
    assert mpl.colors.same_color(display.scatters_[0].get_facecolor()[:, :3], [[1, 0, 0]])


def test_the_color_bar_stays_in_its_subfigure(regressor):
    _, right = Figure(figsize=(8, 4)).subfigures(1, 2)
    display = FeatureMapDisplay.from_estimator(regressor, X, NUMBERS, ax=right.subplots())
    display.figure_.canvas.draw()
    assert display.colorbar_.ax.bbox.x0 >= right.bbox.x0


def test_one_label_of_several_is_shown_as_classes_are():
    table = np.random.default_rng(0).integers(0, 2, (12, 3))
    clf = PretrainedImageClassifier(backbone=small_conv_net, engine="torch", random_state=0).fit(X, table)
    display = FeatureMapDisplay.from_estimator(clf, X, table[:, 0])
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["0", "1"]
    for columns in (table, pd.DataFrame(table), table.tolist()):
        with pytest.raises(InvalidInputError, match=r"y has several columns.*Pass one column, such as .*y") as raised:
            FeatureMapDisplay.from_estimator(clf, X, columns)
        remedy = re.search(r"such as (.+)\.$", str(raised.value))[1]
        assert_array_equal(eval(remedy, {"np": np, "y": columns}), table[:, 0])


def test_several_numbers_are_refused(regressor):
    with pytest.raises(InvalidInputError, match="y has several columns"):
        FeatureMapDisplay.from_estimator(regressor, X, np.c_[NUMBERS, NUMBERS])


def test_numbers_of_an_encoder_need_the_task(encoder):
    with pytest.raises(InvalidInputError, match=r'For numbers, pass task="regression"\.$'):
        FeatureMapDisplay.from_estimator(encoder, X, NUMBERS / 7)
    with pytest.raises(InvalidParameterError, match="task=None must be"):
        FeatureMapDisplay.from_estimator(encoder, X, NUMBERS, task=None)
    with pytest.raises(InvalidParameterError, match="task='numbers' must be"):
        FeatureMapDisplay(np.eye(2), y=[1, 2], task="numbers").plot()


@pytest.mark.parametrize("y", [[1.0, np.nan, 2.0], ["a", "b", "c"], [1.0, 2.0]])
def test_what_is_no_number_is_refused(y):
    with pytest.raises(InvalidInputError, match=r"y\[1\] is a missing value|must hold numbers|y has shape \(2,\)"):
        FeatureMapDisplay(np.eye(3)[:, :2], y=y, task="regression").plot()


def test_numbers_reach_a_supervised_projection(regressor):
    features = regressor.transform(X)
    display = FeatureMapDisplay.from_estimator(regressor, X, NUMBERS, projection=PLSRegression(2))
    expected, _ = PLSRegression(2).fit_transform(features, NUMBERS)
    np.testing.assert_allclose(display.coordinates, expected)
    with pytest.raises(InvalidInputError, match="PLSRegression needs labels or numbers: pass y"):
        FeatureMapDisplay.from_estimator(regressor, X, projection=PLSRegression(2))


def test_a_projection_that_fails_is_named(regressor):
    with pytest.raises(InvalidInputError, match="projection=TSNE cannot project these features: perplexity"):
        FeatureMapDisplay.from_estimator(regressor, X, NUMBERS, projection=TSNE(perplexity=30))
    with pytest.raises(InvalidInputError, match="projection=LinearDiscriminantAnalysis cannot project"):
        FeatureMapDisplay.from_estimator(regressor, X, NUMBERS / 7, projection=LinearDiscriminantAnalysis())


def test_an_estimator_without_features_is_refused():
    with pytest.raises(InvalidInputError, match="estimator is a GridSearchCV without transform"):
        FeatureMapDisplay.from_estimator(GridSearchCV(TSNE(), {}), X)


@pytest.mark.filterwarnings("error")
def test_equal_images_lie_on_one_point(encoder):
    display = FeatureMapDisplay.from_estimator(encoder, X[[0, 0, 0]], Y[:3])
    np.testing.assert_allclose(display.coordinates, 0, atol=1e-6)


@pytest.mark.parametrize("form", [np.asarray, list])
def test_style_keywords_may_have_a_value_for_each_sample(form):
    sizes = np.arange(1.0, 13)
    display = FeatureMapDisplay(np.zeros((12, 2)), y=Y)
    display.plot(scatter_kw={"s": form(sizes), "c": form(-sizes), "edgecolors": form(["r", "g"] * 6)})
    for i, scatter in enumerate(display.scatters_):
        assert scatter.get_sizes().tolist() == sizes[i::3].tolist()
        assert scatter.get_clim() == (-12, -1)
        assert len(scatter.get_edgecolors()) == 4
