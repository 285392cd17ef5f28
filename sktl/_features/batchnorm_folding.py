"""Fold BatchNorm into the preceding convolutions of a frozen network: the same function in less time.

Pairs of convolution and BatchNorm are found by running the network, not by reading its code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._pytree import tree_leaves

from sktl._utils.operation_watch import OperationWatch

# Folding is exact in real numbers, so outputs may differ by rounding only. Larger differences mean another kind of
# layer.
_TOLERANCE = 1e-5


def fold_batchnorm(network: nn.Module, run: Callable[[], object]) -> Callable[[], None]:
    """Fold each BatchNorm2d whose only input is the output of one Conv2d, in place, in a network in eval mode.

    Parameters
    ----------
    network : nn.Module
        The caller's own network: convolutions get other weights, and folded BatchNorms return their input.
    run : callable
        Runs the network, or the part that is to be folded, on an image.

    Returns
    -------
    undo : callable
        Restores the network.
    """
    with torch.no_grad():
        pairs = [pair for pair in _find(network, run) if pair.same_when_folded()]
        for pair in pairs:
            pair.fold()

    def undo() -> None:
        for pair in pairs:
            pair.unfold()

    return undo


class _PassThrough(nn.Module):
    """A folded BatchNorm."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class _ActivationAlone(nn.Module):
    """A folded BatchNorm of timm that includes an activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(images))


def _folded_class(norm: nn.BatchNorm2d) -> type[nn.Module] | None:
    if norm.training or norm.running_mean is None:
        return None
    if type(norm).forward is nn.BatchNorm2d.forward:
        return _PassThrough
    return _ActivationAlone if {"drop", "act"} <= norm._modules.keys() else None


@dataclass(frozen=True)
class _Call:
    module: Any
    inputs: torch.Tensor
    output: torch.Tensor


class _Pair:
    """A convolution, and the only BatchNorm that uses its output.

    Folding changes the class of the BatchNorm instead of replacing the module: hooks of taps and gates of a cut refer
    to the module, and would keep the old one.
    """

    def __init__(self, convolution: _Call, norm: nn.BatchNorm2d, folded_class: type[nn.Module]):
        self._call = convolution
        self._conv: nn.Conv2d = convolution.module
        self._norm = norm
        self._classes: tuple[type[Any], type[Any]] = (type(norm), folded_class)
        self._parameters = (self._conv.weight, self._conv.bias)
        self._folded_parameters = _folded_parameters(self._conv, norm)

    def same_when_folded(self) -> bool:
        """Return True if the folded convolution computes the same as both layers. Unusual convolutions may not."""
        norm = self._norm
        expected = F.batch_norm(
            self._call.output, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        self._conv.weight, self._conv.bias = self._folded_parameters
        difference = (self._conv(self._call.inputs) - expected).abs().max()
        self._conv.weight, self._conv.bias = self._parameters
        return bool(difference <= _TOLERANCE * expected.abs().max())

    def fold(self) -> None:
        self._conv.weight, self._conv.bias = self._folded_parameters
        self._norm.__class__ = self._classes[1]
        del self._call

    def unfold(self) -> None:
        self._conv.weight, self._conv.bias = self._parameters
        self._norm.__class__ = self._classes[0]


def _folded_parameters(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> list[nn.Parameter]:
    """Return the weight and the bias of the folded convolution, rounded once."""
    tensors = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, variance, scale, shift = (None if x is None else x.double() for x in tensors)
    assert weight is not None
    assert mean is not None
    assert variance is not None
    folded = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    channels_last = conv.weight.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    layouts = (memory_format, torch.contiguous_format)
    return [
        nn.Parameter(x.detach().float().contiguous(memory_format=layout), requires_grad=False)
        for x, layout in zip(folded, layouts, strict=True)
    ]


def _find(network: nn.Module, run: Callable[[], object]) -> list[_Pair]:
    """Return the pairs found in one run of a network."""
    calls: list[_Call] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if len(inputs) == 1:
            calls.append(_Call(module, inputs[0], output))

    handles = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    try:
        with _Uses() as uses:
            run()
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(id(call.module) for call in calls)
    once = [call for call in calls if times[id(call.module)] == 1]
    convolutions = {id(call.output): call for call in once if _is_plain(call.module)}
    pairs = []
    for call in once:
        source = convolutions.get(id(call.inputs))
        if isinstance(call.module, nn.BatchNorm2d) and source is not None and uses.count[id(call.inputs)] == 1:
            folded_class = _folded_class(call.module)
            if folded_class is not None:
                pairs.append(_Pair(source, call.module, folded_class))
    return pairs


def _is_plain(module: nn.Module) -> bool:
    """Return True if a module is a convolution whose weight is a parameter, not recomputed in each call."""
    return isinstance(module, nn.Conv2d) and "weight" in module._parameters


class _Uses(OperationWatch):
    """Count the operations that use a tensor. Tensors are kept alive, so that no two have the same id."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._kept: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        taken = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        self.count.update(map(id, taken))
        result = func(*args, **(kwargs or {}))
        self._kept += [*taken, result]
        return result
