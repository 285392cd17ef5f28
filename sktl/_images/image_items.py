"""Single items of `X`: the paths and arrays that they give, and what to pass instead of items that are no images."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sktl._short_text import error_words, shown_value, type_of
from sktl._utils.process_errors import raise_process_error

from .foreign_types import is_dicom, is_sparse, is_tensor
from .pixel_advice import NUMPY, OTHERS, TORCH, Words
from .problems import ImageProblem

if TYPE_CHECKING:
    import torch

CHANNELS = (1, 3, 4)
BYTES = (bytes, bytearray, memoryview)
# What to pass instead of an open file.
FILE_REMEDY = "pass its path, or the bytes that read() returns in mode 'rb'"


def kind_of(item: Any) -> str:
    """Return the name of an item in errors, for items that have no name."""
    if isinstance(item, str | os.PathLike):
        return "path"
    return "PIL image" if isinstance(item, Image.Image) else type(item).__name__


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


def why_no_image(item: Any) -> str:
    """Return why an item that is not a path, bytes, array or PIL image cannot be used, and what to pass."""
    return f"is not a path, bytes, array or PIL image{_remedy(item)}"


def _remedy(item: Any) -> str:
    if is_missing(item):
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
        return f": {FILE_REMEDY}"
    if isinstance(item, Mapping) and item:
        # Datasets of Hugging Face have bytes or a path, and None for the other.
        key = next((key for key, value in item.items() if not is_missing(value)), next(iter(item)))
        return f": pass the image in it, such as x[{shown_value(key)}]"
    if isinstance(item, list | tuple) and _are_numbers(item):
        return ": pass np.array(x, dtype=np.uint8), or np.array(x, dtype=float) for values in [0, 1]"
    if isinstance(item, list | tuple):
        return ": pass one flat list, in which each item is an image"
    return ""


def is_missing(item: Any) -> bool:
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
