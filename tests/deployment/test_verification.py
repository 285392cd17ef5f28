"""What counts as rounding, what a change of outputs costs, and what an error about an exported file advises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sktl._deployment.verification import Answers, Comparison, check_rounding, drop_of, within_rounding
from sktl.exceptions import ExportError

KINDS = ["classes", "labels", "numbers", "features"]
TABLES = arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.floats(0, 1))


def compared(kind, found, expected):
    return Comparison.of(kind, Answers(np.asarray(found, float)), Answers(np.asarray(expected, float)))


@given(st.sampled_from(KINDS), TABLES)
def test_equal_outputs_differ_by_nothing(kind, table):
    found = compared(kind, table, table)
    assert (found.n_images, found.difference, found.n_changed, found.drop) == (len(table), 0, 0, 0)
    assert within_rounding(kind, found, 0)


@given(st.sampled_from(KINDS), TABLES, st.integers(0, 2**31 - 1))
def test_a_drop_is_never_negative_and_that_of_labels_at_most_1(kind, table, seed):
    found = np.random.default_rng(seed).random(table.shape)
    drop = drop_of(kind, found, table)
    assert drop >= 0
    if kind in ("classes", "labels"):
        assert drop <= 1


def test_a_changed_label_costs_the_difference_of_its_probabilities():
    expected = np.array([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    found = np.array([[0.4, 0.6], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7]])
    assert drop_of("classes", found, expected) == pytest.approx((0.2 + 0.8) / 4)
    assert drop_of("labels", found, expected) == pytest.approx(2 * (0.2 + 0.8) / 8)


@given(st.integers(0, 2**31 - 1))
def test_the_drop_of_classes_is_the_lost_accuracy_if_probabilities_are_right(seed):
    """Labels drawn from the probabilities: the lost accuracy, averaged over draws, is the drop."""
    rng = np.random.default_rng(seed)
    expected, found = rng.dirichlet([1, 1, 1], 2_000), rng.dirichlet([1, 1, 1], 2_000)
    y = (expected.cumsum(axis=1) > rng.random((2_000, 1))).argmax(axis=1)
    lost = (expected.argmax(axis=1) == y).mean() - (found.argmax(axis=1) == y).mean()
    assert drop_of("classes", found, expected) == pytest.approx(lost, abs=0.08)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.sampled_from(["numbers", "features"]))
def test_the_drop_of_numbers_depends_neither_on_unit_nor_on_offset(scale, offset, kind):
    rng = np.random.default_rng(0)
    expected = rng.standard_normal((20, 2))
    found = expected + 0.1 * rng.standard_normal((20, 2))
    drop = drop_of(kind, found, expected)
    assert drop_of(kind, found * scale + offset, expected * scale + offset) == pytest.approx(drop, rel=1e-6)
    assert 0.002 < drop < 0.05


@pytest.mark.parametrize("constant", [0, 1 / 3, 5.1, -1e9 / 3])
def test_a_number_that_is_the_same_for_all_images_costs_0_or_1(constant):
    varying = np.arange(4.0)
    expected = np.stack([np.full(4, constant), varying], axis=1)
    assert drop_of("numbers", expected.astype(np.float32), expected) == 0
    changed = np.stack([np.full(4, constant + abs(constant) / 1e3 + 1e-3), varying], axis=1)
    assert drop_of("numbers", changed, expected) == 0.5
    assert drop_of("numbers", changed[:, :1], expected[:, :1]) == 1


def test_labels_that_are_undecided_count_as_equal_and_others_do_not():
    tie, clear = [[0.500001, 0.499999]], [[0.51, 0.49]]
    assert compared("classes", [[0.499999, 0.500001]], tie).n_changed == 0
    assert compared("classes", [[0.49, 0.51]], clear).n_changed == 1
    assert compared("labels", [[0.499999, 0.3]], [[0.500001, 0.3]]).n_changed == 0
    assert compared("labels", [[0.49, 0.3]], [[0.51, 0.3]]).n_changed == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_never_rounding(kind, bad):
    found = compared(kind, [[0.5, bad]], [[0.5, 0.5]])
    assert found.drop == np.inf
    assert not within_rounding(kind, found, 0)


def test_outputs_of_another_shape_are_never_rounding():
    assert not within_rounding("classes", compared("classes", [[1.0]], [[0.5, 0.5]]), 0)


def test_numbers_that_float32_cannot_tell_apart_are_no_rounding():
    """Seconds since 1970: float32 has steps of 128 seconds there."""
    expected = 1.7e9 + np.linspace(-1_000, 1_000, 9)[:, None]
    assert not within_rounding("numbers", compared("numbers", np.float32(expected), expected), 0)
    years = 2000 + np.linspace(-10, 10, 9)[:, None]
    assert within_rounding("numbers", compared("numbers", np.float32(years), years), 0)
    constant = np.full((9, 1), 1.7e9 + 1)
    assert within_rounding("numbers", compared("numbers", np.float32(constant), constant), 0)


SPREAD = np.linspace(-1, 1, 9)[:, None]


def check(found, expected):
    found, expected = Answers(found), Answers(expected)
    check_rounding("numbers", Comparison.of("numbers", found, expected), expected, 0, "ONNX Runtime")


@given(scale=st.floats(1e-3, 1e3), offset=st.sampled_from([-1, 1]), size=st.floats(1e6, 1e9))
def test_numbers_that_float32_cannot_tell_apart_need_another_offset_which_then_helps(scale, offset, size):
    numbers = scale * (SPREAD + offset * size)
    rounded = numbers.astype(np.float32).astype(float)
    with pytest.raises(ExportError, match=r"No file was written\. float32 has too few digits .* Subtract a constant"):
        check(rounded + np.spacing(np.float32(np.abs(numbers).max())), numbers)
    centered = numbers - numbers.mean()
    check(centered.astype(np.float32), centered)


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_other_numbers_that_differ_need_another_format_or_backbone(scale, offset):
    numbers = scale * (SPREAD + offset)
    with pytest.raises(ExportError, match="Export to another format, or fit with another backbone"):
        check(numbers + 0.1 * scale * SPREAD, numbers)
