"""Findings of an audit as rows of a structured array, the most important of each kind first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import numpy as np

KINDS = (
    "unreadable",
    "exact_copy",
    "near_copy",
    "shared_group",
    "suspicious_label",
    "unlike_the_rest",
    "rare_class",
    "shortcut",
)
# Sentences show longer names of images, classes and labels without their middle.
LETTERS = 60
# Text of users has dtype object, because a fixed width would cut it, or take the longest text's memory for each row.
DTYPE = np.dtype(
    [
        ("kind", "U16"),
        ("part", "U5"),
        ("position", np.int64),
        ("name", object),
        ("label", object),
        ("other_part", "U5"),
        ("other_position", np.int64),
        ("other_name", object),
        ("other_label", object),
        ("score", np.float64),
        ("suggestion", object),
        ("suggested_label", object),
        ("crosses", "U6"),
        ("contradicts", np.bool_),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One finding.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    part : {"train", "test"}
    position : int
        Position of the image in `X` or `X_test`; -1 for a class, a group or the whole set.
    name : str
        File name as given, or the place, such as "X[5]"; for a class or a group, its name.
    label : str
        The label given. Several labels are joined by ", ".
    other_part, other_position, other_name, other_label
        The other image of a pair.
    score : float
        Weight in [0, 1], which only orders findings of a kind. Copies that cross a split or contradict are above 0.5,
        and copies that do both are above 0.9.
    suggestion : str
        What to do, for people.
    suggested_label : str
        The label that the data suggests, if the label given is suspicious. "" means none of several labels.
    crosses : {"", "test", "groups"}
        Whether the pair of copies lies across the training and the test images, or across groups.
    contradicts : bool
        Whether copies have different labels.
    """

    kind: str
    part: str = "train"
    position: int = -1
    name: str = ""
    label: str = ""
    other_part: str = ""
    other_position: int = -1
    other_name: str = ""
    other_label: str = ""
    score: float = 0.0
    suggestion: str = ""
    suggested_label: str = ""
    crosses: str = ""
    contradicts: bool = False


@dataclass(frozen=True)
class Note:
    """What an audit could not check, or what holds for the whole set, in sentences for people."""

    text: str


assert DTYPE.names == tuple(field.name for field in fields(Issue))


def as_array(issues: Iterable[Issue]) -> np.ndarray:
    """Return the findings as a structured array: by kind, then by descending score, then by place."""
    ordered = sorted(issues, key=_most_important_first)
    return np.array([astuple(issue) for issue in ordered], dtype=DTYPE)


def _most_important_first(issue: Issue) -> tuple[int, float, bool, int, str]:
    return (KINDS.index(issue.kind), -issue.score, issue.part == "test", issue.position, issue.name)
