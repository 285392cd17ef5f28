"""Words of others in our messages: on one line, of bounded length, without addresses of memory."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"\s*(\bat )?0x[0-9a-fA-F]{6,}")
_MARK = "..."
# Of a reason why an image cannot be used.
LONGEST_REASON = 600


def one_line(text: object, length: int = 200) -> str:
    """Return a text, such as that of an error, as words on one line.

    What differs from run to run is left out, so that the same mistake has the same message.

    Parameters
    ----------
    text : object
        Its `str` is meant.
    length : int, default=200
        Of the result at most; a longer text is cut and ends in "...".
    """
    start = _ADDRESS.sub("", str(text)[: 8 * length])
    words = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    return words if len(words) <= length else words[: length - len(_MARK)] + _MARK


def shown_name(name: str, length: int = 240) -> str:
    """Return a name as a message shows it: quoted with escapes if it is not printable, the middle left out if long.

    Parameters
    ----------
    name : str
        Of a file, or what was passed for one.
    length : int, default=240
        Up to which it stays whole, with its escapes.
    """
    # Escapes may be ten times as long as what they stand for: what is cut is what is shown.
    return cut_middle(name if name.isprintable() else repr(name), length, len(name))


def cut_middle(text: str, length: int = 240, n_characters: int | None = None) -> str:
    """Return a text, its middle left out if it is long, and then how many characters there are."""
    if len(text) <= length:
        return text
    kept, n_characters = length // 2, len(text) if n_characters is None else n_characters
    return f"{text[:kept]}{_MARK}{text[-kept:]}, {n_characters:,} characters"
