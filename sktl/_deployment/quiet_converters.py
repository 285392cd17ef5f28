"""Silence what converters print, log and warn about their own code."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sktl._utils.settings_isolation import Loan

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
    """Within the block, drop what the calling thread logs to the root logger and what `mute` modules print.

    Neither standard output nor the level of the root logger is touched, because other threads use them meanwhile.
    """
    with _FILTERED.block():
        _CURRENT.n_blocks = getattr(_CURRENT, "n_blocks", 0) + 1
        try:
            yield
        finally:
            _CURRENT.n_blocks -= 1


def mute(module: ModuleType) -> None:
    """Let a module print nothing from within `silent_thread`. Elsewhere, it prints as before."""
    vars(module)["print"] = _print


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
