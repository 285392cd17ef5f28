"""Figures of numbers are scikit-learn's, in any unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from sktl._evaluation.group_figures import Groups
from sktl._evaluation.number_figures import NumberFigures

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 30), st.integers(1, 3), st.sampled_from([1e-300, 1.0, 2e307]))
def test_figures_are_scikit_learns_in_any_unit(seed, n, k, unit):
    rng = np.random.default_rng(seed)
    true, predicted = rng.normal(size=(2, n, k))
    figures = NumberFigures.of([f"x{i}" for i in range(k)], true * unit, predicted * unit)
    assert figures.r2 == pytest.approx(r2_score(true, predicted))
    for i, row in enumerate(figures.of_numbers):
        columns = true[:, i], predicted[:, i]
        assert row.r2 == pytest.approx(r2_score(*columns))
        assert row.error.value == pytest.approx(mean_absolute_error(*columns) * unit)
        assert row.root_mean_square == pytest.approx(root_mean_squared_error(*columns) * unit)
        assert row.guess == pytest.approx(np.abs(true[:, i] - np.median(true[:, i])).mean() * unit)
        assert 0 <= row.error.low <= row.error.value <= row.error.high
        for share, error in row.within:
            assert (np.abs(columns[1] - columns[0]) * unit <= error * (1 + 1e-12)).mean() >= share


def test_equal_numbers_have_no_r2_and_exact_ones_no_errors():
    exact = NumberFigures.of(["x"], np.ones((4, 1)), np.ones((4, 1)))
    assert exact.r2 is None
    assert len(exact.worst()) == 0
    assert exact.of_numbers[0].error.value == exact.of_numbers[0].root_mean_square == 0


def test_the_worst_come_first_and_surely_bad_groups_too():
    true = np.zeros((9, 1))
    predicted = np.array([1, 1.1, 0.9, 3, 3.1, 2.9, 0, 0, 9.0])[:, None]
    figures = NumberFigures.of(["x"], true, predicted, Groups(np.arange(9) // 3, ("a", "b", "c")))
    assert figures.worst()[:2].tolist() == [8, 4]
    assert [group.name for group in figures.of_groups] == ["b", "a", "c"]  # the images of c differ: it may be chance
