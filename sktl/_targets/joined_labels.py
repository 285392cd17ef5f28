"""Several labels of one image as one text, such as "trees, water", and back."""

from __future__ import annotations

from collections.abc import Collection

SEPARATOR = ", "


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
