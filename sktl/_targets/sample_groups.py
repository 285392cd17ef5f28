"""Groups of samples that folds do not split: those of the user, which are checked, and copies."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sktl.exceptions import InvalidInputError

from .base_targets import Targets
from .label_checks import check_complete


def check_groups(groups: Any, n_samples: int) -> np.ndarray | None:
    """Return the group of each sample as a number; None without groups.

    Raises
    ------
    InvalidInputError
        If there is not one group per image, or a group is missing.
    """
    found = distinct_groups(groups, n_samples)
    return None if found is None else found[1]


def distinct_groups(groups: Any, n_samples: int, of: str = "X") -> tuple[np.ndarray, np.ndarray] | None:
    """Return the groups in order, each once, and the position of each sample's group among them; None without groups.

    `of` names the samples in messages.

    Raises
    ------
    InvalidInputError
        If there is not one group per image, or a group is missing.
    """
    if groups is None:
        return None
    name = f"groups{of[1:]}"
    values = check_complete(groups, name)
    if len(values) != n_samples:
        raise InvalidInputError(
            f"{name} has {len(values)} entries, but {of} has {n_samples} images. Pass one for each."
        )
    names, numbers = np.unique(values, return_inverse=True)
    return names, numbers.astype(np.int64)


def with_copies_together(targets: Targets, features: np.ndarray) -> Targets:
    """Return targets with groups of copies, which are samples with equal features, unless there are groups already.

    Oversampling and bootstraps repeat samples. A model would know the repeated ones in the fold that is held out. The
    user's groups stay as they are: repeated samples are of one group, and an image that occurs in all groups, such as
    a black frame, would join them all.

    Parameters
    ----------
    targets : Targets
    features : float32 array of shape (n_samples, n_features)
    """
    if targets.groups is not None:
        return targets
    first: dict[bytes, int] = {}
    numbers = [
        first.setdefault(hashlib.sha256(np.ascontiguousarray(row).data).digest(), i) for i, row in enumerate(features)
    ]
    if len(first) in (1, len(numbers)):
        return targets
    return targets.with_changes(groups=np.array(numbers))


def joined_groups(numbers: np.ndarray, groups: np.ndarray | None, n_train: int) -> np.ndarray:
    """Return the group of each training image, numbered in the order of the images.

    Images with equal numbers are in one group. Groups of the user are joined where such images connect them.
    """
    nodes = numbers
    if groups is not None:
        own = groups + nodes.max(initial=-1) + 1
        edges = np.stack([nodes[:n_train], own])
        n = int(own.max()) + 1
        _, joined = connected_components(coo_array((np.ones(n_train), edges), shape=(n, n)), directed=False)
        nodes = joined[nodes]
    _, first, numbers = np.unique(nodes[:n_train], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)
