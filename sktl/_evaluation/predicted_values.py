"""What a classifier predicts: probabilities, and the classes or labels that `predict` returns, with its thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.wrapped_estimators import answering, label_probabilities
from sktl._targets.class_codes import codes_of
from sktl._targets.label_targets import zeros_and_ones
from sktl._targets.target_tables import Table
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
