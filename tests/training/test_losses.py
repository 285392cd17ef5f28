"""Derivatives in closed form are those of autograd and of finite differences, for all losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from sklearn.metrics import accuracy_score, log_loss, r2_score
from torch import nn

from sktl._training.losses import LOSSES, CrossEntropy, HuberLoss, SquaredLoss, make_loss, smoothing_of

N, K = 5, 3
OUTPUTS = arrays(np.float64, (N, K), elements=st.floats(-6, 6)).map(torch.from_numpy)
NUMBERS = arrays(np.float64, (N, K), elements=st.floats(-6, 6)).map(torch.from_numpy)
INDICATORS = arrays(np.float64, (N, K), elements=st.sampled_from([0.0, 1.0, 0.02])).map(torch.from_numpy)
CODES = arrays(np.int64, N, elements=st.integers(0, K - 1)).map(torch.from_numpy)
TARGETS = {"cross_entropy": CODES, "binary_cross_entropy": INDICATORS, "squared_error": NUMBERS, "huber": NUMBERS}
SMOOTHING = st.sampled_from([0.0, 0.1, 0.5])
assert TARGETS.keys() == LOSSES.keys()


@st.composite
def problems(draw, names=tuple(LOSSES), of_outputs=False):
    """Draw a loss, outputs, values and weights: of samples, and for all losses but that of classes, of outputs."""
    name = draw(st.sampled_from(names))
    n_columns = K if of_outputs else 1
    weights = torch.from_numpy(draw(arrays(np.float64, (N, n_columns), elements=st.floats(0, 5))))
    loss = make_loss(name, draw(SMOOTHING))
    return loss, draw(OUTPUTS), draw(TARGETS[name]), weights[:, 0] if name == "cross_entropy" else weights


ELEMENTWISE = tuple(name for name in LOSSES if name != "cross_entropy")
ALL = problems() | problems(ELEMENTWISE, of_outputs=True)


def value_of(loss, outputs, values, weights):
    return (loss(outputs, values) * weights).sum()


@settings(max_examples=25)
@given(ALL)
def test_losses_and_slopes_are_those_of_autograd(problem):
    loss, outputs, values, weights = problem
    leaf = outputs.clone().requires_grad_()
    expected = value_of(loss, leaf, values, weights)
    expected.backward()
    found = loss.derivatives(outputs, values, weights)
    torch.testing.assert_close(found.loss, expected.detach())
    torch.testing.assert_close(found.slopes, leaf.grad)


@settings(max_examples=25)
@given(ALL)
def test_slopes_are_those_of_finite_differences(problem):
    loss, outputs, values, weights = problem
    slopes, step = loss.derivatives(outputs, values, weights).slopes, 1e-5
    for i in range(N):
        for j in range(K):
            change = torch.zeros_like(outputs)
            change[i, j] = step
            above, below = (value_of(loss, outputs + sign * change, values, weights) for sign in (1, -1))
            torch.testing.assert_close(slopes[i, j], (above - below) / (2 * step), atol=1e-4, rtol=1e-4)


@settings(max_examples=25)
@given(problems(tuple(name for name in LOSSES if name != "huber")))
def test_curvatures_are_second_derivatives_summed_over_samples(problem):
    loss, outputs, values, weights = problem
    second = torch.autograd.functional.hessian(lambda x: value_of(loss, x, values, weights), outputs)
    diagonal = second.reshape(N * K, N * K).diagonal().reshape(N, K)
    found = loss.derivatives(outputs, values, weights)
    torch.testing.assert_close(found.curvatures, diagonal.sum(dim=0))


@settings(max_examples=25)
@given(OUTPUTS, OUTPUTS, NUMBERS)
def test_the_parabola_of_the_huber_loss_touches_it_and_lies_above_it(outputs, others, values):
    loss = HuberLoss()
    slopes, curvatures = loss.slopes(outputs, values)
    steps = others - outputs
    parabola = loss(outputs, values) + slopes * steps + curvatures / 2 * steps.square()
    assert (parabola >= loss(others, values) - 1e-9).all()


@settings(max_examples=25)
@given(ALL)
def test_problems_along_samples_are_the_same_problem(problem):
    loss, outputs, values, weights = problem
    of_outputs = None if weights.ndim == 1 else weights.expand(N, K).t().contiguous()
    problems = torch.stack([outputs.t(), outputs.t() + 1]).contiguous()
    of_each, slopes, seconds = loss.along_samples(problems.clone(), loss.wanted(values, K), of_outputs)
    for i in range(2):
        unit = torch.ones(N, dtype=torch.float64) if weights.ndim == 1 else weights
        expected = loss(outputs + i, values) * unit
        found = loss.derivatives(outputs + i, values, unit)
        close = {"atol": 1e-5, "rtol": 1e-5, "check_dtype": False}  # targets are in float32
        torch.testing.assert_close(of_each[i], expected if expected.ndim == 1 else expected.sum(dim=1), **close)
        torch.testing.assert_close(slopes[i].t(), found.slopes, **close)
        torch.testing.assert_close(seconds[i].sum(dim=1), found.curvatures, **close)


@settings(max_examples=25)
@given(arrays(np.int64, (K, N), elements=st.integers(-20, 0)), CODES)
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_small_losses_and_slopes_along_samples_are_as_precise_as_large_ones(name, halves, codes):
    # The sample's own output is the largest, by up to 18. All outputs and their differences are exact in float32.
    own = nn.functional.one_hot(codes, K)
    outputs = torch.from_numpy(halves).double() / 2 - 0.5 + 8.5 * own.T
    loss = make_loss(name, 0.0)
    wanted = loss.wanted(codes if name == "cross_entropy" else own.double(), K)
    exact, found = (loss.along_samples(each[None], wanted.to(each.dtype), None) for each in (outputs, outputs.float()))
    for precise, single in zip(exact[:2], found[:2], strict=True):
        torch.testing.assert_close(single.double(), precise, rtol=1e-5, atol=0)


@settings(max_examples=25)
@given(problems(), st.sampled_from([0, 2]))
def test_a_weight_is_a_number_of_repetitions(problem, weight):
    loss, outputs, values, _ = problem
    shape = (N,) if isinstance(loss, CrossEntropy) else (N, 1)
    weights = torch.ones(shape, dtype=torch.float64)
    weights[0] = weight
    rows = torch.tensor([0] * weight + [*range(1, N)])
    ones = torch.ones((len(rows), *shape[1:]), dtype=torch.float64)
    found, expected = loss.derivatives(outputs, values, weights), loss.derivatives(outputs[rows], values[rows], ones)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.curvatures, expected.curvatures)


@settings(max_examples=25)
@given(OUTPUTS, CODES, INDICATORS, NUMBERS, SMOOTHING)
def test_losses_are_those_of_torch(outputs, codes, indicator, numbers, smoothing):
    close = torch.testing.assert_close
    reference = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    close(make_loss("cross_entropy", smoothing)(outputs, codes), reference(outputs, codes))
    smoothed = indicator * (1 - smoothing) + smoothing / 2
    binary = nn.BCEWithLogitsLoss(reduction="none")(outputs, smoothed)
    close(make_loss("binary_cross_entropy", smoothing)(outputs, indicator), binary)
    huber = nn.HuberLoss(reduction="none", delta=1.345)(outputs, numbers)
    close(make_loss("huber", smoothing)(outputs, numbers), huber)
    close(make_loss("squared_error", smoothing)(outputs, numbers), nn.MSELoss(reduction="none")(outputs, numbers) / 2)


@settings(max_examples=25)
@given(OUTPUTS, INDICATORS.map(torch.round), SMOOTHING)
def test_a_label_is_a_classifier_of_two_classes(outputs, indicator, smoothing):
    binary, classes = make_loss("binary_cross_entropy", smoothing), make_loss("cross_entropy", smoothing)
    for j in range(K):
        logits = torch.stack([torch.zeros(N, dtype=torch.float64), outputs[:, j]], dim=1)
        torch.testing.assert_close(binary(outputs, indicator)[:, j], classes(logits, indicator[:, j].long()))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_outputs_have_finite_derivatives(name, size):
    loss = make_loss(name, 0.1)
    values = torch.tensor([0, 1]) if name == "cross_entropy" else torch.tensor([[0.0, 1], [1, 0]])
    weights = torch.ones(2) if name == "cross_entropy" else torch.ones(2, 1)
    for found in loss.derivatives(torch.tensor([[size, -size], [0, size]]), values, weights):
        assert torch.isfinite(found).all()


def test_scores_of_held_out_samples_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    outputs, numbers = (torch.from_numpy(rng.normal(size=(30, K))) for _ in range(2))
    weights = torch.from_numpy(rng.uniform(0.1, 3, size=30))

    def averages(name, values):
        return [np.average(found, axis=0, weights=weights) for found in make_loss(name, 0.0).held_out(*values, weights)]

    codes = torch.from_numpy(rng.integers(0, K, 30))
    loss, accuracy = averages("cross_entropy", (outputs, codes))
    assert loss == pytest.approx(log_loss(codes, outputs.softmax(dim=1), sample_weight=weights))
    assert accuracy == pytest.approx(accuracy_score(codes, outputs.argmax(dim=1), sample_weight=weights))
    indicator = (numbers > 0).double()
    losses, accuracies = averages("binary_cross_entropy", (outputs, indicator))
    for j in range(K):
        assert losses[j] == pytest.approx(log_loss(indicator[:, j], outputs[:, j].sigmoid(), sample_weight=weights))
        hits = accuracy_score(indicator[:, j], outputs[:, j] > 0, sample_weight=weights)
        assert accuracies[j] == pytest.approx(hits)
    for name in ("squared_error", "huber"):
        losses, scores = averages(name, (outputs, numbers))
        assert_allclose(losses, np.average(make_loss(name, 0.0)(outputs, numbers), axis=0, weights=weights))
        assert_allclose(scores, r2_score(numbers, outputs, sample_weight=weights, multioutput="raw_values"))


def test_smoothing_does_not_change_the_loss_of_held_out_samples():
    outputs, codes = torch.randn(5, K, dtype=torch.float64), torch.arange(5) % K
    for name, values in (("cross_entropy", codes), ("binary_cross_entropy", (outputs > 0).double())):
        losses = [make_loss(name, smoothing).held_out(outputs, values, torch.ones(5))[0] for smoothing in (0.0, 0.3)]
        torch.testing.assert_close(*losses)


def test_numbers_that_do_not_vary_have_no_coefficient_of_determination():
    numbers = torch.tensor([[0.0, 1e-9, 1], [0, 0, 2], [0, 0, 3]], dtype=torch.float64)
    weights = torch.tensor([1.0, 1, 1], dtype=torch.float64)
    losses, scores = make_loss("squared_error", 0.0).held_out(torch.zeros(3, 3), numbers, weights)
    assert torch.isfinite(losses).all()
    assert scores.isnan().all(dim=0).tolist() == [True, True, False]


def test_only_losses_of_labels_have_labels_to_smooth():
    for name, kind in LOSSES.items():
        assert bool(smoothing_of(name, 0.1)) == (not issubclass(kind, SquaredLoss))
