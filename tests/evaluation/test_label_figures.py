"""Figures of labels are scikit-learn's where both are defined; the best threshold is the best of all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from sktl._evaluation.group_figures import Groups
from sktl._evaluation.label_figures import LabelFigures

SEEDS = st.integers(0, 2**32 - 1)
NAMES = ["a", "b", "c"]


def drawn(seed, n):
    rng = np.random.default_rng(seed)
    has = rng.integers(0, 2, (n, 3))
    return has, (0.6 * rng.random((n, 3)) + 0.4 * has).round(2)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 25))
def test_figures_are_scikit_learns(seed, n):
    has, proba = drawn(seed, n)
    figures = LabelFigures.of(NAMES, has, proba)
    for k, row in enumerate(figures.of_labels):
        predicted = proba[:, k] > 0.5
        if not has[:, k].any():
            assert row.average_precision is row.best_f1 is row.best_threshold is None
            continue
        assert row.average_precision == pytest.approx(average_precision_score(has[:, k], proba[:, k]))
        assert row.f1 == pytest.approx(f1_score(has[:, k], predicted))
        scores = [f1_score(has[:, k], proba[:, k] >= threshold) for threshold in np.unique(proba[:, k])]
        assert row.best_f1 == pytest.approx(max(scores))
        assert f1_score(has[:, k], proba[:, k] >= row.best_threshold) == pytest.approx(row.best_f1)
    assert figures.all_right.n_hits == ((proba > 0.5) == has).all(axis=1).sum()


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 25))
def test_missed_images_have_the_label_and_the_worst_have_most_wrong_labels(seed, n):
    has, proba = drawn(seed, n)
    figures = LabelFigures.of(NAMES, has, proba)
    for k, row in enumerate(figures.of_labels):
        rows = figures.missed(k, n)
        assert len(rows) == row.recall.n - row.recall.n_hits
        assert has[rows, k].all()
        assert (proba[rows, k] <= 0.5).all()
        assert (np.diff(proba[rows, k]) >= 0).all()
    n_wrong = (figures.y_pred != has).sum(axis=1)
    assert n_wrong[figures.worst()].tolist() == sorted(n_wrong[n_wrong > 0].tolist(), reverse=True)


def test_groups_widen_the_interval_and_have_figures():
    has, proba = drawn(0, 24)
    figures = LabelFigures.of(NAMES, has, proba, Groups(np.arange(24) // 6, ("w", "x", "y", "z")), [1, 2, 3])
    assert {group.name for group in figures.of_groups} == set("wxyz")
    assert sum(group.figure.n_hits for group in figures.of_groups) == figures.all_right.n_hits
    assert [row.n_trained for row in figures.of_labels] == [1, 2, 3]
