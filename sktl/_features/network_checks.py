"""Check what threads and caches need of a user's network: the features of an image depend on nothing but the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .feature_provenance import relative_difference

# Relative to the largest output. The bits may depend on the place of an image in a chunk.
_TOLERANCE = 1e-3
# Number of places in a run at which another run takes place. The last one finds what a network reads at its end.
_PLACES = 4

# Maps a chunk of pixels to outputs.
Run = Callable[[np.ndarray], np.ndarray]


def depends_on_others(run: Run, probe: np.ndarray, answer: np.ndarray) -> bool:
    """Return True if the output for an image changes with the other images of a chunk.

    This happens, for example, if normalization uses the statistics of a batch.

    Parameters
    ----------
    run : callable
    probe : uint8 array of shape (n, H, W, 3)
        Different images.
    answer : float32 array of shape (n, ...)
        The output of `run` for them.
    """
    padded = np.zeros_like(probe)
    padded[0] = probe[0]
    return len(probe) > 1 and _differ(run(padded)[:1], answer[:1])


def keeps_state(network: nn.Module, run: Run, probe: np.ndarray) -> bool:
    """Return True if a run gives another output if a second run takes place in between, as it may in threads.

    Networks that read their features from an attribute that a hook sets are an example. Where threads switch is chance,
    so the second run is called by hooks of the first one, at several places.

    Parameters
    ----------
    network : nn.Module
    run : callable
        Runs the network.
    probe : uint8 array of shape (n, H, W, 3)
    """
    expected, other = run(probe), probe[..., ::-1].copy()
    last = max(0, _count_calls(network, run, probe) - 2)  # after it, only the call of the network itself ends
    places = {*np.linspace(0, last, _PLACES).round().astype(int).tolist()}
    return any(_differ(_interrupted(network, run, probe, other, place), expected) for place in places)


def _count_calls(network: nn.Module, run: Run, probe: np.ndarray) -> int:
    n_calls = 0

    def count(*call: Any) -> None:
        nonlocal n_calls
        n_calls += 1

    _with_hooks(network, count, lambda: run(probe))
    return n_calls


def _interrupted(network: nn.Module, run: Run, probe: np.ndarray, other: np.ndarray, place: int) -> np.ndarray:
    """Return the output for a chunk if another one is run after the module call of this number."""
    n_calls = 0

    def interrupt(*call: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == place + 1:
            run(other)

    return _with_hooks(network, interrupt, lambda: run(probe))


def _with_hooks(network: nn.Module, hook: Callable[..., None], function: Callable[[], np.ndarray]) -> np.ndarray:
    """Call a function with a hook after each call of a module. The network's own hooks are called before it."""
    modules = (module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule))
    handles = [module.register_forward_hook(hook) for module in modules]  # compiled modules refuse hooks
    try:
        return function()
    finally:
        for handle in handles:
            handle.remove()


def _differ(outputs: np.ndarray, expected: np.ndarray) -> bool:
    return not relative_difference(outputs, expected) <= _TOLERANCE
