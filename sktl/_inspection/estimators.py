"""What displays ask of an estimator, which may be a search or a pipeline that contains an estimator of sktl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import is_regressor

from sktl._images.image_reader import ImageReader
from sktl._images.samples import Sample, as_samples
from sktl.exceptions import InvalidInputError


def check_instance(estimator: Any) -> None:
    """Raise `InvalidInputError` if an estimator is a class."""
    if isinstance(estimator, type):
        raise InvalidInputError(f"estimator is the class {estimator.__name__}: pass a fitted instance of it.")


def predicts_numbers(estimator: Any) -> bool:
    """Return True for a regressor."""
    return hasattr(estimator, "__sklearn_tags__") and is_regressor(estimator)


def predicts_labels(estimator: Any) -> bool | None:
    """Return whether a classifier of sktl predicts several labels; None for other estimators."""
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = getattr(inner, "steps", None)
    return predicts_labels(steps[-1][1]) if steps else getattr(inner, "multilabel_", None)


def samples_for(
    estimator: Any, X: Any, image_shape: Sequence[int] | None = None, image_reader: ImageReader | None = None
) -> list[Sample]:
    """Return the samples of an `X` for an estimator, or for a search or pipeline that contains one of ours."""
    shape = _parameter(estimator, "image_shape") if image_shape is None else image_shape
    reader = _parameter(estimator, "image_reader") if image_reader is None else image_reader
    return as_samples(X, shape, image_reader=reader)


def _parameter(estimator: Any, name: str) -> Any:
    """Return a parameter of the first estimator of ours that has set it; None if there is none."""
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = [step for _, step in getattr(inner, "steps", [])]
    found = (_parameter(step, name) for step in steps)
    return next((value for value in found if value is not None), None) if steps else getattr(inner, name, None)
