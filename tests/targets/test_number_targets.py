"""Numbers to standardized targets and back, in any unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from sktl._targets.number_targets import check_numbers
from sktl.exceptions import InvalidInputError

RNG = np.random.default_rng(0)
Y = RNG.normal(3, 2, size=(9, 2))
LOSSES = ["squared_error", "huber"]
TABLES = arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 3)), elements=st.integers(-20, 20))
losses = pytest.mark.parametrize("loss", LOSSES)


def check(y=Y, sample_weight=None, loss="squared_error", **kwargs):
    return check_numbers(y, sample_weight, loss, len(y), **kwargs)


@losses
@settings(max_examples=30)
@given(TABLES)
def test_the_way_back_is_exact(loss, y):
    targets = check(y, loss=loss)
    assert np.isfinite(targets.values()).all()
    assert_allclose(targets.outputs.observed(targets.values()), y, atol=1e-12)


def test_numbers_are_standardized_by_mean_and_deviation_or_by_median_and_absolute_deviation():
    units = check().units
    assert_allclose(units.center, Y.mean(axis=0))
    assert_allclose(units.scale, Y.std(axis=0))
    for n in (8, 9):
        units = check(Y[:n], loss="huber").units
        median = np.median(Y[:n], axis=0)
        assert_allclose(units.center, median)
        assert_allclose(units.scale, 1.4826 * np.median(np.abs(Y[:n] - median), axis=0))


@losses
@settings(max_examples=30)
@given(y=TABLES, data=st.data())
def test_a_weight_is_a_number_of_repetitions_in_any_unit(loss, y, data):
    repeats = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y)).filter(any)))
    repeated = check(np.repeat(y, repeats, axis=0), loss=loss).units
    for unit in (1, 0.1, 1 / 3):
        units = check(y, repeats * unit, loss).units
        assert_allclose(units.center, repeated.center, atol=1e-9)
        assert_allclose(units.scale, repeated.scale, rtol=1e-9)


@losses
@settings(max_examples=30)
@given(y=TABLES, factor=st.sampled_from([-1e9, -1, 1e-9, 0.5, 3]), shift=st.integers(-1000, 1000))
def test_standardized_numbers_have_no_unit(loss, y, factor, shift):
    standardized = check(y, loss=loss).values()
    varies = np.ptp(y, axis=0) > 0
    found = check(y * factor, loss=loss).values()
    assert_allclose(found[:, varies], np.sign(factor) * standardized[:, varies], atol=1e-9)
    assert_allclose(check(y + shift, loss=loss).values(), standardized, atol=1e-9)


@losses
@pytest.mark.parametrize("number", [0.0, 7.0, 1e-300, -1e300])
def test_equal_numbers_have_scale_1(loss, number):
    targets = check(np.full(5, number), loss=loss)
    assert targets.units.scale.tolist() == [1]
    assert targets.units.center.tolist() == [number]
    assert not targets.values().any()


def test_the_deviation_takes_the_place_of_an_absolute_deviation_of_zero():
    y = np.array([0.0, 0, 0, 0, 5])
    assert_allclose(check(y, loss="huber").units.scale, y.std())


@losses
@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_of_large_and_small_numbers_stay_finite(loss, unit):
    assert_allclose(check(Y * unit, loss=loss).values(), check(loss=loss).values(), rtol=1e-9)


@losses
@settings(max_examples=30)
@given(st.permutations(range(4)))
def test_columns_are_standardized_alike_wherever_they_are(loss, columns):
    y, weights = np.random.default_rng(1).normal(size=(50, 4)), np.linspace(0.1, 2, 50)
    targets, others = check(y, weights, loss), check(np.asfortranarray(y[:, columns]), weights, loss)
    assert_array_equal(targets.values()[:, columns], others.values())
    assert_array_equal(targets.ordered().values(), others.ordered().values())


def test_predictions_have_the_shape_of_y():
    column = Y[:, :1]
    for y in (column[:, 0], column[:, 0].tolist(), pd.Series(column[:, 0]), tuple(column[:, 0])):
        assert check(y).units.is_vector
    for y in (column, column.tolist(), pd.DataFrame(column), Y):
        assert not check(y).units.is_vector


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([1, np.nan], r"y\[1\] is a missing value \(NaN\), but each image needs a finite number"),
        ([1, None], r"y\[1\] is a missing value"),
        ([1, -np.inf], r"y\[1\] is infinite"),
        ([[1, 2], [3, np.nan]], r"y\[1, 1\] is a missing value"),
        (pd.DataFrame({"age": [1, 2], "size": [3, np.inf]}), r"y\[1, 'size'\] is infinite"),
        (["a", "b"], r"y must hold numbers, one for each image; y\[0\] is a str"),
        ([1, 1j], r"y\[1\] is a complex"),
        (pd.to_datetime(["2020", "2021"]), r"y must hold numbers.*datetime64"),
        ([[1, 2], [3]], r"y\[0\] is a list"),
        (np.ones((2, 1, 1)), r"y has shape \(2, 1, 1\)"),
        (np.ones((2, 0)), "y has no columns"),
        (np.ones(3), "X has 2 images but y has 3 values"),
        ({1.0, 2.0}, "y is a set; y must hold one number for each image"),
        (3.0, "y is a float; y must hold one number"),
        ([1e308, -1e308], "y has numbers up to 1e.308, whose differences are beyond float64. Scale them"),
        ([10**400, 1], "y has numbers beyond float64"),
    ],
)  # fmt: skip
def test_what_are_no_numbers_is_refused_by_name(y, words):
    with pytest.raises(InvalidInputError, match=words) as caught:
        check_numbers(y, None, "huber", 2)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y[:3], "X_val has 4 images but y_val has 3 rows"),
        (Y[:4, 0], "y_val has 1 columns, but y has 2"),
        (np.where(Y[:4] > 3, np.nan, 1), r"y_val\[\d, \d\] is a missing value"),
        (None, "the target y_val is None"),
        ({1.0, 2.0}, "y_val is a set; y_val must hold one number"),
    ],
)
def test_numbers_of_a_validation_set_are_checked_by_the_same_law(y, words):
    with pytest.raises(InvalidInputError, match=words):
        check().of_validation(y, None, 4)


def test_numbers_of_a_validation_set_are_in_the_unit_of_the_training_set():
    found = check(groups=np.arange(9)).of_validation(Y[:4], None, 4)
    assert_array_equal(found.values(), check().values()[:4])
    assert found.groups is None


def test_targets_of_some_rows_are_standardized_by_these_alone():
    rows = np.array([4, 1, 7])
    found = check(groups=np.arange(9), rows=rows)
    assert_array_equal(found.values(), check(Y[rows]).values())
    assert found.groups.tolist() == rows.tolist()


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("sentinel", [-1.0, 9.97e36, 1e200, -1.7e308])
def test_numbers_of_weight_zero_may_stand_for_missing_numbers(loss, sentinel):
    numbers = np.random.default_rng(0).normal(size=(20, 2)) * [1, 1e-9]
    weights = np.arange(20) % 4 > 0
    found = check_numbers(np.where(weights[:, None], numbers, [sentinel, -sentinel]), weights, loss, 20)
    expected = check_numbers(numbers[weights], None, loss, 15)
    assert_array_equal(found.standardized[weights], expected.standardized)
    assert_array_equal(found.rank, expected.rank)
    assert found.of_validation([[sentinel, -sentinel]], [1], 1).weights.tolist() == [1]
