"""Intervals are SciPy's where images are independent, wider where they are not, and right as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from sktl._evaluation.confidence_intervals import Mean, Rate, fewest_images, lower_limits

SEEDS = st.integers(0, 2**32 - 1)


def hits_of(n_hits, n):
    return np.arange(n) < n_hits


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_without_groups_it_is_wilsons(n, share):
    rate = Rate.of(hits_of(round(share * n), n))
    expected = binomtest(rate.n_hits, n).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


@given(seed=SEEDS, n=st.integers(2, 60))
def test_groups_of_one_image_change_nothing(seed, n):
    rng = np.random.default_rng(seed)
    hits = rng.random(n) < 0.7
    alone, grouped = Rate.of(hits), Rate.of(hits, rng.permutation(n))
    share = hits.mean()
    # But for the correction n / (n - 1) of a variance that is estimated.
    assert grouped.low == pytest.approx(alone.low, abs=0.5 / n)
    assert (grouped.low <= share) & (share <= grouped.high)


@given(seed=SEEDS, n=st.integers(3, 40), copies=st.integers(2, 6), share=st.sampled_from([0.6, 0.95, 1.0]))
def test_copies_of_images_tell_nothing_new(seed, n, copies, share):
    hits = np.random.default_rng(seed).random(n) < share
    once, repeated = Rate.of(hits), Rate.of(np.repeat(hits, copies), np.repeat(np.arange(n), copies))
    assert repeated.low <= once.low + 1e-9
    assert repeated.high >= once.high - 1e-9


@given(seed=SEEDS, n=st.integers(3, 40), share=st.sampled_from([0.6, 0.95, 1.0]))
def test_more_and_more_frames_of_the_same_groups_do_not_narrow_the_interval(seed, n, share):
    rng = np.random.default_rng(seed)
    hits, groups = rng.random(n) < share, rng.integers(0, 5, n)
    some, more = (Rate.of(np.repeat(hits, copies), np.repeat(groups, copies)) for copies in (50, 100))
    assert more.low <= some.low + 1e-9
    assert more.high >= some.high - 1e-9


@given(n_groups=st.integers(2, 60), size=st.integers(1, 1000))
def test_without_a_mistake_no_more_images_count_than_there_are_groups(n_groups, size):
    hits, groups = np.ones(n_groups * size, bool), np.repeat(np.arange(n_groups), size)
    assert Rate.of(hits, groups).low <= Rate.of(hits[:n_groups]).low + 1e-9
    assert Rate.of(~hits, groups).high >= Rate.of(~hits[:n_groups]).high - 1e-9


def test_one_group_says_nothing_about_others():
    assert Rate.of(hits_of(9, 10), np.zeros(10)) == Rate(9, 10, 0.0, 1.0)
    assert Mean.of(np.arange(5.0), np.zeros(5)) == Mean(2.0, -math.inf, math.inf)


def test_no_image_has_no_share():
    rate = Rate.of(np.zeros(0, bool), np.zeros(0))
    assert (rate.low, rate.high) == (0, 1)
    assert math.isnan(rate.value)


def test_intervals_of_groups_contain_the_truth_as_often_as_they_say():
    """Groups whose shares differ: an interval that ignores this is wrong far too often."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 12)
    right, naive, n_trials = 0, 0, 300
    for _ in range(n_trials):
        hits = rng.random(len(groups)) < rng.beta(4, 2, 40)[groups]
        grouped, alone = Rate.of(hits, groups), Rate.of(hits)
        right += grouped.low <= 2 / 3 <= grouped.high
        naive += alone.low <= 2 / 3 <= alone.high
    assert 0.92 <= right / n_trials <= 0.985
    assert naive / n_trials < 0.85


@pytest.mark.parametrize(
    ("accuracy", "correlation", "n_groups", "size"),
    [(0.9, 0.6, 5, 20), (0.95, 0.6, 10, 20), (0.98, 0.3, 20, 20), (0.98, 0.6, 10, 200)],
)
def test_intervals_of_groups_are_wide_enough_if_mistakes_are_rare(accuracy, correlation, n_groups, size):
    rng = np.random.default_rng(0)
    parameters = [share * (1 / correlation - 1) for share in (accuracy, 1 - accuracy)]
    groups, right, n_trials = np.repeat(np.arange(n_groups), size), 0, 400
    for _ in range(n_trials):
        rate = Rate.of(rng.random(len(groups)) < rng.beta(*parameters, n_groups)[groups], groups)
        right += rate.low <= accuracy <= rate.high
    assert right / n_trials >= 0.94


@given(seed=SEEDS, n=st.integers(1, 30), with_groups=st.booleans())
def test_lower_limits_are_the_rates_of_the_first_images(seed, n, with_groups):
    rng = np.random.default_rng(seed)
    hits, groups = rng.random(n) < 0.8, rng.integers(0, 6, n) if with_groups else None
    rates = [Rate.of_rows(hits, np.arange(n) < k, groups) for k in range(1, n + 1)]
    np.testing.assert_allclose(lower_limits(hits, groups), [rate.low for rate in rates], atol=1e-12)


@given(st.floats(0.01, 0.99))
def test_no_fewer_images_reach_a_share(share):
    n = fewest_images(share)
    assert Rate.of(np.ones(n, bool)).low >= share - 1e-12
    assert Rate.of(np.ones(n - 1, bool)).low < share


def test_the_names_of_groups_do_not_matter():
    hits, groups = hits_of(7, 12), np.arange(12) // 3
    assert Rate.of(hits, groups) == Rate.of(hits, 100 - groups)
    assert Mean.of(hits + 0.0, groups) == Mean.of(hits + 0.0, 100 - groups)


@given(seed=SEEDS, n=st.integers(2, 50), unit=st.sampled_from([1e-300, 1.0, 1e307]))
def test_means_are_students_in_any_unit(seed, n, unit):
    values = np.random.default_rng(seed).normal(3, 2, n)
    low, high = (float(limit) * unit for limit in ttest_1samp(values, 0).confidence_interval(0.95))  # or infinite
    mean = Mean.of(values * unit)
    assert mean.value == pytest.approx(values.mean() * unit, rel=1e-9)
    assert (mean.low, mean.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9 * unit)
    grouped = Mean.of(np.repeat(values, 3) * unit, np.repeat(np.arange(n), 3))
    assert (grouped.low, grouped.high) == pytest.approx((mean.low, mean.high), rel=1e-6, abs=1e-9 * unit)


def test_the_mean_of_one_image_has_no_limits():
    assert Mean.of(np.array([2.0])) == Mean(2.0, -math.inf, math.inf)
