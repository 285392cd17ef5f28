"""The page of an audit as a document: what is on it, in which order, and what is left out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from audits import audit_of, noise

from sktl._audit.issues import KINDS, Issue
from sktl._images.samples import as_samples
from sktl._reports.audit_page import audit_page
from sktl._reports.audit_page_data import WORDS, chosen
from sktl._reports.page_thumbnails import Album
from sktl.exceptions import InvalidInputError, InvalidParameterError


def suspicious(n, **more):
    return [
        Issue(
            kind="suspicious_label", position=i, name=f"X[{i}]", label="cat", score=1 - i / n, suggested_label="dog",
            suggestion=f"Finding {i}", **more,
        )
        for i in range(n)
    ]  # fmt: skip


class _Outline(HTMLParser):
    """Headings of findings, and how often each element occurs."""

    def __init__(self, text):
        super().__init__()
        self.n, self.headings, self._in_heading = {}, [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.n[tag] = self.n.get(tag, 0) + 1
        if tag == "h3":
            self.headings.append("")
        self._in_heading = tag == "h3" or (self._in_heading and tag in ("bdi", "span"))

    def handle_endtag(self, tag):
        self._in_heading = self._in_heading and tag != "h3"

    def handle_data(self, data):
        if self._in_heading:
            self.headings[-1] += data


def data_in(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_all_kinds_have_words():
    assert [*WORDS] == [*KINDS]


def test_findings_are_grouped_by_kind_the_most_important_first():
    issues = [
        *suspicious(3),
        Issue(kind="exact_copy", position=0, name="X[0]", other_part="test", other_position=1, other_name="X_test[1]",
              score=0.4, suggestion="Copies", crosses="test", contradicts=True),
        Issue(kind="rare_class", name="lynx", score=0.5, suggestion="2 images"),
    ]  # fmt: skip
    outline = _Outline(audit_page(audit_of(issues, noise(3), ["cat", "dog"], noise(2)), Album()))
    assert outline.headings == [
        "Copies in training and test images different labels0.40",
        "Finding 01.00",
        "Finding 10.67",
        "Finding 20.33",
        "lynx: 2 images0.50",
    ]
    assert outline.n["img"] == 5
    assert outline.n["section"] == 3


def test_nothing_found_is_a_page_that_says_so():
    text = audit_page(audit_of([], noise(2), ["cat"]), Album())
    assert "Found nothing." in text
    assert "Audit of 2 training images" in text


def test_notes_are_on_the_page_as_text():
    text = audit_page(audit_of([], noise(2), ["cat"], notes=["Labels not judged: 1 of 2 <b>."]), Album())
    assert '<p class="note">Labels not judged: 1 of 2 &lt;b&gt;.</p>' in text


def test_beyond_the_limits_the_least_important_of_each_kind_are_left_out(monkeypatch):
    monkeypatch.setattr("sktl._reports.audit_page.MOST_FINDINGS", 5)
    strangers = [Issue(kind="unlike_the_rest", position=i, name=f"X[{i}]", score=0.1) for i in range(4)]
    audit = audit_of([*suspicious(6), *strangers], noise(6), ["cat", "dog"])
    text = audit_page(audit, Album())
    assert _Outline(text).headings == ["Finding 01.00", "Finding 10.83", "Finding 20.67"] + ["Unlike the rest0.10"] * 2
    assert "5 less important findings are not on this page" in text
    assert "have no thumbnail" not in text


def test_thumbnails_beyond_the_limit_are_counted_and_the_page_says_how_to_see_them():
    audit = audit_of(suspicious(6), noise(6), ["cat", "dog"])
    full = Album()
    audit_page(audit, full)
    text = audit_page(audit, Album(full.n_bytes // 2))
    n_shown = _Outline(text).n["img"]
    assert 0 < n_shown < 6
    assert f"{6 - n_shown} less important findings have no thumbnail" in text
    assert "write the page with a larger limit" in text


def test_the_key_of_kept_decisions_belongs_to_the_report():
    def key(issues, classes=("cat", "dog")):
        return data_in(audit_page(audit_of(issues, noise(3), classes), Album(0)))["key"]

    assert key(suspicious(3)) == key(suspicious(3))
    assert len({key(suspicious(3)), key(suspicious(2)), key(suspicious(3), ("cat", "dog", "cow"))}) == 3


def test_the_key_of_kept_decisions_belongs_to_the_images():
    """Images in arrays have no names, so reports on other images may have equal findings."""
    images = noise(3)
    keys = [data_in(audit_page(audit_of(suspicious(2), X, ["cat"]), Album(0)))["key"]
            for X in (images, images.copy(), 255 - images, [*images[:2], 255 - images[2]])]  # fmt: skip
    assert keys[0] == keys[1] == keys[3] != keys[2]


def test_the_page_knows_the_number_of_images_and_the_content_of_files(tmp_path):
    """Also of files that are not images; images without a file have no digest."""
    (tmp_path / "0.png").write_bytes(b"not an image")
    (tmp_path / "1.png").write_bytes(b"")
    files = [str(tmp_path / name) for name in ("0.png", "1.png", "absent.png")]
    data = data_in(audit_page(audit_of(suspicious(3), files, ["cat"], noise(2)), Album(0)))
    assert data["n_images"] == {"train": 3, "test": 2}
    assert data["contents"] == [
        f"sha256-{hashlib.sha256(some).hexdigest()[:32]}" for some in (b"not an image", b"")
    ] + [""]
    assert data_in(audit_page(audit_of(suspicious(2), noise(2), ["cat"]), Album(0)))["contents"] == ["", ""]


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers", ""])
def test_images_of_several_labels_may_happen_to_have_one_and_the_page_applies_decisions_to_their_kind(kind):
    page = audit_page(audit_of(suspicious(2), noise(2), ["cat", "dog"], kind=kind), Album(0))
    assert data_in(page)["kind"] == kind
    assert ("kind=&quot;numbers&quot;)" in page) == (kind == "numbers")


def test_no_label_is_a_suggestion_for_several_labels():
    none = Issue(kind="suspicious_label", position=2, name="X[2]", label="cat, dog", suggested_label="")
    strange = Issue(kind="unlike_the_rest", position=3, name="X[3]", label="cat, dog")
    audit = audit_of([*suspicious(2), none, strange], noise(4), ["cat", "dog"], kind="labels")
    data = data_in(audit_page(audit, Album(0)))
    assert {image[1]: image[3:] for image in data["images"]} == {
        0: [[0], [[1]]], 1: [[0], [[1]]], 2: [[0, 1], [[]]], 3: [[0, 1], []],
    }  # fmt: skip


def test_an_image_without_numbers_has_no_number_to_change():
    copy = Issue(kind="exact_copy", position=0, name="X[0]", label="3, 4", other_position=0, other_part="test")
    data = data_in(audit_page(audit_of([copy], noise(1), X_test=noise(1), kind="numbers"), Album(0)))
    assert [image[3:] for image in data["images"]] == [[["3", "4"], []], [[], []]]


def test_thumbnails_show_what_the_audit_read(tmp_path):
    """A reader, or rows of numbers, are parameters of the estimator, which the page does not know."""
    path = tmp_path / "a.npy"
    np.save(path, noise(1)[0])
    samples = as_samples([path], image_reader=np.load) + as_samples(noise(1).reshape(1, -1) / 255, (16, 16, 3))
    audit = audit_of(suspicious(2), [path, noise(1)[0]], ["cat", "dog"])
    text = audit_page(replace(audit, _samples={"train": samples}), Album())
    assert _Outline(text).n["img"] == 2


HOSTILE = [
    "<img src=x onerror=alert(1)>.jpg",
    '"><script>alert(1)</script>.jpg',
    "</script><script>alert(1)</script>",
    "<!--",
    "' onmouseover='alert(1)",
    "\u202egpj.exe",
    "caf\udce9.jpg",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "]]>",
    "\x00\x1b[31m\r\n",
]


@pytest.mark.parametrize("field", ["name", "label", "suggestion", "suggested_label", "other_name"])
@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_strangers_adds_no_element_and_no_attribute(field, text):
    def outline(value):
        fields = dict(name="a", label="cat", suggestion="s", suggested_label="dog", other_name="b") | {field: value}
        issue = Issue(kind="near_copy", position=0, other_part="train", other_position=1, score=0.5, **fields)
        return audit_page(audit_of([issue], noise(2), ["cat", "dog", value]), Album())

    hostile, harmless = outline(text), outline("harmless")
    assert _Outline(hostile).n == _Outline(harmless).n
    assert hostile.encode()  # no lone surrogates
    data_in(hostile)


def test_images_of_any_form_are_shown(tmp_path):
    from PIL import Image

    pixels = noise(1)[0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    items = [str(tmp_path / "a.png"), tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), pixels, pixels[..., 0],
             pixels / 255, Image.fromarray(pixels)]  # fmt: skip
    text = audit_page(audit_of(suspicious(len(items)), items, ["cat", "dog"]), Album())
    assert _Outline(text).n["img"] == len(items)
    for broken in (str(tmp_path / "absent.png"), b"broken", 7, None):
        text = audit_page(audit_of(suspicious(1), [broken], ["cat", "dog"]), Album())
        assert "Cannot be shown" in text


def test_the_most_important_are_chosen_in_turn():
    issues = audit_of([*suspicious(3), Issue(kind="shortcut"), Issue(kind="unreadable", position=0)], noise(3)).issues
    order = [str(issues["kind"][row]) for row in chosen(issues, 4)]
    assert order == ["unreadable", "suspicious_label", "shortcut", "suspicious_label"]


def test_the_page_is_written_as_asked(tmp_path):
    audit = audit_of(suspicious(2), noise(2), ["cat", "dog"])
    audit.to_html(tmp_path / "a.html", max_megabytes=0)
    assert "<img" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    audit.to_html(str(tmp_path / "a.html"))
    assert "<img" in (tmp_path / "a.html").read_text(encoding="utf-8")
    for wrong in (-1, np.inf, np.nan, "16", None, True):
        with pytest.raises(InvalidParameterError, match="max_megabytes"):
            audit.to_html(tmp_path / "b.html", max_megabytes=wrong)
    with pytest.raises(InvalidInputError, match=r"does not exist\. Create it"):
        audit.to_html(tmp_path / "absent" / "b.html")
