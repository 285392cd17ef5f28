"""Labels that models would not expect are found, and labels of copies count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._audit.out_of_fold import OutOfFold
from sktl._audit.subjects import Part, Subjects
from sktl._audit.suspicious_labels import Votes, is_learned, label_issues
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers


def issues_of(targets, values, known=None):
    n = len(targets)
    subjects = Subjects({"train": Part([None] * n, [None] * n, [""] * n)})
    known = np.ones(n, dtype=bool) if known is None else known
    found = label_issues(targets, np.array(values, dtype=float), known, np.arange(n), subjects)
    return {issue.position: issue for issue in found}


def classes(*labels):
    return check_classes(list(labels), None, None, len(labels))


def test_a_label_is_suspicious_if_another_is_ten_times_as_probable():
    found = issues_of(classes("a", "a", "a", "b"), [[0.95, 0.05], [0.2, 0.8], [0.05, 0.95], [0.0, 1.0]])
    assert [*found] == [2]
    assert found[2].suggested_label == "b"
    assert found[2].score == pytest.approx(0.95)


def test_labels_that_no_model_learned_are_not_judged():
    values = [[0.0, 1.0], [0.0, 1.0], [np.nan, np.nan]]
    assert [*issues_of(classes("a", "a", "b"), values, np.array([True, False, True]))] == [0]


def test_several_labels_are_suggested_together():
    targets = check_indicator(np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]]), None, None, 3)
    found = issues_of(targets, [[0.01, 0.99, 0.9], [0.1, 0.9, 0.1], [0.9, 0.5, 0.9]])
    assert [*found] == [0]
    assert found[0].suggested_label == "1, 2"
    assert "add 1 and remove 0" in found[0].suggestion


def test_numbers_far_from_their_predictions_are_suspicious():
    given_numbers = np.arange(20.0)
    targets = check_numbers(given_numbers, None, "squared_error", 20)
    predicted = given_numbers + np.tile([0.1, -0.1], 10)
    predicted[7] = 50
    found = issues_of(targets, predicted[:, None])
    assert [*found] == [7]
    assert found[7].suggested_label == "50"


CODES = st.lists(st.integers(0, 2), min_size=6, max_size=12).filter(lambda codes: len(set(codes)) > 1)


@given(CODES, st.data())
def test_each_other_file_of_a_picture_has_one_vote(codes, data):
    n = len(codes)
    targets = classes(*(f"class {code}" for code in codes))
    contents = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    of_content = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    components = of_content[contents]
    votes = Votes.of(targets, contents, components)
    for i in range(n):
        others = set(contents[components == components[i]].tolist()) - {contents[i]}
        expected = sum(targets.memberships()[contents == content].mean(axis=0) for content in others)
        assert votes.counts[i] == len(others)
        np.testing.assert_allclose(votes.sums[i], expected if others else 0)
    probabilities = np.full((n, len(targets.classes)), 1 / len(targets.classes))
    np.testing.assert_allclose(votes.added_to(OutOfFold(probabilities, np.zeros(n), 2)).values.sum(axis=1), 1)


def test_copies_outvote_a_model_that_learned_from_one_of_them():
    targets = classes("a", "b", "b", "b", "a")
    votes = Votes.of(targets, np.arange(5), np.array([0, 0, 0, 0, 1]))
    found = votes.added_to(OutOfFold(np.tile([0.5, 0.5], (5, 1)), np.arange(5), 5)).values
    assert found[0, 0] == 0.125
    assert found[4, 0] == 0.5


def test_a_class_in_a_single_fold_is_not_learned():
    targets = classes("a", "a", "b", "b", "c")
    found = OutOfFold(np.ones((5, 3)), np.array([0, 1, 0, 0, 1]), 2)
    assert is_learned(targets, found).tolist() == [True, True, False, False, False]
