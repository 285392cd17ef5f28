"""Figures in sentences: never rounded to what they are not."""

from __future__ import annotations

import numpy as np
import pytest

from sktl._evaluation.calibration import Calibration
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.confidence_intervals import Mean, Rate
from sktl._evaluation.selective_classification import Coverage
from sktl._evaluation.sentences import headlines, interval, listed, of_calibration, of_target, of_typicality
from sktl._evaluation.typicality_figures import TypicalityFigures


def test_intervals_that_there_are_not_are_not_shown():
    assert interval(Rate.of(np.zeros(0, bool))) == ""
    assert interval(Mean.of(np.ones(1))) == ""
    assert interval(Rate(9, 10, 0.5, 1.0)) == "50.0 to 100 %"


def test_too_sure_too_cautious_and_right_are_told_apart():
    n = 1000
    sure = of_calibration(Calibration.of(np.full(n, 0.95), np.arange(n) < 700))[0]
    cautious = of_calibration(Calibration.of(np.full(n, 0.55), np.arange(n) < 900))[0]
    right = of_calibration(Calibration.of(np.full(n, 0.8), np.arange(n) < 800))[0]
    assert "too high by 25.0 percentage points" in sure
    assert "too low by 35.0 percentage points" in cautious
    assert "about right" in right
    few = of_calibration(Calibration.of(np.full(100, 0.95), np.arange(100) < 92))[0]
    assert "about right, as far as these images show" in few


def test_differences_that_so_few_images_cannot_prove_are_not_called_right():
    few = of_calibration(Calibration.of(np.full(12, 0.6), np.arange(12) < 9))[0]
    assert "The difference of 15.0 percentage points may be due to chance: these images, or their groups" in few
    typicality = of_typicality(TypicalityFigures.of(np.full(8, 0.5)))
    assert typicality.endswith("These images, or their groups, are too few to tell whether they differ.")
    assert "about as ordinary" in of_typicality(TypicalityFigures.of(np.full(100, 0.5)))


def test_targets_that_are_reached_never_or_always_say_so():
    never, some = (Coverage.of(np.repeat([0.9, 0.8], 50), np.arange(100) < n).targets[0] for n in (0, 52))
    always = Coverage.of(np.full(400, 0.9), np.ones(400, bool)).targets[-1]
    assert of_target(never) == (
        "These images do not prove that a threshold reaches 90 % accuracy. This takes at least 35 images without a "
        "mistake, or more with some."
    )
    assert of_target(some) == (
        "To reach 90 % accuracy, leave 50.0 % of the images to a person: those with a probability below 0.900. Of the "
        "other 50 images, 100 % are right (95 % confidence interval 92.9 to 100 %)."
    )
    assert of_target(always) == (
        "The accuracy is at least 99 % without leaving any image to a person: 100 % of 400 images (95 % confidence "
        "interval 99.0 to 100 %)."
    )


def test_long_lists_and_long_names_are_cut():
    assert listed(["a" * 100, "b", "c"], 2) == f"{'a' * 16}…{'a' * 15}, b, and 1 more"


@pytest.mark.parametrize(("n_unknown", "of_which"), [(0, ""), (1, " for 2 images of classes that the model knows")])
def test_the_log_loss_says_of_which_images_it_is(n_unknown, of_which):
    figures = ClassFigures.of(["a", "b", "x"], np.array([0, 1] + [2] * n_unknown), np.eye(2)[[0, 1] + [0] * n_unknown])
    (line,) = [line for line in headlines(figures) if line.startswith("Log loss")]
    assert line.startswith(f"Log loss 0.000{of_which}: the model typically gives the true class")
