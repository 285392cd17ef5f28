"""Names of files on standard input, in the place of `-` on a command line."""

from __future__ import annotations

import os
import sys

from sktl.exceptions import InvalidInputError

FROM_INPUT = "-"


def names_on_input() -> list[str]:
    """Return the names on standard input: one on each line or, if there are NUL bytes, separated by NUL.

    Raises
    ------
    InvalidInputError
        If there are none.
    """
    content = b"" if sys.stdin is None or sys.stdin.closed else sys.stdin.buffer.read()
    separated = content if b"\0" in content else content.replace(b"\r\n", b"\n").replace(b"\n", b"\0")
    names = [os.fsdecode(name) for name in separated.split(b"\0") if name]
    if not names:
        raise InvalidInputError("Standard input has no names of images. Write one on each line.")
    return names
