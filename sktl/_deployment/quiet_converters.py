"""Silence what converters print, log and warn about their own code."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from sktl._utils.settings_isolation import Loan

_LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "log")
_CURRENT = threading.local()  # its `n_blocks` is the number of blocks that the current thread is in


def _is_silent() -> bool:
    return getattr(_CURRENT, "n_blocks", 0) > 0


def _passes(record: logging.LogRecord) -> bool:
    return not _is_silent()


def _filter_root(_: None) -> None:
    logging.root.addFilter(_passes)


def _unfilter_root(_: None) -> None:
    logging.root.removeFilter(_passes)


_FILTERED = Loan(lambda: None, _filter_root, _unfilter_root, _unfilter_root)


@contextmanager
def silent_thread() -> Iterator[None]:
    """Within the block, drop what the calling thread logs to the root logger and what modules print after `mute`.

    Neither standard output nor the level of the root logger is touched, because other threads use them meanwhile.
    """
    with _FILTERED.block():
        _CURRENT.n_blocks = getattr(_CURRENT, "n_blocks", 0) + 1
        try:
            yield
        finally:
            _CURRENT.n_blocks -= 1


def mute(package: str) -> None:
    """Let the imported modules of a package print nothing from within `silent_thread`. Elsewhere, they print as before.

    What they log by `logging.info` and the like, they log by methods of the root logger instead. The functions add a
    handler to a root logger that has none, and a program that calls `logging.basicConfig` afterwards would have no log.
    """
    without_handlers = SimpleNamespace(**vars(logging) | {name: getattr(logging.root, name) for name in _LEVELS})
    for name, module in [*sys.modules.items()]:
        if f"{name}.".startswith(f"{package}."):
            vars(module)["print"] = _print
            if vars(module).get("logging") is logging:
                vars(module)["logging"] = without_handlers


def _print(*values: Any, **options: Any) -> None:
    if not _is_silent():
        print(*values, **options)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence the converter, whose warnings and progress are about its own code. Needs the lock `TRACING`."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with silent_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
