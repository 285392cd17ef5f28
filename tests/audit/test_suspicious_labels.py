"""Labels that models would not expect are found, and labels of copies count."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._audit.out_of_fold import Learner, OutOfFold
from sktl._audit.subjects import Part, Subjects
from sktl._audit.suspicious_labels import LabeledRows, LabelModel, Votes, _trusted, label_issues
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers


def issues_of(targets, values, learned=True, spread=None, numbers=None):
    n, values = len(targets), np.array(values, dtype=float)
    subjects = Subjects({"train": Part([None] * n, [None] * n, [""] * n, numbers)})
    learned = np.broadcast_to(learned, values.shape)
    found = label_issues(targets, values, learned, np.arange(n), subjects, spread)
    return {issue.position: issue for issue in found}


def classes(*labels):
    return check_classes(list(labels), None, None, len(labels))


def test_a_label_is_suspicious_if_another_is_ten_times_as_probable():
    found = issues_of(classes("a", "a", "a", "b"), [[0.95, 0.05], [0.2, 0.8], [0.05, 0.95], [0.0, 1.0]])
    assert [*found] == [2]
    assert found[2].suggested_label == "b"
    assert found[2].score == pytest.approx(0.95)
    assert found[2].suggestion.startswith("Probably b (95 %).")


def test_a_probability_below_1_is_not_called_certain():
    found = issues_of(classes("a", "b"), [[0.002, 0.998], [0.0, 1.0]])
    assert found[0].suggestion.startswith("Probably b (> 99 %).")


def test_labels_that_no_model_learned_are_not_judged():
    values = [[0.0, 1.0], [0.0, 1.0], [np.nan, np.nan]]
    assert [*issues_of(classes("a", "a", "b"), values, np.array([[True], [False], [True]]))] == [0]


def test_of_several_labels_only_those_that_a_model_learned_are_judged():
    targets = check_indicator(np.array([[1, 0], [1, 1], [0, 1]]), None, None, 3)
    values = [[0.01, 0.99], [0.01, 0.01], [0.01, 0.99]]
    found = issues_of(targets, values, np.array([[True, False], [False, True], [False, False]]))
    assert {position: issue.suggested_label for position, issue in found.items()} == {0: "", 1: "0"}


def test_several_labels_are_suggested_together():
    targets = check_indicator(np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]]), None, None, 3)
    found = issues_of(targets, [[0.01, 0.99, 0.9], [0.1, 0.9, 0.1], [0.9, 0.5, 0.9]])
    assert [*found] == [0]
    assert found[0].suggested_label == "1, 2"
    assert "add 1 and remove 0" in found[0].suggestion


def test_suggestions_are_short_whatever_labels_are_called():
    """The suggested label is exact."""
    names = ["x" * 5000 + end for end in ("\n\u202ea", "b", "c")]
    several = check_indicator(pd.DataFrame(np.eye(3, dtype=int), columns=names), None, None, 3)
    for targets, value in ((classes(*names), [0.98, 0.01, 0.01]), (several, [0.01, 0.99, 0.99])):
        (found, *_) = issues_of(targets, np.roll([value] * 3, 0 if targets is several else 1, axis=1)).values()
        assert found.suggestion.isprintable()
        assert len(found.suggestion) < 300
        assert names[1] in found.suggested_label


def test_numbers_far_from_their_predictions_are_suspicious():
    given_numbers = np.arange(20.0)
    targets = check_numbers(given_numbers, None, "squared_error", 20)
    predicted = given_numbers + np.tile([0.1, -0.1], 10)
    predicted[7] = 50
    spread = model_of(targets, predicted[:, None]).spread
    assert spread == pytest.approx(0.14826)
    found = issues_of(targets, predicted[:, None], spread=spread, numbers=given_numbers[:, None])
    assert [*found] == [7]
    assert found[7].suggested_label == "50"


@pytest.mark.parametrize(("unit", "suggested"), [(1, "3, 51"), (0.5, "3.2, 51")])
def test_suggested_numbers_are_whole_in_columns_of_whole_numbers(unit, suggested):
    """A number that is the nearest to its prediction is not suspicious, however small the errors are."""
    numbers = np.arange(1, 21).reshape(10, 2) * unit
    targets = check_numbers(numbers, None, "squared_error", 10)
    predicted = numbers.astype(float)
    predicted[2], predicted[5] = [3.2, 50.6], numbers[5] + unit / 5
    found = issues_of(targets, predicted, spread=np.full(2, 0.01), numbers=numbers)
    assert found[2].suggested_label == suggested
    assert (5 in found) == (unit != 1)


def model_of(targets, values):
    n = len(targets)
    found = OutOfFold(values, np.arange(n) % 2, np.ones(values.shape, dtype=bool))
    labeled = LabeledRows(targets, targets.outputs.observed(targets.values()), np.arange(n))
    return LabelModel(found, found, None, labeled, np.ones(n, dtype=bool))


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_the_spread_of_residuals_has_the_unit_of_the_numbers(unit):
    numbers = np.arange(20.0)
    residuals = np.tile([0.1, -0.1, 0.2, 5.0], 5)
    targets = check_numbers(numbers * unit, None, "squared_error", 20)
    assert model_of(targets, ((numbers + residuals) * unit)[:, None]).spread / unit == pytest.approx(0.22239)
    assert 0 < model_of(targets, (numbers * unit)[:, None]).spread / unit < 1e-5
    assert model_of(classes("a", "b"), np.ones((2, 2))).spread is None


CODES = st.lists(st.integers(0, 2), min_size=6, max_size=12).filter(lambda codes: len(set(codes)) > 1)


@given(CODES, st.data())
def test_the_other_files_of_a_picture_have_one_vote_together(codes, data):
    n = len(codes)
    targets = classes(*(f"class {code}" for code in codes))
    contents = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    of_content = np.array(data.draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
    components = of_content[contents]
    votes = Votes.of(targets, contents, components)
    for i in range(n):
        others = set(contents[components == components[i]].tolist()) - {contents[i]}
        same = components == components[i]
        has_vote = bool(others) and same.sum() - targets.memberships()[same].sum(axis=0).max() <= 1
        expected = [targets.memberships()[contents == content].mean(axis=0) for content in others]
        assert votes.counts[i] == has_vote
        np.testing.assert_allclose(votes.means[i], np.mean(expected, axis=0) if has_vote else 0)
    probabilities = np.full((n, len(targets.classes)), 1 / len(targets.classes))
    found = OutOfFold(probabilities, np.zeros(n), np.ones(probabilities.shape, dtype=bool))
    np.testing.assert_allclose(votes.added_to(found).values.sum(axis=1), 1)


def test_copies_have_as_much_weight_as_the_model_unless_several_labels_differ():
    """Then, the images may only show the same scene, and the model alone knows what their classes are."""
    targets = classes("a", "b", "b", "b", "a", "b", "b", "a", "a")
    votes = Votes.of(targets, np.arange(9), np.array([0, 0, 0, 0, 1, 2, 2, 2, 2]))
    found = votes.added_to(OutOfFold(np.tile([0.5, 0.5], (9, 1)), np.arange(9), np.ones((9, 2), dtype=bool))).values
    assert found[0, 0] == 0.25
    assert found[4:, 0].tolist() == [0.5] * 5


def test_the_model_alone_is_known_as_well():
    targets = classes(*"abababab")
    components = np.array([0, 0, *range(1, 7)])
    rows = LabeledRows(targets.with_changes(groups=np.arange(8)), np.array([*"abababab"]), np.arange(8))
    learner = Learner(None, None, None, None, (0, 0))
    object.__setattr__(learner, "predict", lambda train, y, wanted, targets: np.full((len(wanted), 2), 0.5))
    model = LabelModel.of(learner, rows, Votes.of(targets, np.arange(8), components), 2, 0)
    assert (model.alone.values == 0.5).all()
    assert model.found.values[:3].tolist() == [[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]]


def test_labels_of_a_class_that_no_other_fold_has_are_trusted():
    """Their probability is 0, which says nothing about them."""
    targets = classes("a", "a", "a", "b", "b", "b")
    values = np.array([[0.0, 1.0], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.01]])
    learned = np.ones((6, 2), dtype=bool)
    for n, expected in ((6, [True] * 5 + [False]), (0, [False, *[True] * 4, False])):
        learned[0, 0] = not n
        assert _trusted(targets, OutOfFold(values, np.arange(6), learned)).tolist() == expected
