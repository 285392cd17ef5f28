"""What every run tries of a long list, and what only the thorough or the slow tests try.

A law is checked in every run for representatives that are quick, in every run of `.ci/run` for representatives that
take different paths through the code, and for all of the list among the slow tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def slow_except(values: Iterable[Any], *kept: Any, thorough: Iterable[Any] = ()) -> list[Any]:
    """Return the values of a parameter, or tuples of values of several.

    All are slow tests, except those that are kept. Of these, some are thorough tests.
    """
    values, thorough = list(values), list(thorough)
    assert all(value in values for value in kept), kept
    assert all(value in kept for value in thorough), thorough
    return [_marked(value, [] if value in kept else [pytest.mark.slow], value in thorough) for value in values]


def thorough_except(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the values of a parameter, or tuples of values of several: thorough tests, except those that are kept."""
    values = list(values)
    assert all(value in values for value in kept), kept
    return [_marked(value, [], value not in kept) for value in values]


def _marked(value: Any, marks: list[Any], thorough: bool) -> Any:
    marks = [*marks, *([pytest.mark.thorough] if thorough else [])]
    return pytest.param(*value, marks=marks) if isinstance(value, tuple) else pytest.param(value, marks=marks)


def examples(n: int) -> int:
    """Return how many of `n` examples of a property are tried: all with --hypothesis-profile=many, else a quarter."""
    return n if settings.get_current_profile_name() == "many" else max(3, n // 4)
