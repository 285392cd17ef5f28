"""Optimizers by name, and a pair of optimizers: one for the output layer, another for the stages."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import LBFGS, SGD, AdamW, Optimizer

from sktl._short_text import shown_value
from sktl._utils.compiler_import import import_compiler_without_folder
from sktl.exceptions import InvalidParameterError

from .lbfgs import LimitedMemoryBFGS

OptimizerName: TypeAlias = str | type[Optimizer]

_BY_NAME: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adamw": (AdamW, {"fused": True}),
    "lbfgs": (LimitedMemoryBFGS, {}),
    "sgd": (SGD, {"momentum": 0.9, "nesterov": True, "fused": True}),
}


def find_optimizer(optimizer: OptimizerName, given: Iterable[str] = ()) -> tuple[type[Optimizer], dict[str, Any]]:
    """Return the class of an optimizer, given by name or as a class, and its options other than the user's."""
    import_compiler_without_folder()
    if not isinstance(optimizer, str):
        return optimizer, {}
    kind, options = _BY_NAME[optimizer]
    # The user has chosen another implementation, and torch refuses both at once.
    return kind, {name: value for name, value in options.items() if name != "fused" or "foreach" not in given}


def option_names(optimizer: OptimizerName) -> Set[str]:
    """Return the names of the options that an optimizer accepts."""
    return inspect.signature(find_optimizer(optimizer)[0]).parameters.keys()


def has_option(optimizer: OptimizerName, name: str) -> bool:
    """Return True if an optimizer accepts an option of this name, or options of any name."""
    parameters = inspect.signature(find_optimizer(optimizer)[0]).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def check_optimizer(optimizer: Any) -> None:
    """Raise `InvalidParameterError` unless an optimizer is a name or a class that can train the output layer."""
    if isinstance(optimizer, str):
        if optimizer == "auto" or optimizer in _BY_NAME:
            return
        raise InvalidParameterError(
            f'optimizer={shown_value(optimizer)} is unknown. Pass "auto", "sgd", "adamw" or "lbfgs", or a class such '
            "as torch.optim.Adam."
        )
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise InvalidParameterError(
            f"optimizer={shown_value(optimizer)} is not a subclass of torch.optim.Optimizer. Pass the class itself, "
            'with its options as net_params={"optimizer__<name>": value}, or pass "sgd", "adamw" or "lbfgs".'
        )
    if issubclass(optimizer, LBFGS):
        raise InvalidParameterError(
            f'optimizer={optimizer!r} has no weight_decay and needs all samples at once. Pass optimizer="lbfgs".'
        )
    if not has_option(optimizer, "weight_decay"):
        raise InvalidParameterError(
            f"optimizer={optimizer!r} has no weight_decay, so it cannot train the output layer. Choose another, for "
            'instance "adamw".'
        )


def rehearse(head: OptimizerName, stages: OptimizerName | None, options: Mapping[str, Any]) -> list[Optimizer]:
    """Take two steps with small parameters of every shape that occurs. Return the optimizers of each phase.

    Raises
    ------
    InvalidParameterError
        If an optimizer does not accept the parameters or options, or fails in a step.
    """
    made = []
    for phase in ("the output layer", "stages")[: 1 if stages is None else 2]:
        groups = _small_groups(phase == "stages")
        try:
            if phase == "stages" and stages != head:
                optimizer: Optimizer = PairedOptimizer(groups, 1e-3, head, stages or head, **options)
            else:
                mine = {name: value for name, value in options.items() if has_option(head, name)}
                kind, defaults = find_optimizer(head, mine)
                decay = {"weight_decay": 1e-3} if has_option(head, "weight_decay") else {}
                optimizer = kind(groups, **{"lr": 1e-3} | decay | defaults | mine)
            _two_steps(optimizer)
        except Exception as error:  # users' classes may raise anything
            which = head if phase == "the output layer" else stages
            given = {f"optimizer__{name}": value for name, value in options.items()}
            raise InvalidParameterError(
                f"optimizer={which!r} cannot train {phase}{f' with net_params={shown_value(given)}' if given else ''}: "
                f'{type(error).__name__}: {str(error).rstrip(".")}. Choose another, for instance "adamw", or other '
                'options: net_params={"optimizer__<name>": value}.'
            ) from error
        made.append(optimizer)
    return made


def _small_groups(with_stages: bool) -> list[dict[str, Any]]:
    """Return groups of parameters like those in each phase of training."""
    shapes: list[tuple[int, tuple[int, ...], torch.dtype]]
    shapes = [(-1, (3, 2), torch.float64), (-1, (3,), torch.float64)]
    if with_stages:
        shapes += [(0, (2, 2, 3, 3), torch.float32), (0, (2,), torch.float32), (1, (2, 2), torch.float32)]
    tensors = ((depth, nn.Parameter(torch.full(shape, 0.5, dtype=dtype))) for depth, shape, dtype in shapes)
    return [{"params": [tensor]} | ({"depth": depth} if with_stages else {}) for depth, tensor in tensors]


def _two_steps(optimizer: Optimizer) -> None:
    """Take two steps on the sum of squares."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    n_calls = 0

    def closure() -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        for parameter in parameters:
            parameter.grad = 2 * parameter.detach()
        return sum((p.detach().double().square().sum() for p in parameters), torch.zeros(()))

    for step in range(2):
        optimizer.step(closure)  # type: ignore[arg-type]  # a tensor, as in training
        if n_calls <= step:  # there is neither a loss nor a gradient
            raise TypeError("its step does not call the closure, which computes the loss and the gradients.")
    if not all("lr" in group for group in optimizer.param_groups):
        raise TypeError("its groups of parameters have no lr.")


def shares(parameters: Iterable[torch.Tensor], n: int = 4) -> list[list[torch.Tensor]]:
    """Divide tensors into at most n lists of similar total size. The division depends only on the tensors."""
    heap: list[tuple[int, int, list[torch.Tensor]]] = [(0, i, []) for i in range(n)]
    for parameter in sorted(parameters, key=torch.Tensor.numel, reverse=True):
        size, i, members = heap[0]
        heapq.heapreplace(heap, (size + parameter.numel(), i, [*members, parameter]))
    return [members for _, _, members in sorted(heap, key=lambda share: share[1]) if members]


class PairedOptimizer(Optimizer):
    """Two optimizers as one. Groups whose key `"depth"` is -1 belong to the output layer.

    Stochastic gradient descent finds the optimum of the output layer, whose standardized inputs make its loss
    well-conditioned. Gradients of stages differ in scale from layer to layer, which AdamW compensates for.

    Parameters
    ----------
    groups : list of dict
        Groups with `"params"` and `"depth"`, which is -1 for the output layer, and optionally their own learning rates.
    lr : float
        Learning rate of groups without their own.
    head, stages : str or subclass of Optimizer
    **options
        Passed to each optimizer that has an option of this name.
    """

    def __init__(self, groups: Any, lr: float, head: OptimizerName, stages: OptimizerName, **options: Any):
        super().__init__(groups, {"lr": lr})
        self.parts: list[Optimizer] = []
        for optimizer, of_head in ((head, True), (stages, False)):
            given = {name: value for name, value in options.items() if has_option(optimizer, name)}
            kind, defaults = find_optimizer(optimizer, given)
            mine = [group for group in self.param_groups if (group["depth"] < 0) == of_head]
            part = kind(mine, **{"lr": lr} | defaults | given)  # shares the groups, so schedules affect it
            part.state = self.state
            self.parts.append(part)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both optimizers. `closure` sets the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
