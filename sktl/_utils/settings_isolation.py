"""Blocks in which torch and NumPy compute as in a new process, whatever settings the program has changed.

Notebooks change torch's default dtype, inference mode or NumPy's error handling for other work. Without isolation, such
settings would change results, and processes that never changed them would find these results in the cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from .locks import fork_safe_lock

State = TypeVar("State")

_CPU = torch.device("cpu")
# From bits, because a thread that flushes denormals may read a literal as zero.
_DENORMAL = np.array([1], np.uint32).view(np.float32)


class Loan(Generic[State]):
    """Process-wide state that is set while at least one block needs it, and restored when the last block ends.

    Parameters
    ----------
    read : callable
        Returns the state, without changing it.
    change : callable
        Sets the state for blocks, given what `read` returned.
    restore : callable
        Restores the state that `read` returned. May be called twice, or after part of `change`.
    restore_in_child : callable, default=None
        Restores the state in a forked child if only threads that the child does not have were in a block.
    """

    def __init__(
        self,
        read: Callable[[], State],
        change: Callable[[State], Any],
        restore: Callable[[State], Any],
        restore_in_child: Callable[[State], Any] | None = None,
    ):
        self._read = read
        self._change = change
        self._restore = restore
        self._restore_in_child = restore_in_child
        self._users = 0
        self._blocks = threading.local()  # number of blocks that the current thread is in
        # Reentrant, because the garbage collector may end a block that was interrupted while this thread has the lock.
        self._lock = fork_safe_lock(threading.RLock)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def _forget_other_threads(self) -> None:
        before, self._users = self._users, getattr(self._blocks, "number", 0)
        if before and not self._users and self._restore_in_child is not None:
            self._restore_in_child(self._saved)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Return a block in which the state is set.

        A generator, because an interruption such as Ctrl-C before its ``finally`` is reached, for example in
        `contextlib`, still closes it. The ``__exit__`` of a class would not be called again.
        """
        is_counted = False
        try:
            with self._lock:
                if self._users == 0:
                    self._saved = self._read()
                number = getattr(self._blocks, "number", 0) + 1
                # No call between these lines: an interruption in it would leave the block counted forever.
                self._users += 1
                self._blocks.number = number
                is_counted = True
                if self._users == 1:
                    self._change(self._saved)
            yield
        finally:
            if is_counted:
                with self._lock:
                    self._blocks.number -= 1
                    self._users -= 1
                    if self._users == 0:
                        try:
                            self._restore(self._saved)
                        except BaseException:  # an interruption that may leave part of it
                            self._restore(self._saved)
                            raise


@dataclass(frozen=True)
class _Switch:
    """A setting that torch has for the whole process.

    Parameters
    ----------
    read, write : callable
    ordinary : object
        Its value in a new process.
    """

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    ordinary: Any


def _anomaly_detection() -> _Switch:
    # Anomaly detection takes locks in an order that ends in a deadlock when several threads compute gradients.
    def write(detects: bool) -> None:
        torch.autograd.set_detect_anomaly(detects, torch.is_anomaly_check_nan_enabled())

    return _Switch(torch.is_anomaly_enabled, write, False)


def _precision(name: str) -> _Switch:
    """Return oneDNN's precision setting for an operation, which may compute float32 in bfloat16 on a CPU."""
    onednn = torch.backends.mkldnn
    setting = getattr(onednn, name)

    def read() -> str:
        precision: str = setting.fp32_precision
        # A value inherited from the setting for all operations reads like the operation's own value. Writing it back
        # would detach the operation from that setting.
        inherited = onednn.fp32_precision, getattr(torch.backends, "fp32_precision", None)
        return "none" if precision in inherited else precision

    def write(precision: str) -> None:
        setting.fp32_precision = precision

    return _Switch(read, write, "ieee")


def _backward_hooks(name: str) -> _Switch:
    """Return the hooks that are called at the gradients of all modules.

    They wrap the output of each module, which networks with operations in place do not allow.
    """
    hooks = getattr(torch.nn.modules.module, name)

    def write(content: dict[int, Any]) -> None:
        hooks.clear()
        hooks.update(content)

    return _Switch(lambda: dict(hooks), write, {})


def _switches() -> Iterator[_Switch]:
    yield _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    yield _anomaly_detection()
    for name in ("_global_backward_pre_hooks", "_global_backward_hooks"):
        if hasattr(torch.nn.modules.module, name):  # private, read in torch 2.14
            yield _backward_hooks(name)
    for name in ("conv", "matmul", "rnn"):
        if hasattr(torch.backends.mkldnn, name):  # torch 2.9 and newer
            yield _precision(name)


_SWITCHES = tuple(_switches())


def _positions() -> list[Any]:
    return [switch.read() for switch in _SWITCHES]


def _switch(_: list[Any]) -> None:
    """Set all switches to their values in a new process."""
    for switch in _SWITCHES:
        switch.write(switch.ordinary)


def _switch_back(before: list[Any]) -> None:
    for switch, value in zip(_SWITCHES, before, strict=True):
        if switch.read() == switch.ordinary:  # otherwise, other code has changed it meanwhile
            switch.write(value)


_torch_switches = Loan(_positions, _switch, _switch_back, _switch_back)
_forked = False


def _after_fork_in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def isolated() -> Iterator[None]:
    """Compute as in a new process. Can also be used as a decorator.

    Settings that torch and NumPy have for each thread are changed for the calling thread only: inference mode,
    gradients, hooks on saved tensors, autocast, default device, denormal numbers and floating-point errors. Settings
    that torch has for the process are changed until the last such block ends, and other threads see the change: default
    dtype, anomaly detection, backward hooks of all modules and reduced precision of float32 on a CPU. In a forked
    process, torch computes with one intra-op thread.
    """
    # NumPy's defaults.
    ordinary_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
    with ExitStack() as stack, _torch_switches.block(), ordinary_errors:
        # Needed even if gradients are enabled: tensors created in inference mode cannot be trained.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        _allow_saved_tensors_hooks(stack)
        for kind in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != _CPU:
            stack.enter_context(_CPU)
        if _flushes_denormals():
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        if _forked:
            # The threads in which the parent computed do not exist here, and torch would wait for them.
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


def _allow_saved_tensors_hooks(stack: ExitStack) -> None:
    """Allow hooks on saved tensors until a stack ends, for which torch has no public function."""
    settings = torch._C._autograd
    reason = settings._saved_tensors_hooks_get_disabled_error_message()
    if reason is not None:
        settings._saved_tensors_hooks_enable()
        stack.callback(settings._saved_tensors_hooks_disable, reason)


def _flushes_denormals() -> bool:
    """Return True if the calling thread treats denormal numbers as zero."""
    return bool((_DENORMAL * np.float32(1) == 0).all())
