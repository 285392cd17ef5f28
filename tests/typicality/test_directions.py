"""Laws of directions and their cosines."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sktl._typicality.directions import cosines, directions_of

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(40, 300)).astype(np.float32) ** 2
EXACT = cosines(directions_of(FEATURES), directions_of(FEATURES))


def test_cosines_are_close_to_the_cosines_of_the_features():
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    assert_allclose(EXACT, unit @ unit.T, atol=0.005)
    assert_allclose(np.diag(EXACT), 1)


@given(st.permutations(range(40)), st.integers(1, 40))
def test_the_bits_of_a_cosine_do_not_depend_on_the_batch(order, n):
    rows = order[:n]
    found = cosines(directions_of(FEATURES[rows]), directions_of(FEATURES[order]))
    assert_array_equal(found, EXACT[np.ix_(rows, order)])


@given(st.floats(1e-20, 1e20))
def test_a_direction_does_not_depend_on_the_length(factor):
    assert_allclose(directions_of(FEATURES * np.float32(factor)), directions_of(FEATURES), atol=1)


def test_features_that_are_all_zero_have_no_direction_and_a_cosine_of_zero():
    nothing = directions_of(np.zeros((1, 300), np.float32))
    assert not nothing.any()
    assert_array_equal(cosines(nothing, directions_of(FEATURES)), np.zeros((1, 40)))
