"""Groups join what folds must not split."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sktl._targets.class_targets import ClassTargets
from sktl._targets.sample_groups import joined_groups, with_copies_together

NUMBERS = st.lists(st.integers(0, 4), min_size=1, max_size=12).map(np.array)


def targets_of(n, groups=None):
    return ClassTargets(np.arange(2), np.arange(n) % 2, np.ones(n), groups)


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
