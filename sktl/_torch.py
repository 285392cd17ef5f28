"""What the rest of the package asks of PyTorch itself: devices, intra-op threads and seeded draws.

PyTorch keeps all three as state of the process. The functions here change it for the length of a `with` block
at most, and put back what they found, also when the block raises.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import torch
from torch import nn

from ._isolation import Loan
from .exceptions import DeviceError, DeviceMemoryError

Result = TypeVar("Result")
Network = TypeVar("Network", bound=nn.Module)

# Torch 2.14 wrote beyond its memory with 2 to 8 channels of 256 x 256 pixels in channels_last, not with 17.
_NARROW = 32
# Not those of threads, which joblib sets in its worker processes: the frozen network runs with one, to the same bits.
_SETTINGS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_", "OV_", "PYTORCH_", "TORCH_", "NVIDIA_TF32")
_SETTING_OF_THREADS = "NUM_THREADS"
_ACCELERATORS = ("cuda", "mps", "xpu")


def available_devices() -> list[str]:
    """Return the devices of this machine, best first; `"cpu"` is always last."""
    present = []
    for kind in _ACCELERATORS:
        backend = getattr(torch, kind, None) if kind != "mps" else torch.backends.mps
        if backend is not None and not _is_lost(kind) and backend.is_available():
            count = 1 if kind == "mps" else backend.device_count()
            present += [kind, *(f"{kind}:{i}" for i in range(count))]
    return [*present, "cpu"]


def _is_lost(kind: str) -> bool:
    """Return True if this process was forked from one that used an accelerator, which it cannot use itself then."""
    return bool(getattr(getattr(torch, kind, None), "_is_in_bad_fork", bool)())


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a `device` parameter names.

    Parameters
    ----------
    device : str or torch.device
        `"auto"` is the first that is there of cuda, mps, xpu and cpu.

    Raises
    ------
    DeviceError
        If the device is not there; the message names those that are.
    """
    present = available_devices()
    try:
        wanted = torch.device(present[0] if device == "auto" else device)
    except RuntimeError:
        wanted = None
    if wanted is not None and wanted.type == "cpu":
        return torch.device("cpu")
    if wanted is not None and _is_lost(wanted.type):
        raise DeviceError(
            f"device={str(device)!r} cannot be used in a process that was forked from one that used it. Start "
            'processes by "spawn", as joblib does by default, or pass device="cpu".'
        )
    if wanted is None or str(wanted) not in present:
        raise DeviceError(
            f"device={str(device)!r} is unavailable: PyTorch {torch.__version__} sees only "
            f'{", ".join(map(repr, present))}. Pass one of these or device="auto", or install the build of PyTorch and '
            "the driver for your GPU."
        )
    if wanted.type in ("cuda", "xpu") and wanted.index is None:
        # The current device is one per thread, and the pass has threads of its own.
        wanted = torch.device(wanted.type, getattr(torch, wanted.type).current_device())
    return wanted


def nearest_device(device: torch.device) -> torch.device:
    """Return a device if this machine has it, else its best: a fitted estimator may have come from another machine."""
    return device if device.type == "cpu" or str(device) in available_devices() else resolve_device("auto")


def is_out_of_memory(error: BaseException, device: torch.device) -> bool:
    """Tell whether an error is an accelerator's, of too little memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # Some backends, and libraries below torch, have no class of their own for it.
    return device.type != "cpu" and isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def release_memory(device: torch.device) -> None:
    """Give back the memory of an accelerator that torch keeps for later."""
    if device.type in _ACCELERATORS:
        getattr(torch, device.type).empty_cache()


def within_memory(attempt: Callable[[], Result], shrink: Callable[[], None], device: torch.device) -> Result:
    """Return what a function returns, called again after `shrink` each time that an accelerator's memory is too small.

    A CPU raises no error of that kind: there the system decides what becomes of processes that want too much.
    """
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_out_of_memory(error, device):
                raise
        shrink()  # not before the error is gone, whose traceback holds tensors


def halved(size: int, what: str, device: torch.device) -> int:
    """Return how many images to take at once after so many were too many for the memory of a device.

    Raises
    ------
    DeviceMemoryError
        If that was one.
    """
    if size == 1:
        raise DeviceMemoryError(
            f"Not even one image at a time fits into the memory of device={str(device)!r} in {what}. Free memory "
            'there, choose a smaller image_size or backbone, train fewer stages, or pass device="cpu".'
        )
    release_memory(device)
    return math.ceil(size / 2)


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


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has arithmetic of its own for bfloat16 that is worth using."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _run_in_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# `torch.set_num_threads` sets the number of the calling thread and, for the whole process, the number with which
# threads started later begin. The second is the one that would leak.
_loan = Loan(
    lambda: _run_in_new_thread(torch.get_num_threads),
    lambda saved: _run_in_new_thread(functools.partial(torch.set_num_threads, saved)),
)


def _compute_alone() -> None:
    """Set torch to one intra-op thread in the calling thread."""
    # A thread that has not asked yet takes the number of the process when it first computes, whatever was set before.
    torch.get_num_threads()
    torch.set_num_threads(1)


def n_threads(n_jobs: int | None) -> int:
    """Return the number of threads that an `n_jobs` parameter asks for."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


@contextmanager
def single_threaded_pool(n_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads in each of which torch computes with one intra-op thread.

    When the block raises, KeyboardInterrupt included, work not yet started is dropped.
    """
    with _loan:
        pool = ThreadPoolExecutor(n_workers, "sktl", initializer=_compute_alone)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute with one intra-op thread in the calling thread, so that results do not depend on the number of cores."""
    before = torch.get_num_threads()
    with _loan:
        try:
            torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(before)


_generator_lock = threading.RLock()


def _renew_generator_lock() -> None:
    global _generator_lock
    _generator_lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # a thread that the forked child does not have may hold it
    os.register_at_fork(after_in_child=_renew_generator_lock)


@contextmanager
def seeded_globals(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators for code that offers no generator argument, one thread at a time.

    That is the CPU's and, if a device is given, that device's. The states that they had are restored at the end.
    """
    on_accelerator = device is not None and device.type != "cpu"
    kind = device.type if device is not None and on_accelerator else "cuda"
    with _generator_lock, torch.random.fork_rng(devices=[device] if on_accelerator else [], device_type=kind):
        torch.default_generator.manual_seed(seed)
        if on_accelerator:
            getattr(torch, kind).manual_seed(seed)
        yield


@contextmanager
def seeded_everything(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and `random` for a function of the user's, and restore them."""
    with seeded_globals(seed):
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002 - what a transform of the user's may draw from
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def draws_from_globals(function: Callable[[], object]) -> bool:
    """Tell whether a function draws from torch's global CPU generator."""
    with seeded_globals(0):
        before = torch.get_rng_state()
        function()
        return not torch.equal(before, torch.get_rng_state())


def generator(*seed: int) -> torch.Generator:
    """Return a new CPU generator for a sequence of non-negative integers: (seed, epoch, ...)."""
    state = np.random.SeedSequence((len(seed), *seed)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))
