"""What every run tries of a long list, and what only the slow tests try.

A law is checked in every run for representatives that take different paths through the code, and for all of the list
among the slow tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def slow_except(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the values of a parameter, or tuples of values of several, all but those that are kept as slow tests."""
    values = list(values)
    assert all(value in values for value in kept), kept
    found = []
    for value in values:
        marks = [] if value in kept else pytest.mark.slow
        found.append(
            pytest.param(*value, marks=marks) if isinstance(value, tuple) else pytest.param(value, marks=marks)
        )
    return found


def examples(n: int) -> int:
    """Return how many of `n` examples of a property are tried: all with --hypothesis-profile=many, else a quarter."""
    return n if settings.get_current_profile_name() == "many" else max(3, n // 4)
