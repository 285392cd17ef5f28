"""Bunches of scikit-learn, imported when the first one is made: images are listed on machines without scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from sktl._features.feature_files import ImageFeatures

    class _Attributes(dict[str, Any]):
        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    # scikit-learn's Bunch is untyped, so that type checkers would take all content for Any.
    class Bunch(_Attributes):
        data: np.ndarray
        target: np.ndarray
        target_names: list[str]

    class FeaturesBunch(_Attributes):
        data: ImageFeatures
        target_names: list[str]

else:
    Bunch = FeaturesBunch = Any  # names with which type hints can be evaluated


def bunch(**content: Any) -> Any:
    """Return a dictionary-like object with these attributes."""
    from sklearn.utils import Bunch

    return Bunch(**content)
