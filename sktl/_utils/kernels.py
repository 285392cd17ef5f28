"""The kernels that PyTorch takes on a device, and all else that decides the bits it computes there."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

# Torch 2.14 wrote beyond its memory with 2 to 8 channels of 256 x 256 pixels in channels_last, not with 17.
_NARROW = 32
# Not those of threads, which joblib sets in its worker processes: the frozen network runs with one, to the same bits.
_SETTINGS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_", "OV_", "PYTORCH_", "TORCH_", "NVIDIA_TF32")
_SETTING_OF_THREADS = "NUM_THREADS"


def uses_onednn(device: torch.device) -> bool:
    """Tell whether the fast convolutions of a device are those that oneDNN has for x86 processors."""
    return device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")


def place(network: Network, device: torch.device) -> Network:
    """Move a network to a device, in the memory format and with the kernels that are fastest there; return it."""
    network.to(device).to(memory_format=torch.channels_last)
    # With one thread and a small batch, torch leaves plain 1 x 1 convolutions to a general matrix product, which on
    # some x86 processors takes twice as long as oneDNN. It takes dilated ones to oneDNN; a single point has nothing to
    # dilate.
    dilation = 2 if uses_onednn(device) else 1
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.padding in ((0, 0), "valid"):
            module.dilation = (dilation, dilation)
            _avoid_broken_gradient(module, device)
    return network


def _avoid_broken_gradient(convolution: nn.Conv2d, device: torch.device) -> None:
    """Give few channels in plain format to a 1 x 1 convolution with stride: else its gradient ends the process."""
    if device.type != "cpu" or max(convolution.stride) == 1 or convolution.in_channels > _NARROW:
        return
    weight = convolution.weight
    weight.data = weight.data.clone(memory_format=torch.contiguous_format)  # by its strides torch chooses the kernel
    if _in_plain_format not in convolution._forward_pre_hooks.values():
        convolution.register_forward_pre_hook(_in_plain_format)


def _in_plain_format(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)


def describe_arithmetic(device: torch.device) -> tuple[object, ...]:
    """Return what decides the bits that this process computes on a device, beside the network and its input."""
    described = _machine()
    if device.type == "cuda":
        described += (torch.cuda.get_device_name(device), torch.version.cuda, torch.backends.cudnn.version())
    return (*described, *arithmetic_switches(device), str(device))


def arithmetic_switches(device: torch.device) -> tuple[object, ...]:
    """Return what of that a process may change while it runs, other than what `isolated` sets aside."""
    settings = sorted(
        (k, v) for k, v in os.environ.items() if k.startswith(_SETTINGS) and not k.endswith(_SETTING_OF_THREADS)
    )
    switches = (torch.backends.mkldnn.enabled, torch.are_deterministic_algorithms_enabled(), *settings)
    if device.type == "cpu":
        return switches
    cudnn = torch.backends.cudnn
    return *_precisions(), cudnn.benchmark, cudnn.deterministic, *switches


def _precisions() -> tuple[object, ...]:
    """Return in which precision an accelerator computes products and convolutions of float32."""
    if hasattr(torch.backends.cudnn, "conv"):  # the older functions raise once these have been set
        settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
        return tuple(setting.fp32_precision for setting in settings)
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@functools.cache
def _machine() -> tuple[object, ...]:
    capability, build = torch.backends.cpu.get_cpu_capability(), torch.__config__.show()
    return platform.node(), platform.machine(), _processor(), capability, build


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())
