"""What a fitted estimator shows in a notebook: the facts of its fit, as text whatever they are made of."""

from __future__ import annotations

import copy
import operator
import pickle
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
import sklearn
from backbones import Pixels, stochastic_net
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.fixes import parse_version

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._backbones.backbone import Backbone
from sktl._estimators.estimator_summary import Fact, SummaryTable, caption_of, facts_of
from sktl.exceptions import InputWarning, InvalidImageWarning

tables = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn shows tables of what was fitted from 1.9 on",
)
X = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
Y = np.tile(["cat", "dog"], 12)
NASTY = "<script>alert('x')</script>&\n\"\ud800\u202e"


class _Parser(HTMLParser):
    """The tags and the texts of a page but for those of its style and script."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        if self.tags[-1][0] not in ("style", "script") and data.strip():
            self.texts.append(data.strip())


def facts(estimator):
    return {fact.name: fact.value for fact in facts_of(estimator)}


@pytest.fixture(scope="module")
def tuned():
    clf = PretrainedImageClassifier(
        backbone=stochastic_net, trainable_stages=1, freeze_epochs=4, max_epochs=3, early_stopping=True,
        validation_fraction=0.25, n_iter_no_change=9, random_state=0, engine="torch", invalid_images="skip",
    )  # fmt: skip
    with pytest.warns(InvalidImageWarning):
        return clf.fit([*X, b"no image"], [*Y, "cat"])


def test_the_facts_are_those_of_the_fit(tuned):
    found = facts(tuned)
    best = min(tuned.history_[-3:], key=lambda row: row["valid_loss"])
    assert found == {
        "Network": "stochastic_net",
        "Weights": "from the callable",
        "Input": "16 x 16 pixels",
        "Device": "cpu, by torch",
        "Features": "16",
        "Penalty": "0.03",
        "Trained": "output layer and 1 of 4 stages",
        "Classes": "2: cat (12), dog (12)",
        "Images": "24",
        "Images left out": "1",
        "Epochs": "3 of the stages, after 4 of the output layer",
        "Last loss": f"{tuned.history_[-1]['train_loss']:.4g}",
        "Validation loss": f"{best['valid_loss']:.4g} in epoch {best['epoch']}, the best",
    }
    assert caption_of(tuned) == "stochastic_net, 2 classes, 24 images, output layer and 1 of 4 stages"


@pytest.mark.parametrize(
    ("params", "name", "value"),
    [
        ({"max_epochs": 7}, "Epochs", "7"),
        ({"optimizer": "lbfgs"}, "Iterations", None),
        ({"max_epochs": 2}, "Trained", "output layer"),
    ],
)
def test_a_classifier_of_the_output_layer_says_so(params, name, value):
    clf = PretrainedImageClassifier(backbone=Pixels, random_state=0, **params).fit(X, Y)
    assert facts(clf)[name] == (value or str(clf.n_iter_))
    assert "Images left out" not in facts(clf)
    assert "Validation loss" not in facts(clf)


def test_several_labels_say_how_many_images_have_each():
    table = np.c_[np.arange(24) % 2, np.arange(24) % 3 == 0, np.arange(24) < 5].astype(int)
    clf = PretrainedImageClassifier(backbone=Pixels, random_state=0, max_epochs=2).fit(X, table)
    assert facts(clf)["Labels"] == "3: 0 (12), 1 (8), 2 (5)"
    assert not {"Classes", "Images"} & facts(clf).keys()
    assert caption_of(clf) == "Pixels, 3 labels, output layer"


@pytest.mark.parametrize(
    ("y", "number", "caption"),
    [
        (np.arange(24.0), "1", "Pixels, 1 number, output layer"),
        (np.eye(24)[:, :2], "2", "Pixels, 2 numbers, output layer"),
    ],
)
def test_a_regressor_says_how_many_numbers(y, number, caption):
    regressor = PretrainedImageRegressor(backbone=Pixels, random_state=0, max_epochs=2).fit(X, y)
    assert facts(regressor)["Numbers"] == number
    assert facts(regressor)["Epochs"] == "2"
    assert caption_of(regressor) == caption


def test_an_encoder_says_how_many_features():
    encoder = PretrainedImageEncoder(backbone=Pixels)
    assert list(facts_of(encoder)) == []
    assert caption_of(encoder) is None
    encoder.fit(X)
    assert facts(encoder)["Features"] == "64"
    assert caption_of(encoder) == "Pixels"
    several = PretrainedImageEncoder(backbone=stochastic_net, feature_stages=3).fit(X)
    assert facts(several)["Features"] == "72, of the output and of 3 blocks in 3 stages"


@pytest.mark.parametrize("y", [Y, np.arange(24.0), np.eye(24, dtype=int)[:, :2]], ids=["classes", "number", "labels"])
def test_attributes_that_are_named_are_there(tuned, y):
    kind = PretrainedImageRegressor if y.dtype == float else PretrainedImageClassifier
    estimator = kind(backbone=Pixels, random_state=0, max_epochs=2).fit(X, y)
    for fitted in (estimator, tuned):
        for fact in facts_of(fitted):
            for name in fact.attribute.split(", "):
                assert operator.attrgetter(name)(fitted) is not None


def test_a_penalty_is_called_chosen_only_if_it_was():
    def penalty(groups=None, **params):
        clf = PretrainedImageClassifier(backbone=stochastic_net, random_state=0, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # of the groups
            return facts(clf.fit(X, Y, groups=groups))["Penalty"]

    assert penalty().endswith(", chosen by cross-validation")
    assert penalty(groups=Y) == "0.03, a default, because no held-out image could be scored"
    assert penalty(weight_decay=0.5) == penalty(weight_decay=0.5, feature_stages=1) == "0.5"


@pytest.mark.thorough
def test_facts_survive_pickles_and_files(tuned, tmp_path):
    assert facts(pickle.loads(pickle.dumps(tuned))) == facts(tuned)
    clf = PretrainedImageClassifier(image_size=32, random_state=0, max_epochs=2).fit(X, Y)
    assert facts(clf)["Penalty"].endswith(", chosen by cross-validation")
    table = np.c_[np.arange(24) % 2, np.arange(24) % 3 == 0].astype(int)
    labels = PretrainedImageClassifier(image_size=32, random_state=0, max_epochs=2).fit(X, table)
    regressor = PretrainedImageRegressor(image_size=32, random_state=0, max_epochs=2).fit(X, table * 1.5)
    for estimator in (clf, labels, regressor):
        estimator.save(tmp_path / "model.sktl")
        assert facts(sktl.load(tmp_path / "model.sktl")) == facts(estimator)


@tables
def test_diagrams_show_the_table_of_a_fitted_estimator_in_whatever_holds_it(tuned, monkeypatch):
    search = GridSearchCV(PretrainedImageClassifier(backbone=Pixels, max_epochs=2), {"lr": [0.1]}, cv=2).fit(X, Y)
    pipe = make_pipeline(FunctionTransformer(), copy.deepcopy(tuned))
    alone = PretrainedImageEncoder(backbone=Pixels).fit(X)
    regressor = PretrainedImageRegressor(backbone=Pixels, max_epochs=2).fit(X, np.arange(24))

    def refuse(self):
        raise AssertionError("a network was built to be looked at")

    monkeypatch.setattr(Backbone, "build", refuse)
    same = [(estimator, estimator) for estimator in (tuned, alone, regressor)]
    for shown, of in (*same, (pipe, tuned), (search, search.best_estimator_)):
        before = vars(of).keys() | set()
        texts = _Parser(shown._repr_html_()).texts
        for fact in facts_of(of):
            place = texts.index(fact.name)
            assert texts[place : place + 3] == [*fact]
        assert caption_of(of) in texts
        assert vars(of).keys() == before


def test_an_estimator_that_is_not_fitted_shows_scikit_learn_s_diagram_as_it_is(monkeypatch):
    estimator = PretrainedImageClassifier()
    ours = _Parser(estimator._repr_html_())
    monkeypatch.delattr(sktl._estimators.base.PretrainedImageBase, "_sk_visual_block_")
    theirs = _Parser(estimator._repr_html_())
    assert ours.texts == theirs.texts
    assert [tag for tag, _ in ours.tags] == [tag for tag, _ in theirs.tags]


def test_the_line_under_the_name_is_shown_by_all_versions(tuned):
    texts = _Parser(make_pipeline(FunctionTransformer(), tuned)._repr_html_()).texts
    assert caption_of(tuned) in texts


def test_names_are_text_whatever_they_are_made_of():
    labels = np.array([NASTY, "<b>dog", "x" * 1000], object)[np.arange(24) % 3]
    clf = PretrainedImageClassifier(backbone=Pixels, max_epochs=2, random_state=0).fit(X, labels)
    plain = PretrainedImageClassifier(backbone=Pixels, max_epochs=2, random_state=0).fit(X, np.arange(24) % 3)
    strange = copy.copy(clf)
    object.__setattr__(clf.backbone_, "name", NASTY)
    object.__setattr__(clf.backbone_, "weights", "/home/anna/" + NASTY)
    for shown in (clf, strange, make_pipeline(clf)):
        page = shown._repr_html_()
        tags = [tag for tag, _ in _Parser(page).tags]
        expected = make_pipeline(plain) if shown not in (clf, strange) else plain
        assert tags == [tag for tag, _ in _Parser(expected._repr_html_()).tags]
        assert "/home/anna" not in page
    assert all(len(fact.value) < 300 for fact in facts_of(clf))


def test_long_classes_that_differ_at_their_end_have_different_facts():
    labels = np.array([f"{'Nymphalidae ' * 9}{side}" for side in ("dorsal", "ventral")], object)[np.arange(24) % 2]
    clf = PretrainedImageClassifier(backbone=Pixels, max_epochs=2, random_state=0).fit(X, labels)
    dorsal, ventral = facts(clf)["Classes"].split(", ")
    assert dorsal.endswith("dorsal (12)")
    assert ventral.endswith("ventral (12)")
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # with a joiner within the word
    object.__setattr__(clf.backbone_, "name", joined)
    assert facts(clf)["Network"] == joined


@given(st.lists(st.builds(Fact, *[st.text(st.sampled_from("a<>&'\"/=\n é"), min_size=1)] * 3), max_size=4))
def test_a_table_has_the_cells_of_its_facts_and_no_tags_of_theirs(some):
    parser = _Parser(SummaryTable(some)._repr_html_inner())
    tags = [tag for tag, _ in parser.tags]
    assert tags == ["details", "summary", "table", "tbody", *["tr", "td", "td", "td"] * len(some)]
    expected = [text.strip() for fact in some for text in fact]
    assert parser.texts[1:] == [text for text in expected if text]
    assert len(SummaryTable(some)) == len(some)
