"""Convert datasets and tables of other libraries to images and targets, without importing these libraries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktl._images.foreign_types import is_instance
from sktl._images.lazy_images import LazyImages, length_of
from sktl._short_text import error_words, shown_value, type_of
from sktl._utils.warnings import warn
from sktl.exceptions import DatasetWarning, InvalidInputError, InvalidParameterError

from .image_files import listed
from .library_targets import are_numbers_of_classes, equal_targets, stored_targets, unlike_items

_TABLES = ("pandas.DataFrame", "polars.DataFrame", "pyarrow.Table", "pyarrow.RecordBatch")
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
        or `ConcatDataset`; or one split of a Hugging Face dataset, or another dataset whose items are dicts with one
        entry for each column; or a pandas or polars data frame or a PyArrow table of paths or bytes.
    image, target : str, default=None
        Columns, or keys of the dicts. None selects the only column whose type is an image or a class. If no column has
        this type, None selects the column named "image", "img", "picture" or "photo", or the column named "label",
        "labels", "target" or "class".

    Returns
    -------
    X : LazyImages of shape (n_samples,)
        The images. Encoded images of a Hugging Face dataset are not decoded here, so their features are cached by the
        bytes of the files.
    y : ndarray of shape (n_samples,) or (n_samples, n_columns)
        The targets. Class numbers are replaced by class names if the dataset has them.

    Raises
    ------
    InvalidParameterError
        If `dataset` has no length or cannot be indexed, or if `image` or `target` is not a column.
    InvalidInputError
        If the items are not in a supported format, the columns are ambiguous, images have no class, a target is not a
        class or a number, as in datasets for detection, or parts of a `ConcatDataset` may number their classes
        differently. Classes of parts are matched by their names.

    Warns
    -----
    DatasetWarning
        If all images are decoded once, because the dataset stores its targets nowhere else; or if images change each
        time they are read, so that `fit` would train on one random version of each image.

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
    if is_instance(dataset, "torch.utils.data.DataLoader"):
        raise InvalidParameterError("dataset is a DataLoader, which may shuffle. Pass its attribute dataset.")
    if isinstance(dataset, Mapping | str | bytes) or (length := length_of(dataset)) is None:
        raise InvalidParameterError(
            f"dataset is a {kind.__name__}. Pass a dataset with __len__ and __getitem__, not a stream."
        )
    if length == 0:
        raise InvalidInputError("dataset is empty: Found array with 0 sample(s).")
    if any(is_instance(dataset, name) for name in _TABLES):
        return _from_table(dataset, image, target)
    if hasattr(dataset, "column_names"):
        return _from_columns(dataset, image, target)
    first = _item(dataset, 0)
    if isinstance(first, Mapping):
        return _from_dicts(dataset, [*first], image, target)
    if image is not None or target is not None:
        raise InvalidParameterError(f"image and target name columns, but dataset is a {kind.__name__} without columns.")
    return _from_pairs(dataset, first)


def _item(dataset: Any, position: int) -> Any:
    try:
        return dataset[position]
    except Exception as error:  # datasets of other libraries may raise anything
        raise InvalidInputError(f"dataset[{position}] cannot be read: {error_words(error)}. Leave it out.") from error


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


def _from_pairs(dataset: Any, first: Any) -> tuple[LazyImages, np.ndarray]:
    n = len(dataset)
    probes = {0: _pair(first, 0)} | {i: _pair(_item(dataset, i), i) for i in {n // 2, n - 1} - {0}}
    stored = stored_targets(dataset)
    targets, names, reason = stored.codes, stored.names, stored.reason
    if stored.conflict and are_numbers_of_classes([target for _, target in probes.values()]):
        raise InvalidInputError(stored.conflict)
    if stored.targets is not None and not all(equal_targets(stored.targets[i], pair[1]) for i, pair in probes.items()):
        reason = unlike_items(dataset)
    if targets is None or reason:
        _warn_of_reading(dataset, reason)
        # The dataset may have changed the targets, so its names need not be theirs.
        targets, names = [_pair(_item(dataset, i), i)[1] for i in range(n)], []
    images = ImagesOf(dataset)
    _warn_of_changes(dataset, images, probes)
    return LazyImages(images), _with_names(_as_targets(targets), names)


def _pair(item: Any, position: int) -> tuple[Any, Any]:
    is_tuple = isinstance(item, tuple | list)
    if is_tuple and len(item) == 2:
        return item[0], item[1]
    what, n = type_of(item) + (f" of {len(item)} items" if is_tuple else ""), "for i in range(len(dataset))]"
    advice = f"For images without targets, pass [dataset[i][0] {n} to an estimator."
    if is_tuple and len(item) > 2:
        advice = f"If the first two are the image and its target, pass [dataset[i][:2] {n}."
    elif hasattr(item, "dataset"):  # a data loader
        advice = f"Pass the dataset of one, dataset[{position}].dataset."
    elif not is_tuple:
        advice = "For images without targets, pass sktl.datasets.LazyImages(dataset) to an estimator."
    raise InvalidInputError(f"dataset[{position}] is {what}; it must be a pair (image, target). {advice}")


def _warn_of_reading(dataset: Any, reason: str) -> None:
    if isinstance(dataset, list | tuple):  # their items are in memory
        return
    warn(
        f"All {len(dataset)} images of {type(dataset).__name__} are decoded once to read their targets, because "
        f"{reason}.",
        DatasetWarning,
    )


# ---------------------------------------------------------------------------- columns of Hugging Face, dicts and tables


@dataclass(frozen=True)
class ColumnOf(_Elements):
    """One column of a dataset, item by item. Images that are stored as files are returned as their bytes or path."""

    name: str

    def __getitem__(self, position: int) -> Any:
        return _encoded(self.dataset[position][self.name])


def _encoded(item: Any) -> Any:
    """Return the bytes or the path of an image that is stored as a file, and other images unchanged."""
    if isinstance(item, Mapping) and {*item} == {"bytes", "path"}:
        return item["path"] if item["bytes"] is None else item["bytes"]
    return item


def _from_columns(dataset: Any, image: str | None, target: str | None) -> tuple[LazyImages, np.ndarray]:
    features: Mapping[str, Any] = getattr(dataset, "features", None) or {}
    image, target = _two_columns([*dataset.column_names], image, target, features)
    # Without a format, because a transform of all columns may fail for one.
    plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
    y = _as_targets([*plain[target]], _place(target))
    names = getattr(features.get(target), "names", None)
    images = ColumnOf(_undecoded(dataset, features.get(image), image), image)
    _warn_of_changes(dataset, images, {0, len(images) - 1})
    return LazyImages(images), _with_names(y, [*names] if names else [])


def _from_dicts(
    dataset: Any, keys: Sequence[Any], image: str | None, target: str | None
) -> tuple[LazyImages, np.ndarray]:
    image, target = _two_columns(keys, image, target)
    _warn_of_reading(dataset, f"the items of {type(dataset).__name__} are dicts")
    targets = [_item(dataset, i)[target] for i in range(len(dataset))]
    images = ColumnOf(dataset, image)
    _warn_of_changes(dataset, images, {0, len(images) - 1})
    return LazyImages(images), _as_targets(targets, _place(target))


def _from_table(table: Any, image: str | None, target: str | None) -> tuple[LazyImages, np.ndarray]:
    image, target = _two_columns([*getattr(table, "column_names", table.columns)], image, target)
    images = [_encoded(item) for item in _listed(table[image])]
    return LazyImages(images), _as_targets(_listed(table[target]), _place(target))


def _listed(column: Any) -> list[Any]:
    """Return the values of a column of a data frame or table as Python objects."""
    return [*(column.to_pylist() if hasattr(column, "to_pylist") else column.to_list())]


def _place(column: str) -> str:
    return f"Column {shown_value(column)} of dataset"


def _two_columns(
    columns: Sequence[Any], image: str | None, target: str | None, features: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """Return the columns of the images and of the targets."""
    kinds = {name: type(feature).__name__ for name, feature in (features or {}).items()}
    return (
        _column(columns, kinds, "image", image, "Image", _IMAGE_COLUMNS),
        _column(columns, kinds, "target", target, "ClassLabel", _TARGET_COLUMNS),
    )


def _column(
    columns: Sequence[Any], kinds: Mapping[str, str], argument: str, name: str | None, kind: str, usual: Sequence[str]
) -> Any:
    """Return a column by the name that the user passed, by the only feature of a kind, or by its usual names."""
    if name is not None:
        if name not in columns:
            raise InvalidParameterError(
                f"{argument}={shown_value(name)} is not a column of dataset, which has {_shown(columns)}."
            )
        return name
    found = [column for column in columns if kinds.get(column) == kind]
    found = found or [column for column in columns if str(column).lower() in usual]
    if len(found) != 1:
        what = (
            f"several columns that may be the {argument}: {_shown(found)}"
            if found
            else f"the columns {_shown(columns)}"
        )
        raise InvalidInputError(f"dataset has {what}. Pass the name of one as `{argument}`.")
    return found[0]


def _shown(columns: Sequence[Any]) -> str:
    return listed([*map(str, columns)])


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
    if isinstance(values, list):
        _check_complete(values, where)
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


def _check_complete(targets: list[Any], where: str) -> None:
    """Raise `InvalidInputError` if targets are missing: None, NaN, pandas.NA or an empty text."""
    from sktl._targets.target_cells import missing_cells  # imports PyTorch, which would delay lists of files

    missing = np.flatnonzero(missing_cells(np.fromiter(targets, dtype=object, count=len(targets))))
    if len(missing):
        raise InvalidInputError(
            f"{where} has missing targets, the first at position {missing[0]} and {len(missing)} in all. Leave these "
            "images out."
        )


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
            f"The images of {type(dataset).__name__} change each time they are read{by}. fit would train on one random "
            "version of each image. Remove the random transforms, and pass augmentation= to the estimator instead.",
            DatasetWarning,
        )


def _differs(images: ImagesOf | ColumnOf, position: int) -> bool:
    try:
        return not equal_targets(images[position], images[position])
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
