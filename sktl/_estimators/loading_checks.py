"""Values in the document of a saved model, each checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sktl._images.preprocessing import Preprocessing, preprocessing_fault
from sktl._short_text import shown_value
from sktl._storage.model_file import SavedDocumentError
from sktl._training.json_values import decode
from sktl._training.net_callbacks import History
from sktl._training.recipe import Recipe
from sktl.exceptions import ImageFailure
from sktl.runtime.document import are_different

from .saving import TRAINED, check_labels_size, is_text

_MOST = 2**62  # of a count
# Values that sktl reads from the row of an epoch if they are there, and their types.
_OF_AN_EPOCH: dict[str, type] = {"dur": float, "train_loss": float, "valid_loss": float, "phase": str}


def name_of(value: Any, name: str, choices: tuple[str, ...] | None = None) -> str:
    """Return a value that must be a string, and one of some choices if there are any."""
    if not isinstance(value, str) or (choices is not None and value not in choices):
        raise SavedDocumentError(f"its {name} is {shown_value(value)}")
    return value


def preprocessing_of(described: Any) -> Preprocessing:
    """Return the preprocessing."""
    found = decode(described)
    if not isinstance(found, Preprocessing):
        raise SavedDocumentError("its preprocessing is invalid")
    if fault := preprocessing_fault(found):
        raise SavedDocumentError(f"its preprocessing is invalid: {fault}")
    return found


def columns_of(flattened: Mapping[str, Any]) -> tuple[int | None, np.ndarray | None]:
    """Return the number of columns of flattened images, and their names; None for each that is unknown."""
    n_features, names = flattened["n_features"], flattened["names"]
    if n_features is not None and not _is_count(n_features, 1):
        raise SavedDocumentError("the number of its columns is invalid")
    return n_features, None if names is None else names_of(names, n_features)


def names_of(names: Any, n_names: int | None) -> np.ndarray:
    """Return the names of columns or numbers, an array of str."""
    if not isinstance(names, list) or len(names) != n_names or not all(isinstance(name, str) for name in names):
        raise SavedDocumentError("it does not have one name for each column, or for each number")
    if not all(map(is_text, names)):
        raise SavedDocumentError("a name of a column or a number is not valid Unicode")
    return np.array(names, dtype=object)


# ------------------------------------------------------------------------------------------------------------- training


def recipe_of(training: Mapping[str, Any]) -> Recipe:
    """Return the recipe."""
    recipe = decode(training["recipe"])
    if not isinstance(recipe, Recipe):
        raise SavedDocumentError("the recipe is invalid")
    return recipe


def history_of(training: Mapping[str, Any]) -> History:
    """Return the history."""
    rows = [decode(row) for row in training["history"]]
    if not all(isinstance(row, dict) and _is_count(row.get("epoch")) for row in rows):
        raise SavedDocumentError("an epoch of its history has no number")
    for name, kind in _OF_AN_EPOCH.items():
        if not all(isinstance(row[name], kind) for row in rows if name in row):
            raise SavedDocumentError(f"an epoch of its history has an invalid {name}")
    return History(rows)


def n_iter_of(training: Mapping[str, Any]) -> int:
    """Return the number of iterations."""
    n_iter = training["n_iter"]
    if not _is_count(n_iter):
        raise SavedDocumentError("the number of its iterations is invalid")
    return int(n_iter)


def failures_of(training: Mapping[str, Any]) -> tuple[ImageFailure, ...]:
    """Return the images that the fit left out."""
    failures = tuple(decode(failure) for failure in training["invalid_images"])
    if not all(isinstance(failure, ImageFailure) for failure in failures):
        raise SavedDocumentError("its invalid images are not described as such")
    return failures


def _is_column(name: str, values: list[Any]) -> bool:
    """Return True for the values of a column of the results of the internal cross-validation."""
    if name == "refined":
        return all(isinstance(value, bool) for value in values)
    return all(isinstance(value, float) or _is_count(value) for value in values)


def selection_of(training: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the results of the internal cross-validation by name; empty if there was none."""
    columns = {key: decode(column) for key, column in (training.get("selection") or {}).items()}
    if not all(_is_column(name, values) for name, values in columns.items()) or len({*map(len, columns.values())}) > 1:
        raise SavedDocumentError("the results of its cross-validation are not columns of numbers")
    return {key: np.array(column) for key, column in columns.items()}


# -------------------------------------------------------------------------------------------------------------- outputs


def outputs_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document says about training and outputs. Earlier versions, without regressors, said it in one."""
    if old := document.get("classifier"):
        classes = {"labels": old["classes"], "dtype": old["dtype"], "counts": old["class_count"], "multilabel": False}
        return {TRAINED: old, "classes": classes}
    return {key: document[key] for key in (TRAINED, "classes", "numbers") if key in document}


def count_outputs(trained: Mapping[str, Any]) -> int:
    """Return the number of outputs."""
    if ("classes" in trained) == ("numbers" in trained):
        raise SavedDocumentError("it does not say whether its outputs are classes or numbers")
    if "classes" in trained:
        return len(trained["classes"]["labels"])
    n_outputs, is_vector = trained["numbers"]["n_outputs"], trained["numbers"]["is_vector"]
    if not _is_count(n_outputs, 1) or type(is_vector) is not bool or (is_vector and n_outputs > 1):
        raise SavedDocumentError("the number of its outputs is invalid")
    return int(n_outputs)


def classes_of(described: Mapping[str, Any]) -> np.ndarray:
    """Return the labels, which are sorted unless an image can have several."""
    if type(described["multilabel"]) is not bool:
        raise SavedDocumentError("it does not say whether an image has one label")
    classes = _labels_of([decode(label) for label in described["labels"]], described["dtype"])
    if not described["multilabel"] and classes.tolist() != sorted(classes.tolist()):
        raise SavedDocumentError("labels are not sorted")
    return classes


def _labels_of(labels: list[Any], dtype: Any) -> np.ndarray:
    if not isinstance(dtype, str) or not re.fullmatch(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,9}", dtype):
        raise SavedDocumentError(f"labels have dtype {shown_value(dtype)}")
    if not all(isinstance(label, str | int | float) for label in labels):
        raise SavedDocumentError("labels are not all strings, numbers or bools")
    if not all(map(is_text, labels)):
        raise SavedDocumentError("a label is not valid Unicode")
    check_labels_size(len(labels), np.dtype(dtype))
    try:
        with np.errstate(all="ignore"):
            classes = np.array(labels, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise SavedDocumentError("labels do not match their dtype") from error
    found = classes.tolist()
    if found != labels or [*map(type, found)] != [*map(type, labels)]:
        raise SavedDocumentError("labels do not match their dtype")
    if not are_different(found):
        raise SavedDocumentError("labels are not different")
    return classes


def counts_of(described: Mapping[str, Any]) -> np.ndarray:
    """Return the number of training images of each class."""
    counts, least = described["counts"], 0 if described["multilabel"] else 1
    if len(counts) != len(described["labels"]) or not all(_is_count(n, least) for n in counts):
        raise SavedDocumentError("the number of images of each class is invalid")
    return np.array(counts, dtype=np.int64)


def _is_count(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < _MOST
