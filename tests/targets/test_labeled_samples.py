"""Training and validation parts of samples with their targets."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.labeled_samples import Labeled, hold_out
from sktl._targets.number_targets import check_numbers
from sktl.exceptions import InvalidParameterError

N = 60
WEIGHTS = np.where(np.arange(N) % 4 == 1, 0.0, 1.0)
COUNTED = np.flatnonzero(WEIGHTS)
CODES = np.arange(N) % 3
CODES[5] = 3  # of weight zero


def targets_of(kind, groups=None):
    if kind == "classes":
        return ClassTargets(np.arange(4), CODES, WEIGHTS, groups)
    if kind == "labels":
        return LabelTargets(np.arange(4), (CODES[:, None] == np.arange(4)).astype(float), WEIGHTS, groups)
    return check_numbers(CODES, WEIGHTS, "squared_error", N, groups=groups)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
@pytest.mark.parametrize("groups", [None, np.arange(N) // 3], ids=["samples", "groups"])
def test_samples_of_weight_zero_are_neither_trained_nor_held_out(kind, groups):
    targets = targets_of(kind, groups)
    counted = targets.restricted(COUNTED)
    for seed in range(5):
        train, held_out = hold_out(targets, 0.2, seed)
        assert_array_equal(np.sort(np.r_[train, held_out]), COUNTED)
        for found, expected in zip((train, held_out), hold_out(counted, 0.2, seed), strict=True):
            assert_array_equal(found, COUNTED[expected])


def test_too_few_samples_of_nonzero_weight_are_counted_without_the_others():
    targets = ClassTargets(np.arange(2), np.arange(10) % 2, np.r_[np.ones(3), np.zeros(7)])
    with pytest.raises(InvalidParameterError, match="of 3 images of nonzero weight with 2 classes, of which 1 has 1:"):
        hold_out(targets, 0.5, 0)


@st.composite
def few_samples(draw):
    codes = np.unique(draw(st.lists(st.integers(0, 2), min_size=2, max_size=8)), return_inverse=True)[1]
    groups = draw(st.none() | st.lists(st.integers(0, 3), min_size=len(codes), max_size=len(codes)).map(np.array))
    classes, weights = np.arange(codes.max() + 1), np.ones(len(codes))
    if draw(st.booleans()):
        return ClassTargets(classes, codes, weights, groups)
    return LabelTargets(classes, (codes[:, None] == classes).astype(float), weights, groups)


@given(few_samples(), st.sampled_from([0.02, 0.1, 0.5, 0.9]))
def test_another_fraction_is_advised_if_and_only_if_one_is_possible(targets, fraction):
    try:
        hold_out(targets, fraction, 0)
    except InvalidParameterError as error:
        advice = re.search(
            r"Pass X_val and y_val, (?:validation_fraction=(\S+), )?or early_stopping=False\.$", str(error)
        )
        if advice[1] is not None:
            hold_out(targets, float(advice[1]), 0)
            return
        for other in np.linspace(0.05, 0.95, 10):
            with pytest.raises(InvalidParameterError):
                hold_out(targets, other, 0)


def test_no_fraction_helps_if_groups_are_classes():
    for groups in (CODES[COUNTED], np.zeros(len(COUNTED), int)):
        with pytest.raises(InvalidParameterError, match=r"\. Pass X_val and y_val, or early_stopping=False\.$"):
            hold_out(targets_of("classes").restricted(COUNTED).with_changes(groups=groups), 0.2, 0)


def test_samples_are_only_copied_if_some_have_weight_zero():
    rows = np.arange(2 * N).reshape(N, 2)
    labeled = Labeled(rows, targets_of("classes"))
    found = labeled.counted()
    assert_array_equal(found.samples, rows[COUNTED])
    assert found.targets.weights.all()
    assert found.counted() is found
