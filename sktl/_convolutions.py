"""Gradients of depthwise convolutions with large kernels, which torch computes slowly on x86 processors.

oneDNN has a fast kernel for the gradient of 3 x 3 weights; that of 5 x 5 weights takes twenty times as long. Larger
weights are therefore taken in windows of 3 x 3, each of them the weights of a convolution with a shifted gradient.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

_WINDOW = 3


class FastGradients(TorchFunctionMode):
    """Within its block, convolutions that torch differentiates slowly on this device are differentiated fast.

    What they return is the same to the bit, gradients are the same but for rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and _is_slow(*args):
            images, weight, bias, _, padding, _, _ = args
            return _Depthwise.apply(images, weight, bias, padding)
        return func(*args, **(kwargs or {}))


def has_fast_gradients(device: torch.device) -> bool:
    """Tell whether `FastGradients` is of use on a device."""
    return device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")


def _is_slow(
    images: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
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
        and _pair(stride) == _pair(dilation) == (1, 1)
        and _pair(padding) == (size // 2, size // 2)
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value if isinstance(value, str) else tuple(value)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution to the same size, with an odd, square kernel."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Any
    ) -> torch.Tensor:
        ctx.save_for_backward(images, weight)
        ctx.has_bias = bias is not None  # type: ignore[attr-defined]
        return torch.conv2d(images, weight, bias, (1, 1), padding, (1, 1), len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (images, weight) = gradients, ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], False, ctx.has_bias and ctx.needs_input_grad[2]]
        of_images, _, of_bias = _gradients(gradient, images, weight, weight.shape[-1] // 2, wanted)
        of_weight = _weight_gradient(gradient, images, weight) if ctx.needs_input_grad[1] else None
        return of_images, of_weight, of_bias, None


def _gradients(
    gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor, padding: int, wanted: list[bool]
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    one, edge, n_channels = [1, 1], [padding, padding], len(weight)
    found: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None] = torch.ops.aten.convolution_backward(
        gradient, images, weight, [n_channels], one, edge, one, False, [0, 0], n_channels, wanted
    )
    return found


def _weight_gradient(gradient: torch.Tensor, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the weights, window by window.

    Images and gradient are padded with zeros as far as a window's middle can be from the kernel's. To shift the
    gradient is then to read it from another place of its memory: what leaves a row at one end are zeros, and so is what
    enters.
    """
    size = weight.shape[-1]
    reach = size // 2 - 1
    images = torch.nn.functional.pad(images, (reach,) * 4)
    n, n_channels, height, width = images.shape
    margin = (reach * width + reach) * n_channels
    memory = gradient.new_zeros(2 * margin + images.numel())
    inner = memory[margin : margin + images.numel()].view(n, height, width, n_channels)
    inner[:, reach : height - reach, reach : width - reach] = gradient.permute(0, 2, 3, 1)
    window = weight[:, :, :_WINDOW, :_WINDOW].contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(weight)
    shifts = [min(shift, reach) for shift in range(-reach, reach + _WINDOW, _WINDOW)]
    for down in shifts:
        for right in shifts:
            start = margin + (down * width + right) * n_channels
            shifted = memory[start : start + images.numel()].view(n, height, width, n_channels).permute(0, 3, 1, 2)
            _, found, _ = _gradients(shifted, images, window, 1, [False, True, False])
            assert found is not None
            top, left = reach - down, reach - right
            result[:, :, top : top + _WINDOW, left : left + _WINDOW] = found
    return result
