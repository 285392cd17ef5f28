"""Bunches of scikit-learn, which is required when one is made: images are listed on machines without scikit-learn."""

from __future__ import annotations

from typing import Any

try:
    from sklearn.utils import Bunch as Bunch
except ModuleNotFoundError:  # type hints have the name nevertheless
    Bunch = Any


def bunch(**content: Any) -> Bunch:
    """Return a dictionary-like object with these attributes."""
    from sklearn.utils import Bunch  # an error that names what is not installed

    return Bunch(**content)
