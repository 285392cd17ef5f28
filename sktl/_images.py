"""Turn any legal `X` into a list of samples, each of which gives one checked RGB image.

Nothing is decoded before it is needed: a sample first reads its *content* (the bytes of a file, the pixels of an
array), which identifies it, and the content is decoded when the network needs it. What fails raises `ImageProblem`
with the reason; whoever runs over many samples collects the reasons and says which samples they belong to.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from scipy.sparse import issparse
from sklearn.utils import Bunch

from ._formats import why_no_path
from ._paths import user_path
from ._pixels import ImageProblem, array_to_rgb, check_header, check_pixels, pil_to_rgb
from .exceptions import ImageFailure, InvalidImageError, InvalidInputError

LEGAL_FORMS = (
    "a list, 1-d array, Series or one column of paths, bytes, arrays or PIL images; or an array of shape (n, H, W), "
    "(n, H, W, C) or (n, C, H, W), uint8 or floats in [0, 1]; or flattened rows together with image_shape"
)
_CHANNELS = (1, 3, 4)


# A file that became a pipe since it was looked at must not be waited for.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_MOST_BYTES = 1 << 30
# Seconds for which a file that was modified may be modified again without a trace, as git assumes.
_RACY = 2.0


class Stamp(NamedTuple):
    """What a file system tells about a file."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    def is_settled(self) -> bool:
        """Tell whether another modification from now on would change the stamp."""
        return max(self.mtime_ns, self.ctime_ns) < time.time_ns() - _RACY * 1e9


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageProblem(
            "is a directory; pass its files, as sktl.datasets.list_images or load_image_folder give them"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageProblem("is not a regular file")
    if status.st_size > _MOST_BYTES:
        raise ImageProblem(f"has {status.st_size / 2**30:.1f} GiB, more than any image of a legal size; leave it out")


class Sample(Protocol):
    """One sample of `X`."""

    @property
    def name(self) -> str:
        """What an error message calls it."""

    def read(self) -> bytes | np.ndarray:
        """Return the content: encoded bytes, or RGB pixels as uint8 of shape (H, W, 3)."""

    def stamp(self) -> Stamp | None:
        """Return what changes with the content and is quicker to read; None if there is no such thing."""


@dataclass(frozen=True, slots=True)
class FileSample:
    """An image file, read anew each time."""

    path: str

    @property
    def name(self) -> str:
        return self.path

    def stamp(self) -> Stamp | None:
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        return Stamp(self.path, status.st_size, *times, status.st_dev, status.st_ino)

    def read(self) -> bytes:
        try:
            _check_file(os.stat(self.path))  # before it is opened, which a device might notice
            with open(os.open(self.path, _READING), "rb") as file:
                status = os.fstat(file.fileno())
                _check_file(status)
                return file.read(status.st_size + 1)
        except FileNotFoundError as error:
            raise ImageProblem(why_no_path(self.path) or "no such file") from error
        except (OSError, ValueError) as error:
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
    """A PIL image of the user's, perhaps still lazy and perhaps in `X` more than once."""

    image: Image.Image
    name: str = "PIL image"

    def stamp(self) -> None:
        return None

    def read(self) -> np.ndarray:
        # Pillow loads lazily and without a lock: two threads on one object give wrong pixels.
        with _PIL_LOCKS[id(self.image) // 64 % len(_PIL_LOCKS)]:
            try:
                check_header(self.image)
                return np.asarray(pil_to_rgb(self.image))
            except ImageProblem:
                raise
            except Exception as error:  # whatever the plugin of the user's image raises
                raise ImageProblem(f"cannot be loaded: {str(error) or 'was its file closed?'}") from error


@dataclass(frozen=True, slots=True)
class UnusableSample:
    """What has no legal form, which is said when it is read."""

    name: str
    reason: str

    def stamp(self) -> None:
        return None

    def read(self) -> bytes:
        raise ImageProblem(self.reason)


_PIL_LOCKS = tuple(threading.Lock() for _ in range(64))


def is_flattened(X: Any) -> bool:
    """Tell whether `X` holds one row of numbers per image."""
    if isinstance(X, list | tuple):
        try:
            first = np.asarray(X[0]) if X and isinstance(X[0], list | tuple | np.ndarray) else None
        except ValueError:  # ragged
            return False
        return first is not None and first.ndim == 1 and first.dtype.kind in "biufc"
    if isinstance(X, torch.Tensor) or not hasattr(X, "__array__"):
        return issparse(X) or getattr(X, "ndim", 0) == 2
    values = np.asarray(X)
    return values.ndim == 2 and (values.dtype.kind in "biufc" or (values.dtype.kind == "O" and values.shape[1] > 1))


def as_samples(X: Any, image_shape: Sequence[int] | None = None, lenient: bool = False) -> list[Sample]:
    """Return the samples of `X`, in order.

    Parameters
    ----------
    X : one of `LEGAL_FORMS`
        Series and data frames are read by position.
    image_shape : (H, W), (H, W, C) or (C, H, W), default=None
        The shape of one image when `X` holds flattened rows, (n, H * W * C).
    lenient : bool, default=False
        Whether samples of no legal form become such that say so when they are read.

    Raises
    ------
    InvalidInputError
        If `X` as a whole has no legal form.
    InvalidImageError
        If samples have no legal form, listing them; files are not opened here.
    """
    if isinstance(X, str | os.PathLike) and os.path.isdir(X):
        raise InvalidInputError(
            f"X is a folder, {os.fspath(X)!r}. Pass sktl.datasets.list_images(X), or load_image_folder(X).data."
        )
    if isinstance(X, Bunch):
        raise InvalidInputError("X is a Bunch, such as load_image_folder returns. Pass its attribute `data`.")
    if isinstance(X, str | os.PathLike | bytes | bytearray | Image.Image):
        raise InvalidInputError(f"X is a single {_kind(X)}, not a list of images. Pass it in a list: [x].")
    if isinstance(X, torch.Tensor):
        X = _tensor_to_array(X)
    elif hasattr(X, "iloc") or hasattr(X, "to_pandas"):
        X = np.asarray(X)
        X = X.astype(object) if X.dtype.kind not in "biufc" else X
    if isinstance(X, np.ndarray):
        if X.dtype.kind == "S":
            raise InvalidInputError(
                f"X is an array of dtype {X.dtype}, which cuts trailing zero bytes. Pass a list of bytes instead."
            )
        if X.dtype.kind not in "OUT":
            return _from_pixel_array(X, image_shape, lenient)
        X = _single_column(X)
    if not isinstance(X, list | tuple):
        raise InvalidInputError(f"X is a {_kind(X)}; it must be {LEGAL_FORMS}.")
    if len(X) == 0:
        raise InvalidInputError("X is empty: Found array with 0 sample(s). Pass at least one image.")
    return _each(X, _from_element, lenient)


def _each(items: Sequence[Any] | np.ndarray, make: Callable[[Any], Sample], lenient: bool) -> list[Sample]:
    samples: list[Sample] = []
    failures = []
    for position, item in enumerate(items):
        try:
            samples.append(make(item))
        except ImageProblem as problem:
            samples.append(UnusableSample(_kind(item), str(problem)))
            failures.append(ImageFailure(position, _kind(item), str(problem)))
    if failures and not lenient:
        raise InvalidImageError(failures)
    return samples


def _single_column(X: np.ndarray) -> list[Any]:
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim != 1:
        raise InvalidInputError(
            f"X is an array of {X.dtype} and shape {X.shape}; paths and objects come as shape (n,) or (n, 1)."
        )
    return [str(item) if isinstance(item, np.str_) else item for item in X]


def _from_element(item: Any) -> Sample:
    if isinstance(item, str | os.PathLike):
        return FileSample(user_path(item))
    if isinstance(item, bytes | bytearray | memoryview):
        return BytesSample(bytes(item))
    if isinstance(item, Image.Image):
        return PILSample(item)
    if isinstance(item, torch.Tensor):
        item = _tensor_to_array(item)
    if isinstance(item, np.ndarray):
        check_pixels(item)
        return ArraySample(_channels_last(item))
    raise ImageProblem("is not a path, bytes, array or PIL image")


def _from_pixel_array(X: np.ndarray, image_shape: Sequence[int] | None, lenient: bool) -> list[Sample]:
    if X.ndim == 2 and image_shape is not None:
        if X.shape[1] != np.prod(image_shape):
            raise InvalidInputError(
                f"image_shape={tuple(image_shape)} has {np.prod(image_shape)} values, but the rows of X have "
                f"{X.shape[1]}: X has shape {X.shape}."
            )
        X = X.reshape(len(X), *image_shape)
    elif X.ndim == 2 and X.shape[1]:
        side = int(X.shape[1] ** 0.5)
        shape = (side, side) if side * side == X.shape[1] else ("H", "W")
        raise InvalidInputError(
            f"X has shape {X.shape}: if each row is an image, say its shape, for instance "
            f"image_shape=({shape[0]}, {shape[1]}); if X is one image, pass it in a list: [x]."
        )
    elif X.ndim == 3 and X.shape[2] in _CHANNELS and min(X.shape[:2]) > 4:
        raise InvalidInputError(f"X has shape {X.shape}, like a single image. Pass it in a list: [x].")
    if X.ndim not in (3, 4) or 0 in X.shape[1:]:
        raise InvalidInputError(f"X has shape {X.shape}; it must be {LEGAL_FORMS}.")
    if len(X) == 0:
        raise InvalidInputError("X is empty: Found array with 0 sample(s). Pass at least one image.")
    if lenient and X.dtype.kind == "f":
        return _each(X, _from_element, lenient)
    _check_whole(X)
    return _each(X, lambda image: ArraySample(_channels_last(image)), lenient)


def _check_whole(X: np.ndarray) -> None:
    """Check all pixels at once, and sample by sample only to say where something is wrong."""
    try:
        check_pixels(X)
    except ImageProblem as problem:
        if X.dtype.kind != "f":
            raise InvalidInputError(f"X {problem}.") from None
        failures = _failures(X)
        if len(failures) == 1 or not np.isfinite(X).all():
            raise InvalidImageError(failures) from None
        raise InvalidInputError(f"X {problem}. The first such image is X[{failures[0].position}].") from None


def _failures(X: np.ndarray) -> list[ImageFailure]:
    failures = []
    for position, image in enumerate(X):
        try:
            check_pixels(image)
        except ImageProblem as problem:
            failures.append(ImageFailure(position, "array", str(problem)))
    return failures


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        return array
    if array.ndim == 3 and array.shape[0] in _CHANNELS:
        return array.transpose(1, 2, 0)
    raise ImageProblem(
        f"an image of shape {array.shape} has no axis of 1, 3 or 4 channels, last or first; "
        "pass shape (H, W), (H, W, C) or (C, H, W)"
    )


def _tensor_to_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _kind(item: Any) -> str:
    if isinstance(item, str | os.PathLike):
        return "path"
    return "PIL image" if isinstance(item, Image.Image) else type(item).__name__
