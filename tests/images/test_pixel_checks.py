"""Numbers that are pixels are accepted, and others are refused with what to pass instead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sktl._images.pixel_checks import check_pixels
from sktl._images.problems import ImageProblem

FLOATS = [np.float16, np.float32, np.float64, np.longdouble]


@settings(max_examples=50)
@given(low=st.floats(0, 1), high=st.floats(0, 1), dtype=st.sampled_from(FLOATS))
def test_floats_between_0_and_1_are_legal(low, high, dtype):
    check_pixels(np.array([[low, high]], dtype))


@settings(max_examples=50)
@given(value=st.one_of(st.floats(1.001, 65504), st.floats(-65504, -0.001)), dtype=st.sampled_from(FLOATS))
def test_floats_outside_0_and_1_are_refused(value, dtype):
    with pytest.raises(ImageProblem, match=r"floats must lie in \[0, 1\]: \w+"):
        check_pixels(np.array([[0.5, value]], dtype))


@settings(max_examples=50)
@given(value=st.floats(1.5, 1e6))
@example(value=16.0)
@example(value=200.0)
def test_a_divisor_is_suggested_where_it_explains_the_largest_value(value):
    with pytest.raises(ImageProblem) as raised:
        check_pixels(np.array([[0, value]]))
    explaining = [white for white in (255, 1023, 4095, 65535) if white / 2 < value <= white] + [16] * (value == 16)
    if explaining:
        assert f"pass x / {explaining[0]} if white is {explaining[0]}" in str(raised.value)
    else:
        assert "divide by the value of white" in str(raised.value)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 4, 3)), r"has no pixels: shape \(0, 4, 3\)"),
        (np.full((2, 2), np.nan), "contains NaN; every pixel must be a finite number"),
        (np.array([[np.inf, -np.inf]]), "contains infinity; every pixel must be a finite number"),
        (np.ones((2, 2), bool), r"bool; .*pass x\.astype\(float\)"),
        (np.array([[0, 255]]), r"int64 with values from 0 to 255; pass x\.astype\(np\.uint8\)"),
        (np.array([[0, 4095]], np.uint16), "uint16, whose white is unknown.*x / 4095"),
        (np.array([["a"]]), r"dtype <U1; pass uint8, or floats"),
        (np.array([[None]]), r"dtype object; pass uint8, or floats"),
        (np.array([[1j]]), r"dtype complex128; pass uint8, or floats"),
    ],
    ids=lambda value: str(getattr(value, "dtype", ""))[:10] or "reason",
)
def test_illegal_pixels_are_refused_with_the_remedy(array, reason):
    with pytest.raises(ImageProblem, match=reason):
        check_pixels(array)
