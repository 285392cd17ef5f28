"""Blocks in which torch and NumPy compute as in a new process, whatever the program around them has switched.

Notebooks set torch's default dtype, its inference mode or NumPy's error handling for other work. Without isolation,
they would change results, and processes that never set them would find such results in the cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
import torch

State = TypeVar("State")

_CPU = torch.device("cpu")
_DENORMAL = np.array([1], np.uint32).view(np.float32)  # of bits: a literal may be read as zero


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
    give_back_in_child : callable, default=None
        Does so in a process that was forked while only other threads, which it does not have, were in a block.
    """

    def __init__(
        self,
        take: Callable[[], State],
        give_back: Callable[[State], Any],
        give_back_in_child: Callable[[State], Any] | None = None,
    ):
        self._take = take
        self._give_back = give_back
        self._give_back_in_child = give_back_in_child
        self._users = 0
        self._blocks = threading.local()  # of the running thread
        self._lock = fork_safe_lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def _forget_other_threads(self) -> None:
        before, self._users = self._users, getattr(self._blocks, "number", 0)
        if before and not self._users and self._give_back_in_child is not None:
            self._give_back_in_child(self._saved)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._saved = self._take()
            self._users += 1
        self._blocks.number = getattr(self._blocks, "number", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocks.number -= 1
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._give_back(self._saved)


@dataclass(frozen=True)
class _Switch:
    """Something that torch keeps for the whole process.

    Parameters
    ----------
    read, write : callable
    ordinary : object
        What it is in a new process.
    """

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    ordinary: Any


def _anomaly_detection() -> _Switch:
    # It takes locks in an order that ends in a deadlock when several threads compute gradients.
    def write(detects: bool) -> None:
        torch.autograd.set_detect_anomaly(detects, torch.is_anomaly_check_nan_enabled())

    return _Switch(torch.is_anomaly_enabled, write, False)


def _precision(name: str) -> _Switch:
    """Return oneDNN's setting of precision for an operation, by which float32 may be computed in bfloat16 on a CPU."""
    onednn = torch.backends.mkldnn
    setting = getattr(onednn, name)

    def read() -> str:
        precision: str = setting.fp32_precision
        # What it inherits from the setting for all operations reads like a value of its own.
        inherited = onednn.fp32_precision, getattr(torch.backends, "fp32_precision", None)
        return "none" if precision in inherited else precision

    def write(precision: str) -> None:
        setting.fp32_precision = precision

    return _Switch(read, write, "ieee")


def _switches() -> Iterator[_Switch]:
    yield _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    yield _anomaly_detection()
    for name in ("conv", "matmul", "rnn"):
        if hasattr(torch.backends.mkldnn, name):  # of torch 2.9 and newer
            yield _precision(name)


_SWITCHES = tuple(_switches())


def _switch() -> list[Any]:
    """Set all switches to what they are in a new process; return what they were."""
    before = [switch.read() for switch in _SWITCHES]
    for switch in _SWITCHES:
        switch.write(switch.ordinary)
    return before


def _switch_back(before: list[Any]) -> None:
    for switch, value in zip(_SWITCHES, before, strict=True):
        if switch.read() == switch.ordinary:  # else another thread has set it meanwhile, for itself
            switch.write(value)


_torch_switches = Loan(_switch, _switch_back, _switch_back)
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
    return bool((_DENORMAL * np.float32(1) == 0).all())
