"""Devices of PyTorch: which are available, which one a parameter names, and what to do when memory runs out."""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from sktl._short_text import shown_value
from sktl.exceptions import DeviceError, DeviceMemoryError

Result = TypeVar("Result")
_ACCELERATORS = ("cuda", "mps", "xpu")
_CPUINFO = Path("/proc/cpuinfo")


def available_devices() -> list[str]:
    """Return the devices of this machine, best first. `"cpu"` is always last."""
    present = []
    for kind in _ACCELERATORS:
        backend = getattr(torch, kind, None) if kind != "mps" else torch.backends.mps
        if backend is not None and not _is_lost(kind) and backend.is_available():
            count = 1 if kind == "mps" else backend.device_count()
            present += [kind, *(f"{kind}:{i}" for i in range(count))]
    return [*present, "cpu"]


def _is_lost(kind: str) -> bool:
    """Return True if this process was forked from one that used an accelerator, and so cannot use it itself."""
    return bool(getattr(getattr(torch, kind, None), "_is_in_bad_fork", bool)())


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a `device` parameter selects.

    Parameters
    ----------
    device : str or torch.device
        `"auto"` selects the first available of cuda, mps, xpu and cpu.

    Raises
    ------
    DeviceError
        If the device is unavailable. The message lists the available devices.
    """
    present = available_devices()
    try:
        wanted = torch.device(present[0] if device == "auto" else device)
    except (RuntimeError, TypeError):  # a name that torch does not know, or no name
        wanted = None
    if wanted is not None and wanted.type == "cpu":
        return torch.device("cpu")
    if wanted is not None and _is_lost(wanted.type):
        raise DeviceError(
            f"device={str(device)!r} cannot be used in a process that was forked from one that used it. Start "
            'processes by "spawn", as joblib does by default, or pass device="cpu".'
        )
    if wanted is None or str(wanted) not in present:
        given = shown_value(device if wanted is None else str(wanted))
        raise DeviceError(
            f"device={given} is unavailable: PyTorch {torch.__version__} sees only "
            f'{", ".join(map(repr, present))}. Pass one of these or device="auto", or install the build of PyTorch and '
            'the driver for your GPU (device="cuda" for NVIDIA and AMD, device="xpu" for Intel, device="mps" on a Mac).'
        )
    if wanted.type in ("cuda", "xpu") and wanted.index is None:
        # PyTorch has a current device per thread. Without an index, the threads of a pass could use another GPU.
        wanted = torch.device(wanted.type, getattr(torch, wanted.type).current_device())
    return wanted


def nearest_device(device: torch.device) -> torch.device:
    """Return a device if this machine has it, else its best one: the estimator may come from another machine."""
    return device if device.type == "cpu" or str(device) in available_devices() else resolve_device("auto")


def is_out_of_memory(error: BaseException, device: torch.device) -> bool:
    """Return True if an error means that an accelerator is out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # Some backends, and libraries below torch, raise a plain RuntimeError.
    return device.type != "cpu" and isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def release_memory(device: torch.device) -> None:
    """Release the memory of an accelerator that torch holds for later use."""
    if device.type in _ACCELERATORS:
        getattr(torch, device.type).empty_cache()


def within_memory(attempt: Callable[[], Result], shrink: Callable[[], None], device: torch.device) -> Result:
    """Return the result of a function, which is called again after `shrink` while the accelerator is out of memory.

    Only accelerators raise such errors. On a CPU, the operating system may end the process instead.
    """
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_out_of_memory(error, device):
                raise
        shrink()  # after the `except` block: the traceback of the error holds tensors


def halved(size: int, what: str, device: torch.device) -> int:
    """Return the next smaller number of images to process at once after `size` images did not fit into memory.

    Raises
    ------
    DeviceMemoryError
        If `size` is 1.
    """
    if size == 1:
        raise DeviceMemoryError(
            f"Not even one image at a time fits into the memory of device={str(device)!r} in {what}. Free memory "
            'there, choose a smaller image_size or backbone, train fewer stages, or pass device="cpu".'
        )
    release_memory(device)
    return math.ceil(size / 2)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return True if a device computes in bfloat16 natively, which is faster than float32."""
    if device.type == "cpu":
        return _processor_computes_in_bfloat16()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@functools.cache
def _processor_computes_in_bfloat16() -> bool:
    # Not torch's check for oneDNN, which is also true for processors on which oneDNN emulates bfloat16.
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
    try:  # Linux lists the features of ARM processors
        return "bf16" in _CPUINFO.read_text().split()
    except OSError:
        return False


def check_precision(precision: str, device: torch.device) -> None:
    """Raise `DeviceError` if a device would only emulate a precision, which is slower than float32."""
    if precision == "bfloat16" and not computes_in_bfloat16(device):
        raise DeviceError(
            f"precision='bfloat16' is not possible on device={str(device)!r}, which does not compute in bfloat16. Fit "
            'with precision="float32", the default, or on another device.'
        )
