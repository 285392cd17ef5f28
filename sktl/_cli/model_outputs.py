"""What a fitted estimator predicts (classes, labels or numbers), and the names of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sktl._short_text import distinct_texts


def kind_of(estimator: Any) -> str:
    """Return "classes", "labels" or "numbers" for a fitted estimator."""
    if hasattr(estimator, "n_outputs_"):
        return "numbers"
    return "labels" if estimator.multilabel_ else "classes"


def names_of(estimator: Any) -> list[str]:
    """Return the names of the classes, labels or numbers that a fitted estimator predicts; none if they have none."""
    return [str(name) for name in _names_of(estimator)]


def headings_of(estimator: Any) -> list[str]:
    """Return the names that `names_of` returns, changed if two of them are equal."""
    return distinct_texts(_names_of(estimator))


def _names_of(estimator: Any) -> list[Any]:
    return (
        [*getattr(estimator, "output_names_", ())] if kind_of(estimator) == "numbers" else estimator.classes_.tolist()
    )


def number_names(names: Sequence[str], n_numbers: int) -> list[str]:
    """Return the names of numbers, or their positions from 0 if they have no names."""
    return [*names] or [f"number {i}" for i in range(n_numbers)]
