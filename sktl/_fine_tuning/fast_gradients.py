"""Fast gradients for operations of convolutional networks that are slow to differentiate on x86 processors.

oneDNN has a fast kernel for the weight gradients of depthwise convolutions with up to three columns; wider convolutions
take ten to twenty times as long. Wider weights are therefore divided into groups of columns, each treated as a separate
convolution. The gradient of a mean over positions is a single expanded number, which makes the preceding layers lose
their memory format, so it is copied to channels_last. In-place ReLU6 saves a copy of its input, although its output
contains the same information.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.nn.grad import conv2d_weight
from torch.overrides import TorchFunctionMode

_COLUMNS = 3
_MEANS = (F.adaptive_avg_pool2d, torch.mean, torch.Tensor.mean)


class FastGradients(TorchFunctionMode):
    """Within the block, speed up the gradients of operations that are slow to differentiate in torch and oneDNN.

    Outputs have the same bits as outside the block. Gradients are the same up to rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7:
            images, weight, bias, stride, padding, dilation, groups = args
            if _is_slow(images, weight, padding, _pair(dilation), groups):
                return _Depthwise.apply(images, weight, bias, _pair(stride), _as_numbers(padding, weight))
        elif func in _MEANS and args and args[0].grad_fn is not None and _is_channels_last(args[0]):
            args[0].register_hook(_as_channels_last)
        elif func is F.hardtanh and _is_in_place(*args, **(kwargs or {})):
            return _Clamp.apply(args[0], kwargs["min_val"], kwargs["max_val"])
        return func(*args, **(kwargs or {}))


def _is_in_place(images: torch.Tensor, *, min_val: float, max_val: float, inplace: bool) -> bool:
    """Return True if `hardtanh` should run in place: on a tensor with gradients that is not a view of another."""
    return inplace and images.grad_fn is not None and not images._is_view() and torch.is_grad_enabled()


def _is_channels_last(images: torch.Tensor) -> bool:
    return images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last)


def _as_channels_last(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def _is_slow(
    images: torch.Tensor, weight: torch.Tensor, padding: object, dilation: tuple[int, ...], groups: int
) -> bool:
    return (
        weight.requires_grad
        and torch.is_grad_enabled()
        and images.dtype == weight.dtype == torch.float32
        and _is_channels_last(images)
        and tuple(weight.shape[:2]) == (groups, 1)
        and groups == images.shape[1] > 1
        and weight.shape[3] > _COLUMNS
        and dilation == (1, 1)
        and (padding != "same" or (weight.shape[2] % 2 == 1 and weight.shape[3] % 2 == 1))
    )


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _as_numbers(padding: str | int | Sequence[int], weight: torch.Tensor) -> tuple[int, ...]:
    """Return the padding of a convolution without dilation as numbers; it may be given by name."""
    if isinstance(padding, str):
        return (weight.shape[2] // 2, weight.shape[3] // 2) if padding == "same" else (0, 0)
    return _pair(padding)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.has_bias, ctx.stride, ctx.padding = bias is not None, stride, padding
        return torch.conv2d(images, weight, bias, stride, padding, (1, 1), len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], False, ctx.has_bias and ctx.needs_input_grad[2]]
        # torch.nn.grad.conv2d_input would lose the memory format of the images.
        of_images, _, of_bias = torch.ops.aten.convolution_backward(
            gradient, images, weight, [len(weight)], ctx.stride, ctx.padding, [1, 1], False, [0, 0], len(weight), wanted
        )
        of_weight = _by_columns(gradient, images, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_images, of_weight, of_bias, None, None


class _Clamp(torch.autograd.Function):
    """The activation `hardtanh`, which includes ReLU6, in place."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, lowest: float, highest: float) -> torch.Tensor:
        F.hardtanh_(images, lowest, highest)
        ctx.mark_dirty(images)
        ctx.save_for_backward(images)
        ctx.bounds = lowest, highest
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return torch.ops.aten.hardtanh_backward(*gradients, *ctx.saved_tensors, *ctx.bounds), None, None


def _by_columns(
    gradient: torch.Tensor,
    images: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """Return the gradient of the weights, computed for a few columns at a time.

    For each group of columns, the images are shifted to its position, with zeros outside.
    """
    result = torch.zeros_like(weight)
    for left in range(0, weight.shape[3], _COLUMNS):
        part = result[..., left : left + _COLUMNS]
        start, seen = left - padding[1], stride[1] * (gradient.shape[3] - 1) + part.shape[3]
        if -seen < start < images.shape[3]:
            shifted = F.pad(images, (-start, start + seen - images.shape[3]))
            edges = (padding[0], 0)
            part.copy_(conv2d_weight(shifted, part.shape, gradient, stride, edges, groups=len(weight)))
    return result
