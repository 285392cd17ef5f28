"""Several labels of one image as one text, such as "trees, water", and back."""

from __future__ import annotations

from collections.abc import Collection

SEPARATOR = ", "
# What may separate several labels in one text. Longer ones first: others would leave white space in names.
SEPARATORS = ("; ", ", ", ";", "|", ",", "/", " ")
# What names of one thing have, too, which may consist of other names by chance, such as "red panda" and "N/A".
_IN_NAMES = ("/", " ")
_FEWEST_IN_NAMES = 3


def find_joined(names: Collection[str]) -> tuple[str, str] | None:
    """Return a name that consists of other names, such as "cat;dog", and its separator; None if there is none.

    Names with spaces or slashes count only if several of them, and at least half, consist of other names.
    """
    known = {*names}
    for separator in SEPARATORS:
        parts = {name: name.split(separator) for name in known if separator in name}
        joined = [name for name, found in parts.items() if known.issuperset(found) and len({*found}) == len(found)]
        fewest = max(_FEWEST_IN_NAMES, len(parts) / 2) if separator in _IN_NAMES else 1
        if len(joined) >= fewest:
            return min(joined), separator
    return None


def separator_in(names: Collection[str]) -> str | None:
    """Return what separates labels in some names, or None. Names of one thing may have spaces and slashes."""
    if joined := find_joined(names):
        return joined[1]
    return next((one for one in SEPARATORS if one not in _IN_NAMES and any(one in name for name in names)), None)


def split_labels(text: str, names: Collection[str]) -> list[str] | None:
    """Return the labels in a text, or None if it does not consist of names of labels.

    Names may contain the separator. Of several ways to read the text, the one with the longest first name counts.
    """
    if not text:
        return []
    # Whether the rest of the text after each separator can be read is found once, from the end on.
    parts = text.split(SEPARATOR)
    read: list[list[str] | None] = [None] * len(parts) + [[]]
    for first in reversed(range(len(parts))):
        for end in range(len(parts), first, -1):
            name, rest = SEPARATOR.join(parts[first:end]), read[end]
            if name in names and rest is not None:
                read[first] = [name, *rest]
                break
    return read[0]
