"""Limits that users set by environment variables."""

from __future__ import annotations

import contextlib
import os

from .warnings import warn_once


def bound_from(variable: str, least: int, example: str, category: type[Warning]) -> int | None:
    """Return the number that an environment variable contains, or None, with a warning if it contains anything else.

    Parameters
    ----------
    variable : str
    least : int
        Smallest valid number.
    example : str
        A valid value with its unit, for the warning.
    category : type of Warning
    """
    text = os.environ.get(variable, "")
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= least:
            return number
    if text:
        warn_once(f"{variable}={text!r} is not {example}, and is ignored.", category)
    return None
