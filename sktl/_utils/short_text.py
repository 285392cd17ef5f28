"""Labels and numbers as text that fits: shortened labels, rounded numbers and percentages."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

# Numbers with more digits before or after the point are shown with an exponent.
_MOST_DIGITS = 7
# Characters within words of several scripts, which Python does not count as printable.
_JOINERS = "\u200c\u200d"


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


def percent(share: float) -> str:
    """Return a probability for people; it is not rounded to 0 % or 100 % unless it is exactly 0 or 1."""
    if 0.995 <= share < 1:
        return "> 99 %"
    if 0 < share <= 0.005:
        return "< 1 %"
    return f"{share:.0%}".replace("%", " %")


def rounded(number: float, scale: float) -> str:
    """Return a number for people, with as many decimals as differences of a tenth of `scale` need."""
    n_decimals = max(0, 1 - math.floor(math.log10(scale))) if scale > 0 else 0
    if n_decimals > _MOST_DIGITS or abs(number) >= 10**_MOST_DIGITS:
        return f"{number:z.4g}"
    return f"{number:z.{n_decimals}f}"


def with_percent(label: Any, share: float, width: int) -> str:
    """Return a label and its probability in at most two lines of `width` letters."""
    suffix = f" ({percent(share)})"
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
