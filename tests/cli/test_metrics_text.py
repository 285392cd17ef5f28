"""Metrics are scikit-learn's where both are defined, and None where nothing is defined."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, mean_absolute_error, r2_score

from sktl._cli.metrics_text import ClassMetrics, LabelMetrics, NumberMetrics

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=20)
@given(seed=SEEDS, n=st.integers(1, 12), k=st.integers(2, 4))
def test_labels(seed, n, k):
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, (n, k)), rng.random((n, k)).round(1)
    metrics = LabelMetrics([f"l{i}" for i in range(k)], truth, scores)
    present = truth.any(axis=0)
    assert [value is not None for value in metrics.average_precisions()] == present.tolist()
    if present.any():
        by_label = [average_precision_score(truth[:, i], scores[:, i]) for i in np.flatnonzero(present)]
        assert metrics.macro == pytest.approx(np.mean(by_label))
        assert metrics.micro == pytest.approx(average_precision_score(truth, scores, average="micro"))
    else:
        assert metrics.macro is metrics.micro is None
    assert metrics.example_f1 == f1_score(truth, scores > 0.5, average="samples", zero_division=1.0)
    assert metrics.report().count("\n") == k + 3


def test_an_image_without_labels_of_which_none_is_predicted_is_right():
    metrics = LabelMetrics(["a", "b"], np.array([[0, 0], [1, 0]]), np.array([[0.2, 0.1], [0.9, 0.1]]))
    assert metrics.example_f1 == 1


@settings(max_examples=30)
@given(
    seed=SEEDS, n=st.integers(2, 12), k=st.integers(1, 3), unit=st.sampled_from([1e-200, 1e-3, 1.0, 1e150]),
)  # fmt: skip
def test_numbers_in_any_unit(seed, n, k, unit):
    rng = np.random.default_rng(seed)
    truth, predictions = rng.normal(size=(n, k)), rng.normal(size=(n, k))
    names, images = [f"x{i}" for i in range(k)], np.array([f"{i}.jpg" for i in range(n)])
    metrics = NumberMetrics(names, images, truth * unit, predictions * unit)
    np.testing.assert_allclose(metrics.r2s(), r2_score(truth, predictions, multioutput="raw_values"), rtol=1e-6)
    errors = mean_absolute_error(truth, predictions, multioutput="raw_values")
    np.testing.assert_allclose(metrics.mean_absolute_errors, errors * unit)
    largest = metrics.largest_errors()
    assert len(largest) == min(5, n * k)
    if k == 1:
        worst = np.argsort(-np.abs(truth - predictions)[:, 0])[:5]
        assert [row["image"] for row in largest] == images[worst].tolist()
    assert "Largest errors" in metrics.report()


def test_equal_numbers_have_no_r2():
    truth = np.full((3, 1), 2.5)
    metrics = NumberMetrics(["x"], np.array(["a", "b", "c"]), truth, truth + 1)
    assert (metrics.r2, metrics.figures()["numbers"]["x"]["r2"]) == (None, None)
    assert metrics.report().startswith("R2 -, mean absolute error 1 on 3 images.")


@settings(max_examples=20)
@given(seed=SEEDS, n=st.integers(1, 12))
def test_classes(seed, n):
    truth, predictions = np.random.default_rng(seed).choice(["a", "b", "c"], (2, n))
    metrics = ClassMetrics(truth, predictions)
    if len(metrics.labels) > 1:  # scikit-learn warns of one
        assert metrics.confusion() == confusion_matrix(truth, predictions, labels=metrics.labels).tolist()
    constant = DummyClassifier().fit(truth, truth).score(truth, truth)
    assert re.match(
        rf"Accuracy \d\.\d{{4}} on {n} images?\. Always answering [abc] gives {constant:.4f}\.\n", metrics.report()
    )


def test_a_single_class_is_no_warning(recwarn):
    metrics = ClassMetrics(np.array(["a", "a"]), np.array(["a", "a"]))
    assert metrics.figures()["confusion"] == [[2]]
    assert metrics.report().startswith("Accuracy 1.0000 on 2 images.")
    assert not recwarn


def test_the_confusion_matrix_of_many_classes_and_their_names_are_bounded():
    truth = np.repeat([f"{'long ' * 100}{i:02}" for i in range(30)], 2)
    predictions = truth.copy()
    predictions[[0, 58]] = truth[[58, 0]]
    lines = ClassMetrics(truth, predictions).report().splitlines()
    assert max(map(len, lines)) < 160
    assert "of the 20 classes with the most mistakes, of 30; --json has all" in lines[-23]
    matrix = [line.split() for line in lines[-20:]]
    assert [row[-1] for row in (matrix[0], matrix[-1])] == ["1", "1"]
    assert sum(int(cell) for row in matrix for cell in row[-20:]) == 40
