"""LogME is the largest evidence of a Bayesian linear model, and depends on nothing else than it should."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from sktl._ranking import logme


def log_evidence(features, codes):
    """Return LogME of classes."""
    return logme.log_evidence(features, np.eye(codes.max() + 1)[codes])


@st.composite
def problems(draw):
    """Features and classes of random sizes, more or fewer samples than features, more or less related, of any rank."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_samples, n_features = draw(st.integers(6, 40)), draw(st.integers(1, 40))
    codes = np.concatenate([np.arange(3), rng.integers(0, 3, n_samples - 3)])
    features = rng.normal(size=(n_samples, n_features))
    features[:, 0] += draw(st.sampled_from([0.0, 0.5, 5.0])) * codes
    if draw(st.booleans()):  # after a ReLU, far from centred
        features = np.maximum(features, 0.0) + 1e-3
    if draw(st.booleans()):
        features[:, -1] = features[:, 0]
    return features, codes


def evidence_of_the_model(features, target, alpha, beta):
    """The density of a target, w integrated out, as the paper's model says it."""
    covariance = np.eye(len(target)) / beta + features @ features.T / alpha
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * (log_determinant + target @ np.linalg.solve(covariance, target)) / len(target)


def largest_evidence(features, target):
    def loss(logarithms):
        return -evidence_of_the_model(features, target, *np.exp(logarithms))

    bounds = [(-14, 20), (-6, 20)]
    starts = [(alpha, beta) for alpha in (-3, 0, 3, 8) for beta in (0, 3)]
    return -min(scipy.optimize.minimize(loss, start, method="Nelder-Mead", bounds=bounds).fun for start in starts)


@pytest.mark.parametrize("n_features", [1, 5, 15, 40])
@pytest.mark.parametrize("relation", [0.0, 0.5, 2.0])
def test_it_is_the_largest_evidence_that_a_direct_search_finds(n_features, relation):
    rng = np.random.default_rng(n_features)
    codes = np.arange(15) % 3
    features = np.maximum(rng.normal(size=(15, n_features)) + relation * np.eye(3)[codes][:, :1], 0)
    expected = np.mean([largest_evidence(features, (codes == k).astype(float)) for k in range(3)])
    assert log_evidence(features, codes) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=30)
@given(problems(), st.floats(-6, 6), st.floats(-3, 6))
def test_no_other_precisions_have_more_evidence(problem, log_alpha, log_beta):
    features, codes = problem
    found = [evidence_of_the_model(features, (codes == k) * 1.0, *np.exp([log_alpha, log_beta])) for k in range(3)]
    assert np.mean(found) <= log_evidence(features, codes) + 1e-8


@pytest.mark.thorough
@settings(max_examples=30)
@given(problems(), st.integers(0, 2**32 - 1))
def test_rotation_scale_and_order_change_nothing(problem, seed):
    features, codes = problem
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(features.shape[1],) * 2))[0]
    order, names = rng.permutation(len(codes)), rng.permutation(3)
    expected = log_evidence(features, codes)
    for other in (
        log_evidence(features @ rotation, codes),
        log_evidence(1e-3 * features, codes),
        log_evidence(features[order], codes[order]),
        log_evidence(features, names[codes]),
        log_evidence(np.c_[features, np.zeros(len(codes))], codes),
    ):
        assert other == pytest.approx(expected, abs=1e-6)


def test_features_that_know_the_classes_have_more_evidence_than_noise_and_noise_more_of_it_gains_nothing():
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    noise = rng.normal(size=(60, 200))
    informed = np.c_[np.eye(3)[codes] + 0.1 * rng.normal(size=(60, 3)), noise[:, :20]]
    few, many = log_evidence(noise[:, :20], codes), log_evidence(noise, codes)
    assert log_evidence(informed, codes) > max(few, many) + 0.1
    assert abs(few - many) < 0.1


def test_features_without_variation_are_worth_less_than_others_but_are_no_error():
    codes = np.arange(12) % 3
    nothing, constant = log_evidence(np.zeros((12, 4)), codes), log_evidence(np.ones((12, 4)), codes)
    assert np.isfinite([nothing, constant]).all()
    assert nothing <= constant < log_evidence(np.eye(3)[codes] + 0.1, codes)


def test_targets_that_follow_exactly_have_a_finite_and_stable_evidence():
    codes = np.arange(30) % 3
    features = np.eye(3)[codes] @ np.random.default_rng(0).normal(size=(3, 8))
    evidence = log_evidence(features, codes)
    assert np.isfinite(evidence)
    assert log_evidence(features[::-1], codes[::-1]) == pytest.approx(evidence, rel=1e-6)


@pytest.mark.parametrize("n_features", [2, 15, 40])
def test_numbers_have_the_largest_evidence_that_a_direct_search_finds(n_features):
    rng = np.random.default_rng(n_features)
    features = rng.normal(size=(15, n_features))
    numbers = features[:, :1] + rng.normal(size=(15, 2))
    expected = np.mean([largest_evidence(features, column) for column in numbers.T])
    assert logme.log_evidence(features, numbers) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=20)
@given(problems(), st.floats(1e-6, 1e6))
def test_another_unit_shifts_the_evidence_of_all_features_alike(problem, unit):
    features, codes = problem
    targets = np.eye(3)[codes] + 0.1
    shift = logme.log_evidence(features, unit * targets) - logme.log_evidence(features, targets)
    assert shift == pytest.approx(-np.log(unit), abs=1e-6)


def test_columns_that_are_constant_are_left_out():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    constant = np.tile([0.0, 1.0, -3.5], (20, 1))
    assert logme.log_evidence(features, np.c_[constant, targets]) == logme.log_evidence(features, targets)
    assert np.isnan(logme.log_evidence(features, constant))
