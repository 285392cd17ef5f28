"""Calibration and coverage: thresholds do what the table says, and right probabilities err by chance alone."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from sktl._evaluation.calibration import TARGETS, Calibration, Coverage, threshold_between
from sktl._evaluation.confidence_intervals import Rate
from sktl._evaluation.sentences import threshold


@st.composite
def answers(draw):
    """Draw probabilities, some of them equal, and whether answers are right."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, digits = draw(st.integers(1, 60)), draw(st.integers(1, 3))
    probabilities = rng.random(n).round(digits) ** draw(st.sampled_from([1.0, 1e-6]))  # most of them just below 1
    return probabilities, rng.random(n) < probabilities ** draw(st.sampled_from([0.2, 1.0, 3.0]))


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


@given(answers(), st.booleans())
def test_thresholds_reach_what_they_promise_and_no_lower_one_does(pair, with_groups):
    probabilities, hits = (np.repeat(values, 8) for values in pair)  # enough images
    groups = np.arange(len(hits)) if with_groups else None
    for target in Coverage.of(probabilities, hits, groups).targets:
        rates = {p: Rate.of_rows(hits, probabilities >= p, groups) for p in np.unique(probabilities)}
        reaching = [p for p, rate in rates.items() if rate.low >= target.accuracy]
        assert (target.threshold is None) == (not reaching)
        if reaching:
            kept = probabilities >= target.threshold
            np.testing.assert_array_equal(kept, probabilities >= min(reaching))
            assert target.turned_away == pytest.approx(1 - kept.mean())
            assert target.kept == rates[min(reaching)]
        else:
            assert (target.turned_away, target.kept.n) == (1, 0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_threshold_separates_as_it_is_written(one, other):
    low, high = sorted((one, other))
    low = low if low < high else -1.0
    found = threshold_between(low, high)
    assert low < found <= high
    text = threshold(found)
    assert float(text) == found
    n_digits = len(text.partition(".")[2])
    assert n_digits >= 3
    assert n_digits == 3 or float(Decimal(repr(high)).quantize(Decimal(f"1e{1 - n_digits}"), ROUND_FLOOR)) <= low


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.5, 0.9, "0.900"),
        (0.62, 0.98765, "0.987"),
        (0.9999978, 0.9999994, "0.999999"),
        (0.9999, 0.99998, "0.99998"),
        (-math.inf, 1.0, "1.000"),
    ],
)
def test_thresholds_have_few_digits(low, high, text):
    assert threshold(threshold_between(low, high)) == text


@given(answers(), st.integers(0, 2**32 - 1))
def test_the_order_of_images_does_not_matter(pair, seed):
    probabilities, hits = pair
    order = np.random.default_rng(seed).permutation(len(hits))
    one, other = Coverage.of(probabilities, hits), Coverage.of(probabilities[order], hits[order])
    assert one.targets == other.targets
    np.testing.assert_array_equal(one.accuracies, other.accuracies)


@given(answers())
def test_the_curve_ends_at_the_accuracy_of_all_images(pair):
    coverage = Coverage.of(*pair)
    assert coverage.shares[-1] == 1
    assert coverage.accuracies[-1] == pytest.approx(pair[1].mean())
    assert (np.diff(coverage.shares) > 0).all()


@pytest.mark.parametrize("n", [34, 35, 72, 73, 380, 381])
def test_few_images_prove_no_accuracy(n):
    found = Coverage.of(np.full(n, 0.9), np.ones(n, bool))
    assert tuple(target.accuracy for target in found.targets) == TARGETS
    assert [target.threshold for target in found.targets] == [0.9 if n >= m else None for m in (35, 73, 381)]


def test_images_of_few_groups_prove_no_accuracy():
    probabilities, hits, groups = np.full(1000, 0.9), np.ones(1000, bool), np.arange(1000) % 10
    assert Coverage.of(probabilities, hits).targets[0].threshold == 0.9
    assert Coverage.of(probabilities, hits, groups).targets[0].threshold is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_thresholds_separate_in_the_type_of_the_probabilities(dtype):
    probabilities = np.repeat(np.array([0.99999994, 0.9999999, 0.7], dtype), 40)
    target = Coverage.of(probabilities, np.repeat([True, False, True], 40)).targets[0]
    assert (probabilities >= target.threshold).tolist() == [True] * 40 + [False] * 80
    assert (target.kept.n, target.turned_away) == (40, pytest.approx(2 / 3))
