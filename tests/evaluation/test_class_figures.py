"""Figures of classes are scikit-learn's where both are defined; classes that the model does not know count as wrong."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)

from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.group_figures import Groups

SEEDS = st.integers(0, 2**32 - 1)
NAMES = [f"c{i}" for i in range(6)]


def drawn(seed, n, k, n_unknown=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, k + n_unknown, n)
    codes[0] = 0  # some class is known
    logits = rng.normal(size=(n, k)) + 1.5 * np.eye(k + n_unknown)[codes][:, :k]
    return codes, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 40), st.integers(2, 4))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # which the test draws
def test_figures_are_scikit_learns(seed, n, k):
    codes, proba = drawn(seed, n, k)
    figures, labels = ClassFigures.of(NAMES[:k], codes, proba), np.arange(k)
    assert figures.accuracy.value == pytest.approx(accuracy_score(codes, proba.argmax(axis=1)))
    assert figures.log_loss == pytest.approx(log_loss(codes, proba, labels=labels))
    matrix, counts = confusion_matrix(codes, figures.y_pred, labels=labels), [*figures.cells.values()]
    assert figures.cells == {cell: matrix[cell] for cell in map(tuple, np.argwhere(matrix).tolist())}
    assert counts == sorted(counts, reverse=True)
    present = np.unique(codes)
    expected = balanced_accuracy_score(codes, figures.y_pred) if len(present) > 1 else figures.accuracy.value
    assert figures.balanced_accuracy == pytest.approx(expected)
    columns = precision_recall_fscore_support(codes, figures.y_pred, labels=labels, zero_division=np.nan)
    for row, precision, recall, f1, support in zip(figures.of_classes, *columns, strict=True):
        assert row.precision.value == pytest.approx(precision, nan_ok=True)
        assert row.recall.value == pytest.approx(recall, nan_ok=True)
        assert row.f1 == pytest.approx(f1, nan_ok=True)
        assert row.recall.n == support


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 30), st.integers(1, 3), st.integers(1, 3))
def test_unknown_classes_are_wrong_and_have_no_log_loss(seed, n, k, n_unknown):
    codes, proba = drawn(seed, n, k, n_unknown)
    figures = ClassFigures.of(NAMES[: k + n_unknown], codes, proba)
    known = codes < k
    assert figures.accuracy.n == n
    assert figures.accuracy.n_hits == (proba.argmax(axis=1) == codes)[known].sum()
    assert figures.log_loss == pytest.approx(-np.log(proba[known, codes[known]]).mean())
    assert not figures.proba_true[~known].any()
    assert [row.known for row in figures.of_classes] == [True] * k + [False] * n_unknown
    assert sum(figures.cells.values()) == n


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 30))
def test_the_order_of_images_does_not_matter(seed, n):
    codes, proba = drawn(seed, n, 3)
    order = np.random.default_rng(seed).permutation(n)
    groups = Groups.of(codes % 2, n)
    figures = ClassFigures.of(NAMES[:3], codes, proba, groups)
    other = ClassFigures.of(NAMES[:3], codes[order], proba[order], groups.take(order))
    rates = [figures.accuracy, *(row.recall for row in figures.of_classes)]
    for rate, same in zip(rates, [other.accuracy, *(row.recall for row in other.of_classes)], strict=True):
        assert astuple(rate) == pytest.approx(astuple(same))  # sums in another order
    assert figures.of_groups == other.of_groups


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 30))
def test_examples_lie_in_their_cell_the_surest_first(seed, n):
    figures = ClassFigures.of(NAMES[:3], *drawn(seed, n, 3))
    for (true, predicted), count in figures.cells.items():
        rows = figures.examples(true, predicted, 3)
        assert len(rows) == min(3, count)
        assert set(figures.y_true[rows].tolist()) == {true}
        assert set(figures.y_pred[rows].tolist()) == {predicted}
        assert (np.diff(figures.proba_pred[rows]) <= 0).all()
    worst = figures.worst()
    assert len(worst) == figures.accuracy.n - figures.accuracy.n_hits
    assert (figures.y_true[worst] != figures.y_pred[worst]).all()
    assert (np.diff(figures.proba_pred[worst]) <= 0).all()


def test_a_probability_of_zero_is_a_large_log_loss_but_not_an_infinite_one():
    figures = ClassFigures.of(["a", "b"], np.array([0]), np.array([[0.0, 1.0]]))
    assert figures.log_loss == pytest.approx(-math.log(np.finfo(float).eps))


def test_training_images_are_those_of_the_class():
    figures = ClassFigures.of(["a", "b", "new"], np.array([0, 1, 2]), np.array([[1, 0.0]] * 3), None, [7, 9])
    assert [row.n_trained for row in figures.of_classes] == [7, 9, None]
    assert figures.most_frequent.name == "a"
