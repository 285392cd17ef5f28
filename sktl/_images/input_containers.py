"""What may hold the images of `X`: a list, a column, an array, a lazy sequence. Others are refused with advice."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sktl._utils.process_errors import raise_process_error
from sktl._words import error_words, shown_value, type_of
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .decoding import ImageProblem
from .foreign_types import is_dicom, is_instance, is_sparse, is_tensor
from .lazy_images import LazyImages, as_sequence
from .pixel_advice import NUMPY, OTHERS, TORCH, Words

if TYPE_CHECKING:
    import torch

LEGAL_FORMS = (
    "a list, 1-d array, Series or one column of paths, bytes, URLs, arrays or PIL images; or another sequence of them; "
    "or an array of shape (n, H, W), (n, H, W, C) or (n, C, H, W), uint8 or floats in [0, 1]; or flattened rows "
    "together with image_shape"
)
CHANNELS = (1, 3, 4)
BYTES = (bytes, bytearray, memoryview)
EMPTY = "X is empty: Found array with 0 sample(s). Pass at least one image."


def kind_of(item: Any) -> str:
    """Return the name of an item in errors, for items that have no name."""
    if isinstance(item, str | os.PathLike):
        return "path"
    return "PIL image" if isinstance(item, Image.Image) else type(item).__name__


# --------------------------------------------------------------------------------------------------------- what X holds


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
        return " Pass a list of the images of its dataset, such as [image for image, label in X.dataset]."
    if is_instance(X, "torch.utils.data.IterableDataset"):
        return " Pass a list of its images, such as [image for image, label in X]."
    if hasattr(X, "as_numpy_iterator"):  # a `tf.data.Dataset`
        return (
            " Pass a list of its images, such as [image for image, label in X.unbatch().as_numpy_iterator()], without "
            "unbatch() if its items are single images."
        )
    if isinstance(names := getattr(X, "column_names", None), Sequence) and names:
        return f" Pass one column, such as X[{shown_value(names[0])}], or X and y of sktl.datasets.from_dataset(X)."
    if isinstance(X, Mapping):
        return " Pass a list of its images, such as list(X.values())."
    if isinstance(X, set | frozenset):
        return " A set has no order: pass a list in the order of the labels."
    if hasattr(X, "collect"):
        return " Pass X.collect()."
    if isinstance(X, io.BytesIO):
        return " Pass [X.getvalue()]."
    if hasattr(X, "read"):
        return f" An open file is not a list: {_FILE_REMEDY}, in a list."
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
        column = f" Pass one column, such as X[{shown_value(columns[0])}]." if columns else ""
        raise InvalidInputError(
            f"X is an array of {X.dtype} and shape {X.shape}; paths and objects must have shape (n,) or (n, 1).{column}"
        )
    if len(X) == 0:
        raise InvalidInputError(EMPTY)
    return list(X)


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
        raise InvalidInputError(f"X has shape {X.shape}; it must be {LEGAL_FORMS}.")
    return X


# --------------------------------------------------------------------------------------------------------------- arrays


def is_array(item: Any) -> bool:
    """Return True if NumPy can convert an item to an array, and the item is not a number."""
    kind = type(item)
    has_values = hasattr(kind, "__array__") or hasattr(kind, "__dlpack__")
    return has_values and not isinstance(item, np.generic) and not is_sparse(item) and not is_dicom(item)


def to_array(item: Any) -> np.ndarray:
    """Convert an array or tensor of any library, or a list of numbers, to a plain NumPy array.

    Raises
    ------
    ImageProblem
        If it has no values, or values that NumPy cannot represent.
    """
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        if item.dtype.kind in "OUST":
            raise ImageProblem("has masked items; leave them out, with their labels")
        raise ImageProblem("has masked values; pass x.filled(0) to make them black")
    try:
        if is_tensor(item):
            return _tensor_to_array(item)
        array = np.asarray(item) if not is_array(item) or hasattr(type(item), "__array__") else np.from_dlpack(item)
    except ImageProblem:
        raise
    except Exception as error:  # arrays of other libraries may raise anything
        raise_process_error(error)
        raise ImageProblem(
            f"is {type_of(item)} that NumPy cannot convert to an array: {error_words(error)}; pass an "
            "array of uint8, or of floats in [0, 1]"
        ) from error
    # Columns of data frames store text in dtypes of their own.
    is_column = hasattr(item, "iloc") or hasattr(item, "to_pandas")
    return array.astype(object) if is_column and array.dtype.kind not in "biufc" else array


def words_for(item: Any) -> Words:
    """Return the expressions with which advice describes operations on an array."""
    if is_tensor(item):
        conversions = _conversions(item)
        return replace(TORCH, meaning="".join(["x", *(f".{name}()" for name in conversions)])) if conversions else TORCH
    return NUMPY if isinstance(item, np.ndarray) or hasattr(item, "iloc") else OTHERS


def _tensor_to_array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_nested:
        raise ImageProblem("is a nested tensor; pass its parts, x.unbind()")
    if tensor.is_meta:
        raise ImageProblem("is a tensor on the device meta, which has no values; pass a tensor that has values")
    conversions = _conversions(tensor)
    tensor = tensor.detach()
    for name in conversions:
        tensor = getattr(tensor, name)()
    return tensor.cpu().resolve_conj().resolve_neg().numpy()


def _conversions(tensor: torch.Tensor) -> list[str]:
    """Return the methods that convert a tensor to a type in which torch can compute and that NumPy knows."""
    import torch

    unknown = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
    needed = {"dequantize": tensor.is_quantized, "to_dense": tensor.layout != torch.strided, "float": unknown}
    return [name for name, is_needed in needed.items() if is_needed]


# ---------------------------------------------------------------------------------------------------------------- items


def path_of(item: str | os.PathLike[Any]) -> str:
    """Return a path as a string.

    Raises
    ------
    ImageProblem
        If the path object raises an error.
    """
    try:
        path = os.fspath(item)
    except Exception as error:  # path objects of other libraries may raise anything
        raise ImageProblem(f"is {type_of(item)} that gives no path: {error_words(error)}; pass a str") from error
    return str.__str__(path) if isinstance(path, str) else os.fsdecode(path)


_FILE_REMEDY = "pass its path, or the bytes that read() returns in mode 'rb'"


def why_no_image(item: Any) -> str:
    """Return why an item that is not a path, bytes, array or PIL image cannot be used, and what to pass."""
    return f"is not a path, bytes, array or PIL image{_remedy(item)}"


def _remedy(item: Any) -> str:
    if _is_missing(item):
        return " but a missing value: leave it out, with its label"
    if is_sparse(item):
        return ": pass x.toarray()"
    if isinstance(item, io.BytesIO):
        return ": pass x.getvalue()"
    if is_dicom(item):
        return ": pass the path of its file, such as x.filename, or its pixels as uint8 or as floats in [0, 1]"
    if hasattr(item, "read_bytes"):
        return ": pass x.read_bytes()"
    if hasattr(item, "read"):
        return f": {_FILE_REMEDY}"
    if isinstance(item, Mapping) and item:
        # Datasets of Hugging Face have bytes or a path, and None for the other.
        key = next((key for key, value in item.items() if not _is_missing(value)), next(iter(item)))
        return f": pass the image in it, such as x[{shown_value(key)}]"
    if isinstance(item, list | tuple) and _are_numbers(item):
        return ": pass np.array(x, dtype=np.uint8), or np.array(x, dtype=float) for values in [0, 1]"
    if isinstance(item, list | tuple):
        return ": pass one flat list, in which each item is an image"
    return ""


def _is_missing(item: Any) -> bool:
    """Return True for None, NaN, NaT and pandas.NA, without importing pandas."""
    if item is None or type(item).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(item, float | np.floating | np.datetime64) and item != item


def _are_numbers(item: Sequence[Any]) -> bool:
    """Return True if nested lists contain the numbers of an image."""
    try:
        array = np.asarray(item)
    except (ValueError, TypeError, OverflowError):  # ragged lists
        return False
    return array.ndim > 1 and array.dtype.kind in "biuf"
