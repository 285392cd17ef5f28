"""Labels as positions among given classes, such as those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sktl._short_text import first_shown
from sktl._utils.similar_names import resemblances
from sktl.exceptions import InvalidInputError

from .label_checks import check_labels


def class_codes(labels: Any, classes: np.ndarray, name: str = "y") -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of all classes, those of the model first, and the position of each label among them.

    A label is the class of the same value, or else of the same text: folders have names, even if they are digits.
    `name` is the name of the labels in messages.

    Raises
    ------
    InvalidInputError
        If `labels` are not labels.
    """
    known = [str(name) for name in classes.tolist()]
    by_value = {_key(name): code for code, name in enumerate(classes.tolist())}
    by_text = {name: code for code, name in enumerate(known)}
    values = check_labels(labels, name).tolist()
    found = [by_value.get(_key(label), by_text.get(str(label))) for label in values]
    unknown = sorted({str(label) for label, code in zip(values, found, strict=True) if code is None})
    codes = {name: len(known) + code for code, name in enumerate(unknown)}
    return (
        (*known, *unknown),
        np.array([codes[str(label)] if code is None else code for label, code in zip(values, found, strict=True)]),
    )


def class_codes_of_model(labels: Any, classes: np.ndarray, name: str = "y") -> tuple[tuple[str, ...], np.ndarray]:
    """Return the same as `class_codes`. Raise `InvalidInputError` if no label is a class of the model."""
    names, codes = class_codes(labels, classes, name)
    if len(codes) and codes.min() >= len(classes):
        given = dict.fromkeys(check_labels(labels, name).tolist())
        raise InvalidInputError(
            f"No label in {name} is a class of the model: {name} has {first_shown(given)}; the model has "
            f"{first_shown(classes.tolist())}. Pass labels as in fit. {resemblances(given, classes.tolist())}".rstrip()
        )
    return names, codes


def codes_of(labels: Sequence[Any], classes: np.ndarray, name: str, owner: str, remedy: str) -> np.ndarray:
    """Return the position of each label in `classes`.

    Parameters
    ----------
    labels : sequence
        Python objects.
    classes : array of shape (n_classes,)
    name, owner, remedy : str
        For the error: the name of the labels, the owner of the classes, and what to do.

    Raises
    ------
    InvalidInputError
        If a label is not among the classes. 1 is not the same as True.
    """
    codes = {label: code for code, label in enumerate(classes.tolist())}
    booleans = classes.dtype.kind == "b"  # in Python, they equal 0 and 1
    unknown = dict.fromkeys(x for x in labels if x not in codes or isinstance(x, bool) != booleans)
    if unknown:
        raise InvalidInputError(
            f"{name} has labels that {owner} does not have: {first_shown(unknown)}. {remedy}; {owner} has "
            f"{first_shown(codes)}. {resemblances(unknown, codes)}".rstrip()
        )
    return np.array([codes[label] for label in labels], dtype=np.int64)


def _key(label: Any) -> tuple[bool, Any]:
    return isinstance(label, bool), label  # in Python, True equals 1
