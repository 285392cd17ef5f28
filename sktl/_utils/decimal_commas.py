"""Recognize numbers that are written with commas, such as 0,5 and 1.000,5, which neither Python nor NumPy reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

# With points between thousands, too, or with commas between thousands and a decimal point.
_NUMBER = re.compile(r"[+-]?((\d+|\d{1,3}(\.\d{3})+)(,\d+)?|\d{1,3}(,\d{3})+(\.\d+)?)", re.ASCII)


def have_decimal_commas(texts: Sequence[str]) -> bool:
    """Return True if all texts are numbers, and some of them have a comma, before decimals or between thousands."""
    return all(map(_NUMBER.fullmatch, texts)) and any("," in text for text in texts)
