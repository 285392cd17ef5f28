"""Warnings that point at the user's line, however deep within the library their reason was found."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

# Packages through which a call of the user's may reach the place of a warning.
_LIBRARIES = {"sktl", "sklearn", "skorch", "joblib", "click", "torch", "contextlib", "concurrent", "threading"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn as if the innermost line outside of libraries did; without one, as in a thread of a pool, the caller."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(message, category, stacklevel=2 if frame is None else level)
    except ValueError:
        # Python prints to a closed stream, where other streams that fail are left alone.
        if not getattr(sys.stderr, "closed", False):
            raise


told: set[str] = set()


def warn_once(message: str, category: type[Warning]) -> None:
    """Warn of something about this process, the first time that it is found."""
    if message not in told:
        warn(message, category)
        told.add(message)
