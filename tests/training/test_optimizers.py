"""Laws of a pair of optimizers: each of the two does to its parameters what it does alone."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from backbones import small_conv_net
from hypothesis import given
from hypothesis import strategies as st
from representatives import slow_except
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from sktl import PretrainedImageClassifier
from sktl._training.optimizers import PairedOptimizer, check_optimizer, find_optimizer, has_option, rehearse, shares
from sktl.exceptions import InvalidParameterError


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


@given(rates=st.lists(st.floats(1e-4, 0.1), min_size=3, max_size=3), decay=st.floats(0, 0.1))
def test_each_part_does_what_it_does_alone_under_a_schedule_too(rates, decay):
    alone, paired = parameters(), parameters()
    groups = groups_of(alone, rates)
    head = SGD(groups[:1], lr=1.0, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)
    expected = descend(alone, head, AdamW(groups[1:], lr=1.0, weight_decay=decay, fused=True))
    pair = PairedOptimizer(groups_of(paired, rates), lr=1.0, head="sgd", stages="adamw", weight_decay=decay)
    assert descend(paired, pair) == expected
    for a, b in zip(alone, paired, strict=True):
        assert torch.equal(a, b)


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


# ------------------------------------------------------------------------------------------------ what users bring

TORCH = [
    kind for kind in vars(torch.optim).values() if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
]
REFUSED = {"LBFGS", "Muon", "Optimizer", "Rprop", "SparseAdam"}
X = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
Y = ["a", "b"] * 6


# Those of the defaults, one of another family, one whose state is factored, and those that are refused.
ALWAYS = [kind for kind in TORCH if kind.__name__ in {"SGD", "AdamW", "RMSprop", "Adafactor", *REFUSED}]


@pytest.mark.parametrize("kind", slow_except(TORCH, *ALWAYS), ids=lambda kind: kind.__name__)
def test_every_optimizer_of_torch_trains_both_phases_or_is_refused_by_name_before_any_image_is_read(kind):
    clf = PretrainedImageClassifier(
        backbone=small_conv_net, optimizer=kind, trainable_stages=1, freeze_epochs=1, max_epochs=1, augmentation=None,
        random_state=0, n_jobs=1, device="cpu",
    )  # fmt: skip
    if kind.__name__ not in REFUSED:
        assert np.isfinite(clf.fit(X, Y).history_[:, "train_loss"]).all()
        return
    for stages in (0, 1):
        with pytest.raises(
            InvalidParameterError, match=rf"optimizer=.*{kind.__name__}.*(Choose another|Pass optimizer)"
        ):
            clf.set_params(trainable_stages=stages).fit([b"never read"] * 12, Y)


class TakesAll(SGD):
    def __init__(self, params, **kwargs):
        super().__init__(params, **kwargs)


class NeedsMore(SGD):
    def __init__(self, params, lr, weight_decay, rho):
        super().__init__(params, lr=lr, weight_decay=weight_decay)


class WithoutClosure(SGD):
    def step(self):
        return super().step()


class IgnoresClosure(SGD):
    def step(self, closure=None):
        return super().step()


class WithoutRate(SGD):
    def __init__(self, params, weight_decay=0.0):
        super().__init__(params, weight_decay=weight_decay)


class ScheduleFree(SGD):
    def step(self, closure=None):
        raise Exception("Optimizer was not in train mode when step is called.")


class KeepsNoRate(SGD):
    def __init__(self, params, lr=1.0, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        for group in self.param_groups:
            group["own_lr"] = group.pop("lr")

    def step(self, closure=None):
        closure()


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (NeedsMore, "NeedsMore'> cannot train the output layer: TypeError: .*'rho'. Choose another.*optimizer__<name>"),
        (WithoutClosure, "WithoutClosure'> cannot train the output layer: TypeError"),
        (
            IgnoresClosure,
            "IgnoresClosure'> cannot train the output layer: TypeError: its step does not call",
        ),
        (WithoutRate, "WithoutRate'> cannot train the output layer: .*'lr'"),
        (ScheduleFree, "ScheduleFree'> cannot train the output layer: Exception: Optimizer was not in train mode"),
        (KeepsNoRate, "KeepsNoRate'> cannot train the output layer: TypeError: its groups of parameters have no lr"),
    ],
)
def test_optimizers_of_the_users_that_cannot_train_are_named_with_the_reason(optimizer, words):
    check_optimizer(optimizer)
    with pytest.raises(InvalidParameterError, match=words):
        rehearse(optimizer, None, {})


@pytest.mark.parametrize(
    ("head", "stages", "options", "words"),
    [
        (
            "sgd",
            None,
            {"momentum": -1},
            r"optimizer='sgd' .*with net_params=\{'optimizer__momentum': -1\}.*Invalid mom",
        ),
        ("sgd", "adamw", {"betas": (2, 3)}, "optimizer='adamw' cannot train stages"),
        ("adamw", "adamw", {"fused": True, "foreach": True}, "cannot train the output layer"),
        ("lbfgs", None, {"tolerance": "none"}, "optimizer='lbfgs' cannot train the output layer"),
    ],
)
def test_options_that_are_wrong_are_named(head, stages, options, words):
    with pytest.raises(InvalidParameterError, match=words):
        rehearse(head, stages, options)


def test_options_reach_an_optimizer_that_takes_any():
    assert has_option(TakesAll, "momentum")
    (optimizer,) = rehearse(TakesAll, None, {"momentum": 0.5})
    assert optimizer.param_groups[0]["momentum"] == 0.5
    _, pair = rehearse("adamw", TakesAll, {"momentum": 0.5})
    assert pair.parts[1].param_groups[0]["momentum"] == 0.5
    assert [type(each) for each in rehearse("sgd", "adamw", {"eps": 1e-3})] == [SGD, PairedOptimizer]


@pytest.mark.parametrize(
    "optimizer",
    [functools.partial(SGD, momentum=0.9), SGD(parameters(), lr=0.1), lambda params, lr: SGD(params, lr), int],
    ids=["partial", "instance", "function", "int"],
)
def test_what_is_no_class_of_optimizers_is_refused_with_what_to_pass(optimizer):
    clf = PretrainedImageClassifier(backbone=small_conv_net, optimizer=optimizer)
    with pytest.raises(InvalidParameterError, match=r"is not a subclass of torch\.optim\.Optimizer") as caught:
        clf.fit(X, Y)
    assert " at 0x" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["adam", "SGD", np.str_("adam")])
def test_an_unknown_name_is_refused_with_what_to_pass(optimizer):
    clf = PretrainedImageClassifier(backbone=small_conv_net, optimizer=optimizer)
    message = rf"^optimizer='{optimizer}' is unknown\. Pass .*\"adamw\".* or a class such as torch\.optim\.Adam\.$"
    with pytest.raises(InvalidParameterError, match=message):
        clf.fit(X, Y)
