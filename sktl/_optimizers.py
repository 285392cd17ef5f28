"""The optimizers by name, and a pair of them: one for the output layer, another for the stages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Set
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
        self.parts = []
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
        for part in self.parts:
            part.step()
        return loss
