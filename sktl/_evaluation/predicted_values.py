"""What a classifier predicts: probabilities, and the classes or labels that `predict` returns, with its thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.wrapped_estimators import answering
from sktl._short_text import type_of
from sktl._targets.class_codes import codes_of
from sktl._targets.label_targets import zeros_and_ones
from sktl._targets.target_tables import Table
from sktl.exceptions import InvalidInputError
from sktl.runtime.models import OnnxClassifier

from .comparisons import check_label_probabilities

_RESULT = "predict(X)"
# Their `predict` follows from the probabilities.
_WITHOUT_THRESHOLD = (PretrainedImageClassifier.predict, OnnxClassifier.predict)


def class_answers(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each class, and the positions in `classes_` of the classes that `predict` returns."""
    proba = np.asarray(estimator.predict_proba(X))
    if _most_probable(estimator):
        return proba, proba.argmax(axis=1)
    classes = np.asarray(estimator.classes_)
    predicted = np.ravel(estimator.predict(X)).tolist()
    return proba, codes_of(predicted, classes, _RESULT, "classes_", "Correct the estimator")


def label_answers(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the probability of each label, 1 for each label that `predict` returns, and the names of the labels."""
    found, names = label_probabilities(estimator, X)
    proba = check_label_probabilities(found)
    if _most_probable(estimator):
        return proba, (proba > 0.5).astype(np.int64), names
    predicted = zeros_and_ones(Table.of(estimator.predict(X), _RESULT), _RESULT)
    return proba, predicted.astype(np.int64), names


def _most_probable(estimator: Any) -> bool:
    """Return True for classifiers whose `predict` follows from the probabilities: one pass over images is enough.

    Others may have thresholds of their own, such as scikit-learn's `TunedThresholdClassifierCV`.
    """
    return getattr(type(answering(estimator)), "predict", None) in _WITHOUT_THRESHOLD


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
    if not are_labels(classes):
        raise InvalidInputError(
            "The estimator predicts several columns of classes, which cannot be shown together. Show one column at a "
            "time: pass y[:, 0], predict_proba(X)[0] and classes=classes_[0] to from_predictions."
        )
    return np.stack([some[:, found == 1].sum(axis=1) for some, found in zip(proba, classes, strict=True)], axis=1)


def are_labels(classes: list[np.ndarray]) -> bool:
    """Return True if each column has the classes 0 and 1, or one of them."""
    return all({*of_column.tolist()} <= {0, 1} for of_column in classes)
