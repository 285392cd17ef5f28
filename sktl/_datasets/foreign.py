"""Convert torchvision and Hugging Face datasets to images and targets, without importing either library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from sktl._images.sequences import LazyImages, length_of
from sktl._utils.warnings import warn
from sktl._words import error_words, shown_value, type_of
from sktl.exceptions import DatasetWarning, InvalidInputError, InvalidParameterError

from .folders import listed

# Attributes in which datasets of torchvision store targets. `samples` and `imgs` hold pairs of path and target.
_TARGETS = ("targets", "labels", "_labels")
_PAIRS = ("samples", "imgs", "_samples")
_RANDOM = re.compile("Random|Jitter|Augment|AugMix|MixUp|CutMix|Erasing|Elastic|Noise|Dropout")
_IMAGE_COLUMNS = ("image", "img", "picture", "photo")
_TARGET_COLUMNS = ("label", "labels", "target", "class")


def from_dataset(dataset: Any, *, image: str | None = None, target: str | None = None) -> tuple[LazyImages, np.ndarray]:
    """Return the images and targets of a torchvision or Hugging Face dataset, without decoding the images.

    Images are read when they are needed, by one thread at a time, and are never all in memory at once; see
    :class:`LazyImages`.

    Parameters
    ----------
    dataset : object with `__len__` and `__getitem__`
        Either a dataset whose items are pairs (image, target), such as a torchvision dataset, or a PyTorch `Subset`
        or `ConcatDataset`; or one split of a Hugging Face dataset, whose items are dicts with one entry for each
        column.
    image, target : str, default=None
        Columns of a Hugging Face dataset. None selects the only column whose type is an image or a class. If no column
        has this type, None selects the column named "image", "img", "picture" or "photo", or the column named
        "label", "labels", "target" or "class".

    Returns
    -------
    X : LazyImages of shape (n_samples,)
        The images. A Hugging Face dataset does not decode its encoded images, so their features are found in the cache
        by the bytes of the files.
    y : ndarray of shape (n_samples,) or (n_samples, n_columns)
        The targets. Class numbers are replaced by class names if the dataset has them.

    Raises
    ------
    InvalidParameterError
        If `dataset` has no length or cannot be indexed, or if `image` or `target` is not a column.
    InvalidInputError
        If the items are not in a supported format, the columns are ambiguous, images have no class, or a target is not
        a class or a number, as in datasets for detection.

    Warns
    -----
    DatasetWarning
        If all images are decoded once, because the dataset stores its targets nowhere else; or if images change each
        time they are read. Such images raise an error in `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sktl.datasets import from_dataset
    >>> class Digits:
    ...     classes = ["zero", "one"]
    ...     targets = [0, 1, 1]
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, i):
    ...         return np.full((8, 8), i, np.uint8), self.targets[i]
    >>> X, y = from_dataset(Digits())
    >>> X
    LazyImages(Digits, 3 images)
    >>> y
    array(['zero', 'one', 'one'], dtype='<U4')
    """
    kind = type(dataset)
    if isinstance(dataset, Mapping) and dataset and all(hasattr(part, "column_names") for part in dataset.values()):
        raise InvalidInputError(
            f"dataset has the parts {listed([*dataset])}. Pass one of them, such as "
            f"dataset[{shown_value(next(iter(dataset)))}]."
        )
    if isinstance(dataset, Mapping | str | bytes) or (length := length_of(dataset)) is None:
        raise InvalidParameterError(
            f"dataset is a {kind.__name__}. Pass a dataset with __len__ and __getitem__, not a stream."
        )
    if length == 0:
        raise InvalidInputError("dataset is empty: Found array with 0 sample(s).")
    if hasattr(dataset, "column_names"):
        return _from_columns(dataset, image, target)
    if image is not None or target is not None:
        raise InvalidParameterError(f"image and target name columns, but dataset is a {kind.__name__} without columns.")
    return _from_pairs(dataset)


# ------------------------------------------------------------------------------------------------- pairs of torchvision


@dataclass(frozen=True)
class _Elements:
    """A part of each element of a dataset, which is read when it is asked for."""

    dataset: Any

    @property
    def __wrapped__(self) -> Any:
        return self.dataset

    def __len__(self) -> int:
        return len(self.dataset)


class ImagesOf(_Elements):
    """The first elements of the pairs of a dataset."""

    def __getitem__(self, position: int) -> Any:
        return self.dataset[position][0]


def _from_pairs(dataset: Any) -> tuple[LazyImages, np.ndarray]:
    n = len(dataset)
    probes = {i: _pair(dataset, i) for i in sorted({0, n // 2, n - 1})}
    targets, names = _stored_targets(dataset), _class_names(dataset)
    if targets is None or not all(_equal(targets[i], target) for i, (_, target) in probes.items()):
        warn(
            f"All {n} images of {type(dataset).__name__} are decoded once to read their targets, because it has no "
            f"attribute such as {_TARGETS[0]!r} that holds the targets.",
            DatasetWarning,
        )
        # The dataset may have changed the targets, so its names need not be theirs.
        targets, names = [_pair(dataset, i)[1] for i in range(n)], []
    images = ImagesOf(dataset)
    _warn_of_changes(dataset, images, probes)
    return LazyImages(images), _with_names(_as_targets(targets), names)


def _pair(dataset: Any, position: int) -> tuple[Any, Any]:
    try:
        item = dataset[position]
    except Exception as error:  # datasets of other libraries may raise anything
        raise InvalidInputError(f"dataset[{position}] cannot be read: {error_words(error)}. Leave it out.") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        what = type_of(item) + (f" of {len(item)} items" if isinstance(item, tuple | list) else "")
        raise InvalidInputError(
            f"dataset[{position}] is {what}; it must be a pair (image, target). For images without targets, pass "
            "sktl.datasets.LazyImages(dataset) to an estimator."
        )
    image, target = item
    return image, target


def _stored_targets(dataset: Any) -> Sequence[Any] | np.ndarray | None:
    """Return the targets that a dataset stores, or None if it stores none or changes them."""
    if _is_joined(dataset):
        found = [part for part in map(_stored_targets, dataset.datasets) if part is not None]
        return [one for part in found for one in part] if len(found) == len(dataset.datasets) else None
    if _is_part(dataset):
        inner = _stored_targets(dataset.dataset)
        return None if inner is None else [inner[int(i)] for i in dataset.indices]
    changes = [getattr(dataset, "target_transform", None), getattr(dataset, "transforms", None)]
    if any(one is not None and type(one).__name__ != "StandardTransform" for one in changes):
        return None
    stored = (getattr(dataset, name, None) for name in _TARGETS)
    pairs = (getattr(dataset, name, None) for name in _PAIRS)
    candidates = [*stored, *([pair[1] for pair in some] for some in pairs if _are_pairs(some))]
    lists = (some for some in candidates if some is not None and hasattr(some, "__len__"))
    return next((some for some in lists if len(some) == len(dataset)), None)


def _is_joined(dataset: Any) -> bool:
    """Return True for a `ConcatDataset` of PyTorch."""
    return hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes")


def _is_part(dataset: Any) -> bool:
    """Return True for a `Subset` of PyTorch."""
    return hasattr(dataset, "dataset") and hasattr(dataset, "indices")


def _are_pairs(items: Any) -> TypeGuard[Sequence[Sequence[Any]]]:
    return isinstance(items, list | tuple) and all(isinstance(item, tuple | list) and len(item) == 2 for item in items)


def _equal(stored: Any, target: Any) -> bool:
    try:
        return bool(np.array_equal(np.asarray(stored), np.asarray(target)))
    except Exception:  # targets of other libraries that NumPy cannot convert
        return False


def _class_names(dataset: Any) -> list[str]:
    """Return the names of the classes of a dataset; empty if it has none."""
    if _is_joined(dataset):
        first, *others = map(_class_names, dataset.datasets)
        return first if all(names == first for names in others) else []
    if _is_part(dataset):
        return _class_names(dataset.dataset)
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, list | tuple):
        return []
    # ImageNet has several names for each class.
    names = [", ".join(name) if isinstance(name, tuple | list) else name for name in classes]
    return names if all(isinstance(name, str) for name in names) and len(set(names)) == len(names) else []


# --------------------------------------------------------------------------------------------- columns of Hugging Face


@dataclass(frozen=True)
class ColumnOf(_Elements):
    """One column of a dataset, item by item. Images that are stored as files are returned as their bytes or path."""

    name: str

    def __getitem__(self, position: int) -> Any:
        item = self.dataset[position][self.name]
        if isinstance(item, Mapping) and {*item} == {"bytes", "path"}:
            return item["path"] if item["bytes"] is None else item["bytes"]
        return item


def _from_columns(dataset: Any, image: str | None, target: str | None) -> tuple[LazyImages, np.ndarray]:
    features: Mapping[str, Any] = getattr(dataset, "features", None) or {}
    image = _column(dataset, features, "image", image, "Image", _IMAGE_COLUMNS)
    target = _column(dataset, features, "target", target, "ClassLabel", _TARGET_COLUMNS)
    # Without a format, because a transform of all columns may fail for one.
    plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
    y = _as_targets([*plain[target]], f"Column {shown_value(target)} of dataset")
    names = getattr(features.get(target), "names", None)
    images = ColumnOf(_undecoded(dataset, features.get(image), image), image)
    _warn_of_changes(dataset, images, {0, len(images) - 1})
    return LazyImages(images), _with_names(y, [*names] if names else [])


def _column(
    dataset: Any, features: Mapping[str, Any], argument: str, name: str | None, kind: str, usual: Sequence[str]
) -> str:
    """Return a column by the name that the user passed, by the only feature of a kind, or by its usual names."""
    columns = [*dataset.column_names]
    if name is not None:
        if name not in columns:
            raise InvalidParameterError(
                f"{argument}={shown_value(name)} is not a column of dataset, which has {listed(columns)}."
            )
        return name
    found = [column for column in columns if type(features.get(column)).__name__ == kind]
    found = found or [column for column in columns if column.lower() in usual]
    if len(found) != 1:
        what = (
            f"several columns that may be the {argument}: {listed(found)}"
            if found
            else f"the columns {listed(columns)}"
        )
        raise InvalidInputError(f"dataset has {what}. Pass the name of one as `{argument}`.")
    return found[0]


def _undecoded(dataset: Any, feature: Any, image: str) -> Any:
    """Return a dataset that leaves images encoded, if it would only decode them."""
    if (getattr(dataset, "format", None) or {}).get("type") is not None:  # it converts or transforms images
        return dataset
    own = dataset.select_columns([image]) if hasattr(dataset, "select_columns") else dataset
    # A feature with a mode converts images when it decodes them.
    if type(feature).__name__ == "Image" and getattr(feature, "mode", None) is None and hasattr(own, "cast_column"):
        return own.cast_column(image, type(feature)(decode=False))
    return own


# ----------------------------------------------------------------------------------------------------------------- both


def _as_targets(values: Any, where: str = "dataset") -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception:  # ragged lists, or targets that NumPy cannot convert
        array = np.empty(0, object)
    if array.dtype.kind in "OV" or array.ndim not in (1, 2):
        kind = next((type(value).__name__ for value in values if not isinstance(value, str | float | int)), "object")
        raise InvalidInputError(
            f"{where} has targets of type {kind}, which are not classes or numbers. Make y of them, for several labels "
            "of an image with sklearn.preprocessing.MultiLabelBinarizer, and pass sktl.datasets.LazyImages as X."
        )
    if not hasattr(values, "__array__"):
        _check_types(np.array([*values], dtype=object).ravel(), where)
    return array


def _check_types(targets: np.ndarray, where: str) -> None:
    """Raise `InvalidInputError` if targets have several types, which NumPy would convert to one: 1 to "1"."""
    kinds = {"text": str, "truth values": bool | np.bool_, "numbers": object}
    found = [next(name for name, kind in kinds.items() if isinstance(target, kind)) for target in targets]
    if len(present := [*dict.fromkeys(found)]) > 1:
        other = found.index(present[1])
        raise InvalidInputError(
            f"{where} has targets of several types, {shown_value(targets[0])} at position 0 and "
            f"{shown_value(targets[other])} at position {other}. Convert them to one type."
        )


def _with_names(targets: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the names of classes for their numbers."""
    if not names or targets.ndim != 1 or targets.dtype.kind not in "iu":
        return targets
    absent = np.flatnonzero((targets < 0) | (targets >= len(names)))
    if len(absent):
        raise InvalidInputError(
            f"{len(absent)} images of dataset have no class, the first at position {absent[0]} (target "
            f"{targets[absent[0]]}). Leave them out."
        )
    return np.asarray(names)[targets]


def _warn_of_changes(dataset: Any, images: ImagesOf | ColumnOf, probes: Iterable[int]) -> None:
    """Warn if images differ when they are read again, or if a transform is random by its name."""
    names = sorted(set(_random_names(dataset)))
    if names or any(_differs(images, position) for position in probes):
        by = f", because of its random transforms {', '.join(names)}" if names else ""
        warn(
            f"The images of {type(dataset).__name__} change each time they are read{by}. Such images raise an error in "
            "fit. Remove the random transforms, and pass augmentation= to the estimator instead.",
            DatasetWarning,
        )


def _differs(images: ImagesOf | ColumnOf, position: int) -> bool:
    try:
        return not _equal(images[position], images[position])
    except Exception:  # `fit` and `check_images` name images that cannot be read
        return False


def _random_names(holder: Any, depth: int = 6) -> Iterator[str]:
    """Yield the names of the transforms of a dataset, or within a transform, that are random by their names."""
    for name in ("transform", "transforms", "dataset", "datasets"):
        inner = getattr(holder, name, None)
        for one in inner if isinstance(inner, list | tuple) else [inner]:
            if one is None or not depth:
                continue
            if _RANDOM.search(type(one).__name__):
                yield type(one).__name__
            yield from _random_names(one, depth - 1)
