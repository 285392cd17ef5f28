"""Laws of L-BFGS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sktl._training.lbfgs import Descent, LimitedMemoryBFGS

torch_draw = torch.Generator().manual_seed(0)
MATRICES = torch.randn(3, 12, 12, generator=torch_draw, dtype=torch.float64)
MATRICES = MATRICES @ MATRICES.transpose(1, 2) + 0.1 * torch.eye(12, dtype=torch.float64)
TARGETS = torch.randn(3, 12, generator=torch_draw, dtype=torch.float64)


def quadratics(rows):
    """Return the evaluation of quadratic problems whose values are 1 at their lowest."""

    def evaluate(point):
        away = point - TARGETS[rows]
        slopes = torch.einsum("pij,pj->pi", MATRICES[rows], away)
        return 1 + torch.linalg.vecdot(slopes, away) / 2, slopes

    return evaluate


def descend(rows, precondition=None, tolerance=1e-14):
    start = torch.zeros(len(rows), 12, dtype=torch.float64)
    return Descent(quadratics(rows), start, tolerance, precondition).run(200)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_lowest_point_is_found(preconditioned):
    diagonal = 1 / MATRICES.diagonal(dim1=1, dim2=2)
    found = descend([0, 1, 2], diagonal.mul if preconditioned else None)
    assert found.done.all()
    torch.testing.assert_close(found.point, TARGETS, atol=1e-5, rtol=0)


def test_problems_do_not_know_of_each_other():
    together = descend([0, 1, 2])
    for i in range(3):
        torch.testing.assert_close(together.point[i], descend([i]).point[0], atol=1e-5, rtol=0)


def test_every_step_descends_and_costs_one_evaluation_as_a_rule():
    found = Descent(quadratics([0]), torch.zeros(1, 12, dtype=torch.float64), 1e-14)
    n_steps, before = 0, found.value
    while not found.done.all():
        found.step()
        n_steps += 1
        assert found.value <= before + 1e-12
        before = found.value
    assert found.n_evaluations <= 1.3 * n_steps + 1


def test_a_problem_that_is_done_stays_where_it_is():
    start = torch.stack([TARGETS[0], torch.zeros(12, dtype=torch.float64)])
    found = Descent(quadratics([0, 1]), start, 1e-14)
    assert found.done.tolist() == [True, False]
    found.run(200)
    torch.testing.assert_close(found.point[0], TARGETS[0], atol=0, rtol=0)
    torch.testing.assert_close(found.point[1], TARGETS[1], atol=1e-5, rtol=0)


def test_a_value_that_falls_to_zero_ends_the_descent():
    """Numbers that are all equal are fitted exactly; only the penalty makes the loss fall on."""

    def evaluate(point):
        return 0.015 * point.square().sum(dim=1), 0.03 * point

    start = torch.linspace(1e-3, 1e-2, 12, dtype=torch.float64)[None]
    found = Descent(evaluate, start, 1e-9, lambda gradient: gradient / 0.03).run(500)
    assert found.done.all()
    assert found.n_evaluations <= 4
    assert found.point.abs().max() < 1e-12


def test_a_value_that_never_falls_ends_the_descent():
    def uphill(point):
        return 1 + point.abs().sum(dim=1), -torch.ones_like(point)  # a gradient that lies

    found = Descent(uphill, torch.zeros(1, 3, dtype=torch.float64), 1e-9).run(50)
    assert found.done.all()
    assert not found.point.any()


def test_the_optimizer_finds_what_scipy_finds():
    generator = np.random.default_rng(0)
    inputs, codes = torch.from_numpy(generator.normal(size=(60, 5))), torch.from_numpy(generator.integers(0, 3, 60))
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_(), layer.bias.zero_()

    def loss(weight, bias):
        return torch.nn.functional.cross_entropy(inputs @ weight.T + bias, codes) + 0.05 * weight.square().sum()

    optimizer = LimitedMemoryBFGS(layer.parameters(), tolerance=1e-14)

    def closure():
        optimizer.zero_grad()
        value = loss(layer.weight, layer.bias)
        value.backward()
        return value

    for _ in range(100):
        if optimizer.converged:
            break
        optimizer.step(closure)
    assert optimizer.converged

    def flat(point):
        tensor = torch.tensor(point, requires_grad=True)
        value = loss(tensor[:15].view(3, 5), tensor[15:])
        value.backward()
        return value.item(), tensor.grad.numpy()

    expected = minimize(flat, np.zeros(18), jac=True, options={"gtol": 1e-9}).x
    found = torch.cat([layer.weight.flatten(), layer.bias]).detach().numpy()
    np.testing.assert_allclose(found[:15], expected[:15], atol=1e-5)


def test_frozen_parameters_are_left_alone():
    frozen, free = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    frozen.requires_grad_(False)
    optimizer = LimitedMemoryBFGS([frozen, free])

    def closure():
        free.grad = 2 * free.detach()
        return free.detach().square().sum() + 1

    optimizer.step(closure)
    assert frozen.tolist() == [1, 1]
    assert free.detach().abs().max() < 1
