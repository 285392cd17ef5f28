"""The kernels that PyTorch uses on a device, and everything else that affects the bits of its results there."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

# Torch 2.14 wrote out of bounds with 2 to 8 channels of 256 x 256 pixels in channels_last, but not with 17.
_NARROW = 32
# Numbers of threads are excluded: joblib sets them in its workers, and the frozen network always runs with one thread.
# With them, workers would not find each other's cached features.
_SETTINGS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_", "OV_", "PYTORCH_", "TORCH_", "NVIDIA_TF32")
_SETTING_OF_THREADS = "NUM_THREADS"


def uses_onednn(device: torch.device) -> bool:
    """Return True if the fast convolutions of a device are oneDNN's for x86 processors."""
    return device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")


def place(network: Network, device: torch.device) -> Network:
    """Move a network to a device, with the memory format and the kernels that are fastest there. Return the network."""
    network.to(device).to(memory_format=torch.channels_last)
    # With one thread and a small batch, torch computes plain 1 x 1 convolutions by a general matrix product, which
    # takes twice as long as oneDNN on some x86 processors. It uses oneDNN for dilated convolutions, and dilation has
    # no effect on a kernel of one point.
    dilation = 2 if uses_onednn(device) else 1
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.padding in ((0, 0), "valid"):
            module.dilation = (dilation, dilation)
            _avoid_broken_gradient(module, device)
    return network


def _avoid_broken_gradient(convolution: nn.Conv2d, device: torch.device) -> None:
    """Use plain format for a strided 1 x 1 convolution with few channels, whose gradient would crash the process."""
    if device.type != "cpu" or max(convolution.stride) == 1 or convolution.in_channels > _NARROW:
        return
    weight = convolution.weight
    weight.data = weight.data.clone(memory_format=torch.contiguous_format)  # torch selects the kernel by the strides
    if _in_plain_format not in convolution._forward_pre_hooks.values():
        convolution.register_forward_pre_hook(_in_plain_format)


def _in_plain_format(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)


def describe_arithmetic(device: torch.device) -> tuple[object, ...]:
    """Return everything that affects the bits computed on a device, except the network and its input."""
    described = _machine()
    if device.type == "cuda":
        described += (torch.cuda.get_device_name(device), torch.version.cuda, torch.backends.cudnn.version())
    return (*described, *arithmetic_switches(device), str(device))


def arithmetic_switches(device: torch.device) -> tuple[object, ...]:
    """Return those settings that a process may change while it runs and that `isolated` does not neutralize."""
    settings = sorted(
        (k, v) for k, v in os.environ.items() if k.startswith(_SETTINGS) and not k.endswith(_SETTING_OF_THREADS)
    )
    switches = (torch.backends.mkldnn.enabled, torch.are_deterministic_algorithms_enabled(), *settings)
    if device.type == "cpu":
        return switches
    cudnn = torch.backends.cudnn
    return *_precisions(), cudnn.benchmark, cudnn.deterministic, *switches


def _precisions() -> tuple[object, ...]:
    """Return the precision in which an accelerator computes matrix products and convolutions of float32."""
    if hasattr(torch.backends.cudnn, "conv"):  # the older functions raise an error once these are set
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
