"""Functions run in forked children, for tests of what several processes do."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sktl

# What a program in another process needs on its path: the package that is tested, and this folder.
ROOTS = [str(Path(sktl.__file__).parents[1]), str(Path(__file__).parent)]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Child:
    """A forked process that runs a function and leaves without any clearing up."""

    def __init__(self, function: Callable[..., Any], *args: Any):
        reader, writer = os.pipe()
        self._reader = os.fdopen(reader, "rb")
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            return
        try:
            answer = pickle.dumps((function(*args), None))
        except BaseException:
            answer = pickle.dumps((None, traceback.format_exc()))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)

    def read(self) -> bytes:
        """Return the bytes that the child answered, once it has; it is not gone before `result`."""
        if not self._reader.closed:
            self._answer = self._reader.read()
            self._reader.close()
        return self._answer

    def result(self) -> Any:
        """Return what the function returned; its error is an AssertionError here."""
        answer = self.read()
        _, status = os.waitpid(self.pid, 0)
        assert answer, f"the process ended with status {os.waitstatus_to_exitcode(status)}"
        value, error = pickle.loads(answer)
        assert error is None, error
        return value

    def kill(self) -> None:
        """End the process at once, wherever it is."""
        self._reader.close()
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns in a forked child."""
    return Child(function, *args).result()


def results(children: list[Child]) -> list[Any]:
    """Return what functions returned, all of whose processes stay until the last has answered."""
    for child in children:
        child.read()
    return [child.result() for child in children]
