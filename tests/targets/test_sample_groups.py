"""Groups are checked, and join what folds must not split."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._targets.class_targets import ClassTargets
from sktl._targets.sample_groups import check_groups, joined_groups, with_copies_together
from sktl.exceptions import InvalidInputError

NUMBERS = st.lists(st.integers(0, 4), min_size=1, max_size=12).map(np.array)


def targets_of(n, groups=None):
    return ClassTargets(np.arange(2), np.arange(n) % 2, np.ones(n), groups)


@pytest.mark.parametrize(
    "groups",
    [
        ["b", "a", "b"], [7, 3, 7], [0.5, 0, 0.5], [b"b", b"a", b"b"], ["a\0", "a", "a\0"], np.array([[1], [0], [1]]),
        pd.Series(["z", "y", "z"]), pd.to_datetime(["2021", "2020", "2021"]),
        [date(2, 1, 1), date(1, 1, 1), date(2, 1, 1)], np.array(["2021", "2020", "2021"], np.datetime64),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:A column-vector groups")
def test_groups_are_numbered_whatever_their_type(groups):
    assert check_groups(groups, 3).tolist() == [1, 0, 1]
    assert check_groups(None, 3) is None


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([1, 2], "groups has 2 entries, but X has 3 images"),
        ([1, None, 2], r"groups\[1\] is a missing value"),
        ([1, np.nan, 2], r"groups\[1\] is a missing value"),
        (np.array(["a", np.nan, "b"]), r"groups\[1\] is 'nan', to which NumPy converts a missing value"),
        ([1, "1", 2], r"groups mixes values of types int and str: groups\[0\] is 1, groups\[1\] is '1'"),
        ([True, 1, 2], "groups mixes values of types bool and int"),
        ([date(2020, 1, 1), "2020-01-01", "x"], "groups mixes values of types date and str"),
        (pd.Series([("p", 1), ("p", 2), ("q", 1)]), r"groups\[0\] is a tuple, \('p', 1\); .* Convert .* with str"),
        (pd.Series([frozenset("a"), frozenset("b"), frozenset("ab")]), r"groups\[0\] is a frozenset"),
        ([object(), object(), object()], r"groups\[0\] is an object, <object object>; groups must hold"),
    ],
)
def test_groups_that_do_not_match_are_refused(groups, words):
    with pytest.raises(InvalidInputError, match=words):
        check_groups(groups, 3)


@given(NUMBERS)
def test_copies_are_in_one_group(numbers):
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)[numbers]
    groups = with_copies_together(targets_of(len(numbers)), features).groups
    if len(np.unique(numbers)) in (1, len(numbers)):
        assert groups is None
    else:
        assert np.array_equal(groups[:, None] == groups, numbers[:, None] == numbers)


def test_an_image_that_occurs_in_all_groups_of_the_user_does_not_join_them():
    features = np.array([[0], [1], [2], [1], [3]], dtype=np.float32)
    groups = with_copies_together(targets_of(5, np.array([0, 0, 1, 1, 2])), features).groups
    assert groups.tolist() == [0, 0, 1, 1, 2]


@given(NUMBERS, st.data())
def test_joined_groups_are_the_finest_that_split_neither_copies_nor_groups(numbers, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(numbers), max_size=len(numbers))))
    joined = joined_groups(numbers, groups, len(numbers))
    same = (numbers[:, None] == numbers) | (groups[:, None] == groups)
    for _ in range(len(numbers)):
        same = same @ same
    assert np.array_equal(joined[:, None] == joined, same)
    assert joined.dtype == np.int64
    _, first = np.unique(joined, return_index=True)
    assert np.array_equal(joined[np.sort(first)], np.arange(joined.max() + 1))  # numbered in the order of the images


@given(NUMBERS)
def test_without_groups_copies_are_the_groups(numbers):
    joined = joined_groups(numbers, None, len(numbers))
    assert np.array_equal(joined[:, None] == joined, numbers[:, None] == numbers)


def test_training_images_that_a_test_image_connects_are_one_group():
    assert joined_groups(np.array([0, 1, 0, 0]), None, 3).tolist() == [0, 1, 0]
