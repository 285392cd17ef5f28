"""Targets that a dataset of pairs stores, and their class names, which are read without decoding its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeGuard

import numpy as np

from sktl.exceptions import InvalidInputError

from .folders import listed

# Attributes in which datasets of torchvision store targets. `samples` and `imgs` hold pairs of path and target.
_TARGETS = ("targets", "labels", "_labels")
_PAIRS = ("samples", "imgs", "_samples")

Targets = Sequence[Any] | np.ndarray


@dataclass(frozen=True)
class StoredTargets:
    """The targets that a dataset stores.

    Parameters
    ----------
    names : list of str
        Names of the classes; empty if there are none.
    targets : sequence or None
        The targets as the items of the dataset contain them; None if they are unknown.
    codes : sequence or None
        The same targets, with classes numbered in the order of `names`.
    reason : str
        Why the targets are unknown; otherwise empty.
    """

    names: list[str]
    targets: Targets | None = None
    codes: Targets | None = None
    reason: str = ""

    def take(self, positions: Sequence[int]) -> StoredTargets:
        """Return the targets of some of the items."""
        if self.targets is None or self.codes is None:
            return self
        targets, codes = ([some[int(i)] for i in positions] for some in (self.targets, self.codes))
        return StoredTargets(self.names, targets, codes)

    def numbered(self, names: Sequence[str]) -> Targets:
        """Return the codes for other names of classes. The code of an unknown class is -1."""
        stored = [] if self.codes is None else self.codes
        codes = np.asarray(stored)
        if self.names == names or codes.dtype.kind not in "iu" or codes.ndim != 1:
            return stored
        place = {name: i for i, name in enumerate(names)}
        places = np.array([place[name] for name in self.names])
        known = (codes >= 0) & (codes < len(places))
        return np.where(known, places[np.where(known, codes, 0)], -1)


def stored_targets(dataset: Any) -> StoredTargets:
    """Return the targets that a dataset stores, and the names of their classes.

    Raises
    ------
    InvalidInputError
        If the dataset joins others whose numbers may stand for different classes.
    """
    if hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes"):  # a `ConcatDataset` of PyTorch
        return _joined([stored_targets(part) for part in dataset.datasets])
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # a `Subset` of PyTorch
        return stored_targets(dataset.dataset).take(dataset.indices)
    kind = type(dataset).__name__
    changes = [getattr(dataset, "target_transform", None), getattr(dataset, "transforms", None)]
    if any(one is not None and type(one).__name__ != "StandardTransform" for one in changes):
        return StoredTargets([], reason=f"a transform of {kind} may change the targets")
    names, lists = _class_names(dataset), _lists_of(dataset)
    if not lists:
        holds = f"such as {_TARGETS[0]!r} that holds the targets"
        return StoredTargets(names, reason=f"{kind} has no attribute {holds}")
    targets = _as_the_items(dataset, lists)
    if targets is None:
        return StoredTargets(names, reason=unlike_items(dataset))
    return StoredTargets(names, targets, targets)


def unlike_items(dataset: Any) -> str:
    """Return the reason why stored targets are not used if items have others."""
    return f"the targets that {type(dataset).__name__} stores differ from the targets of its items"


def equal_targets(stored: Any, target: Any) -> bool:
    """Return True if two targets, or two lists of targets, are equal."""
    try:
        return bool(np.array_equal(np.asarray(stored), np.asarray(target)))
    except Exception:  # targets of other libraries that NumPy cannot convert
        return False


def _joined(parts: Sequence[StoredTargets]) -> StoredTargets:
    """Return the targets of a dataset that consists of others. Their classes are matched by their names."""
    other = next((i for i, part in enumerate(parts) if part.names != parts[0].names), None)
    unknown = next((part for part in parts if part.targets is None), None)
    if other is not None and (unknown or not all(part.names for part in parts)):
        classes = [f"part {i} has {listed(parts[i].names) or 'no names of classes'}" for i in (0, other)]
        raise InvalidInputError(
            f"The parts of dataset may number their classes differently: {', '.join(classes)}. If equal numbers stand "
            "for the same class, set classes = None on each part (for a Subset, on its dataset). Otherwise, set "
            "classes, and targets = [target for _, target in part], on each part."
        )
    names = [*dict.fromkeys(name for part in parts for name in part.names)]
    if unknown:
        return StoredTargets(names, reason=unknown.reason)
    targets = [one for part in parts if part.targets is not None for one in part.targets]
    return StoredTargets(names, targets, [one for part in parts for one in part.numbered(names)])


def _lists_of(dataset: Any) -> list[Targets]:
    """Return each list of a dataset that may hold its targets."""
    stored: list[Any] = [getattr(dataset, name, None) for name in _TARGETS]
    tensors = getattr(dataset, "tensors", None)  # of a `TensorDataset` of PyTorch
    stored += [tensors[1]] if isinstance(tensors, tuple) and len(tensors) == 2 else []
    # `imgs` usually is the same list as `samples`.
    pairs = {id(some): some for name in _PAIRS if _are_pairs(some := getattr(dataset, name, None))}
    stored += [[pair[1] for pair in some] for some in pairs.values()]
    return [some for some in stored if hasattr(some, "__len__") and len(some) == len(dataset)]


def _are_pairs(items: Any) -> TypeGuard[Sequence[Sequence[Any]]]:
    return isinstance(items, list | tuple) and all(isinstance(item, tuple | list) and len(item) == 2 for item in items)


def _as_the_items(dataset: Any, lists: Sequence[Targets]) -> Targets | None:
    """Return the stored list that equals the targets of the items. Items are read only where the lists differ."""
    agreeing = [*lists]
    for some, others in combinations(lists, 2):
        if (i := _first_difference(some, others)) is not None:
            agreeing = [one for one in agreeing if _has_target(dataset, i, one[i])]
    return next(iter(agreeing), None)


def _first_difference(some: Targets, others: Targets) -> int | None:
    if equal_targets(some, others):
        return None
    pairs = enumerate(zip(some, others, strict=True))
    return next((i for i, (one, other) in pairs if not equal_targets(one, other)), None)


def _has_target(dataset: Any, position: int, target: Any) -> bool:
    try:
        return equal_targets(target, dataset[position][1])
    except Exception:  # datasets of other libraries may raise anything
        return False


def _class_names(dataset: Any) -> list[str]:
    """Return the names of the classes of a dataset; empty if it has none."""
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple):
        return []
    # ImageNet has several names for each class.
    names = [", ".join(name) if isinstance(name, tuple | list) else name for name in classes]
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else []
