"""Errors of the process, such as a time limit or a lack of memory, which no file, image or network is to blame for."""

from __future__ import annotations

import errno
import inspect
from traceback import walk_tb
from types import FrameType

from sktl._short_text import one_line
from sktl.exceptions import DeviceMemoryError

# Words of torch on a CPU, which raises a plain RuntimeError, and of Pillow.
_NO_MEMORY = {RuntimeError: ("allocate memory", "not enough memory"), OSError: ("out of memory",)}
_NO_THREAD = "can't start new thread"  # Python's words where a limit on threads or processes is reached


def raise_process_error(error: Exception) -> None:
    """Raise an error that is no fault of the file, the image or the network that the process was working on.

    Code that takes any error for such a fault calls this function first.

    Parameters
    ----------
    error : Exception
        The error that was caught.

    Raises
    ------
    Exception
        The error itself, if a signal handler of the program raised it, if it is a `MemoryError`, or if no thread could
        be started.
    DeviceMemoryError
        If it is an error of another type that means a lack of memory.
    """
    words = one_line(error, 400)
    if isinstance(error, MemoryError) or words == _NO_THREAD or is_from_signal_handler(error):
        raise error
    if getattr(error, "errno", None) == errno.ENOMEM or _means_no_memory(error, words):
        raise DeviceMemoryError(
            f"There is not enough memory: {words}. Free memory, or allow the process to use more."
        ) from error


def _means_no_memory(error: Exception, words: str) -> bool:
    return any(isinstance(error, kind) and any(told in words for told in tells) for kind, tells in _NO_MEMORY.items())


def is_from_signal_handler(error: Exception) -> bool:
    """Return True if a signal handler raised an error, as time limits do, wherever the main thread was.

    The type does not tell: programs raise any type, such as TimeoutError, which is an OSError. The error that another
    one replaced does not tell either: a reader of the user may turn a time limit of its own into a damaged image, and
    the whole call may be part of what a program does after a time limit.
    """
    return any(_is_handler(frame) for frame, _ in walk_tb(error.__traceback__))


def _is_handler(called: FrameType) -> bool:
    """Return True if a function received the frame that it interrupted, as only signal handlers do.

    Neither the registered handlers nor their code tell: a handler may have removed itself, and other functions may
    share a decorator with it. Other local variables are left out, because functions that look up their caller, as
    torch's tracer does, have its frame there.
    """
    arguments = inspect.getargvalues(called)
    names = [*arguments.args, *filter(None, (arguments.varargs, arguments.keywords))]
    values = [arguments.locals.get(name) for name in names]
    received = [*values, *(item for value in values if isinstance(value, tuple) for item in value)]
    return called.f_back is not None and any(value is called.f_back for value in received)
