"""Rare classes: too few different images to validate, or all images of one group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sktl._short_text import count
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets

from .issues import Issue


def rare_classes(
    targets: Targets, n_folds: int, contents: np.ndarray, groups: np.ndarray | None = None
) -> Iterator[Issue]:
    """Yield classes or labels with fewer different images than folds, or of a single group.

    Parameters
    ----------
    targets : Targets
    n_folds : int
    contents : int array of shape (n_samples,)
        Images with the same number are equal.
    groups : int array of shape (n_samples,) or None
        Groups that the folds do not split. There are no more folds than groups.
    """
    if not isinstance(targets, ClassTargets | LabelTargets):
        return
    n_groups = n_folds if groups is None else len(np.unique(groups))
    n_folds = max(2, min(n_folds, n_groups))
    for name, has in zip(targets.outputs.names(), targets.memberships().T > 0, strict=True):
        n_different = len(np.unique(contents[has]))
        if groups is not None and n_groups > 1 and len(np.unique(groups[has])) == 1:
            found = "All images are of one group: no fold validates this class with a model that learned it."
            yield _rare(name, 1 / n_folds, f"{found} Add images of other groups")
        elif n_different < n_folds:
            found = f"{count(n_different, 'different image')} for {n_folds} folds"
            yield _rare(name, n_different / n_folds, f"{found}: some folds cannot validate this class. Add images")


def _rare(name: Any, share: float, text: str) -> Issue:
    return Issue(
        kind="rare_class",
        name=str(name),
        label=str(name),
        score=1 - share,
        suggestion=f"{text}, merge it with another class, or drop it.",
    )
