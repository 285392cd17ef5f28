"""Calls that a signal handler interrupts at a given place, as time limits and Ctrl-C do at any place."""

import signal
import sys
import threading
from concurrent.futures import _base as futures

# A signal at the start of `threading.Condition.__exit__`, for example, leaves the condition held: its `with` statement
# does not call it again (https://github.com/python/cpython/issues/74174).
_FILES_WITH_PYTHON_LOCKS = {threading.__file__, futures.__file__}


class InterruptionError(Exception):
    """An ordinary exception, as most time limits are."""


def _raise(*_):
    raise InterruptionError


def interrupted(call, place):
    """Call a function, with a signal at the given place in it. Return how many places there were.

    Places are those at which Python itself handles signals: the start of a function, and the end of a function in C. An
    error at another place, such as the start of a lock's ``__exit__``, would leave the lock held, which no signal can.
    """
    passed = 0

    def count(frame, event, _):
        nonlocal passed
        if event not in ("call", "c_return") or frame.f_code.co_filename in _FILES_WITH_PYTHON_LOCKS:
            return
        passed += 1
        if passed == place:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    before, handler = sys.getprofile(), signal.signal(signal.SIGINT, _raise)
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
        signal.signal(signal.SIGINT, handler)
    return passed
