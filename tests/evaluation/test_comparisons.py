"""Which predictions are wrong and which are worst, for classes, labels and numbers, and what titles say about them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sktl._evaluation.comparisons import LabelComparison, NumberComparison
from sktl.exceptions import InvalidInputError

NAMES = np.array(["ant", "bee", "cat", "dog"], dtype=object)


@st.composite
def labels(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = draw(st.integers(1, 12))
    return rng.integers(0, 2, (n, 4)), rng.random((n, 4))


@st.composite
def numbers(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, k = draw(st.integers(2, 12)), draw(st.integers(1, 3))
    true = rng.normal(size=(n, k))
    return true, true + rng.normal(size=(n, k))


@given(labels())
def test_errors_of_labels_begin_with_the_most_wrong_ones(found):
    table, proba = found
    compared = LabelComparison.of(len(table), table, proba, NAMES)
    n_wrong = ((proba > 0.5) != table).sum(axis=1)
    errors = compared.errors()
    assert set(errors) == set(np.flatnonzero(n_wrong))
    assert (np.diff(n_wrong[errors]) <= 0).all()
    assert [compared.is_wrong(i) for i in range(len(table))] == (n_wrong > 0).tolist()


@given(labels())
def test_losses_of_labels_are_sums_of_log_losses(found):
    table, proba = found
    losses = -np.log(np.where(table, proba, 1 - proba)).sum(axis=1)
    order = LabelComparison.of(len(table), table, proba, NAMES).losses()
    np.testing.assert_allclose(losses[order], np.sort(losses)[::-1])


@given(labels(), st.permutations(range(4)))
def test_the_order_of_labels_does_not_matter(found, columns):
    table, proba = found
    compared = LabelComparison.of(len(table), table, proba, NAMES)
    other = LabelComparison.of(len(table), table[:, columns], proba[:, columns], NAMES[list(columns)])
    np.testing.assert_array_equal(other.errors(), compared.errors())
    for i in range(len(table)):
        assert sorted(other.title(i, 30).split("\n")) == sorted(compared.title(i, 30).split("\n"))


@given(labels())
def test_a_title_has_a_line_for_each_label_that_is_there_or_predicted(found):
    table, proba = found
    compared = LabelComparison.of(len(table), table, proba, NAMES)
    for i in range(len(table)):
        title = compared.title(i, 30)
        words = {line.rpartition(" (")[0] for line in title.split("\n")}
        has, guessed = table[i] > 0, proba[i] > 0.5
        expected = {f"missed: {name}" for name in NAMES[has & ~guessed]}
        expected |= {f"wrong: {name}" for name in NAMES[guessed & ~has]} | set(NAMES[guessed & has])
        assert words == expected or (title, expected) == ("no label", set())
        assert title.count("\n") + 1 <= compared.n_lines()


def test_titles_of_many_labels_are_cut_and_mistakes_come_first():
    table = np.ones((1, 40), int)
    proba = np.where(np.arange(40) == 39, 0.2, 0.9)[None]
    compared = LabelComparison.of(1, table, proba, None)
    lines = compared.title(0, 30).split("\n")
    assert lines[0] == "missed: 39 (20 %)"
    assert lines[-1] == "and 35 more"
    assert len(lines) == 6


def test_a_certain_mistake_has_the_highest_loss():
    compared = LabelComparison.of(2, [[1, 0], [1, 0]], [[0.1, 0.1], [0.0, 0.1]], None)
    assert compared.losses().tolist() == [1, 0]


@given(numbers(), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_units_of_numbers_do_not_matter(found, unit, zero):
    true, predicted = found
    compared = NumberComparison.of(len(true), true, predicted)
    other = NumberComparison.of(len(true), unit * true + zero, unit * predicted + zero)
    np.testing.assert_allclose(other._relative_errors(), compared._relative_errors(), rtol=1e-6, atol=1e-9)


@given(numbers())
def test_errors_of_numbers_begin_with_the_largest(found):
    true, predicted = found
    compared = NumberComparison.of(len(true), true, predicted)
    relative = np.abs(true - predicted) / true.std(axis=0)
    np.testing.assert_allclose(relative.max(axis=1)[compared.errors()], np.sort(relative.max(axis=1))[::-1])
    squares = (relative**2).sum(axis=1)
    np.testing.assert_allclose(squares[compared.losses()], np.sort(squares)[::-1])


@settings(max_examples=30)
@given(st.sampled_from([1e-305, 1e-3, 1.0, 1e250, 1e300]), st.integers(0, 100))
def test_numbers_may_be_as_large_or_small_as_they_can(unit, seed):
    true = np.random.default_rng(seed).normal(size=5)
    compared = NumberComparison.of(5, unit * true, unit * true[::-1])
    assert compared.errors().tolist() == NumberComparison.of(5, true, true[::-1]).errors().tolist()
    assert all(compared.title(i, 30) for i in range(5))


def test_exact_numbers_are_no_errors():
    assert NumberComparison.of(3, [1, 2, 3], [1, 5, 3]).errors().tolist() == [1]
    assert NumberComparison.of(3, [2, 2, 2], [2, 5, 3]).errors().tolist() == [1, 2]


def test_titles_of_numbers_say_both():
    assert NumberComparison.of(3, [3.21, 1, 5], [1.1, 1, 5]).title(0, 30) == "true 3.2, predicted 1.1"
    frame = pd.DataFrame({"age": [10, 20, 40], "area in square meters": [0.1, 0.2, 0.4]})
    title = NumberComparison.of(3, frame, [[12, 0.3]] * 3).title(1, 30)
    assert title == "age: 12 (true 20)\narea i…eters: 0.30 (true 0.20)"
    assert NumberComparison.of(2, np.eye(2), np.eye(2)).title(0, 30).startswith("number 0: 1.00 (true 1.00)\n")


def test_titles_of_many_numbers_begin_with_the_largest_errors():
    true = np.random.default_rng(0).normal(size=(5, 20))
    predicted = true.copy()
    predicted[2, 13] += 9
    lines = NumberComparison.of(5, true, predicted).title(2, 40).split("\n")
    assert lines[0].startswith("number 13: ")
    assert lines[-1] == "and 15 more"


@pytest.mark.parametrize(
    ("table", "classes", "names"),
    [
        (np.eye(2), None, [0, 1]),
        (np.eye(2), ["a", "b"], ["a", "b"]),
        (csr_array(np.eye(2)), ["a", "b"], ["a", "b"]),
        (pd.DataFrame(np.eye(2), columns=["x", "y"]), None, ["x", "y"]),
        (pd.DataFrame(np.eye(2), columns=["x", "y"]), np.arange(2), ["x", "y"]),
        (pd.DataFrame(np.eye(2), columns=["x", "y"]), ["x", "y"], ["x", "y"]),
        (pd.DataFrame(np.eye(2)), ["x", "y"], ["x", "y"]),
    ],
)
def test_names_are_those_of_the_estimator_or_of_the_data_frame(table, classes, names):
    assert LabelComparison.of(2, table, np.eye(2), classes).names.tolist() == names
    numbers = np.eye(2) if isinstance(table, csr_array) else table  # numbers are never sparse
    of_numbers = None if classes is None or not isinstance(classes, list) else classes
    assert NumberComparison.of(2, numbers, np.eye(2), of_numbers).names.tolist() == names


@pytest.mark.parametrize("compare", [LabelComparison, NumberComparison])
def test_columns_in_another_order_are_refused(compare):
    frame = pd.DataFrame(np.eye(2), columns=["y", "x"])
    with pytest.raises(InvalidInputError, match=r"columns 'y', 'x', but the estimator has 'x', 'y'\. Pass the same"):
        compare.of(2, frame, np.eye(2), ["x", "y"])


def test_a_single_number_of_another_name_is_refused():
    with pytest.raises(InvalidInputError, match="y_true has the columns 'y', but the estimator has 'x'"):
        NumberComparison.of(2, pd.DataFrame({"y": [1, 2]}), [1, 2], ["x"])


@pytest.mark.parametrize(
    ("table", "proba", "classes", "words"),
    [
        ([[0, 2], [1, 0]], np.eye(2), None, r"y_true\[0, 1\] is 2, but a table of several labels has only 0 and 1"),
        ([[0, None], [1, 0]], np.eye(2), None, r"y_true\[0, 1\] is a missing value"),
        ([[0, 1]], np.eye(2), None, "2 images, but y_true has 1 rows"),
        (np.eye(2), np.eye(3)[:2], None, r"shape \(2, 3\); for 2 images and 2 labels, it must be \(2, 2\)"),
        (np.eye(2), [0.1, 0.2], None, r"shape \(2,\)"),
        (np.eye(2), np.array([["a", "b"]] * 2), None, "must be numbers: .* result of predict_proba, not of predict"),
        (np.eye(2), 3 * np.eye(2), None, r"y_proba\[0, 0\] is 3.0, but probabilities lie in \[0, 1\]"),
        (np.eye(2), np.eye(2), ["a"], "2 columns, but there are 1 names"),
        (np.eye(2), [np.eye(2), np.ones((2, 1))], None, "not all arrays have two columns"),
    ],
)
def test_labels_that_do_not_match_are_refused(table, proba, classes, words):
    with pytest.raises(InvalidInputError, match=words):
        LabelComparison.of(2, table, proba, classes)


@pytest.mark.parametrize(
    ("true", "predicted", "words"),
    [
        ([1, np.nan], [1, 2], r"y_true\[1\] is a missing value"),
        ([1, 2], [1, np.inf], r"y_pred\[1\] is infinite"),
        (["a", "b"], [1, 2], r"y_true must hold numbers"),
        ([1, 2, 3], [1, 2], "2 images, but y_true has 3 rows"),
        ([1, 2], np.eye(2), "2 rows and 2 columns, but y_true has 2 rows and 1 columns"),
    ],
)
def test_numbers_that_do_not_match_are_refused(true, predicted, words):
    with pytest.raises(InvalidInputError, match=words):
        NumberComparison.of(2, true, predicted)


def test_probabilities_of_several_classifiers_may_be_a_list():
    pairs = [np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.3, 0.7]])]
    compared = LabelComparison.of(2, np.eye(2), pairs, None)
    np.testing.assert_allclose(compared.proba_true, [[0.1, 0.5], [0.2, 0.7]])
