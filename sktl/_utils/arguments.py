"""Check arguments that several functions have: counts, and seeds of random numbers."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from sktl._short_text import shown_value
from sktl.exceptions import InvalidParameterError


def check_count(value: Any, name: str) -> None:
    """Raise `InvalidParameterError` if a parameter is not an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InvalidParameterError(f"{name}={shown_value(value)} must be an integer of at least 1.")


def check_random_state(random_state: Any) -> None:
    """Raise `InvalidParameterError` unless a parameter is a RandomState, an integer from 0 to 2**32 - 1, or None."""
    is_integer = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    is_seed = is_integer and 0 <= int(random_state) < 2**32
    if not (random_state is None or is_seed or isinstance(random_state, np.random.RandomState)):
        raise InvalidParameterError(
            f"random_state={shown_value(random_state)} must be an integer from 0 to 2**32 - 1, a RandomState or None."
        )
