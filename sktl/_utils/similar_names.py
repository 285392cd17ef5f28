"""Names that look the same or nearly the same, but differ: an umlaut may be one character (NFC) or two (NFD)."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sktl._short_text import first_few

# Characters without a shape outside the Unicode categories Cf and Cc: joiners, fillers, variation selectors, tags.
_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_LETTERS = 80


def as_seen(name: str) -> str:
    """Return a key that names share if they look the same.

    They differ only in the composition of letters, in white space at the ends or doubled, or in characters without a
    shape.
    """
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    # Normalized last, because a character without a shape may separate a letter from its accent.
    return " ".join(unicodedata.normalize("NFC", "".join(filter(_has_shape, name))).split())


def as_read(name: str) -> str:
    """Return a key that names share if they look nearly the same: in another case, or with other dashes."""
    dashes = "".join("-" if unicodedata.category(c) == "Pd" else c for c in as_seen(name))
    return unicodedata.normalize("NFKC", dashes).casefold()


def _has_shape(character: str) -> bool:
    """Return True if a character has a shape or is white space."""
    return character.isspace() or not (unicodedata.category(character) in ("Cf", "Cc") or _SHAPELESS.match(character))


def groups_alike(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups of names that share a key, `as_seen` or `as_read`."""
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(
    names: Iterable[str], others: Sequence[str], keys: Sequence[Callable[[str], str]] = (as_seen, as_read)
) -> list[tuple[str, str]]:
    """Return the pairs of a name and one of the others that differ, but share a key, the first key if possible."""
    of_keys = [(key, {key(other): other for other in others}) for key in keys]
    found = [(name, [of_key[key(name)] for key, of_key in of_keys if key(name) in of_key]) for name in names]
    return [(name, alike[0]) for name, alike in found if alike and alike[0] != name]


def resemblances(
    names: Iterable[Any],
    others: Iterable[Any],
    remedy: str = "",
    keys: Sequence[Callable[[str], str]] = (as_seen, as_read),
) -> str:
    """Return a sentence on names that look like others and what to do; empty if there are none.

    Parameters
    ----------
    names, others : iterable
        Only strings are compared, and only names that are not among the others.
    remedy : str, default=""
        Sentence that says what to do. By default, it names the form of Unicode that all the others have, if this is
        how they differ.
    keys : sequence of callables, default=(as_seen, as_read)
        Names that share one of these keys are alike.
    """
    known = {other for other in others if isinstance(other, str)}
    unknown = [name for name in names if isinstance(name, str) and name not in known]
    # Usually none is unknown: `score` runs often, and keys of thousands of classes take a second.
    pairs = look_alikes(unknown, sorted(known), keys) if unknown else []
    if not pairs:
        return ""
    forms = [
        form for form in ("NFC", "NFD") if all(unicodedata.normalize(form, name) == other for name, other in pairs)
    ]
    call = f', in Python by unicodedata.normalize("{forms[0]}", name)' if forms else ""
    return f"{_paired(pairs)}. {remedy or f'If they mean the same, rename the former like the latter{call}.'}"


def _paired(pairs: Sequence[tuple[str, str]]) -> str:
    return first_few(pairs, lambda pair: " looks like ".join(_escaped(pair)))


def _escaped(pair: tuple[str, str]) -> list[str]:
    """Return two names in quotes with escapes, which show white space and characters that look the same.

    Long names are cut around their first difference.
    """
    if max(len(ascii(name)) for name in pair) <= _LETTERS:
        return [ascii(name) for name in pair]
    first = next((i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), min(map(len, pair)))
    start, end = max(0, first - _LETTERS // 4), first + _LETTERS // 4
    return [f"{'...' * (start > 0)}{name[start:end]!a}{'...' * (end < len(name))}" for name in pair]


def escaped_groups(groups: Sequence[Sequence[str]]) -> str:
    """Return groups of names with escapes instead of non-ASCII characters, which shows how the names differ."""
    return first_few(groups, lambda group: " and ".join(map(ascii, group[:2])))
