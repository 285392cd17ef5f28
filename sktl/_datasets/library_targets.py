"""Targets that a library's dataset of pairs stores, and their class names, read without decoding its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, TypeGuard

import numpy as np

from sktl.exceptions import InvalidInputError

from .image_files import listed

# Attributes in which datasets of torchvision store targets. `samples` and `imgs` hold pairs of path and target.
_TARGETS = ("targets", "labels", "_labels")
_PAIRS = ("samples", "imgs", "_samples")

# Items that are read where stored lists differ. More than one, because an image may be unreadable.
_TRIES = 5

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
    conflict : str
        What is wrong if the unknown targets turn out to be numbers of classes; otherwise empty.
    """

    names: list[str]
    targets: Targets | None = None
    codes: Targets | None = None
    reason: str = ""
    conflict: str = ""

    def take(self, positions: Sequence[int]) -> StoredTargets:
        """Return the targets of some of the items."""
        if self.targets is None or self.codes is None:
            return self
        targets, codes = ([some[int(i)] for i in positions] for some in (self.targets, self.codes))
        return StoredTargets(self.names, targets, codes)

    def numbered(self, names: Sequence[str]) -> Targets:
        """Return the codes for other names of classes. The code of an unknown class is -1."""
        stored = [] if self.codes is None else self.codes
        if self.names == names or not are_numbers_of_classes(stored):
            return stored
        codes = np.asarray(stored)
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


def are_numbers_of_classes(targets: Targets) -> bool:
    """Return True if targets are one integer per item."""
    try:
        array = np.asarray(targets)
    except Exception:  # ragged lists, and targets of other libraries that NumPy cannot convert
        return False
    return array.ndim == 1 and array.dtype.kind in "iu"


def equal_targets(stored: Any, target: Any) -> bool:
    """Return True if two targets, or two lists of targets, are equal."""
    try:
        return bool(np.array_equal(np.asarray(stored), np.asarray(target)))
    except Exception:  # targets of other libraries that NumPy cannot convert
        return False


def _joined(parts: Sequence[StoredTargets]) -> StoredTargets:
    """Return the targets of a dataset that consists of others. Their classes are matched by their names."""
    unknown = next((part for part in parts if part.targets is None), None)
    conflict = next(filter(None, (part.conflict for part in parts)), "") or _conflict(parts, unknown is not None)
    if conflict and any(part.codes is not None and are_numbers_of_classes(part.codes) for part in parts):
        raise InvalidInputError(conflict)
    names = [*dict.fromkeys(name for part in parts for name in part.names)]
    if unknown:
        return StoredTargets(names, reason=unknown.reason, conflict=conflict)
    targets = [one for part in parts if part.targets is not None for one in part.targets]
    return StoredTargets(names, targets, [one for part in parts for one in part.numbered(names)])


def _conflict(parts: Sequence[StoredTargets], has_unknown: bool) -> str:
    """Return the message for parts whose equal numbers may stand for different classes; empty if none can."""
    other = next((i for i, part in enumerate(parts) if part.names != parts[0].names), None)
    if other is None or (not has_unknown and all(part.names for part in parts)):
        return ""
    classes = [f"part {i} has {listed(parts[i].names) or 'no names of classes'}" for i in (0, other)]
    return (
        f"The parts of dataset may number their classes differently: {', '.join(classes)}. If equal numbers stand "
        "for the same class, set classes = None on each part (for a Subset, on its dataset). Otherwise, set "
        "classes, and targets = [target for _, target in part], on each part."
    )


def _lists_of(dataset: Any) -> list[Targets]:
    """Return each list of a dataset that may hold its targets."""
    stored: list[Any] = [getattr(dataset, name, None) for name in _TARGETS]
    tensors = getattr(dataset, "tensors", None)  # of a `TensorDataset` of PyTorch
    stored += [tensors[1]] if isinstance(tensors, tuple) and len(tensors) == 2 else []
    # `imgs` usually is the same list as `samples`.
    pairs = {id(some): some for name in _PAIRS if _are_pairs(some := getattr(dataset, name, None))}
    stored += [[pair[1] for pair in some] for some in pairs.values()]
    lists = map(_as_list, stored)
    return [some for some in lists if some is not None and len(some) == len(dataset)]


def _as_list(stored: Any) -> Targets | None:
    """Return an attribute as a list or array by position; None for a dict, a set, a data frame and others."""
    if hasattr(stored, "to_frame"):  # a column of pandas, whose rows have labels, or of polars
        stored = stored.to_list()
    is_array = hasattr(stored, "dtype") and getattr(stored, "ndim", 0) in (1, 2)
    return stored if isinstance(stored, list | tuple) or is_array else None


def _are_pairs(items: Any) -> TypeGuard[Sequence[Sequence[Any]]]:
    return isinstance(items, list | tuple) and all(isinstance(item, tuple | list) and len(item) == 2 for item in items)


def _as_the_items(dataset: Any, lists: Sequence[Targets]) -> Targets | None:
    """Return the stored list that equals the targets of the items. Items are read only where the lists differ."""
    agreeing = [*lists]
    for some, others in combinations(lists, 2):
        for i in islice(_differences(some, others), _TRIES):
            try:
                target = dataset[i][1]
            except Exception:  # an unreadable image does not tell which list is right
                continue
            agreeing = [one for one in agreeing if equal_targets(one[i], target)]
            break
    return next(iter(agreeing), None)


def _differences(some: Targets, others: Targets) -> Iterator[int]:
    """Yield the positions at which two lists differ."""
    if not equal_targets(some, others):
        pairs = enumerate(zip(some, others, strict=True))
        yield from (i for i, (one, other) in pairs if not equal_targets(one, other))


def _class_names(dataset: Any) -> list[str]:
    """Return the names of the classes of a dataset; empty if it has none."""
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple):
        return []
    # ImageNet has several names for each class.
    names = [", ".join(name) if isinstance(name, tuple | list) else name for name in classes]
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else []
