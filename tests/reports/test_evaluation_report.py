"""Evaluations of estimators: of every kind, within searches and pipelines, and of images that are not all usable."""

from __future__ import annotations

import numpy as np
import onnx_models
import pandas as pd
import pytest
from backbones import small_conv_net
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, r2_score
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, evaluation_report
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.number_figures import NumberFigures
from sktl._evaluation.typicality_figures import TypicalityFigures
from sktl._reports.evaluation_heat import Maps
from sktl._short_text import count
from sktl.exceptions import InvalidImageError, InvalidInputError
from sktl.runtime import open_model

QUICK = {"backbone": small_conv_net, "engine": "torch", "random_state": 0, "max_epochs": 3}
X = np.random.default_rng(0).integers(0, 256, (36, 16, 20, 3), np.uint8)
Y = np.tile(["ant", "bee", "cat"], 12)
for _channel in range(3):
    X[_channel::3, ..., _channel] //= 3
LABELS = pd.DataFrame({"ant": Y == "ant", "not bee": Y != "bee"}).astype(int)
NUMBERS = X.mean(axis=(1, 2, 3))
TRAIN, TEST = slice(0, 18), slice(18, 36)


@pytest.fixture(scope="module")
def clf():
    return PretrainedImageClassifier(**QUICK).fit(X[TRAIN], Y[TRAIN])


def kinds(report):
    return [finding.kind for finding in report.findings]


def finding(report, kind):
    (found,) = [finding for finding in report.findings if finding.kind == kind]
    return found


def test_a_report_is_printed_as_its_summary_and_shown_in_a_line(clf):
    report = evaluation_report(clf, X[TEST], Y[TEST])
    assert str(report) == report.summary()
    assert repr(report) == f"<EvaluationReport: 18 of 18 images, {count(len(report.findings), 'finding')}>"


def test_training_images_are_the_first_finding(clf):
    assert "training_images" not in kinds(evaluation_report(clf, X[TEST], Y[TEST]))
    report = evaluation_report(clf, X[12:24], Y[12:24])
    assert kinds(report)[0] == "training_images"
    assert report.findings[0].positions == tuple(range(6))


def test_classes(clf):
    report = evaluation_report(clf, X[TEST], Y[TEST])
    assert isinstance(report.figures, ClassFigures)
    proba = clf.predict_proba(X[TEST])
    assert report.figures.accuracy.value == pytest.approx(clf.score(X[TEST], Y[TEST]))
    assert report.figures.log_loss == pytest.approx(log_loss(Y[TEST], proba))
    assert [row.n_trained for row in report.figures.of_classes] == [6, 6, 6]
    np.testing.assert_array_equal(report.typicality.p_values, clf.typicality(X[TEST]))
    assert tuple(fact.name for fact in report.facts if fact.name in ("Network", "Images")) == ("Network", "Images")
    assert any("one of its classes for every image" in line for line in report.limits)
    assert report.summary().startswith("The model is right for ")


def test_the_worst_mistakes_have_maps_of_the_wrong_class(clf):
    pytest.importorskip("captum", reason="the extra `explain` installs it")
    rolled = np.roll(Y[TEST], 1)  # so that all predictions that were right are wrong
    report = evaluation_report(clf, X[TEST], rolled)
    assert isinstance(report.maps, Maps)
    predicted = clf.predict(X[TEST])[report.worst]
    assert list(report.maps.targets) == predicted.tolist()
    assert len(report.maps.pictures) == len(report.worst) == 12
    assert (predicted != rolled[report.worst]).all()


