"""Laws of scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.kernel_ridge import KernelRidge

from sktl._typicality.directions import cosines, directions_of
from sktl._typicality.scores import Combination, Scorer

RNG = np.random.default_rng(0)
CODES = np.arange(30) % 3
MEMBERSHIPS = (CODES[:, None] == np.arange(3)).astype(np.float64)
FEATURES = RNG.normal(size=(30, 20)) + RNG.normal(size=(3, 20))[CODES]
DIRECTIONS = directions_of(FEATURES)
NEW = cosines(directions_of(RNG.normal(size=(25, 20))), DIRECTIONS)
SCORES = RNG.normal(size=(50, 2)) * [1, 10] + [0, 5]


def test_the_scores_are_the_nearest_cosine_and_the_largest_output_of_scikit_learns_ridge():
    products = cosines(DIRECTIONS, DIRECTIONS)
    ridge = KernelRidge(alpha=0.3, kernel="precomputed").fit(products, MEMBERSHIPS - MEMBERSHIPS.mean(axis=0))
    expected = (ridge.predict(NEW) + MEMBERSHIPS.mean(axis=0)).max(axis=1)
    assert_allclose(Scorer.of(products, MEMBERSHIPS)(NEW), np.stack([NEW.max(axis=1), expected], axis=1))


def test_without_classes_or_labels_only_the_nearest_counts():
    scorer = Scorer.of(cosines(DIRECTIONS, DIRECTIONS), np.empty((30, 0)))
    assert_array_equal(scorer(NEW), NEW.max(axis=1, keepdims=True))


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_that_all_references_have_or_none_does_not_count(value):
    products = cosines(DIRECTIONS, DIRECTIONS)
    memberships = np.insert(MEMBERSHIPS, 1, value, axis=1)
    assert_allclose(Scorer.of(products, memberships)(NEW), Scorer.of(products, MEMBERSHIPS)(NEW))


def test_the_bits_of_a_score_do_not_depend_on_the_batch():
    scorer = Scorer.of(cosines(DIRECTIONS, DIRECTIONS), MEMBERSHIPS)
    assert_array_equal(np.concatenate([scorer(NEW[i : i + 1]) for i in range(25)]), scorer(NEW))


@given(st.floats(-5, 5), st.floats(0, 5), st.integers(0, 1))
def test_a_combination_rises_with_each_score(start, step, column):
    combination = Combination.of(SCORES)
    low = np.array([[start, start]])
    high = low.copy()
    high[:, column] += step
    assert combination(low) <= combination(high)


def test_equal_scores_can_be_combined():
    assert np.isfinite(Combination.of(np.ones((4, 2)))(np.ones((1, 2)))).all()
