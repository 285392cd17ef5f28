"""Samples, one for each image of `X`: its content, which is read and checked, and the RGB image made from it.

Nothing is decoded early: a sample first reads its *content* (the bytes of a file or the pixels of an array), which
identifies it, and the content is decoded when the network needs it. A failure raises `ImageProblem` with the reason.
Callers that process many samples collect the reasons and report the samples.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from sktl._short_text import LONGEST_REASON, error_words, one_line
from sktl._utils.locks import fork_safe_lock
from sktl._utils.paths import user_path
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import ImageFailure, InvalidImageError, InvalidInputError

from .decoding import array_to_rgb, check_header, pil_to_rgb, read_pixels
from .format_readers import READERS
from .image_items import BYTES, CHANNELS, is_array, kind_of, path_of, to_array, why_no_image, words_for
from .image_reader import ImageReader, call_reader, check_image_reader
from .image_urls import UrlSample, url_sample
from .input_containers import as_items, check_image_shape
from .lazy_images import Item, LazyImages, items_of, lock_of, why_no_item
from .missing_files import why_missing
from .pixel_advice import Words
from .pixel_checks import RangeProblem, check_pixels, warn_of_doubtful_pixels
from .problems import ImageProblem
from .unreadable_formats import why_no_path
from .url_text import is_url, local_path_of, masked

# Nonblocking, because a file may have been replaced by a pipe since it was checked, and opening a pipe waits for a
# writer.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_MOST_BYTES = 1 << 30
# A file modified within this many seconds may be modified again without a change of its time stamp. git assumes the
# same.
_RACY = 2.0


class Stamp(Protocol):
    """Values that change with the content of a sample, and are faster to read than the content."""

    def __iter__(self) -> Iterator[Any]: ...

    def is_settled(self) -> bool:
        """Return True if any later modification would change the stamp."""


class FileStamp(NamedTuple):
    """File metadata that changes when the content of the file changes."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    def is_settled(self) -> bool:
        """Return True if any later modification would change the stamp."""
        return max(self.mtime_ns, self.ctime_ns) < time.time_ns() - _RACY * 1e9


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageProblem(
            "is a directory; pass its files, as sktl.datasets.list_images or load_image_folder return them"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageProblem("is not a regular file")
    if status.st_size > _MOST_BYTES:
        raise ImageProblem(f"has {status.st_size / 2**30:.1f} GiB, more than any supported image; leave it out")


class Sample(Protocol):
    """One sample of `X`."""

    @property
    def name(self) -> str:
        """Name of the sample in error messages."""

    def read(self) -> bytes | np.ndarray:
        """Return the content: encoded bytes, or RGB pixels as uint8 of shape (H, W, 3)."""

    def stamp(self) -> Stamp | None:
        """Return the stamp of the content; None if there is none."""


@dataclass(frozen=True, slots=True)
class FileSample:
    """An image file, read again at each access."""

    path: str

    @property
    def name(self) -> str:
        return masked(self.path)  # it may be a URL that was joined to a folder

    def stamp(self) -> FileStamp | None:
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        return FileStamp(self.path, status.st_size, *times, status.st_dev, status.st_ino)

    def read(self) -> bytes:
        try:
            _check_file(os.stat(self.path))  # before opening, because opening a device may have side effects
            with open(os.open(self.path, _READING), "rb") as file:
                status = os.fstat(file.fileno())
                _check_file(status)
                return file.read(status.st_size + 1)
        except FileNotFoundError as error:
            raise ImageProblem(why_no_path(self.path) or why_missing(self.path)) from error
        except (OSError, ValueError) as error:
            raise_process_error(error)
            hint = why_no_path(self.path)
            reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
            raise ImageProblem(f"{reason}; it {hint}" if hint else reason) from error


@dataclass(frozen=True, slots=True)
class BytesSample:
    """The bytes of an image file."""

    data: bytes
    name: str = "bytes"

    def stamp(self) -> None:
        return None

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True, eq=False)
class ArraySample:
    """Pixels: uint8, or floats in [0, 1], of shape (H, W) or (H, W, C) with 1, 3 or 4 channels."""

    array: np.ndarray
    name: str = "array"

    def stamp(self) -> None:
        return None

    def read(self) -> np.ndarray:
        return array_to_rgb(self.array)


