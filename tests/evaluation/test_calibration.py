"""Calibration: right probabilities err by chance alone."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from evaluations import answers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from sktl._evaluation.calibration import Calibration


@given(answers())
def test_calibration_is_the_mean_distance_of_the_ranges(pair):
    probabilities, hits = pair
    found = Calibration.of(probabilities, hits)
    assert sum(bin.rate.n for bin in found.bins) == len(hits)
    distances = [bin.rate.n * abs(bin.probability - bin.rate.value) for bin in found.bins]
    assert found.error == pytest.approx(sum(distances) / len(hits))
    assert all(bin.low - 1e-9 <= bin.probability <= bin.high + 1e-9 for bin in found.bins)
    assert (found.probability, found.share) == pytest.approx((probabilities.mean(), hits.mean()))


def test_right_probabilities_have_the_error_of_chance_and_no_more():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(50):
        probabilities = rng.random(400)
        found = Calibration.of(probabilities, rng.random(400) < probabilities)
        errors.append(found.error / found.chance)
    assert 0.85 < np.mean(errors) < 1.15


@given(st.integers(1, 20), st.floats(0.01, 0.99), st.data())
def test_the_p_value_of_equal_probabilities_is_twice_the_binomial_one(n, probability, data):
    n_hits = data.draw(st.integers(0, n))
    found = Calibration.of(np.full(n, probability), np.arange(n) < n_hits).p_value
    one_sided = [binomtest(n_hits, n, probability, side).pvalue for side in ("less", "greater")]
    assert found == pytest.approx(min(1, 2 * min(one_sided)), rel=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.01, 0.05]))
def test_right_probabilities_are_called_wrong_no_more_often_than_stated(seed, n, level):
    """Exactly, over all numbers of hits of independent images with different probabilities."""
    probabilities = np.random.default_rng(seed).beta(2, 0.5, n)
    distribution = reduce(np.convolve, [[1 - p, p] for p in probabilities], np.ones(1))
    p_values = [Calibration.of(probabilities, np.arange(n) < k).p_value for k in range(n + 1)]
    assert distribution[np.array(p_values) < level].sum() <= level + 1e-12


def test_right_probabilities_of_groups_that_differ_are_hardly_ever_called_wrong():
    rng = np.random.default_rng(0)
    groups, n_trials = np.repeat(np.arange(10), 30), 300
    called = [
        Calibration.of(np.full(300, 0.9), rng.random(300) < rng.beta(2.7, 0.3, 10)[groups], groups).differs
        for _ in range(n_trials)
    ]
    assert np.mean(called) <= 0.01


def test_a_difference_of_half_a_point_does_not_matter():
    n = 1_000_000
    certain = Calibration.of(np.full(n, 0.904), np.arange(n) < 0.9 * n)
    assert certain.p_value < 1e-6
    assert not certain.differs


def test_sure_and_right_is_calibrated():
    found = Calibration.of(np.ones(5), np.ones(5, bool))
    assert (found.error, found.chance, len(found.bins), found.p_value) == (0, 0, 1, 1)
