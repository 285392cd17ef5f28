"""Several labels of one image as one text, such as "trees, water", and back."""

from __future__ import annotations

from collections.abc import Collection

SEPARATOR = ", "
# What may separate several labels in one text. Longer ones first: others would leave white space in names.
SEPARATORS = ("; ", ", ", ";", "|", ",", "/", " ")
# Names of one thing have spaces, too, and may consist of other names by chance, such as "red panda".
_FEWEST_WITH_SPACES = 3


def find_joined(names: Collection[str]) -> tuple[str, str] | None:
    """Return a name that consists of other names, such as "cat;dog", and its separator; None if there is none.

    Names with spaces count only if several of them, and at least half, consist of other names.
    """
    known = {*names}
    for separator in SEPARATORS:
        parts = {name: name.split(separator) for name in known if separator in name}
        joined = [name for name, found in parts.items() if known.issuperset(found) and len({*found}) == len(found)]
        fewest = max(_FEWEST_WITH_SPACES, len(parts) / 2) if separator == " " else 1
        if len(joined) >= fewest:
            return min(joined), separator
    return None


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
