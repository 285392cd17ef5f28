"""The page of an evaluation: complete, well-formed, of bounded size, the same each time, and safe from names."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluations import of_classes, of_labels, of_numbers, report_of

from sktl._evaluation.findings import Finding
from sktl.exceptions import InvalidInputError, InvalidParameterError

IMAGES = [np.full((12, 16, 3), i, np.uint8) for i in range(60)]
GROUPS = np.arange(60) // 6
HOSTILE = [
    "</script><script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    '"><b>',
    "a\u202eb\x07",
    "x" * 900,
]
KINDS = {"classes": of_classes, "labels": of_labels, "numbers": of_numbers}
SECTIONS = {
    "classes": ["classes", "groups", "confusions", "mistakes", "calibration", "coverage", "typicality", "model"],
    "labels": ["labels", "groups", "missed", "mistakes", "calibration", "typicality", "model"],
    "numbers": ["numbers", "groups", "predictions", "mistakes", "typicality", "model"],
}
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and collects what tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.texts, self.sources, self.tags = [], [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.sources += [values["src"]] if "src" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page_of(report, tmp_path, **options):
    report.to_html(tmp_path / "report.html", **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_all_sections_in_the_order_of_a_decision(kind, tmp_path):
    read = Reader(page_of(report_of(KINDS[kind](["p", "q", "r"], groups=GROUPS), IMAGES), tmp_path, title="cats.sktl"))
    assert [identifier for identifier in read.ids if identifier in SECTIONS[kind]] == SECTIONS[kind]
    assert len(set(read.ids)) == len(read.ids)
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    assert "cats.sktl" in read.texts
    assert all(source.startswith("data:image/") for source in read.sources)
    assert "script" not in read.tags


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_the_same_each_time(kind, tmp_path):
    report = report_of(KINDS[kind](["p", "q"]), IMAGES)
    assert page_of(report, tmp_path) == page_of(report, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_strangers_are_text(kind, tmp_path):
    names = [HOSTILE[i % len(HOSTILE)] + str(i) for i in range(60)]
    figures = KINDS[kind](HOSTILE, groups=[HOSTILE[i % 5] for i in range(60)])
    findings = [Finding("unreadable", f"One is bad: {HOSTILE[1]}", (0, 1), (HOSTILE[0], HOSTILE[2]))]
    text = page_of(report_of(figures, IMAGES, names, findings), tmp_path, title=HOSTILE[0])
    read = Reader(text)
    assert "script" not in read.tags
    assert "b" not in read.tags
    assert "onerror" not in re.sub(r"&lt;img[^<]*", "", text)
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "x" * 500 not in text


@pytest.mark.parametrize("n_classes", [3, 12])
def test_every_count_of_the_matrix_leads_to_its_images(n_classes, tmp_path):
    figures = of_classes([f"class {i}" for i in range(n_classes)], groups=None)
    read = Reader(page_of(report_of(figures, IMAGES), tmp_path))
    cells = {f"cell-{true}-{predicted}" for true, predicted in figures.cells}
    assert {link for link in read.links if "cell" in link} == {f"#{cell}" for cell in cells}
    assert cells <= set(read.ids)


@pytest.mark.thorough
@pytest.mark.parametrize(("n_classes", "n"), [(25, 2000), (100, 10_000)])
def test_a_page_of_many_classes_and_images_is_bounded(n_classes, n, tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (300, 400, 3), np.uint8) for _ in range(4)]  # which compresses worst
    figures = of_classes([f"{i} {'x' * 300}" for i in range(n_classes)], n, groups=rng.integers(0, 800, n))
    report = report_of(figures, [noise[i % 4] for i in range(n)])
    text = page_of(report, tmp_path)
    assert len(text) < 4_000_000
    assert page_of(report, tmp_path, max_megabytes=0.2).count("data:image") < text.count("data:image")
    assert len((tmp_path / "report.html").read_bytes()) < 1_000_000
    assert "further images were left out" in (tmp_path / "report.html").read_text()


def test_findings_come_first_with_the_names_of_their_images(tmp_path):
    findings = [Finding("no_label", "2 images have no label.", (3, 5)), Finding("few_groups", "Few groups.")]
    names = [f"folder/{i}.jpg" for i in range(60)]
    read = Reader(page_of(report_of(of_classes(["a", "b"]), IMAGES, names, findings), tmp_path))
    assert read.ids[0] == "findings"
    assert {"2 images have no label.", "Few groups.", "folder/3.jpg", "folder/5.jpg"} <= set(read.texts)


def test_images_that_vanished_are_words(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(60)]
    text = page_of(report_of(of_classes(["a", "b"]), paths), tmp_path)
    assert "Cannot be shown: no such file" in text


def test_a_model_without_typicality_or_maps_says_why(tmp_path):
    report = report_of(of_classes(["a", "b"]), IMAGES, typicality="It has none, because.")
    object.__setattr__(report, "maps", "No maps, because.")
    texts = Reader(page_of(report, tmp_path)).texts
    assert {"It has none, because.", "No maps, because."} <= set(texts)


def test_perfect_models_have_pages_too(tmp_path):
    figures = of_classes(["a", "b"])
    perfect = type(figures).of(["a", "b"], figures.y_pred, np.eye(2)[figures.y_pred])
    assert "No prediction is wrong." in Reader(page_of(report_of(perfect, IMAGES), tmp_path)).texts


@pytest.mark.parametrize(
    ("path", "options", "error"),
    [
        (5, {}, InvalidParameterError),
        ("report.html", {"max_megabytes": "5"}, InvalidParameterError),
        ("report.html", {"max_megabytes": -1}, InvalidParameterError),
        ("no folder/report.html", {}, InvalidInputError),
    ],
)
def test_wrong_arguments_are_named(path, options, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        report_of(of_classes(["a", "b"]), IMAGES).to_html(path, **options)
