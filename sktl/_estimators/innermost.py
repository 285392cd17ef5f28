"""The estimator within a search or a pipeline: its parameters, what it predicts, and what it receives of `X`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from sktl._images.image_reader import ImageReader
from sktl._images.samples import Sample, as_samples
from sktl._utils.paths import shown
from sktl._words import type_of
from sktl.exceptions import InvalidInputError


def check_instance(estimator: Any) -> None:
    """Raise `InvalidInputError` if an estimator is a class, the path of a file, or no estimator."""
    if isinstance(estimator, type):
        raise InvalidInputError(f"estimator is the class {estimator.__name__}: pass a fitted instance of it.")
    if isinstance(estimator, str | os.PathLike):
        raise InvalidInputError(f"estimator is a path: pass the estimator in the file, sktl.load({shown(estimator)}).")
    if not any(hasattr(estimator, method) for method in ("fit", "predict", "transform")):
        raise InvalidInputError(f"estimator is {type_of(estimator)}: pass a fitted estimator first, and then X and y.")


def predicts_numbers(estimator: Any) -> bool:
    """Return True for a regressor."""
    return hasattr(estimator, "__sklearn_tags__") and is_regressor(estimator)


def predicts_labels(estimator: Any) -> bool | None:
    """Return whether a classifier of sktl predicts several labels; None for other estimators."""
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = getattr(inner, "steps", None)
    return predicts_labels(steps[-1][1]) if steps else getattr(inner, "multilabel_", None)


def check_probabilities(estimator: Any) -> None:
    """Raise `InvalidInputError` if an estimator, which is not a regressor, predicts no probabilities."""
    if not hasattr(estimator, "predict_proba"):
        raise InvalidInputError(
            f"estimator is {type_of(estimator)}, which predicts neither probabilities nor numbers: pass a "
            "classifier with predict_proba, or a regressor."
        )


def label_probabilities(estimator: Any, X: Any) -> tuple[Any, np.ndarray | None]:
    """Return the probabilities of several labels, and the names of the labels if the estimator has them."""
    proba, classes = estimator.predict_proba(X), estimator.classes_
    # scikit-learn's meta-estimators have classes for each column.
    return (of_ones(proba, classes), None) if isinstance(classes, list) else (proba, classes)


def of_ones(proba: Any, classes: list[np.ndarray]) -> Any:
    """Return the probability of the class 1 in each column."""
    if not isinstance(proba, list):
        return proba
    if not all(set(of_column.tolist()) <= {0, 1} for of_column in classes):
        raise InvalidInputError(
            "The estimator predicts several columns of classes, which cannot be shown together. Show one column at a "
            "time: pass y[:, 0], predict_proba(X)[0] and classes=classes_[0] to from_predictions."
        )
    return np.stack([some[:, found == 1].sum(axis=1) for some, found in zip(proba, classes, strict=True)], axis=1)


def innermost(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the last estimator in searches and pipelines, and what it receives of an `X`."""
    inner = getattr(estimator, "best_estimator_", estimator)
    if not getattr(inner, "steps", None):
        return inner, X
    before = inner[:-1] if len(inner.steps) > 1 else None
    return innermost(inner.steps[-1][1], X if X is None or before is None else before.transform(X))


def samples_for(
    estimator: Any,
    X: Any,
    image_shape: Sequence[int] | None = None,
    image_reader: ImageReader | None = None,
    lenient: bool = False,
) -> list[Sample]:
    """Return the samples of an `X` for an estimator, or for a search or pipeline that contains one of ours."""
    shape = _parameter(estimator, "image_shape") if image_shape is None else image_shape
    reader = _parameter(estimator, "image_reader") if image_reader is None else image_reader
    return as_samples(X, shape, lenient, reader)


def _parameter(estimator: Any, name: str) -> Any:
    """Return a parameter of the first estimator of ours that has set it; None if there is none."""
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = [step for _, step in getattr(inner, "steps", [])]
    found = (_parameter(step, name) for step in steps)
    return next((value for value in found if value is not None), None) if steps else getattr(inner, name, None)
