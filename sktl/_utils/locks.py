"""A lock that works in forked children. It is separate from `settings_isolation`, which imports torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any


def fork_safe_lock(kind: Callable[[], Any] = threading.Lock) -> threading.Lock:
    """Return a lock of some kind that is free in a forked child, where the thread that held it may not exist."""
    lock = kind()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)
    return lock
