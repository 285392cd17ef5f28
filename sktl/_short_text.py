"""Text that fits: errors, values, labels, lists and numbers, shortened and on one line, for messages and figures."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_ADDRESS = re.compile(r"\s*(\bat )?0x[0-9a-fA-F]{6,}")
_MARK = "..."
# The longest reason that an error gives for an unusable image, in characters.
LONGEST_REASON = 600
# The reason for the name of a file without a folder, as `os.listdir` returns names. The error about images that all
# have this reason says what to pass.
NO_BARE_FILE = "no such file in the working folder"
# In place of a figure that is not defined.
NONE = "-"
# Numbers with more digits before or after the point are shown with an exponent.
_MOST_DIGITS = 7
# Characters within words of several scripts, which Python does not count as printable.
_JOINERS = "\u200c\u200d"


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


def printable_line(text: Any) -> str:
    """Return text on one line.

    Line breaks and characters that cannot be printed, such as those that change the order of letters, are replaced by
    spaces.
    """
    return " ".join("".join(c if c.isprintable() or c in _JOINERS else " " for c in str(text)).split())


def fitted(label: Any, width: int, lines: int = 1) -> str:
    """Return a label in at most `lines` lines of `width` letters, with an ellipsis in place of omitted letters.

    In a single line, the middle is omitted, because labels of many classes often differ at their end.
    """
    text = printable_line(label)
    if len(text) <= width:
        return text
    if lines == 1:
        tail = (width - 1) // 2
        return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
    wrapped = textwrap.wrap(text, width)
    if len(wrapped) > lines:
        wrapped[lines - 1 :] = [wrapped[lines - 1][: width - 1] + "…"]
    return "\n".join(wrapped)


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent; it is not rounded to 0 or 100 % unless it is exactly 0 or 1."""
    if math.isnan(share):
        return NONE
    unit = 10.0**-digits
    if 0 < share * 100 <= unit / 2:
        return f"< {unit:g} %"
    if 100 - unit / 2 <= share * 100 < 100:
        return f"> {100 - unit:g} %"
    return f"{share * 100:.{0 if share in (0, 1) else digits}f} %"


def number(value: float | None) -> str:
    """Return a number with four digits, or a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.4g}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a score in [0, 1], or a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def rounded(value: float, scale: float) -> str:
    """Return a number for people, with as many decimals as differences of a tenth of `scale` need."""
    n_decimals = max(0, 1 - math.floor(math.log10(scale))) if 0 < scale < math.inf else 0
    if n_decimals > _MOST_DIGITS or abs(value) >= 10**_MOST_DIGITS:
        return f"{value:z.4g}"
    return f"{value:z.{n_decimals}f}"


def count(n: int, one: str = "image", several: str = "") -> str:
    """Return a number of things, such as "1 image" or "2,000 images"."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def first_few(values: Sequence[Any], show: Callable[[Any], str] = str, n: int = 5) -> str:
    """Return the first `n` values as `show` shows them, and the number of the others."""
    more = [f"and {len(values) - n:,} more"] if len(values) > n else []
    return ", ".join([*map(show, values[:n]), *more])


def first_shown(values: Iterable[Any]) -> str:
    """Return the first few values in the form of messages."""
    return first_few(list(values), shown_value)


def with_percent(label: Any, share: float, width: int) -> str:
    """Return a label and its probability in at most two lines of `width` letters."""
    suffix = f" ({percent(share, 0)})"
    lines = fitted(label, width, 2).split("\n")
    if len(lines[-1]) + len(suffix) > width:
        if len(lines) == 1:
            lines.append("")
            suffix = suffix.lstrip()
        else:
            lines[-1] = lines[-1][: max(0, width - len(suffix) - 1)].rstrip("…") + "…"
    return "\n".join([*lines[:-1], lines[-1] + suffix])


def distinct_texts(names: Sequence[Any]) -> list[str]:
    """Return a different text for each name: its `str` or, if two would be equal, the `repr` or position of each.

    Labels such as 1 and "1" are different, and columns may have equal names.
    """
    for text in (str, repr):
        found = [text(name) for name in names]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({position})" for position, name in enumerate(names)]
