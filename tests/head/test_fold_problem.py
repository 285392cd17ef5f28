"""Labels, numbers and classes of held-out samples: what other folds cannot teach is not scored, and weights count."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import accuracy_score, log_loss, r2_score

from sktl._head.fold_problem import FoldProblem, PenalizedLosses, outputs_of
from sktl._head.penalty_selection import Conditions, cross_validate
from sktl._targets.class_targets import ClassTargets
from sktl._targets.folds import Folds
from sktl._targets.label_targets import check_indicator
from sktl._targets.labeled_samples import Labeled
from sktl._targets.number_targets import check_numbers
from sktl._training.lbfgs import Descent
from sktl._training.losses import make_loss

RNG = np.random.default_rng(0)
N = 40
FOLDS = Folds(np.arange(N) % 5, np.ones(N, dtype=bool))
LABELS = np.stack([np.arange(N) % 2, np.arange(N) % 4 > 1, np.arange(N) == 7], axis=1).astype(int)
FEATURES = (RNG.normal(size=(N, 6)) + LABELS[:, :2] @ RNG.normal(size=(2, 6))).astype(np.float32)
OUTPUTS = RNG.normal(size=(N, 3))
WEIGHTS = RNG.uniform(0.5, 2, size=N)


def labels(y=LABELS, sample_weight=None, class_weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check_indicator(y, sample_weight, class_weight, len(y))


def problem(targets, **kwargs):
    return FoldProblem.of(targets, FOLDS, make_loss(targets.loss, 0.0), **kwargs)


def means(targets, outputs=OUTPUTS):
    """Return the weighted means of the losses and of the scores of all samples that are scored."""
    found = problem(targets).scores(torch.from_numpy(outputs))
    return [np.average(some[np.isfinite(some)], weights=targets.weights[np.isfinite(some)]) for some in found]


@pytest.mark.parametrize("class_weight", [None, "balanced", [{1: 3.0}, {0: 0.5}, {}]])
def test_scores_are_weighted_means_over_the_labels_that_are_scored(class_weight):
    targets = labels(sample_weight=WEIGHTS, class_weight=class_weight)
    weights = np.broadcast_to(targets.ranked_weights(np.arange(3)), (N, 3))
    probabilities = 1 / (1 + np.exp(-OUTPUTS))
    loss, accuracy = means(targets)
    columns = range(2)  # a single image has the third label, which is in no other fold
    of_labels = [log_loss(LABELS[:, j], probabilities[:, j], sample_weight=weights[:, j]) for j in columns]
    assert loss == pytest.approx(np.mean(of_labels), rel=1e-5)
    of_labels = [accuracy_score(LABELS[:, j], OUTPUTS[:, j] > 0, sample_weight=weights[:, j]) for j in columns]
    assert accuracy == pytest.approx(np.mean(of_labels), rel=1e-5)


def test_a_label_is_not_scored_in_a_fold_without_which_it_is_constant():
    y = LABELS.copy()
    y[:, 2] = np.isin(np.arange(N), [0, 1, 5])  # in the first fold and in the second
    assert problem(labels(y)).scored.all()
    assert not problem(labels(y, sample_weight=np.arange(N) != 1)).scored[:, 2].any()
    y[:, 2] = 1 - y[:, 2]
    assert problem(labels(y)).scored.all()
    assert not problem(labels(y, sample_weight=np.arange(N) != 1)).scored[:, 2].any()
    trusted = np.arange(N) != 1  # its fold is still scored
    assert_array_equal(problem(labels(y), trusted=trusted).scored[:, 2], FOLDS.of_sample != 0)


def test_a_constant_label_is_trained_with_doubt_as_in_a_fit():
    targets = labels()
    found = problem(targets)
    assert found.wanted.shape == (5, 3, N)
    without = FOLDS.of_sample != 2  # the fold of the seventh image
    expected = check_of_rows(without)
    assert_allclose(found.wanted[2][:, without].T, expected.values(), rtol=1e-6)
    assert_allclose(found.wanted[0].T, LABELS)
    inputs = torch.from_numpy(FEATURES)
    losses = PenalizedLosses(inputs, inputs.square().mean(dim=0), found, 1e-5)
    start = torch.zeros(5, 3 * 7)
    layers = Descent(losses, start, 1e-4, losses.precondition).run(100).point.view(5, 3, 7)
    probabilities = outputs_of(inputs, layers).sigmoid()[2, 2]
    assert_allclose(probabilities, expected.doubt[2], atol=0.01)


def check_of_rows(rows):
    return labels(LABELS[rows])


def test_a_fold_alone_is_the_same_problem():
    found = problem(labels())
    for fold in range(5):
        alone = found.of_fold(fold)
        assert alone.n_outputs == 3
        assert torch.equal(alone.wanted, found.wanted[[fold]])
        assert torch.equal(alone.shares, found.shares[[fold]])


def test_saturated_outputs_do_not_lead_to_steps_without_bound():
    """Their second derivatives are 0 after rounding."""
    rows = torch.from_numpy(FEATURES)
    losses = PenalizedLosses(rows, rows.square().mean(dim=0), problem(labels()), 1e-5)
    layers = torch.zeros(5, 3, 7)
    layers[:, 0, -1] = 500.0
    gradients = losses(layers.flatten(1))[1]
    assert (losses.curvatures[:, 0] == 0).all()
    largest = losses.curvatures.amax(dim=1)
    assert (losses.precondition(gradients).abs().amax(dim=1) <= 1e3 * gradients.abs().amax(dim=1) / largest).all()


def test_labels_that_occur_once_do_not_decide_the_penalty_of_the_others():
    rare = np.eye(N, dtype=int)[:, [3, 18, 25]]
    features = (FEATURES + 3 * LABELS[:, :2] @ RNG.normal(size=(2, 6))).astype(np.float32)
    for seed in range(3):
        losses = []
        for y in (LABELS[:, :2], np.concatenate([LABELS[:, :2], rare], axis=1)):
            found = cross_validate(
                Labeled(features, labels(y)), {1: [6]}, (1.0, 0.1, 0.01), Conditions(1.0, 0.0, seed, 1)
            )
            assert found.penalties[found.best()] == 0.01
            losses.append(found.table()["mean_log_loss"])
        assert_allclose(*losses, atol=0.05)


def test_where_no_label_can_be_scored_nothing_is():
    y = np.eye(N, dtype=int)[:, :2]
    losses, scores = problem(labels(y)).scores(torch.zeros(N, 2))
    assert np.isnan(losses).all()
    assert np.isnan(scores).all()


def test_numbers_are_scored_by_the_weighted_coefficient_of_determination_of_those_that_vary():
    numbers = np.column_stack([RNG.normal(size=N), np.full(N, 0.1), RNG.normal(size=N)])
    targets = check_numbers(numbers, WEIGHTS, "squared_error", N)
    loss, score = means(targets)
    errors = np.average((targets.standardized - OUTPUTS) ** 2 / 2, axis=0, weights=WEIGHTS)
    assert loss == pytest.approx(errors.mean(), rel=1e-5)
    varying = [0, 2]
    expected = r2_score(targets.standardized[:, varying], OUTPUTS[:, varying], sample_weight=WEIGHTS)
    assert score == pytest.approx(expected, rel=1e-5)


def test_outliers_of_little_weight_do_not_raise_the_score():
    numbers, weights = RNG.normal(size=N), np.ones(N)
    numbers[:2], weights[:2] = [1e4, -1e4], 1e-9
    targets = check_numbers(numbers, weights, "squared_error", N)
    assert means(targets, np.zeros((N, 1)))[1] == pytest.approx(0, abs=0.2)


def test_classes_without_weight_in_other_folds_are_not_scored():
    codes, weights = np.arange(N) % 2, np.ones(N)
    codes[:2] = 2
    weights[0] = 0
    targets = ClassTargets(np.arange(3), codes, weights)
    assert np.flatnonzero(~problem(targets).scored).tolist() == [1]
    trusted = np.arange(N) != 1
    assert np.flatnonzero(~problem(targets, trusted=trusted).scored).tolist() == [0, 1]