@dataclass(frozen=True, slots=True, eq=False)
class PILSample:
    """A PIL image of the user. It may not be loaded yet, and it may occur more than once in `X`."""

    image: Image.Image
    name: str = "PIL image"

    def stamp(self) -> None:
        return None

    def read(self) -> np.ndarray:
        # Pillow loads lazily and without a lock: two threads that load the same object read wrong pixels.
        with _PIL_LOCKS[id(self.image) // 64 % len(_PIL_LOCKS)]:
            try:
                check_header(self.image)
                return np.asarray(pil_to_rgb(self.image))
            except ImageProblem:
                raise
            except Exception as error:  # plugins for the user's image may raise anything
                raise_process_error(error)
                raise ImageProblem(f"cannot be loaded: {one_line(error) or 'was its file closed?'}") from error


@dataclass(frozen=True, slots=True)
class ReadSample:
    """A file, bytes or a URL that a reader turns into pixels, again at each access.

    Its content is the pixels, so features of a reader that has changed are never found, whatever has changed: its code,
    what it calls, or its settings.
    """

    sample: FileSample | BytesSample | UrlSample
    reader: ImageReader

    @property
    def name(self) -> str:
        return self.sample.name

    def stamp(self) -> None:
        return None

    def read(self) -> np.ndarray:
        if isinstance(self.reader, str):
            return read_pixels(READERS[self.reader], self.sample.read())
        image = call_reader(
            self.reader, self.sample.path if isinstance(self.sample, FileSample) else self.sample.read()
        )
        try:
            return np.asarray(_from_element(image, sees_all=False).read())
        except ImageProblem as problem:
            raise ImageProblem(f"image_reader returned an image that {problem}") from problem


@dataclass(frozen=True, slots=True)
class ItemSample:
    """An item of a sequence, fetched again at each access."""

    item: Item
    reader: ImageReader | None = None

    @property
    def name(self) -> str:
        return self.item.name

    def stamp(self) -> Stamp | None:
        return self.item.stamp if self.reader is None else None

    def read(self) -> bytes | np.ndarray:
        # The lock is held until the pixels are read, because Pillow may load them from a file of the sequence.
        with lock_of(self.item.sequence):
            image = self._fetch()
            if reason := why_no_item(image):
                raise ImageProblem(reason)
            content = _read_by(self.reader, _from_element(image, sees_all=False)).read()
            # Copied, because the sequence may return the same buffer each time.
            return content if isinstance(content, bytes) else content.copy()

    def _fetch(self) -> Any:
        try:
            return self.item.sequence[self.item.position]
        except Exception as error:  # sequences of other libraries may raise anything
            raise_process_error(error)
            raise ImageProblem(f"cannot be read: {error_words(error, LONGEST_REASON)}") from error


@dataclass(frozen=True, slots=True)
class UnusableSample:
    """A sample in an unsupported format. Reading it raises an error with the reason."""

    name: str
    reason: str

    def stamp(self) -> None:
        return None

    def read(self) -> bytes:
        raise ImageProblem(self.reason)


def why_changed(sample: Sample) -> str:
    """Return what is wrong with a sample whose content differs when it is read again, and what to do."""
    if isinstance(sample, ItemSample):
        return (
            "differs when it is read again; remove random transforms from the sequence, or create LazyImages anew if "
            "the sequence has changed"
        )
    if isinstance(sample, ReadSample):
        return "changed while it was being read; image_reader must return the same pixels each time"
    return "changed while it was being read; fit again when it no longer changes"


def is_remote(sample: Sample) -> bool:
    """Return True if reading a sample waits for a server."""
    return isinstance(sample.sample if isinstance(sample, ReadSample) else sample, UrlSample)


# One lock per image object would have to live as long as the object. Images that share a lock only wait for each other.
_PIL_LOCKS = tuple(fork_safe_lock() for _ in range(64))


def as_samples(
    X: Any, image_shape: Sequence[int] | None = None, lenient: bool = False, image_reader: ImageReader | None = None
) -> list[Sample]:
    """Return the samples of `X`, in its order.

    Parameters
    ----------
    X : array-like
        Images in one of `LEGAL_FORMS`. Series and data frames are read by position.
    image_shape : (H, W), (H, W, C) or (C, H, W), default=None
        Shape of one image if `X` contains flattened rows, of shape (n, H * W * C).
    lenient : bool, default=False
        Whether samples in an unsupported format are returned as samples that raise an error when they are read.
    image_reader : str, callable or None, default=None
        What reads files and bytes; None chooses it by their content.

    Raises
    ------
    InvalidParameterError
        If `image_shape` or `image_reader` is invalid.
    InvalidInputError
        If `X` as a whole is not in a supported format.
    InvalidImageError
        If samples are not in a supported format. The error lists them. Files are not opened here.
    """
    items = as_items(X, check_image_shape(image_shape))
    check_image_reader(image_reader)
    if isinstance(items, LazyImages):
        return [ItemSample(item, image_reader) for item in items_of(items)]
    words = words_for(X if isinstance(items, np.ndarray) else items[0])
    if isinstance(items, np.ndarray):
        samples = _of_array(items, words, lenient)
    else:
        samples = [_read_by(image_reader, sample) for sample in _each(items, _from_element, lenient)]
    if all(isinstance(sample, ArraySample | UnusableSample) for sample in samples):
        arrays = [sample.array for sample in samples if isinstance(sample, ArraySample)]
        warn_of_doubtful_pixels(arrays, words, _first_three(items, image_shape))
    return samples


def _of_array(images: np.ndarray, words: Words, lenient: bool) -> list[Sample]:
    if lenient and images.dtype.kind == "f":
        return _each(images, lambda image: _from_pixels(image, words), lenient)
    _check_whole(images, words)
    return _each(images, lambda image: ArraySample(_channels_last(image)), lenient)


def _each(items: Iterable[Any], make: Callable[[Any], Sample], lenient: bool) -> list[Sample]:
    """Return a sample for each item. Advice for numbers that are not pixels is based on all items."""
    samples: list[Sample] = []
    problems: dict[int, ImageProblem] = {}
    for position, item in enumerate(items):
        try:
            samples.append(make(item))
        except ImageProblem as problem:
            samples.append(UnusableSample(kind_of(item), str(problem)))
            problems[position] = problem
    ranges = [found for found in problems.values() if isinstance(found, RangeProblem)]
    failures = []
    for position, found in problems.items():
        reason = str(found.among(ranges) if isinstance(found, RangeProblem) else found)
        samples[position] = UnusableSample(samples[position].name, reason)
        failures.append(ImageFailure(position, samples[position].name, reason))
    if failures and not lenient:
        raise InvalidImageError(failures)
    return samples


def _read_by(reader: ImageReader | None, sample: Sample) -> Sample:
    """Return a sample that a reader reads; unchanged without a reader, or if it has no file."""
    if reader is None or not isinstance(sample, FileSample | BytesSample | UrlSample):
        return sample
    return ReadSample(sample, reader)


def _from_element(item: Any, sees_all: bool = True) -> Sample:
    """Return the sample of an item. `sees_all` is whether the numbers of all items will be known."""
    if isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind in "OUT":
        item = item.item()
    if isinstance(item, str | os.PathLike):
        return _from_path(path_of(item))
    if isinstance(item, BYTES):
        return BytesSample(_bytes_of(item))
    if isinstance(item, Image.Image):
        return PILSample(item)
    if is_array(item):
        return _from_pixels(to_array(item), replace(words_for(item), sees_all=sees_all))
    raise ImageProblem(why_no_image(item))


def _bytes_of(item: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(item)
    except ValueError as error:
        raise ImageProblem("is a released memoryview; pass bytes instead") from error


def _from_path(path: str) -> Sample:
    if not is_url(url := path.strip()):
        return FileSample(user_path(path))
    local = local_path_of(url)
    return url_sample(url) if local is None else FileSample(local)


def _from_pixels(array: np.ndarray, words: Words) -> ArraySample:
    image = _channels_last(array)
    check_pixels(array, words)
    return ArraySample(image)


def _check_whole(X: np.ndarray, words: Words) -> None:
    """Check all pixels at once. Images are checked one by one only to locate an error."""
    try:
        check_pixels(X, words)
    except ImageProblem as problem:
        if X.dtype.kind != "f":
            raise InvalidInputError(f"X {problem}.") from None
        try:
            _each(X, lambda image: _from_pixels(image, words), lenient=False)
        except InvalidImageError as error:
            if len(error.failures) == 1 or not isinstance(problem, RangeProblem):
                raise
            first = error.failures[0].position
            raise InvalidInputError(f"X {problem}. The first such image is X[{first}].") from None


def _first_three(items: Any, image_shape: Sequence[int] | None) -> str:
    """Return the expression of the first three of four channels."""
    if not isinstance(items, np.ndarray):
        return "x[..., :3] of each image x (x[:3] if channels come first)"
    images = "x" if image_shape is None else f"np.asarray(x).reshape({', '.join(map(str, (-1, *image_shape)))})"
    without = "" if image_shape is None else " without image_shape"
    return f"{images}[{'..., ' if items.shape[-1] == 4 else ':, '}:3]{without}"


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        return array.transpose(1, 2, 0)
    if 1 in array.shape and np.squeeze(array).ndim in (2, 3):
        raise ImageProblem(f"has shape {array.shape}; pass it without axes of length 1, for instance np.squeeze(image)")
    parts = ", for instance one or three of the bands, or a slice of a volume" if array.ndim == 3 else ""
    raise ImageProblem(
        f"has shape {array.shape}, with no axis of 1, 3 or 4 channels, last or first; "
        f"pass shape (H, W), (H, W, C) or (C, H, W){parts}"
    )
