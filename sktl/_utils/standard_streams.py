"""Standard streams for libraries that write to them, or inspect them, without checking whether they are open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def open_streams() -> Iterator[None]:
    """Within the block, replace standard output and standard error by the null device if they are missing or closed.

    Services and windowed programs have none, and torch's exporter then fails as if the network could not be exported.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    missing = [name for name, stream in before.items() if getattr(stream, "closed", stream is None)]
    with open(os.devnull, "w") as null:
        for name in missing:
            setattr(sys, name, null)
        try:
            yield
        finally:
            for name in missing:
                setattr(sys, name, before[name])
