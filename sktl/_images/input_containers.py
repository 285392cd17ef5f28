"""What may hold the images of `X`: a list, a column, an array, a lazy sequence. Others are refused with advice."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Number
from typing import Any

import numpy as np
from PIL import Image

from sktl._short_text import error_words, shown_value, type_of
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .foreign_types import is_dicom, is_instance, is_sparse, is_tensor
from .image_items import BYTES, CHANNELS, FILE_REMEDY, is_array, is_missing, kind_of, path_of, to_array
from .lazy_images import LazyImages, as_sequence
from .problems import ImageProblem

LEGAL_FORMS = (
    "a list, 1-d array, Series or one column of paths, bytes, URLs, arrays or PIL images; or another sequence of them; "
    "or an array of shape (n, H, W), (n, H, W, C) or (n, C, H, W), uint8 or floats in [0, 1]; or flattened rows "
    "together with image_shape"
)
EMPTY = "X is empty: Found array with 0 sample(s). Pass at least one image."


def check_image_shape(image_shape: Any) -> tuple[int, ...] | None:
    """Return the `image_shape` parameter as a tuple of integers, or None.

    Raises
    ------
    InvalidParameterError
        If it is not the shape of an image.
    """
    if image_shape is None:
        return None
    is_sequence = isinstance(image_shape, Sequence | np.ndarray) and np.ndim(image_shape) == 1
    sizes = tuple(image_shape) if is_sequence else ()
    legal = len(sizes) in (2, 3) and all(isinstance(n, Integral) and not isinstance(n, bool) for n in sizes)
    if not legal or min(sizes) < 1 or (len(sizes) == 3 and not {sizes[0], sizes[2]} & set(CHANNELS)):
        raise InvalidParameterError(
            f"image_shape={shown_value(image_shape)} must be two or three positive integers: (H, W), (H, W, C) or "
            "(C, H, W), with C = 1, 3 or 4."
        )
    return tuple(map(int, sizes))


def is_flattened(X: Any) -> bool:
    """Return True if `X` contains one row of numbers per image."""
    if isinstance(X, list | tuple):
        try:
            first = np.asarray(X[0]) if X and isinstance(X[0], list | tuple | np.ndarray) else None
        except ValueError:  # ragged rows
            return False
        return first is not None and first.ndim == 1 and first.dtype.kind in "biufc"
    if is_tensor(X) or is_sparse(X) or not is_array(X):
        return getattr(X, "ndim", 0) == 2
    try:
        values = np.asarray(X)
    except Exception:  # arrays of other libraries may raise anything; `as_items` reports it
        return False
    return values.ndim == 2 and (values.dtype.kind in "biufc" or (values.dtype.kind == "O" and values.shape[1] > 1))


def as_items(X: Any, image_shape: tuple[int, ...] | None) -> list[Any] | tuple[Any, ...] | LazyImages | np.ndarray:
    """Return the items of `X`, or an array of images of shape (n, H, W), (n, H, W, C) or (n, C, H, W).

    Sequences of other libraries are returned as `LazyImages`, whose items are not read here.

    Raises
    ------
    InvalidInputError
        If `X` as a whole is not in a supported format.
    """
    _refuse_single(X)
    if is_tensor(X) and X.is_nested:
        X = list(X.unbind())
    if is_array(X) or (isinstance(X, list | tuple) and is_flattened(X)):
        return _from_array(X, image_shape)
    if not isinstance(X, list | tuple) and (sequence := as_sequence(X)) is not None:
        X = sequence
    if not isinstance(X, list | tuple | LazyImages):
        raise InvalidInputError(f"X is {type_of(X)}; it must be {LEGAL_FORMS}.{_instead(X)}")
    if len(X) == 0:
        raise InvalidInputError(EMPTY)
    return X


def _refuse_single(X: Any) -> None:
    if isinstance(X, str | os.PathLike) and os.path.isdir(path := _path_of_x(X)):
        raise InvalidInputError(
            f"X is a folder, {path!r}. Pass sktl.datasets.list_images(X), or load_image_folder(X).data."
        )
    if is_instance(X, "sklearn.utils.Bunch"):
        raise InvalidInputError("X is a Bunch, such as load_image_folder returns. Pass its attribute `data`.")
    if is_instance(X, "sktl.datasets.ImageFeatures"):
        raise InvalidInputError("X holds features of images, but images are needed here. Pass the images.")
    if isinstance(X, (str, os.PathLike, *BYTES, Image.Image)):
        single = f"the content of a single file ({kind_of(X)})" if isinstance(X, BYTES) else f"a single {kind_of(X)}"
        raise InvalidInputError(f"X is {single}, not a list of images. Pass it in a list: [x].")


def _path_of_x(X: str | os.PathLike[Any]) -> str:
    try:
        return path_of(X)
    except ImageProblem as problem:
        raise InvalidInputError(f"X {problem}.") from None


def _instead(X: Any) -> str:
    """Return what to pass instead of an unsupported container."""
    if is_sparse(X):
        return " It is sparse: pass X.toarray()."
    if is_dicom(X):
        return " Pass a list of the paths of DICOM files, such as [X.filename]."
    if is_instance(X, "torch.utils.data.DataLoader"):
        return (
            " Pass X and y of sktl.datasets.from_dataset(X.dataset): labels that are collected from a loader may be in "
            "another order than the images of its dataset."
        )
    if is_instance(X, "torch.utils.data.IterableDataset"):
        return " Pass a list of its images, such as [image for image, label in X]."
    if hasattr(X, "as_numpy_iterator"):  # a `tf.data.Dataset`
        return (
            " Pass a list of its images, such as [image for image, label in X.unbatch().as_numpy_iterator()], without "
            "unbatch() if its items are single images."
        )
    if isinstance(names := getattr(X, "column_names", None), Sequence) and names:
        column = shown_value(_column_of_images(names, _first_row(X, names)))
        return f" Pass one column, such as X[{column}], or X and y of sktl.datasets.from_dataset(X)."
    if isinstance(X, Mapping):
        return " Pass a list of its images, such as list(X.values())."
    if isinstance(X, set | frozenset):
        return " A set has no order: pass a list in the order of the labels."
    if hasattr(X, "collect"):
        return " Pass X.collect()."
    if isinstance(X, io.BytesIO):
        return " Pass [X.getvalue()]."
    if hasattr(X, "read"):
        return f" An open file is not a list: {FILE_REMEDY}, in a list."
    if isinstance(X, zip):
        return " Pass a list of the images alone."
    if isinstance(X, Iterable) or (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        return " Pass list(X)."
    return ""


def _from_array(X: Any, image_shape: tuple[int, ...] | None) -> list[Any] | tuple[Any, ...] | np.ndarray:
    """Return the items of an array or of rows of numbers."""
    is_list = isinstance(X, list | tuple)
    try:
        array = to_array(X)
    except ImageProblem as problem:
        if is_list and image_shape is None:  # ragged rows: the error lists each
            return X
        if is_list:
            raise InvalidInputError(f"X does not hold one row of numbers for each image: it {problem}.") from None
        raise InvalidInputError(f"X {problem}.") from None
    if is_list and (array.ndim != 2 or array.dtype.kind not in "biufc"):
        return X
    if array.dtype.kind == "S":
        raise InvalidInputError(
            f"X is an array of dtype {array.dtype}, which cuts trailing zero bytes. Pass a list of bytes instead, or "
            "X.astype(str) if these are paths."
        )
    if array.dtype.kind == "O" and is_flattened(array):
        array = _as_numbers(array, image_shape)
    if image_shape is None and _is_all_missing(array):
        array = array.astype(object)
    if array.dtype.kind not in "OUT" or (array.dtype.kind == "O" and array.ndim in (3, 4)):
        return _images_of(array, image_shape)
    # Arrow's tables have columns that are not names.
    columns = getattr(X, "column_names", getattr(X, "columns", ()))
    return _single_column(array, list(columns) if isinstance(columns, Iterable) else [])


def _is_all_missing(array: np.ndarray) -> bool:
    """Return True for a column without values, which pandas and polars convert to floats."""
    is_column = array.dtype.kind == "f" and (array.ndim == 1 or array.shape[1:] == (1,))
    return is_column and array.size > 0 and bool(np.isnan(array).all())


def _as_numbers(array: np.ndarray, image_shape: tuple[int, ...] | None) -> np.ndarray:
    """Convert rows of numbers of dtype object to floats."""
    try:
        return array.astype(float)
    except (TypeError, ValueError) as error:
        if image_shape is None:
            return array
        raise InvalidInputError(f"X does not hold one row of numbers for each image: {error_words(error)}") from error


def _single_column(X: np.ndarray, columns: Sequence[Any]) -> list[Any]:
    if X.ndim == 0:
        raise InvalidInputError(f"X is an array of {X.dtype} and shape (). Pass a list of images.")
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim != 1:
        named = columns and _column_of_images(columns, X[0] if X.ndim == 2 and len(X) else [])
        column = f" Pass one column, such as X[{shown_value(named)}]." if columns else ""
        raise InvalidInputError(
            f"X is an array of {X.dtype} and shape {X.shape}; paths and objects must have shape (n,) or (n, 1).{column}"
        )
    if len(X) == 0:
        raise InvalidInputError(EMPTY)
    return list(X)


def _column_of_images(columns: Sequence[Any], row: Sequence[Any]) -> Any:
    """Return the column that most probably has images: paths with a suffix, then other text, then anything else."""

    def doubt(item: Any) -> int:
        if isinstance(item, str | os.PathLike):
            return 0 if os.path.splitext(item)[1] else 1
        return 2 if is_missing(item) or isinstance(item, Number | np.bool_) else 0

    doubts = [doubt(item) for item in row]
    return columns[doubts.index(min(doubts))] if doubts else columns[0]


def _first_row(X: Any, names: Sequence[Any]) -> list[Any]:
    """Return the items in the first row of a table of Hugging Face; none if it cannot be read."""
    try:
        return [X[0][name] for name in names]
    except Exception:  # decoders of images may raise anything
        return []


def _images_of(X: np.ndarray, image_shape: tuple[int, ...] | None) -> np.ndarray:
    """Return an array of numbers as images."""
    if X.ndim and len(X) == 0:
        raise InvalidInputError(EMPTY)
    if X.ndim == 2 and X.shape[1] == 0:
        raise InvalidInputError(f"X has rows without numbers: Found array with 0 feature(s) (shape={X.shape}).")
    if X.ndim == 2 and image_shape is not None:
        size = int(np.prod(image_shape, dtype=object))
        if X.shape[1] != size:
            raise InvalidInputError(
                f"image_shape={image_shape} has {size} values, but the rows of X have {X.shape[1]}: X has shape "
                f"{X.shape}."
            )
        X = X.reshape(len(X), *image_shape)
    elif X.ndim == 2:
        side = int(X.shape[1] ** 0.5)
        shape = (side, side) if side * side == X.shape[1] else ("H", "W")
        raise InvalidInputError(
            f"X has shape {X.shape}: if each row is an image, pass its shape, for instance "
            f"image_shape=({shape[0]}, {shape[1]}); if X is one image, pass it in a list: [x]; if the rows are "
            "features, pass the images instead, or an estimator of scikit-learn, such as LogisticRegression, for them."
        )
    elif X.ndim == 3 and X.shape[2] in CHANNELS and min(X.shape[:2]) > 4:
        raise InvalidInputError(f"X has shape {X.shape}, like a single image. Pass it in a list: [x].")
    if X.ndim not in (3, 4) or 0 in X.shape[1:]:
        raise InvalidInputError(f"X has shape {X.shape} and holds numbers ({X.dtype}); it must be {LEGAL_FORMS}.")
    return X
