"""Estimators in a search, a pipeline or another meta-estimator: what kind they are, and what part of `X` they get."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing

from sktl._images.image_reader import ImageReader
from sktl._images.samples import Sample, as_samples
from sktl._short_text import error_words, type_of
from sktl._utils.paths import shown
from sktl.exceptions import InvalidInputError
from sktl.runtime.models import OnnxModel, OnnxRegressor

from .base import PretrainedImageBase

# Where searches, thresholds and targets on another scale store the fitted estimator to which they pass `X`.
_FITTED = ("best_estimator_", "estimator_", "regressor_")
# Skipped early, because a container may have millions of them, such as a vocabulary.
_PLAIN = frozenset({str, bytes, int, float})


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
    is_sklearn = hasattr(estimator, "__sklearn_tags__")
    return is_regressor(estimator) if is_sklearn else isinstance(estimator, OnnxRegressor)


def predicts_labels(estimator: Any) -> bool | None:
    """Return whether a classifier of sktl predicts several labels; None for other estimators."""
    return getattr(innermost(estimator)[0], "multilabel_", None)


def thawed(estimator: Any) -> Any:
    """Return the estimator in scikit-learn's `FrozenEstimator`; other estimators are returned unchanged."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def answering(estimator: Any) -> Any:
    """Return the last estimator in searches and pipelines, whose `predict` is theirs."""
    inner = thawed(getattr(estimator, "best_estimator_", estimator))
    steps = getattr(inner, "steps", None)
    return answering(steps[-1][1]) if steps else inner


def number_names(estimator: Any) -> list[str] | None:
    """Return the names of the numbers that a regressor predicts; None if it does not know them.

    A meta-estimator may pass other numbers to its regressor than it predicts, under other names.
    """
    names = getattr(answering(estimator), "output_names_", None)
    return None if names is None else [str(name) for name in names]


def innermost(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the last estimator in searches, pipelines, thresholds and the like, and what it receives of an `X`.

    An ensemble is returned unchanged, because none of its estimators is its model.
    """
    if (member := _only_member(estimator)) is not None:
        return innermost(member, X)
    if not getattr(estimator, "steps", None):
        return estimator, X
    before = estimator[:-1] if len(estimator.steps) > 1 else None
    return innermost(estimator.steps[-1][1], X if X is None or before is None else before.transform(X))


def _only_member(estimator: Any) -> Any:
    """Return the only fitted estimator to which a meta-estimator passes `X`; None if there is none, or several."""
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    calibrated: list[Any] = getattr(estimator, "calibrated_classifiers_", [])
    if len(calibrated) == 1:
        return calibrated[0].estimator
    if hasattr(estimator, "estimators_"):  # the `estimator_` of bagging and boosting is not fitted
        return None
    if hasattr(estimator, "get_support"):  # `estimator_` of a selection receives some columns of `X`
        return None
    return next((getattr(estimator, name) for name in _FITTED if hasattr(estimator, name)), None)


def own_estimators(estimator: Any) -> Iterator[PretrainedImageBase]:
    """Yield the estimators of sktl in an estimator, fitted or not, those in fitted attributes first."""
    return (found for found in _walk(estimator, set()) if isinstance(found, PretrainedImageBase))


def freezes_predictor(estimator: Any) -> bool:
    """Return True if an estimator contains a `FrozenEstimator` of a classifier or regressor."""
    frozen = (found.estimator for found in _walk(estimator, set()) if isinstance(found, FrozenEstimator))
    return any(is_classifier(predictor) or is_regressor(predictor) for predictor in frozen)


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield an estimator and all estimators in its attributes, but not the parts of an estimator of sktl."""
    if id(value) in seen or isinstance(value, type):
        return
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        inner = [item for item in items if type(item) not in _PLAIN]
    elif hasattr(value, "get_params"):
        yield value
        own = {} if isinstance(value, PretrainedImageBase) else getattr(value, "__dict__", {})
        inner = [own[name] for name in sorted(own, key=lambda name: not name.endswith("_"))]
    else:
        return
    seen.add(id(value))
    for each in inner:
        yield from _walk(each, seen)


def images_for(estimator: Any, X: Any) -> Any:
    """Return the column of a table that an estimator of sktl in a `ColumnTransformer` receives; otherwise `X`.

    Raises
    ------
    InvalidInputError
        If the table does not have this column.
    """
    for found in _walk(estimator, set()):
        # Nested tensors, which no ColumnTransformer accepts, raise an error if they are asked for their shape.
        if not isinstance(found, ColumnTransformer) or len(getattr(X, "shape", ())) != 2:
            continue
        for _, step, columns in getattr(found, "transformers_", found.transformers):
            if next(own_estimators(step), None) is not None:
                return images_for(step, _columns_of(X, columns))
    return X


def _columns_of(X: Any, columns: Any) -> Any:
    try:
        return _safe_indexing(X, columns(X) if callable(columns) else columns, axis=1)
    except Exception as error:  # each library of data frames has its own errors
        raise InvalidInputError(
            f"The column of images that the ColumnTransformer uses cannot be selected in X ({error_words(error)}). "
            "Pass X with the columns that it has in fit."
        ) from error


def samples_for(
    estimator: Any,
    X: Any,
    image_shape: Sequence[int] | None = None,
    image_reader: ImageReader | None = None,
    lenient: bool = False,
) -> list[Sample]:
    """Return the samples of an `X` for an estimator, or for a meta-estimator that contains one of ours."""
    shape = parameter(estimator, "image_shape") if image_shape is None else image_shape
    reader = _reader_of(estimator) if image_reader is None else image_reader
    return as_samples(images_for(estimator, X), shape, lenient, reader)


def _reader_of(estimator: Any) -> ImageReader | None:
    if isinstance(estimator, OnnxModel):
        return estimator.image_reader or estimator.document.image_reader
    reader: ImageReader | None = parameter(estimator, "image_reader")
    return reader


def parameter(estimator: Any, name: str) -> Any:
    """Return a parameter of the first estimator of ours that has set it; None if there is none."""
    found = (getattr(own, name) for own in own_estimators(estimator))
    return next((value for value in found if value is not None), None)
