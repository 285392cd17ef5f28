"""The text of an audit, for people: what was found, the weightiest examples, and what to do next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .image_audit import ImageAudit

_EXAMPLES = 3
_WIDTH = 120
_TITLES = {
    "unreadable": ("file that cannot be used", "files that cannot be used"),
    "exact_copy": ("exact copy", "exact copies"),
    "near_copy": ("near copy", "near copies"),
    "suspicious_label": ("suspicious label", "suspicious labels"),
    "unlike_the_rest": ("image unlike the rest", "images unlike the rest"),
    "rare_class": ("class too rare to validate", "classes too rare to validate"),
    "shortcut": ("possible shortcut", "possible shortcuts"),
}


def counted(n: int, kind: str) -> str:
    """Return the number of findings of a kind in words."""
    return f"{n} {_TITLES[kind][n != 1]}"


def summary(audit: ImageAudit) -> str:
    """Return the summary of an audit."""
    of_test = f" and {audit.n_test} test images" if audit.n_test else ""
    title = f"Audit of {audit.n_train} images{of_test}: " + ("nothing found." if not len(audit.issues) else "")
    return "\n".join([title.rstrip(), *_paragraphs(audit)])


def _paragraphs(audit: ImageAudit) -> Iterator[str]:
    for kind in _TITLES:
        found = audit.issues[audit.issues["kind"] == kind]
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
    names = f"{issue['name']} = {issue['other_name']}" if issue["other_name"] else str(issue["name"])
    label = f" [{issue['label']}]" if issue["label"] and issue["position"] >= 0 else ""
    return textwrap.shorten(f"{names}{label}: {issue['suggestion']}", 2 * _WIDTH, placeholder=" ...")
