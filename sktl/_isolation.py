"""Blocks in which torch and NumPy compute as in a new process, whatever the program around them has switched.

Notebooks set torch's default dtype, its inference mode or NumPy's error handling for other work. Without isolation,
they would change results, and processes that never set them would find such results in the cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch

State = TypeVar("State")

_CPU = torch.device("cpu")
_DENORMAL = np.float32(1e-40)


def fork_safe_lock() -> threading.Lock:
    """Return a lock that is free in a forked child, where the thread that held it may not exist."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]
    return lock


class Loan(Generic[State]):
    """State of the process that is set while at least one block needs it, and put back when the last one ends.

    Parameters
    ----------
    take : callable
        Sets the state and returns what it was.
    give_back : callable
        Sets the state to what `take` returned.
    """

    def __init__(self, take: Callable[[], State], give_back: Callable[[State], Any]):
        self._take = take
        self._give_back = give_back
        self._users = 0
        self._lock = fork_safe_lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._saved = self._take()
            self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._give_back(self._saved)


def _set_anomaly_detection(state: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*state)


def _anomaly_detection() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _reduced_precision() -> list[tuple[Any, str]]:
    """Return oneDNN's settings of precision, by which float32 may be computed in bfloat16 on a CPU."""
    settings = (getattr(torch.backends.mkldnn, name, None) for name in ("conv", "matmul", "rnn"))
    return [(setting, setting.fp32_precision) for setting in settings if setting is not None]


def _set_precision(state: Sequence[tuple[Any, str]]) -> None:
    for setting, precision in state:
        if setting.fp32_precision != precision:
            setting.fp32_precision = precision


def _switch_torch() -> tuple[torch.dtype, tuple[bool, bool], list[tuple[Any, str]]]:
    """Set what torch keeps for the whole process to what it is in a new one; return what it was."""
    before = torch.get_default_dtype(), _anomaly_detection(), _reduced_precision()
    torch.set_default_dtype(torch.float32)
    # Anomaly detection takes locks in an order that ends in a deadlock when several threads compute gradients.
    _set_anomaly_detection((False, before[1][1]))
    _set_precision([(setting, "ieee") for setting, _ in before[2]])
    return before


def _switch_torch_back(before: tuple[torch.dtype, tuple[bool, bool], list[tuple[Any, str]]]) -> None:
    dtype, anomaly_detection, precision = before
    torch.set_default_dtype(dtype)
    _set_anomaly_detection(anomaly_detection)
    _set_precision(precision)


_torch_switches = Loan(_switch_torch, _switch_torch_back)
_forked = False


def _after_fork_in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def isolated() -> Iterator[None]:
    """Compute as in a new process; also a decorator.

    What torch and NumPy keep for each thread is set for the calling thread: inference mode, gradients, autocast,
    default device, denormal numbers and floating-point errors. What torch keeps for the process is set until the last
    such block ends, and other threads see it: default dtype, anomaly detection and reduced precision of float32 on a
    CPU. In a forked process torch computes with one intra-op thread.
    """
    # NumPy's own defaults.
    ordinary_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    with ExitStack() as stack, _torch_switches, ordinary_errors:
        # Entering it is needed even where gradients are on: tensors made in inference mode cannot be trained.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != _CPU:
            stack.enter_context(_CPU)
        if _flushes_denormals():
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        if _forked:
            # The threads with which the parent computed are gone, and torch would wait for them.
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


def _flushes_denormals() -> bool:
    """Return True if the calling thread takes denormal numbers for zero."""
    return bool(_DENORMAL * np.float32(1) == 0)
