"""Convert plain values, including recipes, to JSON and back with the same types, and refuse everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch

from sktl._images.augmentation import RandomChange
from sktl._images.preprocessing import Preprocessing
from sktl._short_text import shown_value, type_of
from sktl._storage.model_file import SavedDocumentError
from sktl.exceptions import ImageFailure, InvalidParameterError

from .recipe import Recipe, TailRecipe

_CLASSES = {cls.__name__: cls for cls in (Preprocessing, Recipe, TailRecipe, RandomChange, ImageFailure)}
# Fields that files of earlier versions lack, with the values that these versions used.
_ADDED: dict[Any, dict[str, Any]] = {
    Recipe: {"loss": "cross_entropy"},
    TailRecipe: {"loss": "cross_entropy", "alone": None},
}
# Integers in fields are smaller. Some larger ones are too long for messages.
_LARGEST = 2**63


def plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number, string or bool, and other values unchanged.

    NumPy's small integers overflow, and its half-precision floats round the results of computations.
    """
    if not isinstance(value, np.generic):
        return value
    return float(value) if isinstance(value, np.longdouble) else value.item()


def encode(value: Any, name: str) -> Any:
    """Convert a value to JSON that preserves its type. `name` is the name of the value in errors."""
    value = plain(value)
    if isinstance(value, Enum):
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if type(value) in _CLASSES.values():
        content = {key: encode(getattr(value, key), key) for key in _field_names(type(value))}
        if large := [key for key, item in content.items() if isinstance(item, int) and abs(item) >= _LARGEST]:
            found = f"{name}.{large[0]}={shown_value(content[large[0]])}"
            raise InvalidParameterError(f"{found} is too large to be saved. Fit with a smaller number.")
        return {"value": type(value).__name__, "of": content}
    if isinstance(value, list | np.ndarray):
        return [encode(item, name) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, name) for item in value]}
    if isinstance(value, Mapping):
        if large := [key for key in map(plain, value) if not _is_key(key)]:
            raise InvalidParameterError(f"{name} has the key {shown_value(large[0])}, which is too large to be saved.")
        return {"dict": [[encode(key, name), encode(item, name)] for key, item in value.items()]}
    kind = "a function or class" if callable(value) else type_of(value)
    raise InvalidParameterError(
        f"{name} is {kind}, which cannot be saved without code. Choose a value that is a name or a number, and fit "
        "again. If training did not use the value, set_params without another fit is enough. Or pickle the estimator, "
        "for those who trust you."
    )


def _is_key(key: Any) -> bool:
    """Return True for a key that may be saved: without integers of more than 64 bits.

    These can all have the same hash, and a dict compares keys of equal hash each with each.
    """
    if isinstance(key, tuple):
        return all(map(_is_key, key))
    return type(key) is not int or abs(key) < 2**64


def _field_names(cls: Any) -> list[str]:
    return list(ImageFailure._fields) if cls is ImageFailure else [field.name for field in fields(cls)]


@cache
def _field_types(cls: Any) -> dict[str, Any]:
    types = get_type_hints(cls)
    return {name: types[name] for name in _field_names(cls)}


def _has_type(value: Any, kind: Any) -> bool:
    """Return True if a value has the type of an annotation. Integers are also floats, but bools are not integers."""
    inner = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_has_type(value, one) for one in inner)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_has_type, value, inner))
    if type(value) is int and kind in (int, float):
        return abs(value) < _LARGEST
    return type(value) is kind


def _decode_known(name: Any, content: Any) -> Any:
    """Return an instance of one of sktl's classes. It must have exactly the fields and types that `encode` writes."""
    cls = _CLASSES.get(name) if isinstance(name, str) else None
    if cls is None or not isinstance(content, dict):
        raise SavedDocumentError(f"it has a value of the kind {shown_value(name)}, which this version does not know")
    content = _ADDED.get(cls, {}) | content
    if different := sorted(content.keys() ^ set(_field_names(cls))):
        verb = "has" if different[0] in content else "lacks"
        raise SavedDocumentError(f"its {name} {verb} {shown_value(different[0])}, unlike in this version")
    values = {key: decode(item) for key, item in content.items()}
    for key, kind in _field_types(cls).items():
        if not _has_type(values[key], kind):
            raise SavedDocumentError(
                f"{key}={shown_value(values[key])} of its {name} has another type than in this version"
            )
    return cls(**values)


def decode(value: Any) -> Any:
    """Return the value that `encode` converted to JSON."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "value" in value:
        return _decode_known(value["value"], value["of"])
    if "tuple" in value:
        return tuple(decode(item) for item in value["tuple"])
    if "float" in value:
        return float(value["float"])
    found = {}
    for item in value["dict"]:
        key = decode(item[0])
        if not _is_key(key):
            raise SavedDocumentError(f"it has the key {shown_value(key)}, which is too large")
        found[key] = decode(item[1])
    return found
