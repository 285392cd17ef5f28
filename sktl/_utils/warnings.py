"""Warnings that point at the user's line, however deep in the library their cause was found."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Packages whose frames may lie between a line of the user and a warning.
_LIBRARIES = {"sktl", "sklearn", "skorch", "joblib", "click", "torch", "contextlib", "concurrent", "threading"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside of libraries. If there is none, as in a pool's thread, warn at the caller."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(message, category, stacklevel=2 if frame is None else level)
    except ValueError:
        # Python raises this for a closed stream only; it ignores errors of other streams.
        if not getattr(sys.stderr, "closed", False):
            raise


told: set[str] = set()


def warn_once(message: str, category: type[Warning]) -> None:
    """Issue a warning about this process only the first time that it occurs."""
    if message not in told:
        warn(message, category)
        told.add(message)
