"""Groups keep their names, lose those without images, and the surely bad ones come first."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning

from sktl._evaluation.group_figures import Groups
from sktl.exceptions import InvalidInputError


def test_names_are_those_that_were_passed():
    groups = Groups.of(["p2", "p1", "p2"], 3)
    assert [groups.names[k] for k in groups.codes] == ["p2", "p1", "p2"]
    assert Groups.of(None, 3) is None


def test_a_column_of_groups_is_one_warning():
    with pytest.warns(DataConversionWarning) as caught:
        found = Groups.of(np.array([["b"], ["a"], ["b"]]), 3)
    assert len(caught) == 1
    assert found.names == ("a", "b")
    assert found.codes.tolist() == [1, 0, 1]


def test_groups_without_images_are_left_out():
    groups = Groups.of([10, 20, 20, 30], 4).take(np.array([3, 0]))
    assert groups.names == ("10", "30")
    assert groups.codes.tolist() == [1, 0]


def test_a_bad_group_of_many_images_comes_before_one_of_a_single_image():
    groups = Groups(np.array([0, *[1] * 20, *[2] * 20]), ("single", "bad", "good"))
    hits = np.array([False, *[i < 8 for i in range(20)], *[True] * 20])
    assert [group.name for group in groups.rates(hits)] == ["bad", "single", "good"]
    assert [group.n for group in groups.rates(hits)] == [20, 1, 20]


@pytest.mark.parametrize("groups", [["a"], ["a", None, "b"], "abc"])
def test_wrong_groups_are_named(groups):
    with pytest.raises(InvalidInputError, match="groups"):
        Groups.of(groups, 3)
