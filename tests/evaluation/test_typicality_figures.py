"""Typicality of test images: the histogram counts all, and a model without typicality says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sktl._evaluation.findings import about_training_images, about_typicality
from sktl._evaluation.sentences import of_typicality
from sktl._evaluation.typicality_figures import LOW, TypicalityFigures, typicality_of


def test_the_first_bar_holds_what_is_at_most_the_threshold():
    figures = TypicalityFigures.of(np.array([0.001, 0.05, 0.0501, 0.5, 1.0]))
    assert figures.histogram.sum() == 5
    assert figures.histogram[0] == figures.low.n_hits == 2
    assert figures.histogram[-1] == 1
    assert figures.least().tolist() == [0, 1, 2, 3, 4]


def test_only_more_unusual_images_than_chance_explains_are_a_finding():
    rng = np.random.default_rng(0)
    assert about_typicality(TypicalityFigures.of(rng.random(500)), np.arange(500)) == []
    p_values = rng.random(500)
    p_values[:60] = 0.01
    (finding,) = about_typicality(TypicalityFigures.of(p_values), np.arange(500) + 7)
    assert finding.kind == "unlike_the_training_images"
    assert set(range(7, 67)) <= set(finding.positions)
    assert about_typicality("unavailable", np.arange(5)) == []


@given(st.integers(1, 200))
def test_images_are_called_ordinary_only_if_one_could_have_a_low_value(n_references):
    """The lowest value that an image can have is 1 / (n_references + 1)."""
    lowest = np.full(30, 1 / (n_references + 1))
    figures = TypicalityFigures.of(lowest, n_references=n_references)
    words, findings = of_typicality(figures), about_typicality(figures, np.arange(30))
    assert "about as ordinary" not in words
    if lowest[0] > LOW:
        assert f"the model has {n_references}." in words
        assert [(finding.kind, finding.message) for finding in findings] == [("few_training_images", words)]
    else:
        assert "These images differ" in words
        assert [finding.kind for finding in findings] == ["unlike_the_training_images"]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([True, False, True], "At least 2 of the 3 images are training images, or copies of them. "),
        ([True, False], "At least 1 of the 2 images is a training image, or a copy of one. "),
        ([True], "The image is a training image, or a copy of one. "),
        ([True, True], "All 2 images are training images, or copies of them. "),
    ],
)
def test_training_images_are_a_finding(known, words):
    (finding,) = about_training_images(np.array(known), np.arange(len(known)) + 7)
    assert finding.kind == "training_images"
    assert finding.positions == tuple(np.flatnonzero(known) + 7)
    assert finding.message.startswith(words)
    assert about_training_images(np.zeros(3, dtype=bool), np.arange(3)) == []


def test_other_estimators_have_no_typicality():
    assert "LogisticRegression, which has no typicality" in typicality_of(LogisticRegression(), None, None)
