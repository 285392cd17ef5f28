"""Several labels of one image as one text, such as "trees, water", and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

SEPARATOR = ", "
# What may separate several labels in one text. Longer ones first: others would leave white space in names.
SEPARATORS = ("; ", ", ", ";", "|", ",", "/", " ")
# What names of one thing have, too, which may consist of other names by chance, such as "red panda" and "N/A".
_IN_NAMES = ("/", " ")
_FEWEST_IN_NAMES = 3
# More names than this for each part are joined, even if no part is a name. Parts of numbers such as 0,5 and of dates
# also recur, so commas without a space and slashes are left out.
_NAMES_FOR_EACH_PART = {"; ": 1, ", ": 1, ";": 1, "|": 1, " ": 2}
# The beginning of a list as text, such as "['cat', 'dog']", whose parts would have quotes and brackets.
_LISTS = ("[", "(", "{")


class Joined(NamedTuple):
    """A name that consists of several labels.

    Attributes
    ----------
    name : str
    separator : str
    evidence : str
        What else has its parts, as the end of a sentence.
    """

    name: str
    separator: str
    evidence: str


def find_joined(names: Collection[str]) -> Joined | None:
    """Return a name that consists of several labels, such as "cat;dog", and its separator; None if there is none.

    Names with spaces or slashes count only if several of them, and at least half, consist of other names, or if there
    are far more of them than words, which are not sequences.
    """
    known = {*names}
    for separator in SEPARATORS:
        parts = {name: name.split(separator) for name in known if separator in name}
        joined = [name for name, found in parts.items() if known.issuperset(found) and len({*found}) == len(found)]
        fewest = max(_FEWEST_IN_NAMES, len(parts) / 2) if separator in _IN_NAMES else 1
        if len(joined) >= fewest:
            return Joined(min(joined), separator, "its parts are classes, too")
        combined = _combined(parts, _NAMES_FOR_EACH_PART.get(separator))
        if combined and not (separator in _IN_NAMES and _are_sequences([parts[name] for name in combined])):
            return Joined(min(combined), separator, "its parts are in other classes, too")
    return None


def _combined(parts: Mapping[str, Sequence[str]], names_for_each: int | None) -> list[str]:
    """Return names that combine parts of other names, if there are more names than parts; otherwise, none.

    Some part must be in different places: names such as "red car", "blue car" and "red bus" have attributes instead.
    """
    counts = Counter(chain.from_iterable(map(set, parts.values())))
    places = {(part, place) for found in parts.values() for place, part in enumerate(found)}
    if names_for_each is None or len(parts) <= names_for_each * len(counts) or len(places) == len(counts):
        return []
    recurring = [name for name, found in parts.items() if min(counts[part] for part in found) > 1]
    return [name for name in recurring if not name.startswith(_LISTS)]


def _are_sequences(names: Collection[Sequence[str]]) -> bool:
    """Return True if names have equally many parts, whose order or repetition matters: "sit to stand", "5 5"."""
    lengths, sets = {len(parts) for parts in names}, {frozenset(parts) for parts in names}
    return len(lengths) == 1 and (len(sets) < len(names) or min(map(len, sets)) < max(lengths))


def separator_in(names: Collection[str]) -> str | None:
    """Return what separates labels in some names, or None. Names of one thing may have spaces and slashes."""
    if joined := find_joined(names):
        return joined.separator
    names = [name for name in names if not name.startswith(_LISTS)]
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
