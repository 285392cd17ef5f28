"""Labels, numbers and folds of an audit as the checks use them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, LeaveOneOut, PredefinedSplit, ShuffleSplit

from sktl._audit.audit_arguments import among, check_part, check_test_targets, folds_of_usable, with_targets
from sktl._audit.subjects import Part
from sktl._evaluation.evaluated_images import taken
from sktl._images.samples import as_samples
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers
from sktl.exceptions import InvalidParameterError

NUMBERS = st.integers(-(10**6), 10**6).map(float) | st.floats(-1e6, 1e6)


def part_of(targets, y):
    return with_targets(Part([None] * len(targets), [None] * len(targets), [""] * len(targets)), targets, y)


@given(st.lists(NUMBERS, min_size=2, max_size=8))
def test_numbers_are_those_of_y(y):
    part = part_of(check_numbers(y, None, "squared_error", len(y)), y)
    assert part.values[:, 0].tolist() == y
    for text, number in zip(part.labels, y, strict=True):
        assert float(text) == pytest.approx(number, rel=1e-6)
        assert not number.is_integer() or text == str(int(number))


def test_labels_have_names_and_values():
    part = part_of(check_classes(["b", "a", "b"], None, None, 3), None)
    assert (part.labels, part.values.tolist()) == (["b", "a", "b"], [[1], [0], [1]])
    table = np.array([[0, 0], [1, 1], [1, 0]])
    part = part_of(check_indicator(table, None, None, 3), None)
    assert (part.labels, part.values.tolist()) == (["", "0, 1", "0"], table.tolist())


@pytest.mark.parametrize(
    ("y", "y_test"), [([3, 1, 3], ["1", "3", "x"]), (["3", "1", "3"], [1, 3, 7]), ([3, 1, 3], [1, 3, 7])]
)
def test_a_test_label_is_the_class_of_its_value_or_of_its_text(y, y_test):
    targets = check_classes(y, None, None, 3)
    test = check_test_targets(targets, y_test, 3)
    assert test.codes.tolist() == [0, 1, 2]
    assert part_of(test, y_test).values[:2].tolist() == part_of(targets, y).values[1:].tolist()
    judged, known = among(test, targets.classes[1:])
    assert judged.codes[known].tolist() == [0]
    assert known.tolist() == [False, True, False]


@pytest.mark.parametrize("y_test", [["x", "y"], [True, False]])
def test_test_images_may_have_other_classes_alone(y_test):
    targets = check_classes([0, 1], None, None, 2)
    test = check_test_targets(targets, y_test, 2)
    assert test.classes[test.codes].tolist() == [*map(str, y_test)]
    assert not among(test, targets.classes)[1].any()


def test_images_of_a_sequence_are_known_by_position_so_that_fits_of_folds_read_none_again():
    class Images:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return np.full((2, 2), i, np.uint8)

    part = check_part(Images(), None, "X")
    samples = as_samples(taken(part.given, np.array([2, 0])))
    assert [sample.stamp() for sample in samples] == [part.samples[i].stamp() for i in (2, 0)] != [None, None]


N = 24
TARGETS = check_classes(np.arange(N) % 2, None, None, N)
SPLITTERS = [
    PredefinedSplit(np.arange(N) // 6), KFold(4), LeaveOneOut(), ShuffleSplit(3, random_state=0),
    [(np.arange(12), np.arange(12, 24)), (np.arange(23), np.array([23]))],
]  # fmt: skip


@pytest.mark.parametrize("cv", SPLITTERS)
@given(st.sets(st.integers(0, N - 1), max_size=N - 1))
def test_folds_of_usable_images_are_the_folds_of_all_without_the_others(cv, unusable):
    usable = np.array(sorted({*range(N)} - unusable))
    whole = cv if isinstance(cv, list) else cv.split(np.zeros(N), np.arange(N) % 2)
    expected = [[[int(i) for i in rows if i not in unusable] for rows in split] for split in whole]
    found = folds_of_usable(cv, TARGETS, None, usable, 0)
    assert [[usable[rows].tolist() for rows in split] for split in found] == expected


def test_folds_that_are_impossible_are_an_error():
    with pytest.raises(InvalidParameterError, match="is not possible with this y"):
        folds_of_usable([([0, 1], [N])], TARGETS, None, np.arange(N), 0)
    assert folds_of_usable(3, TARGETS, None, np.arange(N), 0) == 3
