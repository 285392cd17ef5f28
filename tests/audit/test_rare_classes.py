"""Classes that are too rare to be validated."""

import numpy as np
import pytest

from sktl._audit.rare_classes import rare_classes
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers


def test_classes_with_fewer_different_images_than_folds_are_rare():
    contents = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7])
    targets = check_classes(list("aaaaabbbbbc"), None, None, 11)
    found = {issue.name: issue for issue in rare_classes(targets, 5, contents)}
    assert [*found] == ["b", "c"]
    assert found["c"].score > found["b"].score > 0
    assert found["c"].position == -1
    assert found["c"].suggestion.startswith("1 different image for 5 folds")


@pytest.mark.parametrize(
    ("groups", "contents", "rare"),
    [
        ([0] * 5 + [1, 2, 3, 4, 5], range(10), {"a": "All images are of one group"}),
        ([0, 0, 0, 0, 1, 2, 3, 4, 5, 6], range(10), {}),
        ([0, 1, 2, 2, 2] * 2, range(10), {}),
        ([0, 0, 0, 0, 1, 2, 3, 4, 5, 6], [0] * 4 + [*range(6)], {"a": "1 different image for 5 folds"}),
        ([0, 1, 0, 1, 0] * 2, [0] * 5 + [*range(5)], {"a": "1 different image for 2 folds"}),
        ([0] * 10, range(10), {}),
    ],
)
def test_with_groups_only_classes_of_one_group_or_few_different_images_are_rare(groups, contents, rare):
    """There are no more folds than groups. Most folds validate a class of a few groups, such as hospitals."""
    targets = check_classes(list("aaaaabbbbb"), None, None, 10)
    issues = rare_classes(targets, 5, np.array(contents), np.array(groups))
    assert {issue.name: issue.suggestion.split(":")[0] for issue in issues} == rare


def test_rare_labels_are_named_by_their_column_and_numbers_have_none():
    table = check_indicator(np.array([[1, 0], [1, 0], [0, 1]]), None, None, 3)
    assert [issue.name for issue in rare_classes(table, 2, np.arange(3))] == ["1"]
    assert not [*rare_classes(check_numbers([1.0, 2, 3], None, "squared_error", 3), 2, np.arange(3))]
