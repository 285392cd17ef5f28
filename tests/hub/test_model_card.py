"""A model card says what the fit knows, and is the same Markdown whatever labels and descriptions are made of."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from huggingface_hub import ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._hub.model_card import check_metrics, model_card
from sktl._short_text import printable_line
from sktl._version import library_versions
from sktl.exceptions import InvalidImageWarning

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 20, 24, 3), np.uint8)
Y = np.array(["cat", "dog", "owl"])[[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]]
TINY = {"backbone": "timm/test_vit", "weights": None, "image_size": 64, "random_state": 0, "max_epochs": 2}
HEADINGS = ["Use", "Classes: 3", "Training", "Results", "Limits", "Versions"]
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
NASTY = st.text(st.sampled_from("ab 1.-+=#>|`*_~[]()<>!\\&;:/\n\r\t\"'{}$\0\u2028\ud800é"), max_size=30)


@pytest.fixture(scope="module")
def clf():
    return PretrainedImageClassifier(**TINY).fit(X, Y)


def card_of(estimator, title="cats", metrics=None, license=None, description=None, complete=True):
    return model_card(
        estimator, title, f"sktl.load_from_hub('anna/{title}')", metrics=check_metrics(estimator, metrics),
        license=license, description=description, complete=complete,
    )  # fmt: skip


def parsed(card):
    return MARKDOWN.parse(ModelCard(card).text)


def texts(tokens, kind):
    """Return the text of each block of a kind; nothing in it may be more than text."""
    found = []
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == kind:
            assert {child.type for child in inline.children} <= {"text", "code_inline"}, inline.children
            found.append("".join(child.content for child in inline.children))
    return found


@pytest.mark.parametrize(("stages", "trained"), [(0, "the output layer alone"), (1, "1 of 7 stages .*: blocks.5")])
def test_what_the_fit_knows_is_said(clf, stages, trained):
    clf = clf if stages == 0 else PretrainedImageClassifier(**TINY, trainable_stages=stages).fit(X, Y)
    text = MARKDOWN.render(ModelCard(card_of(clf)).text)
    for line in [
        "images: 12",
        "network: timm/test_vit, weights: random",
        "64 x 64 pixels",
        f"iterations: {clf.n_iter_}",
        "contains the whole network",
        "The smallest class had 2 training images",
        f"torch {library_versions()['torch']}",
    ]:
        assert line in text, line
    assert re.search(f"trained: .*{trained}", text)
    cells = texts(parsed(card_of(clf)), "td_open")
    assert cells == ["cat", "6", "dog", "4", "owl", "2"]


def test_a_card_says_how_to_install_sktl_as_the_documentation_does(clf):
    (command,) = re.findall("pip install [^`]*", card_of(clf))
    assert f"`{command}`" in (Path(__file__).parents[2] / "docs" / "installation.md").read_text(encoding="utf-8")


def test_the_hub_reads_tags_licence_and_results(clf):
    data = ModelCard(card_of(clf, metrics={"accuracy": np.float32(0.5), "log loss": 2}, license="apache-2.0")).data
    assert data.library_name == "sktl"
    assert data.pipeline_tag == "image-classification"
    assert data.tags == ["sktl", "image-classification"]
    assert data.license == "apache-2.0"
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("accuracy", 0.5), ("log loss", 2.0),
    ]  # fmt: skip
    assert ModelCard(card_of(clf)).data.eval_results is None


def test_of_many_classes_the_first_are_listed_with_their_number(clf):
    many = copy.copy(clf)
    many.classes_, many.class_count_ = np.arange(1000), np.full(1000, 30)
    card = card_of(many)
    assert texts(parsed(card), "td_open")[::2] == [str(i) for i in range(50)]
    assert "Classes: 1000" in card
    assert "and 950 more" in card
    assert "smallest class" not in card


def test_long_classes_that_differ_at_their_end_differ_in_the_card(clf):
    long = copy.copy(clf)
    long.classes_ = np.array([f"{'Nymphalidae ' * 10}{side}" for side in ("dorsal", "lateral", "ventral")], object)
    listed = texts(parsed(card_of(long)), "td_open")[:6:2]
    assert [name.rpartition(" ")[2] for name in listed] == ["dorsal", "lateral", "ventral"]


def test_the_folder_of_local_weights_is_not_told(tmp_path):
    network = sktl._backbones.resolve_backbone.resolve_backbone("timm/test_vit", None, 64, 1).build()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "mine.safetensors")
    weights = str(tmp_path / "mine.safetensors")
    card = card_of(PretrainedImageClassifier(**TINY | {"weights": weights}).fit(X, Y), complete=False)
    assert "mine.safetensors" in card
    assert tmp_path.name not in card
    assert "The file contains only what training changed" in card


def test_an_encoder_has_a_card_of_its_own():
    card = card_of(PretrainedImageEncoder(backbone="timm/test_vit", weights=None, image_size=64).fit(X))
    assert texts(parsed(card), "heading_open")[1:] == [name for name in HEADINGS if name != "Classes: 3"]
    assert ModelCard(card).data.pipeline_tag == "image-feature-extraction"
    assert "trained: nothing" in card


def test_several_labels_have_a_table_and_say_what_the_columns_are():
    table = pd.DataFrame({"cat": [1] * 6 + [0] * 6, "in|doors": [1, 0] * 6, "rare": [1] + [0] * 11})
    card = card_of(PretrainedImageClassifier(**TINY).fit(X, table), metrics={"f1": 0.5})
    assert texts(parsed(card), "heading_open")[1:] == ["Use", "Labels: 3", *HEADINGS[2:]]
    assert texts(parsed(card), "td_open")[:6] == ["cat", "6", "in|doors", "6", "rare", "1"]
    assert ModelCard(card).data.pipeline_tag == "image-classification"
    assert "a column for each label of the table below: 1 if the probability of the label is above 0.5" in card
    assert "The rarest label had 1 training images" in card
    assert "one of its classes" not in card
    assert "- images:" not in card  # the counts of labels do not add up to it


@pytest.mark.parametrize(
    ("y", "outputs"),
    [
        (np.arange(12.0), "`predict` returns a number for each image, in the unit"),
        (np.arange(12.0)[:, None], "`predict` returns a row of one number for each image"),
        (np.eye(12)[:, :3], "`predict` returns a row of 3 numbers for each image"),
    ],
)
def test_a_regressor_says_what_its_numbers_are(y, outputs):
    regressor = PretrainedImageRegressor(**TINY).fit(X, y)
    card = card_of(regressor, metrics={"r2": 0.5, "mean absolute error": 3})
    assert texts(parsed(card), "heading_open")[1:] == [name for name in HEADINGS if name != "Classes: 3"]
    data = ModelCard(card).data
    assert data.pipeline_tag is None  # the hub has no such task
    assert data.tags == ["sktl", "image-regression"]
    assert {result.task_type for result in data.eval_results} == {"image-regression"}
    assert outputs in card
    assert 'estimator.predict(["photo.jpg"])' in card
    assert f"- epochs or iterations: {regressor.n_iter_}" in card
    assert "Measure the error" in card_of(regressor)


@pytest.mark.parametrize("task", ["labels", "numbers"])
def test_images_that_were_left_out_are_counted(task):
    kind = PretrainedImageRegressor if task == "numbers" else PretrainedImageClassifier
    y = np.arange(13.0) if task == "numbers" else np.eye(13, dtype=int)[:, :2]
    with pytest.warns(InvalidImageWarning):
        estimator = kind(**TINY, invalid_images="skip").fit([*X, b"no image"], y)
    assert "- unusable images that were left out: 1" in card_of(estimator)


@pytest.mark.thorough
@settings(max_examples=100)
@example(
    metric="---",
    labels=["| x |", "`", "<script>"],
    description="```\n\n---\n\n# no\n\n    code\n\n1) a\n\n[a]: http://b",
)
@given(
    metric=NASTY.map(str.strip).filter(lambda name: name and name.isprintable()),
    labels=st.lists(NASTY | st.text(max_size=70), min_size=3, max_size=3),
    description=NASTY | st.text(),
)
def test_no_text_breaks_the_card(clf, metric, labels, description):
    nasty = copy.copy(clf)
    nasty.classes_ = np.array(labels, dtype=object)
    card = card_of(nasty, metrics={metric: 0.5}, description=description)
    card.encode()
    tokens = parsed(card)
    assert texts(tokens, "heading_open") == ["cats", *HEADINGS]
    assert [token.type for token in tokens if token.type.startswith(("html", "fence", "code", "hr", "blockquote"))] == [
        "fence"
    ]
    assert texts(tokens, "td_open")[:6:2] == [printable_line(label) for label in labels]
    assert texts(tokens, "td_open")[6] == " ".join(metric.split())
    texts(tokens, "paragraph_open")
    assert ModelCard(card).data.eval_results[0].metric_type == metric
    assert set(ModelCard(card).data.to_dict()) == {"library_name", "pipeline_tag", "tags", "model-index"}
