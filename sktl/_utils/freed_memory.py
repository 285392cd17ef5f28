"""Freed memory that a process keeps for the next image, even if its environment has it returned to the system at once.

dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536. glibc then requests the memory of each decoded image from the
system anew and clears it page by page, which takes a worker about a tenth of the time of a pass.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from typing import Any

from .settings_isolation import Loan

# Parameters of `mallopt`, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_OF_GLIBC = 128 << 10  # as long as either threshold is set, which ends their adjustment by glibc
# The highest values that glibc reaches by its own adjustment.
_HIGHEST_MMAP_THRESHOLD, _HIGHEST_TRIM_THRESHOLD = 32 << 20, 64 << 20


@functools.cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def _number(name: str) -> int | None:
    """Return a number in an environment variable, which glibc has read when the process started."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def _low_threshold() -> int | None:
    """Return the threshold that the environment sets if it is low, else None."""
    trim = _number("MALLOC_TRIM_THRESHOLD_")
    if trim is None or trim >= _HIGHEST_TRIM_THRESHOLD or _glibc() is None:
        return None
    return trim


def _keep(trim: int | None) -> None:
    if trim is not None:
        _glibc().mallopt(_TRIM_THRESHOLD, _HIGHEST_TRIM_THRESHOLD)
        _glibc().mallopt(_MMAP_THRESHOLD, _HIGHEST_MMAP_THRESHOLD)


def _return(trim: int | None) -> None:
    """Restore the thresholds of the environment, and return the memory that is free now."""
    if trim is not None:
        _glibc().mallopt(_TRIM_THRESHOLD, trim)
        _glibc().mallopt(_MMAP_THRESHOLD, _number("MALLOC_MMAP_THRESHOLD_") or _MMAP_THRESHOLD_OF_GLIBC)
        _glibc().malloc_trim(0)


freed_memory_kept = Loan(_low_threshold, _keep, _return, _return)
