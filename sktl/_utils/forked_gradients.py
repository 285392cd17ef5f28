"""Gradients in forked processes: keep them possible where torch would rule them out, and otherwise raise a clear error.

At the first gradients of a process, torch decides whether processes forked from it can compute gradients. They cannot
if torch starts a thread per device. It does so on machines with an accelerator, and also on others once
`torch.export` or `torch.compile` has run, which simulate devices (seen in torch 2.14).
"""

from __future__ import annotations

import contextlib

import torch

from sktl.exceptions import DeviceError

from .devices import available_devices


def check_gradients() -> None:
    """Raise `DeviceError` in a forked process in which torch cannot compute gradients."""
    try:
        _compute_gradients()
    except RuntimeError as error:
        raise DeviceError(
            "Gradients cannot be computed in this process: it was forked from one in which torch has started threads "
            "for gradients, as it does on machines with a GPU and after torch.compile or torch.export. Start processes "
            'by "spawn", as joblib does by default.'
        ) from error


def keep_gradients_possible() -> None:
    """Let torch decide about forked processes now, before it simulates devices. A GPU decides for itself."""
    if available_devices() == ["cpu"]:
        with contextlib.suppress(RuntimeError):  # a forked process in which it is too late
            _compute_gradients()


def _compute_gradients() -> None:
    with torch.inference_mode(False), torch.enable_grad():
        one = torch.ones((), requires_grad=True)
        torch.autograd.grad(one * 1, [one])
