"""External text in sktl's messages: on one line, of bounded length, without memory addresses."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"\s*(\bat )?0x[0-9a-fA-F]{6,}")
_MARK = "..."
# The longest reason that an error gives for an unusable image, in characters.
LONGEST_REASON = 600
# The reason for the name of a file without a folder, as `os.listdir` returns names. The error about images that all
# have this reason says what to pass.
NO_BARE_FILE = "no such file in the working folder"


def one_line(text: object, length: int = 200) -> str:
    """Return a text, such as the message of an error, on one line.

    Memory addresses are removed, because they differ from run to run: the same mistake gives the same message.

    Parameters
    ----------
    text : object
        Converted by `str`.
    length : int, default=200
        Maximum length of the result. Longer text is cut and ends in "...".
    """
    # The text is cut before it is searched, because the `str` of an array or a tensor may be very long.
    start = _ADDRESS.sub("", _as_text(text)[: 8 * length])
    words = " ".join("".join(c if c.isprintable() else " " for c in start).split())
    return words if len(words) <= length else words[: length - len(_MARK)] + _MARK


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # objects of users and other libraries may raise anything
        return "unprintable message"


def error_words(error: BaseException, length: int = 200) -> str:
    """Return the type and the message of a foreign error on one line, as `one_line` does."""
    name, message = type(error).__name__, one_line(error, length)
    return one_line(f"{name}: {message}" if message else name, length)


def shown_name(name: str) -> str:
    """Return a name as messages show it: quoted with escapes if it is not printable, without its middle if it is long.

    Parameters
    ----------
    name : str
        Name of a file, or what was passed as one.
    """
    # Escapes may be ten times as long as the characters that they represent, so the escaped name is cut.
    return cut_middle(name if name.isprintable() else repr(name), n_characters=len(name))


def cut_middle(text: str, length: int = 240, n_characters: int | None = None) -> str:
    """Return a text without its middle if it is long, followed by the number of its characters."""
    if len(text) <= length:
        return text
    half, n_characters = length // 2, len(text) if n_characters is None else n_characters
    return f"{text[:half]}{_MARK}{text[-half:]}, {n_characters:,} characters"


def type_of(value: object) -> str:
    """Return the type of a value with its article for messages, such as "an int". None is "None"."""
    name = type(value).__name__
    article = "an" if name.lower().startswith((*"aeio", "nd")) else "a"  # by sound: a UserDict, an ndarray
    return "None" if value is None else f"{article} {name}"


def shown_value(value: object) -> str:
    """Return the repr of a value for messages: on one line, of limited length, without memory addresses."""
    try:
        return shortened(repr(value))
    except Exception:  # users' classes may raise anything, and long integers do
        return f"<{type(value).__name__}>"


def shortened(text: str, length: int = 80) -> str:
    """Return the repr of a value on one line and without memory addresses, and without its middle if it is long."""
    text = re.sub(r"\s*\n\s*", " ", re.sub(r" at 0x[0-9a-fA-F]+", "", text))
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 4 :]} ({len(text)} characters)"
