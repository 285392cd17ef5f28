"""Thresholds reach the accuracies that the table says."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pytest
from evaluations import answers
from hypothesis import given
from hypothesis import strategies as st

from sktl._evaluation.confidence_intervals import Rate
from sktl._evaluation.selective_classification import TARGETS, Coverage, threshold_between
from sktl._evaluation.sentences import threshold


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
