"""Calibration and coverage: thresholds do what the table says, and right probabilities err by chance alone."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._evaluation.calibration import TARGETS, Calibration, Coverage, threshold_between
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


def test_sure_and_right_is_calibrated():
    found = Calibration.of(np.ones(5), np.ones(5, bool))
    assert (found.error, found.chance, len(found.bins)) == (0, 0, 1)


@given(answers())
def test_thresholds_reach_what_they_promise_and_no_lower_one_does(pair):
    probabilities, hits = pair
    for target in Coverage.of(probabilities, hits).targets:
        reaching = [p for p in np.unique(probabilities) if hits[probabilities >= p].mean() >= target.accuracy]
        assert (target.threshold is None) == (not reaching)
        if reaching:
            kept = probabilities >= target.threshold
            np.testing.assert_array_equal(kept, probabilities >= min(reaching))
            assert target.turned_away == pytest.approx(1 - kept.mean())
            assert (target.kept.n_hits, target.kept.n) == (hits[kept].sum(), kept.sum())
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


def test_the_targets_are_the_ones_that_the_page_names():
    found = Coverage.of(np.array([0.9, 0.8]), np.array([True, False]))
    assert tuple(target.accuracy for target in found.targets) == TARGETS
    assert {target.threshold for target in found.targets} == {0.9}
