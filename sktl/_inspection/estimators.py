"""What displays ask of an estimator, which may be a search or a pipeline that contains an estimator of sktl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import is_regressor

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


def samples_for(estimator: Any, X: Any, image_shape: Sequence[int] | None = None) -> list[Sample]:
    """Return the samples of an `X` for an estimator, or for a search or pipeline that contains one of ours."""
    shape = _image_shape(estimator) if image_shape is None else image_shape
    return as_samples(X, shape)


def _image_shape(estimator: Any) -> Sequence[int] | None:
    inner = getattr(estimator, "best_estimator_", estimator)
    steps = [step for _, step in getattr(inner, "steps", [])]
    return next(filter(None, map(_image_shape, steps)), None) if steps else getattr(inner, "image_shape", None)
