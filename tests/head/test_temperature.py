"""Laws of the temperature of logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from sktl._head.fold_problem import FoldProblem
from sktl._head.temperature import best_temperature
from sktl._targets.class_targets import ClassTargets
from sktl._targets.folds import Folds
from sktl._targets.label_targets import LabelTargets
from sktl._training.losses import make_loss

N, K = 60, 3
SEEDS = st.integers(0, 1000)


def problem_of(codes, weights=None, loss="cross_entropy"):
    weights = np.ones(len(codes)) if weights is None else weights
    if loss == "cross_entropy":
        targets = ClassTargets(np.arange(K), codes, weights)
    else:
        targets = LabelTargets(np.arange(codes.shape[1]), codes.astype(bool), weights)
    folds = Folds(np.arange(len(codes)) % 5, np.ones(len(codes), dtype=bool))
    return FoldProblem.of(targets, folds, make_loss(loss, 0.0))


def drawn(seed, sharpness=2.0):
    """Return logits, and classes with the probabilities that the logits have when they are multiplied."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, K))
    codes = (sharpness * logits + rng.gumbel(size=(N, K))).argmax(axis=1)
    codes[:15] = np.arange(15) // 5  # each class is in each fold
    return torch.from_numpy(logits.astype(np.float32)), codes


@given(seed=SEEDS, loss=st.sampled_from(["cross_entropy", "binary_cross_entropy"]))
def test_no_other_temperature_has_a_lower_loss(seed, loss):
    logits, codes = drawn(seed)
    targets = codes if loss == "cross_entropy" else np.eye(K, dtype=int)[codes]
    problem = problem_of(targets, loss=loss)
    smoothed, weights = make_loss(loss, 1 / N), problem.weights_of_scores()

    def of(power):
        return float(smoothed.derivatives(logits * np.exp(power), problem.values, weights).loss)

    best = minimize_scalar(of, bounds=(0, np.log(100)), method="bounded").x
    assert best_temperature(logits, problem) == pytest.approx(np.exp(-best), rel=0.06)


@given(seed=SEEDS, factor=st.floats(0.2, 1))
def test_smaller_logits_have_a_lower_temperature(seed, factor):
    logits, codes = drawn(seed, 8.0)
    one, other = (best_temperature(some, problem_of(codes)) for some in (logits, logits * factor))
    assert other == pytest.approx(max(0.01, one * factor), rel=0.11) or one == 1


@given(seed=SEEDS)
def test_the_order_of_samples_and_the_scale_of_weights_do_not_matter(seed):
    logits, codes = drawn(seed)
    order = np.random.default_rng(seed).permutation(N)
    weights = np.random.default_rng(seed).uniform(0.5, 2, N)
    expected = best_temperature(logits, problem_of(codes, weights))
    shuffled = best_temperature(logits[order], problem_of(codes[order], 1000 * weights[order]))
    assert shuffled == pytest.approx(expected, rel=0.051)  # a step of the rounded result


def test_samples_of_weight_zero_do_not_count():
    logits, codes = drawn(0)
    more = torch.cat([logits, -10 * logits[:9]])
    weighted = problem_of(np.r_[codes, codes[:9]], np.r_[np.ones(N), np.zeros(9)])
    assert best_temperature(more, weighted) == best_temperature(logits, problem_of(codes))


def test_logits_that_are_too_large_are_left_alone():
    logits, codes = drawn(0)
    assert best_temperature(100 * logits, problem_of(codes)) == 1


def test_classes_that_are_told_apart_without_mistakes_have_a_temperature_all_the_same():
    _, codes = drawn(0)
    logits = torch.from_numpy(np.eye(K, dtype=np.float32)[codes])
    assert 0.1 < best_temperature(logits, problem_of(codes)) < 0.3


def test_where_nothing_is_scored_logits_are_left_alone():
    logits, codes = drawn(0)
    assert best_temperature(logits, problem_of(codes, np.zeros(N))) == 1
