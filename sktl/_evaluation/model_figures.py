"""The figures of a fitted estimator for images: of classes, several labels or numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sktl._estimators.wrapped_estimators import (
    innermost,
    number_names,
    predicts_labels,
    predicts_numbers,
)
from sktl._targets.class_codes import class_codes_of_model
from sktl._targets.label_targets import zeros_and_ones
from sktl._targets.number_targets import number_columns, string_names
from sktl._targets.target_tables import Table, check_column_names
from sktl.exceptions import ImageFailure, InvalidInputError

from .class_figures import ClassFigures
from .comparisons import LabelComparison, NumberComparison
from .evaluated_images import predict_usable
from .group_figures import Groups
from .label_figures import LabelFigures
from .number_figures import NumberFigures
from .predicted_values import are_labels, check_probabilities, class_answers, label_answers
from .true_values import Truth, column_names

Figures = ClassFigures | LabelFigures | NumberFigures


def figures_of(
    estimator: Any, X: Any, truth: Truth, groups: Groups | None
) -> tuple[Figures, np.ndarray, list[ImageFailure]]:
    """Return the figures, the positions of the evaluated images, and why others cannot be used."""
    if predicts_numbers(estimator):
        return _number_figures(estimator, X, truth, groups)
    check_probabilities(estimator)
    several = predicts_labels(estimator)
    of_kind = _label_figures if (truth.is_table if several is None else several) else _class_figures
    return of_kind(estimator, X, truth, groups)


def _class_figures(
    estimator: Any, X: Any, truth: Truth, groups: Groups | None
) -> tuple[Figures, np.ndarray, list[ImageFailure]]:
    names, codes = class_codes_of_model(truth.array, estimator.classes_, truth.name)
    answers, rows, failures = predict_usable(partial(class_answers, estimator), X, truth.present)
    (proba, predicted), codes = answers, codes[np.searchsorted(truth.present, rows)]
    figures = ClassFigures.of(names, codes, proba, groups and groups.take(rows), _n_trained(estimator), predicted)
    return figures, rows, failures


def _label_figures(
    estimator: Any, X: Any, truth: Truth, groups: Groups | None
) -> tuple[Figures, np.ndarray, list[ImageFailure]]:
    _check_labels(estimator)
    table = Table(truth.array.reshape(len(truth.present), -1), truth.names())
    zeros_and_ones(table, truth.name)  # before the images are read
    answers, rows, failures = predict_usable(partial(label_answers, estimator), X, truth.present)
    proba, predicted, names = answers
    table = Table(table.values[np.searchsorted(truth.present, rows)], table.names)
    compared = LabelComparison.of(len(rows), table, proba, names)
    labels = column_names(compared.names.tolist(), len(compared.names), "label")
    of_groups, n_trained = groups and groups.take(rows), _n_trained(estimator)
    figures = LabelFigures.of(labels, compared.y_true, proba, of_groups, n_trained, predicted)
    return figures, rows, failures


def _check_labels(estimator: Any) -> None:
    """Raise `InvalidInputError` if an estimator predicts several columns of classes, and not of labels."""
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list) and not are_labels(classes):
        raise InvalidInputError(
            "The estimator predicts several columns of classes, which have no common figures. Evaluate one column at a "
            "time: for instance, pass estimators_[0] of a MultiOutputClassifier, and y[:, 0]."
        )


def _number_figures(
    estimator: Any, X: Any, truth: Truth, groups: Groups | None
) -> tuple[Figures, np.ndarray, list[ImageFailure]]:
    numbers, known = number_columns(truth.array, truth.name), number_names(estimator)  # before the images are read
    check_column_names(string_names(truth.names()), known, truth.name, "the estimator")
    predicted, rows, failures = predict_usable(estimator.predict, X, truth.present)
    numbers = numbers[np.searchsorted(truth.present, rows)]
    NumberComparison.of(len(rows), numbers, predicted)  # checks the shapes
    names = column_names(known or truth.names(), numbers.shape[1], "number")
    predicted = number_columns(predicted, "predictions")
    return NumberFigures.of(names, numbers, predicted, groups and groups.take(rows)), rows, failures


def _n_trained(estimator: Any) -> list[int] | None:
    """Return the number of training images of each class or label, if an estimator of sktl knows it."""
    counts = getattr(innermost(estimator)[0], "class_count_", None)
    return None if counts is None else [int(n) for n in counts]
