"""Recognize numbers that are written with decimal commas, which neither Python nor NumPy reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[+-]?\d+(,\d+)?", re.ASCII)


def have_decimal_commas(texts: Sequence[str]) -> bool:
    """Return True if all texts are numbers, and some of them have a decimal comma."""
    return all(map(_NUMBER.fullmatch, texts)) and any("," in text for text in texts)