def test_labels():
    tagger = PretrainedImageClassifier(**QUICK).fit(X[TRAIN], LABELS[TRAIN])
    report = evaluation_report(tagger, X[TEST], LABELS[TEST], groups=np.arange(18) // 3)
    assert isinstance(report.figures, LabelFigures)
    assert report.figures.labels == ("ant", "not bee")
    np.testing.assert_allclose(report.figures.proba, tagger.predict_proba(X[TEST]), rtol=1e-12)
    assert len(report.figures.of_groups) == 6
    several = MultiOutputClassifier(PretrainedImageClassifier(**QUICK)).fit(X[TRAIN], LABELS[TRAIN])
    assert isinstance(evaluation_report(several, X[TEST], LABELS[TEST]).figures, LabelFigures)


class Constant(BaseEstimator, ClassifierMixin):
    """Predicts the same probabilities for all images, which are ties in every ranking."""

    multilabel_ = True

    def fit(self, X, y):
        self.classes_ = np.array([*y.columns])
        return self

    def predict_proba(self, X):
        return np.tile([0.1, 0.3], (len(X), 1))

    def predict(self, X):
        return np.zeros((len(X), 2))


def test_equal_probabilities_are_ties():
    figures = evaluation_report(Constant().fit(X, LABELS), X, LABELS).figures
    for row, label in zip(figures.of_labels, LABELS, strict=True):
        assert row.average_precision == pytest.approx(LABELS[label].mean())


def test_numbers():
    regressor = PretrainedImageRegressor(**QUICK).fit(X[TRAIN], NUMBERS[TRAIN])
    report = evaluation_report(regressor, X[TEST], NUMBERS[TEST])
    assert isinstance(report.figures, NumberFigures)
    assert report.figures.r2 == pytest.approx(r2_score(NUMBERS[TEST], regressor.predict(X[TEST])))
    two = pd.DataFrame({"mean": NUMBERS, "minus": -NUMBERS})
    several = PretrainedImageRegressor(**QUICK).fit(X[TRAIN], two[TRAIN])
    report = evaluation_report(several, X[TEST], two[TEST])
    assert report.figures.numbers == ("mean", "minus")
    assert "Mean absolute errors: mean " in report.summary()


def test_numbers_of_other_columns_are_refused():
    """As by `score`: they would be compared with the predictions of other numbers."""
    two = pd.DataFrame({"left": NUMBERS, "right": 2 * NUMBERS})
    regressor = PretrainedImageRegressor(**QUICK).fit(X[TRAIN], two[TRAIN])
    search = GridSearchCV(regressor, {"weight_decay": [0.1]}, cv=2).fit(X[TRAIN], two[TRAIN])
    for model, columns in ((regressor, ["right", "left"]), (regressor, ["left", "other"]), (search, ["right", "left"])):
        y = two[TEST].set_axis(columns, axis=1)
        with pytest.raises(InvalidInputError, match="y has the columns") as of_report:
            evaluation_report(model, [b"?"] * 18, y)  # before the images are read
        with pytest.raises(InvalidInputError) as of_score:
            regressor.score(X[TEST], y)
        assert str(of_report.value) == str(of_score.value)
    assert evaluation_report(regressor, X[TEST], two[TEST].to_numpy()).figures.numbers == ("left", "right")


def test_images_that_cannot_be_used_are_findings(clf):
    images, y = [*X[TEST]], Y[TEST].tolist()
    images[2], images[9] = b"<html>", None
    y[4], y[5] = None, "dog"
    report = evaluation_report(clf, images, y, groups=[*"ab"] * 9)
    assert report.positions.tolist() == [i for i in range(18) if i not in (2, 4, 9)]
    assert finding(report, "unreadable").positions == (2, 9)
    assert "HTML" in finding(report, "unreadable").details[0]
    assert finding(report, "no_label").positions == (4,)
    assert finding(report, "unknown_class").positions == (5,)
    assert "few_groups" in kinds(report)
    assert report.figures.classes == ("ant", "bee", "cat", "dog")
    rest = np.array([i for i in range(18) if i not in (2, 4, 5, 9)])
    n_right = (clf.predict(X[TEST][rest]) == Y[TEST][rest]).sum()
    assert (report.figures.accuracy.n_hits, report.figures.accuracy.n) == (n_right, 15)
    assert sum(group.n for group in report.figures.of_groups) == 15


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_images_with_some_values_are_said_to_lack_the_others(kind):
    y = pd.DataFrame({"p": [0.0, 1, 0, 1, 1], "q": [1.0, 0, 0, 1, 0]})
    predictor = Constant().fit(X, y) if kind == "labels" else DummyRegressor().fit(X[:5], y)
    y.loc[1, "q"] = y.loc[[2, 3], "p"] = y.loc[3, "q"] = np.nan
    report = evaluation_report(predictor, X[:5], y)
    assert report.positions.tolist() == [0, 4]
    assert finding(report, "no_label").positions == (3,)
    assert finding(report, "some_labels_missing").positions == (1, 2)
    assert finding(report, "some_labels_missing").message == (
        f"For 2 images, values of some {kind} are missing: 'p' (1), 'q' (1). They are left out of all figures, also of "
        f"the other {kind}."
    )


def test_images_without_a_value_are_not_read(clf):
    y = Y[TEST].tolist()
    y[3] = None
    images = [*X[TEST]]
    images[3] = "no such file.jpg"
    assert "unreadable" not in kinds(evaluation_report(clf, images, y))


@pytest.mark.parametrize("wrong", [3, b"x"])
def test_errors_about_labels_name_their_positions_in_y(clf, wrong):
    y = [None, "ant", None, wrong]
    with pytest.raises(InvalidInputError, match=r"\by\[3\] is "):
        evaluation_report(clf, X[:4], y)


@pytest.mark.parametrize(("kind", "wrong"), [("labels", 2.0), ("numbers", np.inf)])
def test_errors_about_tables_name_their_positions_in_y(kind, wrong):
    y = np.eye(2)[[0, 1, 0, 1]]
    predictor = Constant().fit(X, LABELS) if kind == "labels" else DummyRegressor().fit(X, np.tile(y, (9, 1)))
    y[[0, 2], 0], y[3, 1] = np.nan, wrong
    with pytest.raises(InvalidInputError, match=r"^y\[3, 1\] is "):
        evaluation_report(predictor, X[:4], y)


def test_if_no_image_can_be_read_it_is_an_error(clf):
    with pytest.raises(InvalidImageError) as caught:
        evaluation_report(clf, [b"?"] * 3, Y[:3])
    assert [failure.position for failure in caught.value.failures] == [0, 1, 2]


def test_classes_without_images_and_useless_models_are_findings(clf):
    report = evaluation_report(clf, X[TEST][Y[TEST] == "ant"], ["ant"] * 6)
    assert "'bee'" in finding(report, "class_without_images").message
    assert "few_images" in kinds(report)
    shuffled = np.random.default_rng(0).permutation(Y[TEST])
    assert "no_better_than_a_constant" in kinds(evaluation_report(clf, X[TEST], shuffled))


@pytest.mark.parametrize(
    "make",
    [
        lambda clf: GridSearchCV(clf, {"weight_decay": [0.1, 1.0]}, cv=2),
        lambda clf: make_pipeline(FunctionTransformer(), clf),
        lambda clf: GridSearchCV(
            make_pipeline(FunctionTransformer(), clf), {"pretrainedimageclassifier__lr": [0.01]}, cv=2
        ),
    ],
    ids=["search", "pipeline", "search of a pipeline"],
)
def test_searches_and_pipelines_are_seen_through(make):
    model = make(PretrainedImageClassifier(**QUICK)).fit(X[TRAIN], Y[TRAIN])
    report = evaluation_report(model, X[TEST], Y[TEST])
    assert report.figures.accuracy.value == pytest.approx(model.score(X[TEST], Y[TEST]))
    assert isinstance(report.typicality, TypicalityFigures)
    assert report.typicality.n_references == 18
    assert report.summary().count("a typicality of at most") == 1  # why none can be, although a finding says so, too
    assert report.figures.of_classes[0].n_trained == 6
    assert any(fact.name == "Network" for fact in report.facts)


def test_a_pipeline_shows_its_images_to_the_last_step():
    """Typicality and maps see what the estimator sees."""
    flip = FunctionTransformer(lambda images: np.asarray(images)[:, ::-1])
    model = make_pipeline(flip, PretrainedImageClassifier(**QUICK)).fit(X[TRAIN], Y[TRAIN])
    report = evaluation_report(model, X[TEST], Y[TEST])
    np.testing.assert_array_equal(report.typicality.p_values, model[-1].typicality(X[TEST][:, ::-1]))


def test_other_classifiers_have_figures_but_no_typicality():
    encoder = PretrainedImageEncoder(backbone=small_conv_net, engine="torch", random_state=0)
    model = make_pipeline(encoder, LogisticRegression(max_iter=50)).fit(X[TRAIN], Y[TRAIN])
    report = evaluation_report(model, X[TEST], Y[TEST])
    assert report.figures.accuracy.n == 18
    assert "LogisticRegression" in report.typicality
    assert [fact.value for fact in report.facts] == ["LogisticRegression"]


@pytest.mark.parametrize("threshold", [0.02, 0.98])
def test_figures_are_of_what_predict_returns(threshold):
    """Not of the most probable classes: an estimator may have a threshold of its own."""
    model = FixedThresholdClassifier(PretrainedImageClassifier(**QUICK), threshold=threshold, pos_label=1)
    images, table = X[TEST], LABELS.to_numpy()
    single = model.fit(X[TRAIN], table[TRAIN, 0])
    report = evaluation_report(single, images, table[TEST, 0])
    np.testing.assert_array_equal(report.figures.y_pred, single.predict(images))
    np.testing.assert_array_equal(
        report.figures.proba_pred, single.predict_proba(images)[np.arange(18), report.figures.y_pred]
    )
    assert report.figures.accuracy.value == pytest.approx(single.score(images, table[TEST, 0]))
    several = MultiOutputClassifier(model).fit(X[TRAIN], table[TRAIN])
    figures = evaluation_report(several, images, table[TEST]).figures
    np.testing.assert_array_equal(figures.y_pred, several.predict(images))
    assert figures.all_right.value == pytest.approx(several.score(images, table[TEST]))
    assert figures.example_f1 == pytest.approx(
        f1_score(table[TEST], several.predict(images), average="samples", zero_division=1)
    )
    for k, row in enumerate(figures.of_labels):
        assert row.recall.n_hits == (several.predict(images) * table[TEST])[:, k].sum()
        assert len(figures.missed(k, 18)) == row.recall.n - row.recall.n_hits


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
@pytest.mark.parametrize("typicality", [False, True])
def test_exported_models_are_evaluated_with_what_the_file_knows(kind, typicality, tmp_path):
    card = {"facts": {"Network": "colors"}, "limits": ["Only colors."]}
    model = open_model(onnx_models.content(kind, typicality, precision="int8", card=card))
    y = {"classes": [*onnx_models.COLORS] * 6, "labels": np.eye(3, dtype=int)[np.arange(18) % 3]}
    images, y = [*X[TEST]], y.get(kind, X[TEST].mean(axis=(1, 2)) / 64)
    images[4] = b"?"
    report = evaluation_report(model, images, y)
    assert finding(report, "unreadable").positions == (4,)
    assert kinds(report)[0] == "not_checked_for_training_images"
    images.pop(4)
    predicted = model.predict(images)
    if kind == "classes":
        predicted = [onnx_models.COLORS.index(color) for color in predicted]
    np.testing.assert_array_equal(report.figures.y_pred, predicted)
    if typicality:
        np.testing.assert_array_equal(report.typicality.p_values, model.typicality(images))
    else:
        assert "exported without references" in report.typicality
    assert [fact.value for fact in report.facts] == [type(model).__name__, "int8", "colors"]
    assert report.limits == ("Only colors.",)
    report.to_html(tmp_path / "report.html")


@pytest.mark.parametrize("card", [{}, {"facts": None, "limits": "x"}, {"facts": [1], "limits": {}}])
def test_a_card_of_another_program_is_left_out(card):
    report = evaluation_report(open_model(onnx_models.content(card=card)), X[:3], onnx_models.COLORS)
    assert ([fact.name for fact in report.facts], report.limits) == (["Model", "Precision"], ())


def test_trained_stages_have_no_typicality():
    tuned = PretrainedImageClassifier(**QUICK, trainable_stages=1).fit(X[TRAIN], Y[TRAIN])
    report = evaluation_report(tuned, X[TEST], Y[TEST])
    assert "trainable_stages=1" in report.typicality
    assert kinds(report)[0] == "not_checked_for_training_images"


def test_images_in_a_column_of_a_table():
    table = pd.DataFrame({"age": NUMBERS, "image": [*X]})
    encoder = PretrainedImageEncoder(backbone=small_conv_net, engine="torch", random_state=0)
    columns = make_column_transformer((encoder, "image"), ("passthrough", ["age"]))
    model = make_pipeline(columns, StandardScaler(), LogisticRegression()).fit(table[TRAIN], Y[TRAIN])
    table.at[20, "image"] = b"?"
    report = evaluation_report(model, table[TEST], Y[TEST])
    assert report.positions.tolist() == [0, 1, *range(3, 18)]
    rest = table.index[TEST].drop(20)
    assert report.figures.accuracy.value == pytest.approx(model.score(table.loc[rest], Y[rest]))
    np.testing.assert_array_equal(report.samples[3].read(), X[21])


def test_numbers_on_another_scale_have_typicality_but_no_maps():
    """A map of what raises the negative of a number would show what lowers the number."""
    negative = TransformedTargetRegressor(PretrainedImageRegressor(**QUICK), func=np.negative, inverse_func=np.negative)
    report = evaluation_report(negative.fit(X[TRAIN], NUMBERS[TRAIN]), X[12:24], NUMBERS[12:24])
    assert kinds(report)[0] == "training_images"
    assert report.maps.endswith("unavailable for a TransformedTargetRegressor.")


@pytest.mark.parametrize(
    ("estimator", "y", "groups", "error"),
    [
        (PretrainedImageClassifier, Y[TEST], None, InvalidInputError),
        (PretrainedImageClassifier(**QUICK), Y[TEST], None, NotFittedError),
        ("clf", Y[:3], None, InvalidInputError),
        ("clf", None, None, InvalidInputError),
        ("clf", ["x"] * 18, None, InvalidInputError),
        ("clf", LABELS[TEST], None, InvalidInputError),
        ("clf", Y[TEST], ["a"] * 3, InvalidInputError),
    ],
)
def test_wrong_arguments_are_named(clf, estimator, y, groups, error):
    with pytest.raises(error):
        evaluation_report(clf if isinstance(estimator, str) else estimator, X[TEST], y, groups=groups)


def test_several_columns_of_classes_are_evaluated_one_at_a_time():
    y = np.column_stack([Y, np.arange(len(Y)) % 3])
    both = MultiOutputClassifier(PretrainedImageClassifier(**QUICK)).fit(X[TRAIN], y[TRAIN])
    with pytest.raises(InvalidInputError, match=r"Evaluate one column at a time: .*estimators_\[0\].* y\[:, 0\]"):
        evaluation_report(both, X[TEST], y[TEST])
    assert isinstance(evaluation_report(both.estimators_[0], X[TEST], y[TEST, 0]).figures, ClassFigures)


def test_an_encoder_predicts_nothing():
    encoder = PretrainedImageEncoder(backbone=small_conv_net, engine="torch", random_state=0).fit(X[TRAIN])
    with pytest.raises(InvalidInputError, match="predicts neither probabilities nor numbers"):
        evaluation_report(encoder, X[TEST], Y[TEST])


def test_reports_are_values(clf, tmp_path):
    """The same figures and the same page each time, and no attribute can be replaced."""
    one, other = (evaluation_report(clf, X[TEST], Y[TEST]) for _ in range(2))
    for name, report in (("one", one), ("other", other)):
        report.to_html(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert one.summary() == other.summary()
    with pytest.raises(AttributeError):
        one.figures = None
    assert len(repr(one)) < 20_000
