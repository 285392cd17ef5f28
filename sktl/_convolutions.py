"""Gradients of depthwise convolutions with large kernels, which torch computes slowly on x86 processors.

oneDNN has a fast kernel for the gradient of 3 x 3 weights; that of 5 x 5 weights takes twenty times as long. Larger
weights are therefore taken in pieces of at most 3 x 3, each the weights of a convolution of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.grad import conv2d_weight
from torch.overrides import TorchFunctionMode

_WINDOW = 3


class FastGradients(TorchFunctionMode):
    """Within its block, convolutions that oneDNN differentiates slowly are differentiated fast.

    What they return is the same to the bit, gradients are the same but for rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7:
            images, weight, bias, stride, padding, dilation, groups = args
            edge = _as_numbers(padding, weight)
            if _is_slow(images, weight, _pair(stride), edge, _pair(dilation), groups):
                return _Depthwise.apply(images, weight, bias, _pair(stride), edge)
        return func(*args, **(kwargs or {}))


def _is_slow(
    images: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> bool:
    size = weight.shape[-1]
    return (
        weight.requires_grad
        and torch.is_grad_enabled()
        and images.dtype == weight.dtype == torch.float32
        and images.ndim == 4
        and tuple(weight.shape) == (groups, 1, size, size)
        and groups == images.shape[1] > 1
        and size % 2 == 1
        and size > _WINDOW
        and dilation == (1, 1)
        and ((stride == (1, 1) and padding == (size // 2,) * 2) or (stride == (2, 2) and size <= 2 * _WINDOW))
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _as_numbers(padding: str | int | Sequence[int], weight: torch.Tensor) -> tuple[int, ...]:
    """Return the padding of a convolution without dilation, which may be said by name."""
    if isinstance(padding, str):
        padding = weight.shape[-1] // 2 if padding == "same" else 0
    return _pair(padding)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution with an odd, square kernel: to the same size, or with a stride of 2."""

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
        ctx.has_bias, ctx.stride, ctx.padding = bias is not None, stride[0], padding
        return torch.conv2d(images, weight, bias, stride, padding, (1, 1), len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], False, ctx.has_bias and ctx.needs_input_grad[2]]
        # Not torch.nn.grad.conv2d_input, which forgets the memory format of the images.
        of_images, _, of_bias = torch.ops.aten.convolution_backward(
            gradient, images, weight, [len(weight)], [ctx.stride] * 2, ctx.padding, [1, 1], False, [0, 0], len(weight),
            wanted,
        )  # fmt: skip
        of_weight = None
        if ctx.needs_input_grad[1] and ctx.stride == 1:
            of_weight = _gradient_by_windows(gradient, images, weight)
        elif ctx.needs_input_grad[1]:
            of_weight = _gradient_by_phases(gradient, images, weight, ctx.stride, ctx.padding)
        return of_images, of_weight, of_bias, None, None


def _gradient_of_window(gradient: torch.Tensor, images: torch.Tensor, padding: int) -> torch.Tensor:
    """Return the gradient of 3 x 3 weights."""
    n_channels = images.shape[1]
    return conv2d_weight(images, (n_channels, 1, _WINDOW, _WINDOW), gradient, padding=padding, groups=n_channels)


def _gradient_by_phases(
    gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, stride: int, padding: tuple[int, int]
) -> torch.Tensor:
    """Return the gradient of the weights of a convolution with a stride.

    Weights whose places have the same remainder by the stride see the same pixels of the images, every second one, as a
    convolution without stride.
    """
    down, right = padding
    edge = stride * _WINDOW  # more than enough for windows that reach beyond the kernel
    images = torch.nn.functional.pad(images, (right, right + edge, down, down + edge))
    height, width = (n + _WINDOW - 1 for n in gradient.shape[2:])
    result = torch.empty_like(weight)
    for top in range(stride):
        for left in range(stride):
            phase = images[:, :, top::stride, left::stride][:, :, :height, :width]
            found = _gradient_of_window(gradient, phase.contiguous(memory_format=torch.channels_last), 0)
            of_phase = result[:, :, top::stride, left::stride]
            of_phase.copy_(found[:, :, : of_phase.shape[2], : of_phase.shape[3]])
    return result


def _gradient_by_windows(gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the weights of a convolution to the same size, by windows of 3 x 3.

    Images and gradient are padded with zeros as far as a window's middle can be from the kernel's. To shift the
    gradient is then to read it from another place of its memory: what leaves a row at one end are zeros, and so is what
    enters.
    """
    reach = weight.shape[-1] // 2 - 1
    images = torch.nn.functional.pad(images, (reach,) * 4)
    n, n_channels, height, width = images.shape
    margin = (reach * width + reach) * n_channels
    memory = gradient.new_zeros(2 * margin + images.numel())
    inner = memory[margin : margin + images.numel()].view(n, height, width, n_channels)
    inner[:, reach : height - reach, reach : width - reach] = gradient.permute(0, 2, 3, 1)
    result = torch.empty_like(weight)
    shifts = [min(shift, reach) for shift in range(-reach, reach + _WINDOW, _WINDOW)]
    for down in shifts:
        for right in shifts:
            start = margin + (down * width + right) * n_channels
            shifted = memory[start : start + images.numel()].view(n, height, width, n_channels).permute(0, 3, 1, 2)
            top, left = reach - down, reach - right
            found = _gradient_of_window(shifted, images, 1)
            result[:, :, top : top + _WINDOW, left : left + _WINDOW] = found
    return result
