"""The text of an audit, for people: what was found, the most important examples, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sktl._short_text import count, fitted

from .issues import LETTERS

_EXAMPLES = 3
_TITLES = {
    "unreadable": ("file that cannot be used", "files that cannot be used"),
    "exact_copy": ("exact copy", "exact copies"),
    "near_copy": ("near copy", "near copies"),
    "shared_group": ("group with both training and test images", "groups with both training and test images"),
    "suspicious_label": ("suspicious label", "suspicious labels"),
    "unlike_the_rest": ("image unlike the rest", "images unlike the rest"),
    "rare_class": ("class too rare to validate", "classes too rare to validate"),
    "shortcut": ("possible shortcut", "possible shortcuts"),
}


def counted(n: int, kind: str) -> str:
    """Return the number of findings of a kind in words."""
    return count(n, *_TITLES[kind])


def summary(issues: np.ndarray, n_train: int, n_test: int, notes: Sequence[str] = ()) -> str:
    """Return the summary of the findings and notes about some training and test images."""
    of_test = f" and {count(n_test, 'test image')}" if n_test else ""
    title = f"Audit of {count(n_train)}{of_test}: " + ("nothing found." if not len(issues) else "")
    return "\n".join([title.rstrip(), *_paragraphs(issues), *(f"- {note}" for note in notes)])


def _paragraphs(issues: np.ndarray) -> Iterator[str]:
    for kind in _TITLES:
        found = issues[issues["kind"] == kind]
        if len(found):
            yield f"- {counted(len(found), kind)}{_remarks(found)}"
            yield from (f"    {_line(issue)}" for issue in found[:_EXAMPLES])
            if len(found) > _EXAMPLES:
                yield f"    and {len(found) - _EXAMPLES} more"


def _remarks(found: np.ndarray) -> str:
    """Return what makes some copies more important than others."""
    crossing = [
        (int((found["crosses"] == "test").sum()), "across train and test"),
        (int((found["crosses"] == "groups").sum()), "across groups"),
        (int(found["contradicts"].sum()), "with contradicting labels"),
    ]
    parts = [f"{n} {what}" for n, what in crossing if n]
    return f" ({', '.join(parts)})" if parts else ""


def _line(issue: np.void) -> str:
    name, other = (fitted(issue[field], LETTERS) for field in ("name", "other_name"))
    label = f" [{fitted(issue['label'], LETTERS)}]" if issue["label"] and issue["position"] >= 0 else ""
    return f"{name}{label}{f' is a copy of {other}' if other else ''}: {issue['suggestion']}"
