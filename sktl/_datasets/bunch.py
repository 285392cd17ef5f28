"""Bunches of scikit-learn, imported when the first one is made: images are listed on machines without scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.utils import Bunch as Bunch
else:
    Bunch = Any  # a name with which type hints can be evaluated


def bunch(**content: Any) -> Bunch:
    """Return a dictionary-like object with these attributes."""
    from sklearn.utils import Bunch

    return Bunch(**content)
