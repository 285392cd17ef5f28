"""Laws of a pair of optimizers: each of the two does to its parameters what it does alone."""

from __future__ import annotations

import copy
import operator
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from sktl._optimizers import PairedOptimizer, find_optimizer, shares


def parameters():
    draw = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3, generator=draw)) for _ in range(3)]


def groups_of(tensors, rates):
    return [
        {"params": [p], "lr": lr, "depth": depth} for depth, (p, lr) in enumerate(zip(tensors, rates, strict=True), -1)
    ]


def descend(tensors, *optimizers, steps=4, schedule=True):
    schedules = [LambdaLR(optimizer, lambda step: 1 / (1 + step)) for optimizer in optimizers]

    def closure():
        for p in tensors:
            p.grad = None
        loss = sum((p**4).sum() for p in tensors)
        loss.backward()
        return loss

    losses = []
    for _ in range(steps):
        losses.append(optimizers[0].step(closure).item())
        for other in optimizers[1:]:
            other.step()
        for each in schedules:
            each.step()
    return losses


@pytest.fixture(scope="module")
def in_threads():
    with ThreadPoolExecutor(3) as pool:
        yield lambda steps: list(pool.map(operator.call, steps))


@given(rates=st.lists(st.floats(1e-4, 0.1), min_size=3, max_size=3), decay=st.floats(0, 0.1), divided=st.booleans())
def test_each_part_does_what_it_does_alone_under_a_schedule_too(in_threads, rates, decay, divided):
    alone, paired = parameters(), parameters()
    groups = groups_of(alone, rates)
    head = SGD(groups[:1], lr=1.0, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)
    expected = descend(alone, head, AdamW(groups[1:], lr=1.0, weight_decay=decay, fused=True))
    pair = PairedOptimizer(groups_of(paired, rates), lr=1.0, head="sgd", stages="adamw", weight_decay=decay)
    pair.run_all = in_threads if divided else None
    assert descend(paired, pair) == expected
    for a, b in zip(alone, paired, strict=True):
        assert torch.equal(a, b)


def test_an_optimizer_of_the_users_is_not_divided_as_it_may_look_at_all_parameters(in_threads):
    calls = []

    class Whole(SGD):
        def step(self, closure=None):
            calls.append(sum(len(group["params"]) for group in self.param_groups))
            return super().step(closure)

    tensors = parameters()
    pair = PairedOptimizer(groups_of(tensors, [0.1] * 3), 0.1, "sgd", Whole)
    pair.run_all = in_threads
    descend(tensors, pair, steps=2)
    assert calls == [2, 2]


@given(sizes=st.lists(st.integers(0, 50), max_size=20), n=st.integers(1, 5))
def test_each_tensor_is_in_one_share_and_shares_are_about_as_large(sizes, n):
    tensors = [torch.empty(size) for size in sizes]
    found = shares(tensors, n)
    assert sorted(id(t) for share in found for t in share) == sorted(map(id, tensors))
    assert len(found) <= n
    assert all(found)
    totals = [sum(t.numel() for t in share) for share in found] + [0] * (n - len(found))
    assert max(totals) - min(totals) <= max(sizes, default=0)


def test_options_go_to_the_part_that_knows_them():
    pair = PairedOptimizer(groups_of(parameters(), [0.1] * 3), 0.1, "sgd", "adamw", momentum=0.5, eps=1e-3)
    head, *stages = pair.param_groups
    assert head["momentum"] == 0.5
    assert "eps" not in head
    assert all(group["eps"] == 1e-3 and "momentum" not in group for group in stages)


def test_the_foreach_implementation_is_chosen_instead_of_the_fused_one():
    pair = PairedOptimizer(groups_of(parameters(), [0.1] * 3), 0.1, "sgd", "adamw", foreach=True)
    assert all(group["foreach"] and not group["fused"] for group in pair.param_groups)
    for name in ("sgd", "adamw"):
        kind, options = find_optimizer(name, {"foreach"})
        kind(parameters(), lr=0.1, **options, foreach=True)
        assert find_optimizer(name, {"momentum", "eps"}) == find_optimizer(name)


def test_what_a_pair_remembers_survives_pickle_and_deepcopy():
    tensors = parameters()
    pair = PairedOptimizer(groups_of(tensors, [0.1, 0.01, 0.001]), 0.1, "sgd", "adamw")
    descend(tensors, pair)
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in pair.param_groups]
        assert len(other.state) == len(pair.state) == 3


def test_names_and_classes_are_found():
    assert find_optimizer("sgd") == (SGD, {"momentum": 0.9, "nesterov": True, "fused": True})
    assert find_optimizer(torch.optim.RMSprop) == (torch.optim.RMSprop, {})
