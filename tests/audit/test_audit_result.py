"""The findings as text, as a data frame, as a figure, and next to the images."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pandas
import polars
import pytest
from photographs import photograph

from sktl import ImageAudit
from sktl._audit.audit_summary import summary
from sktl._audit.issues import Issue, as_array
from sktl._images.samples import as_samples
from sktl.exceptions import InvalidParameterError, MissingPackageError

ITEMS = [np.asarray(photograph(seed, (30, 20))) for seed in range(4)]
LONG = "/data/" + "very_" * 40 + "long.jpg"
ISSUES = as_array(
    [
        Issue(kind="unreadable", position=3, name="b\nad.jpg", score=1.0, suggestion="It is empty. Replace it."),
        Issue(
            kind="near_copy", position=1, name=LONG, label="a", other_part="test", other_position=0,
            other_name="X_test[0]", score=0.95, suggestion="Drop one.", crosses="test", contradicts=True,
        ),
        *(
            Issue(kind="suspicious_label", position=i % 3, name=f"{i}.jpg", label="$a", score=1 / (i + 1),
                  suggestion="Probably b.", suggested_label="b_1")
            for i in range(5)
        ),
        Issue(kind="rare_class", name="c", label="c", score=0.5, suggestion="Add images."),
    ]
)  # fmt: skip
AUDIT = ImageAudit(
    ISSUES, np.arange(4), np.array(["a", "b_1"]), 4, 2, {"train": ITEMS, "test": ITEMS[:2]},
    {"train": as_samples(ITEMS), "test": as_samples(ITEMS[:2])},
)  # fmt: skip
EMPTY = ImageAudit(as_array([]), np.arange(4), np.array([]), 4, 0, {"train": ITEMS}, {"train": as_samples(ITEMS)})


def test_the_summary_counts_and_shows_the_most_important():
    lines = AUDIT.summary().splitlines()
    assert lines[0] == "Audit of 4 images and 2 test images:"
    assert "- 1 near copy (1 across train and test, 1 with contradicting labels)" in lines
    assert "- 5 suspicious labels" in lines
    assert lines.count("    and 2 more") == 1
    assert "    0.jpg [$a]: Probably b." in lines
    assert str(AUDIT) == AUDIT.summary()
    assert max(map(len, lines)) < 250


def test_names_of_strangers_stay_on_one_line():
    assert "    b ad.jpg: It is empty. Replace it." in AUDIT.summary().splitlines()


def test_labels_of_strangers_stay_on_one_line_and_names_are_whole():
    strange = Issue(kind="suspicious_label", position=0, name="0xdeadbeef.jpg", label="a\n\u202eb" + "x" * 999)
    (line,) = summary(as_array([strange]), 1, 0).splitlines()[2:]
    assert line.isprintable()
    assert line.startswith("    0xdeadbeef.jpg [a bxxx")
    assert len(line) < 120


def test_an_audit_without_findings_says_so():
    assert EMPTY.summary() == "Audit of 4 images: nothing found."
    assert repr(EMPTY) == "<ImageAudit: 4 images, 0 test images, 0 issues>"
    one = replace(EMPTY, n_train=1, n_test=1)
    assert one.summary() == "Audit of 1 image and 1 test image: nothing found."
    assert repr(one) == "<ImageAudit: 1 image, 1 test image, 0 issues>"
    assert EMPTY.to_frame().shape == (0, len(ISSUES.dtype.names))


def test_notes_end_the_summary():
    assert replace(EMPTY, _notes=["One.", "Two."]).summary() == "Audit of 4 images: nothing found.\n- One.\n- Two."


def test_a_frame_has_all_fields():
    frame = AUDIT.to_frame()
    assert [*frame.columns] == [*ISSUES.dtype.names]
    assert frame["name"].tolist() == ISSUES["name"].tolist()
    assert frame["position"].dtype == np.int64


@pytest.mark.parametrize("package", [pandas, polars])
def test_a_frame_may_name_files_that_are_not_utf8(monkeypatch, package):
    name = os.fsdecode(b"caf\xe9.jpg")
    audit = replace(
        AUDIT, issues=as_array([Issue(kind="unreadable", position=0, name=name, label=name, other_name="b")])
    )
    monkeypatch.setattr("sktl._audit.audit_result.require", _only(package.__name__, package))
    frame = audit.to_frame()
    assert [*frame["name"]] == [*frame["label"]] == [r"caf\udce9.jpg"]
    assert [*frame["other_name"]] == ["b"]
    assert [*audit.issues["name"]] == [name]


def test_polars_is_enough_for_a_frame(monkeypatch):
    monkeypatch.setattr("sktl._audit.audit_result.require", _only("polars", polars))
    assert AUDIT.to_frame()["name"].to_list() == ISSUES["name"].tolist()


def test_without_either_the_error_names_pandas(monkeypatch):
    monkeypatch.setattr("sktl._audit.audit_result.require", _only("nothing", None))
    with pytest.raises(MissingPackageError, match="pandas"):
        AUDIT.to_frame()


def _only(installed, module):
    def require(package, user, requirement):
        if package != installed:
            raise MissingPackageError(f"{user} needs {package}")
        return module

    return require


@pytest.mark.parametrize(("kind", "n"), [(None, 6), ("near_copy", 1), ("suspicious_label", 5)])
def test_a_figure_shows_the_images_of_findings(kind, n):
    display = AUDIT.plot(kind=kind)
    assert display.figure_.axes == display.axes_.tolist()
    assert len(display.axes_) == n
    display.figure_.canvas.draw()
    titles = [ax.get_title() for ax in display.axes_]
    assert titles[0].startswith("near copy" if kind != "suspicious_label" else "suspicious label")
    if kind == "near_copy":
        assert display.axes_[0].images[0].get_array().shape[1] > 2 * 30


@pytest.mark.parametrize(("suggested", "change"), [("", "a, b → no label"), ("a", "a, b → a")])
def test_a_figure_shows_the_label_that_is_suggested(suggested, change):
    issue = Issue(kind="suspicious_label", position=0, name="0", label="a, b", suggested_label=suggested)
    (ax,) = replace(AUDIT, issues=as_array([issue])).plot().axes_
    assert ax.get_title().endswith(change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "shortcut"}, "no such finding with an image"), ({"kind": "bug"}, "kind='bug' must be"),
        ({"n_images": 0}, "n_images=0"), ({"kind": "rare_class"}, "no such finding"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_an_error(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        AUDIT.plot(**arguments)
    with pytest.raises(InvalidParameterError, match="no such finding"):
        EMPTY.plot()


def test_images_of_a_part_are_as_they_were_passed():
    assert AUDIT.images("test") is AUDIT._items["test"]
    with pytest.raises(InvalidParameterError, match="part='validation' must be one of 'train', 'test'"):
        AUDIT.images("validation")
    with pytest.raises(InvalidParameterError, match="part='test' must be one of 'train'"):
        EMPTY.images("test")
    for part in ([], None, 3):
        with pytest.raises(InvalidParameterError, match="must be one of 'train', 'test'"):
            AUDIT.images(part)


def test_audits_can_be_pickled():
    again = pickle.loads(pickle.dumps(AUDIT))
    assert again.issues.tolist() == AUDIT.issues.tolist()
    assert again.summary() == AUDIT.summary()
