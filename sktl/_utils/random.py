"""Seeded random numbers that leave the global generators unchanged."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

_LONGEST_WAIT = 1.0  # seconds
_generator_lock = threading.RLock()


class _Fork(threading.local):
    """Whether the fork that this thread begins has acquired the lock."""

    has_lock = False


_fork = _Fork()


def _wait_for_generators() -> None:
    """Wait until no thread draws from torch's generators, which have locks that a forked child cannot renew.

    The wait is bounded, because a time limit cannot end it, and a function of the user that draws may wait for a fork.
    """
    _fork.has_lock = False  # the next line may be interrupted
    _fork.has_lock = _generator_lock.acquire(timeout=_LONGEST_WAIT)


def _let_others_draw() -> None:
    if _fork.has_lock:
        _generator_lock.release()


def _renew_generator_lock() -> None:
    """Make a new lock, because a thread that does not exist in the child may hold the inherited one."""
    global _generator_lock
    _generator_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_generators, after_in_parent=_let_others_draw, after_in_child=_renew_generator_lock
    )


@contextmanager
def seeded_globals(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generators for code that accepts no generator, in one thread at a time.

    The generators are the CPU's and, if a device is given, the device's. Their states are restored at the end.
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
    """Seed the global generators of torch, NumPy and `random` for a function of the user. Restore them afterwards."""
    with seeded_globals(seed):
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002 - a user's transform may draw from it
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def draws_from_globals(function: Callable[[], object]) -> bool:
    """Return True if a function draws from torch's global CPU generator."""
    with seeded_globals(0):
        before = torch.get_rng_state()
        function()
        return not torch.equal(before, torch.get_rng_state())


class Stream(IntEnum):
    """Purposes of random numbers. Each has its own numbers for a seed, so that a change in one affects no other.

    The values must not change: other values would change the results of every fit with a given seed.
    """

    INITIAL = 0  # weights of the output layer
    ORDER_OF_FEATURES = 1
    DROPPED_FEATURES = 2
    ORDER = 10  # of images, when stages are trained
    CHANGED = 11  # images by augmentation
    MIXED = 12  # images by mixup
    DROPPED = 13  # features when stages are trained


def generator(*seed: int) -> torch.Generator:
    """Return a new CPU generator for a sequence of non-negative integers: (seed, epoch, ...)."""
    # SeedSequence pads with zeros: without the length, (1,) and (1, 0) would give the same numbers.
    state = np.random.SeedSequence((len(seed), *seed)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))
