"""Loss and scores by epoch."""

from __future__ import annotations

import numpy as np
import pytest
from backbones import small_conv_net, stochastic_net
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback, EpochScoring

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sktl import PretrainedImageClassifier, PretrainedImageRegressor, TrainingCurveDisplay
from sktl.exceptions import InvalidInputError

mpl.use("Agg")  # of the tests; the package leaves the backend alone
X = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
Y = np.tile(["cat", "dog"], 12)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def tuned():
    """A classifier with both phases, validation losses, and a score of a callback."""

    class Accuracy(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("valid_acc", 0.5 + len(net.history) / 100)

    clf = PretrainedImageClassifier(
        backbone=stochastic_net, trainable_stages=1, freeze_epochs=4, max_epochs=3, early_stopping=True,
        validation_fraction=0.25, n_iter_no_change=9, random_state=0, engine="torch",
        net_params={"callbacks": [Accuracy()]},
    )  # fmt: skip
    return clf.fit(X, Y)


def test_the_curves_are_the_history(tuned):
    display = TrainingCurveDisplay.from_estimator(tuned)
    assert set(display.scores) == {"train_loss", "valid_loss", "valid_acc"}
    for name, values in display.scores.items():
        np.testing.assert_array_equal(values, [row.get(name, np.nan) for row in tuned.history_])
    assert display.epochs.tolist() == [1, 2, 3, 4, 4, 5, 6, 7]  # the start of the stages is validated
    assert display.phases.tolist() == [row["phase"] for row in tuned.history_]
    display.figure_.canvas.draw()


def test_each_phase_has_its_own_lines_and_place(tuned):
    display = TrainingCurveDisplay.from_estimator(tuned)
    for lines in display.lines_.values():
        assert [line.get_xdata().tolist() for line in lines] == [[1, 2, 3, 4], [4, 5, 6, 7]]
    before, stages = (np.isfinite(line.get_ydata()).tolist() for line in display.lines_["valid_loss"])
    assert (before, stages) == ([True] * 4, [True] * 4)
    assert [text.get_text() for text in display.ax_.texts] == ["output layer", "stages"]
    (span,) = display.ax_.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (4, 7.5)


@pytest.mark.filterwarnings("ignore:No epoch of the stages")
@pytest.mark.parametrize(
    ("kind", "y", "scoring"),
    [
        (PretrainedImageClassifier, np.random.default_rng(1).integers(0, 2, (24, 3)), "f1_macro"),
        (PretrainedImageRegressor, np.random.default_rng(1).normal(size=24), "r2"),
    ],
)
def test_labels_and_numbers_have_curves_of_losses_and_scores(kind, y, scoring):
    estimator = kind(
        backbone=stochastic_net, trainable_stages=1, freeze_epochs=2, max_epochs=2, early_stopping=True,
        validation_fraction=0.25, random_state=0, engine="torch", augmentation=None,
        net_params={"callbacks": [EpochScoring(scoring, lower_is_better=False, name="score")]},
    ).fit(X, y)  # fmt: skip
    display = TrainingCurveDisplay.from_estimator(estimator)
    assert set(display.scores) == {"train_loss", "valid_loss", "score"}
    losses = [row.get("train_loss", np.nan) for row in estimator.history_]
    np.testing.assert_array_equal(display.scores["train_loss"], losses)
    display.figure_.canvas.draw()


def test_phases_that_were_not_validated_meet_between_their_epochs():
    display = TrainingCurveDisplay({"train_loss": [3, 2, 1]}, phases=["output layer"] * 2 + ["stages"]).plot()
    assert [line.get_xdata().tolist() for line in display.lines_["train_loss"]] == [[1, 2], [3]]
    (span,) = display.ax_.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (2.5, 3.5)


def test_scores_that_are_no_losses_have_axes_of_their_own(tuned):
    display = TrainingCurveDisplay.from_estimator(tuned)
    losses, scores = display.axes_
    assert display.ax_ is losses
    assert {line.get_label() for line in losses.get_legend().get_lines()} == {"train loss", "valid loss"}
    assert {line.get_label() for line in scores.get_legend().get_lines()} == {"valid acc"}


@pytest.mark.parametrize("optimizer", ["auto", "lbfgs"])
def test_one_phase_is_not_divided(optimizer):
    clf = PretrainedImageClassifier(
        backbone=small_conv_net, optimizer=optimizer, weight_decay=1.0, random_state=0, engine="torch"
    )
    display = TrainingCurveDisplay.from_estimator(clf.fit(X, Y))
    assert not display.ax_.texts
    assert not display.ax_.patches
    assert len(display.lines_["train_loss"]) == 1
    assert len(display.scores["train_loss"]) == len(clf.history_)


def test_it_draws_where_it_is_told_to():
    ax = Figure().add_subplot()
    display = TrainingCurveDisplay({"train_loss": [2, 1]}, phases=["stages"] * 2).plot(ax=ax, line_kw={"color": "red"})
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.lines_["train_loss"][0].get_color() == "red"


@pytest.mark.parametrize(
    "line_kw", [{"c": "red"}, {"ls": ":"}, {"lw": 3}, {"ms": 7}, {"color": "red", "linestyle": ":"}]
)
def test_style_keywords_have_all_their_names(line_kw):
    (line,) = TrainingCurveDisplay({"train_loss": [2, 1]}, phases=["a"] * 2).plot(line_kw=line_kw).lines_["train_loss"]
    for name, value in line_kw.items():
        assert mpl.artist.getp(line, name) == value


def test_ticks_that_are_set_stay():
    fixed, logarithmic = Figure().subplots(1, 2)
    fixed.set_xticks([1, 2])
    logarithmic.set_xscale("log")
    for ax in (fixed, logarithmic):
        TrainingCurveDisplay({"train_loss": [2, 1, 0]}, phases=["a"] * 3).plot(ax=ax)
        ax.figure.canvas.draw()
    assert fixed.get_xticks().tolist() == [1, 2]
    assert logarithmic.get_xscale() == "log"


def test_names_are_not_read_as_mathematics():
    name = r"f$\foo$"
    display = TrainingCurveDisplay({f"{name}_loss": [1, 2]}, phases=["a", name]).plot()
    display.figure_.canvas.draw()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [f"{name} loss"]
    assert [text.get_text() for text in display.ax_.texts] == ["a", name]


@pytest.mark.parametrize(
    ("n_scores", "n_epochs", "name"), [(2, 3, "train_loss"), (4, 3, "train_loss"), (3, 2, "epochs")]
)
def test_other_numbers_of_scores_epochs_and_phases_are_refused(n_scores, n_epochs, name):
    display = TrainingCurveDisplay({"train_loss": [0.5] * n_scores}, phases=["stages"] * 3, epochs=range(n_epochs))
    with pytest.raises(InvalidInputError, match=rf"'{name}' has shape \(\d,\), but phases has shape \(3,\)"):
        display.plot()


def test_an_estimator_without_history_is_refused():
    with pytest.raises(InvalidInputError, match="LogisticRegression has no history"):
        TrainingCurveDisplay.from_estimator(LogisticRegression().fit([[0], [1]], [0, 1]))


@pytest.mark.parametrize("scores", [{}, {"train_loss": np.empty(0)}])
@pytest.mark.filterwarnings("error")
def test_without_epochs_axes_are_empty(scores):
    display = TrainingCurveDisplay(scores, phases=[]).plot()
    assert not display.ax_.lines


def test_names_of_phases_have_the_color_of_the_style():
    losses = {"train_loss": [3, 2, 1]}
    with plt.style.context("dark_background"):
        display = TrainingCurveDisplay(losses, phases=["output layer", "stages", "stages"]).plot()
        assert {text.get_color() for text in display.ax_.texts} == {plt.rcParams["text.color"]}
