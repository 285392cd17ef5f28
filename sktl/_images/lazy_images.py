"""Sequences of images from other libraries, whose items are read when they are needed and then released."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple, overload

import numpy as np

from sktl._short_text import count, type_of
from sktl._utils.locks import fork_safe_lock
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .foreign_types import is_sparse

# Sequences share locks, because one for each would have to live as long as the sequence.
_LOCKS = tuple(fork_safe_lock() for _ in range(64))


def lock_of(sequence: Any) -> threading.Lock:
    """Return the lock under which a sequence is read.

    Sequences of other libraries are made for one thread: two threads that read a file of theirs in turns would receive
    other images.
    """
    return _LOCKS[id(sequence) // 64 % len(_LOCKS)]


class LazyImages(Sequence[Any]):
    """Images of a sequence that are read when they are needed, and are never all in memory at once.

    Pass it as `X` to estimators, and to searches and cross-validation of scikit-learn. Scikit-learn selects the images
    of a fold from other sequences by reading them into a list; it selects them from `LazyImages` without reading any.

    `fit` reads each image once. Later fits on the same object, or on a part of it, find the features by position
    without reading the images, also in worker processes. So the sequence must return the same images each time: create
    a new object after a change, and leave out random transforms, which would be applied only once. Images that have to
    be read again, for example for another network, raise an error in `fit` if they differ.

    Parameters
    ----------
    sequence : object with `__len__` and `__getitem__`
        ``sequence[i]`` returns the image at position i: an array, a PIL image, bytes or a path. Estimators call
        it from one thread at a time.

    Attributes
    ----------
    shape : tuple of int
        The number of images, as (n_samples,).

    Raises
    ------
    InvalidParameterError
        If `sequence` has no length or cannot be indexed.

    See Also
    --------
    sktl.datasets.from_dataset : Images and targets of a torchvision or Hugging Face dataset.

    Examples
    --------
    >>> import numpy as np
    >>> from sktl.datasets import LazyImages
    >>> class Stripes:
    ...     def __len__(self):
    ...         return 100_000
    ...     def __getitem__(self, i):
    ...         return np.full((8, 8), i % 256, np.uint8)
    >>> X = LazyImages(Stripes())
    >>> X[:1000]
    LazyImages(Stripes, 1000 of 100000 images)
    >>> X[7].shape
    (8, 8)
    """

    def __init__(self, sequence: Any):
        if isinstance(sequence, str | bytes | Mapping) or (length := length_of(sequence)) is None:
            raise InvalidParameterError(
                f"sequence is {type_of(sequence)}. Pass an object with __len__ and __getitem__ that returns an "
                "image for each position."
            )
        is_lazy = isinstance(sequence, LazyImages)
        self._sequence = sequence._sequence if is_lazy else sequence
        self._positions = sequence._positions if is_lazy else np.arange(length)
        # Identifies the images in the cache: parts and copies in other processes keep it, other sequences differ.
        self._token = os.urandom(16).hex()

    @property
    def shape(self) -> tuple[int]:
        return (len(self._positions),)

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, key: int) -> Any: ...

    @overload
    def __getitem__(self, key: Any) -> LazyImages: ...

    def __getitem__(self, key: Any) -> Any:
        """Return the image at a position, or the part at several positions, a slice or a mask, without reading it."""
        chosen = self._positions[key]  # also for the key (rows, ...) of scikit-learn
        if np.ndim(chosen) == 0:
            return self._sequence[int(chosen)]
        if chosen.ndim > 1:
            raise IndexError(f"LazyImages have one axis, but the key selects {chosen.ndim}. Pass a list of positions.")
        part = object.__new__(LazyImages)
        part._sequence, part._positions, part._token = self._sequence, chosen, self._token
        return part

    def __repr__(self) -> str:
        n_all = length_of(self._sequence)
        part = count(len(self)) if n_all == len(self) else f"{len(self)} of {n_all} images"
        return f"LazyImages({_name_of(self._sequence)}, {part})"


class ItemStamp(NamedTuple):
    """The position of an image in a sequence that does not change."""

    token: str
    position: int

    def is_settled(self) -> bool:
        return True


class Item(NamedTuple):
    """The place of an image: `sequence[position]`."""

    sequence: Any
    position: int
    token: str

    @property
    def name(self) -> str:
        return f"{_name_of(self.sequence)}[{self.position}]"

    @property
    def stamp(self) -> ItemStamp | None:
        return ItemStamp(self.token, self.position) if self.token else None


def items_of(images: LazyImages) -> list[Item]:
    """Return where each image is."""
    return [Item(images._sequence, int(position), images._token) for position in images._positions]


def _once(sequence: Any) -> LazyImages:
    """Return the images of a sequence that may change, whose positions identify nothing later."""
    images = LazyImages(sequence)
    images._token = ""
    return images


def _name_of(sequence: Any) -> str:
    return type(getattr(sequence, "__wrapped__", sequence)).__name__


def length_of(sequence: Any) -> int | None:
    """Return the length of a sequence, or None if it is no sequence."""
    kind = type(sequence)
    if not (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")) or is_sparse(sequence):
        return None
    try:
        return len(sequence)
    except Exception:  # sequences of other libraries may raise anything for an unknown length
        return None


def as_sequence(X: Any) -> LazyImages | list[Any] | None:
    """Return an object with `__len__` and `__getitem__` as images that are read when they are needed.

    Returns
    -------
    images : LazyImages, list or None
        A list if the items are paths, which take little memory. None if `X` is not a sequence of images.

    Raises
    ------
    InvalidInputError
        If the items are not images.
    """
    if isinstance(X, LazyImages):
        return X
    length = None if isinstance(X, Mapping) or hasattr(X, "column_names") else length_of(X)
    if length is None or length == 0:
        return None if length is None else []
    try:
        with lock_of(X):
            first = X[0]
    except (KeyError, TypeError):  # it has keys other than positions
        return None
    except Exception as error:  # the image is reported, with others
        raise_process_error(error)
        return _once(X)
    if isinstance(first, str | os.PathLike):
        return _paths_in(X, length)
    if reason := why_no_item(first):
        raise InvalidInputError(f"X is {type_of(X)}, of which the first item {reason}.")
    return _once(X)


def _paths_in(X: Any, length: int) -> LazyImages | list[Any]:
    try:
        with lock_of(X):
            return [X[i] for i in range(length)]
    except Exception as error:  # the images are reported one by one
        raise_process_error(error)
        return _once(X)


def why_no_item(item: Any) -> str:
    """Return why an item of a sequence is no image, and what to pass; empty if it may be one."""
    if isinstance(item, Number | np.generic):
        return f"is a number, of type {type(item).__name__}; pass a sequence of images"
    if isinstance(item, tuple | list | Mapping):
        return (
            f"is {type_of(item)}; for a dataset of images and their targets, pass X and y of "
            "X, y = sktl.datasets.from_dataset(dataset)"
        )
    return ""
