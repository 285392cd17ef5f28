"""Names of files on standard input, in the place of `-` on a command line."""

from __future__ import annotations

import codecs
import os
import sys

from sktl.exceptions import InvalidInputError

FROM_INPUT = "-"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def names_on_input() -> list[str]:
    """Return the names on standard input: one on each line or, if there are NUL bytes, separated by NUL.

    Programs of Windows begin a list with a mark of its encoding, which is not part of the first name.

    Raises
    ------
    InvalidInputError
        If there are none, or this system cannot decode them.
    """
    content = b"" if sys.stdin is None or sys.stdin.closed else sys.stdin.buffer.read()
    try:
        content = content.decode("utf-16").encode() if content.startswith(_UTF16) else content
        content = content.removeprefix(codecs.BOM_UTF8)
        separated = content if b"\0" in content else content.replace(b"\r\n", b"\n").replace(b"\n", b"\0")
        names = [os.fsdecode(name) for name in separated.split(b"\0") if name]
    except UnicodeError:
        raise InvalidInputError("The names on standard input are not in UTF-8. Write them in UTF-8.") from None
    if not names:
        raise InvalidInputError("Standard input has no names of images. Write one on each line.")
    return names
