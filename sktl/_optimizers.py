"""The optimizers by name, and a pair of them: one for the output layer, another for the stages."""

from __future__ import annotations

import copy
import heapq
import inspect
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, TypeAlias

import torch
from torch.optim import LBFGS, SGD, AdamW, Optimizer

OptimizerName: TypeAlias = str | type[Optimizer]

_BY_NAME: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adamw": (AdamW, {"fused": True}),
    "lbfgs": (LBFGS, {}),
    "sgd": (SGD, {"momentum": 0.9, "nesterov": True, "fused": True}),
}


def find_optimizer(optimizer: OptimizerName, given: Iterable[str] = ()) -> tuple[type[Optimizer], dict[str, Any]]:
    """Return the class of an optimizer, a name or the class itself, and its options beside those given by the user."""
    if not isinstance(optimizer, str):
        return optimizer, {}
    kind, options = _BY_NAME[optimizer]
    # Another choice of implementation: torch refuses both at once.
    return kind, {name: value for name, value in options.items() if name != "fused" or "foreach" not in given}


def option_names(optimizer: OptimizerName) -> Set[str]:
    """Return the names of the options that an optimizer has."""
    return inspect.signature(find_optimizer(optimizer)[0]).parameters.keys()


def shares(parameters: Iterable[torch.Tensor], n: int = 4) -> list[list[torch.Tensor]]:
    """Divide tensors into at most n lists of about as many numbers each, the same for the same tensors."""
    heap: list[tuple[int, int, list[torch.Tensor]]] = [(0, i, []) for i in range(n)]
    for parameter in sorted(parameters, key=torch.Tensor.numel, reverse=True):
        size, i, members = heap[0]
        heapq.heapreplace(heap, (size + parameter.numel(), i, [*members, parameter]))
    return [members for _, _, members in sorted(heap, key=lambda share: share[1]) if members]


class PairedOptimizer(Optimizer):
    """Two optimizers as one, for groups of parameters of which some, by their key `"depth"`, are of the output layer.

    Stochastic gradient descent finds the optimum of the output layer, whose standardised inputs make its loss well
    conditioned. Gradients of stages differ in scale from layer to layer, which AdamW evens out.

    Parameters
    ----------
    groups : list of dict
        With `"params"` and `"depth"`, -1 for the output layer, and perhaps rates of their own.
    lr : float
        Of groups without a rate.
    head, stages : str or subclass of Optimizer
    **options
        For each optimizer that has one of this name.
    """

    def __init__(self, groups: Any, lr: float, head: OptimizerName, stages: OptimizerName, **options: Any):
        super().__init__(groups, {"lr": lr})
        self.parts: list[Optimizer] = []
        # Calls functions, in threads of its own perhaps.
        self.run_all: Callable[[Sequence[Callable[[], Any]]], Any] | None = None
        # Those by name treat each number alone: its bits do not depend on how they are divided.
        self._divisible = isinstance(stages, str)
        for optimizer, of_head in ((head, True), (stages, False)):
            given = {name: value for name, value in options.items() if name in option_names(optimizer)}
            kind, defaults = find_optimizer(optimizer, given)
            mine = [group for group in self.param_groups if (group["depth"] < 0) == of_head]
            part = kind(mine, **{"lr": lr} | defaults | given)  # shares the groups, so that schedules reach it
            part.state = self.state
            self.parts.append(part)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step of both; `closure` sets the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.run_all is None:
            for part in self.parts:
                part.step()
        else:
            self.run_all(self._steps())
        return loss

    def _steps(self) -> list[Callable[[], Any]]:
        """Return what together makes a step, each function for parameters of its own."""
        head, stages = self.parts
        if not self._divisible:
            return [head.step, stages.step]
        members = (p for group in stages.param_groups for p in group["params"])
        return [head.step, *(_limited(stages, set(share)).step for share in shares(members))]


def _limited(optimizer: Optimizer, members: Set[torch.Tensor]) -> Optimizer:
    """Return an optimizer that moves some of the parameters of another as that one would, with the same state."""
    other = copy.copy(optimizer)
    other.param_groups = [
        {**group, "params": [p for p in group["params"] if p in members]} for group in optimizer.param_groups
    ]
    return other
