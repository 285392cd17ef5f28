"""Findings are short sentences on one line, whatever the classes, labels and numbers are called."""

from __future__ import annotations

import numpy as np
import pytest
from evaluations import of_classes, of_labels, of_numbers, report_of
from hypothesis import given
from hypothesis import strategies as st

from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.findings import about_classes, about_images, about_labels, about_numbers

NAMES = [f"{letter * 5000}\n\u202e{letter}" for letter in "ABCDEFG"]


def _findings():
    few, none = of_classes(NAMES, 14), ClassFigures.of(NAMES, np.full(3, 6), np.full((3, 6), 1 / 6))
    yield from [*about_classes(few, np.arange(14)), *about_classes(none, np.arange(3))]
    yield from about_labels(of_labels(NAMES))
    yield from about_numbers(of_numbers(NAMES))


def test_messages_are_short_and_printable_whatever_names_are():
    kinds = set()
    for finding in _findings():
        assert finding.message.isprintable()
        assert len(finding.message) < 1000
        kinds.add(finding.kind)
    assert kinds >= {"unknown_class", "class_without_images", "few_images", "no_better_than_a_constant"}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_each_image_that_lacks_a_value_is_in_one_finding(rows):
    missing = np.array(rows)
    findings = {finding.kind: finding for finding in about_images([], missing, "label", ["p", "q"])}
    without, incomplete = (
        findings[kind].positions if kind in findings else () for kind in ("no_label", "some_labels_missing")
    )
    assert without == tuple(np.flatnonzero(missing.all(axis=1)))
    assert incomplete == tuple(np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1)))
    if incomplete:
        counts = missing[[*incomplete]].sum(axis=0)
        words = findings["some_labels_missing"].message
        assert [f"'{name}' ({n})" in words for name, n in zip("pq", counts, strict=True)] == (counts > 0).tolist()


@pytest.mark.parametrize("of_names", [of_classes, of_labels])
def test_the_summary_says_how_few_images_there_are(of_names):
    figures = of_names(NAMES, 21)
    about = about_classes if of_names is of_classes else lambda figures, _: about_labels(figures)
    report = report_of(figures, [np.zeros((4, 4, 3), np.uint8)] * 21, findings=about(figures, np.arange(21)))
    (line,) = [line for line in report.summary().split("\n") if line.startswith("- There are fewer than 20 images")]
    rows = figures.of_classes if of_names is of_classes else figures.of_labels
    for row in rows[:5]:
        assert f"{row.name[-1]}' ({row.recall.n})" in line
    assert line.endswith("look at the intervals.")


def test_unknown_classes_that_look_like_known_ones_are_paired():
    figures = ClassFigures.of(("Ka\u0308se", "Tee", "K\u00e4se"), np.array([0, 1, 2]), np.full((3, 2), 0.5))
    (finding,) = [finding for finding in about_classes(figures, np.arange(3)) if finding.kind == "unknown_class"]
    assert "'K\\xe4se' looks like 'Ka\\u0308se'" in finding.message
