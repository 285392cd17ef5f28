"""Groups with both training and test images are findings."""

import numpy as np
import pandas as pd
import pytest
from backbones import Pixels

from sktl import PretrainedImageClassifier, audit_images
from sktl._audit.shared_groups import shared_groups
from sktl.exceptions import InvalidInputError

TRAIN, TEST = ["7", "8", "7", "x"], [9, 7, 8, 7, 7]


def as_floats(groups):
    return [float(group) if isinstance(group, int) else group for group in groups]


@pytest.mark.parametrize("of", [list, np.array, pd.Series, as_floats])
def test_each_group_on_both_sides_is_found_by_its_text(of):
    found = {issue.name: issue for issue in shared_groups(of(TRAIN), of(TEST), 4, 5)}
    assert [*found] == ["7", "8"]
    assert found["7"].suggestion.startswith("2 training images and 3 test images are in this group.")
    assert found["8"].suggestion.startswith("1 training image and 1 test image are in this group.")
    assert (found["7"].score, found["7"].position) == (0.6, -1)


@pytest.mark.parametrize(
    ("groups", "groups_test", "n_test", "message"),
    [
        (TRAIN, TEST, None, "groups_test needs X_test and groups"),
        (None, TEST, 5, "groups_test needs X_test and groups"),
        (TRAIN, TEST, 4, "groups_test has 5 entries, but X_test has 4 images"),
        (TRAIN, [1, None], 2, r"groups_test\[1\] is a missing value"),
    ],
)
def test_groups_of_test_images_are_checked_as_groups_are(groups, groups_test, n_test, message):
    with pytest.raises(InvalidInputError, match=message):
        shared_groups(groups, groups_test, 4, n_test)


def test_an_audit_lists_them_in_its_text_table_and_page(tmp_path):
    X = np.arange(9 * 64, dtype=np.uint8).reshape(9, 8, 8)
    estimator = PretrainedImageClassifier(backbone=Pixels, engine="torch", cache=False, n_jobs=1)
    found = audit_images(X[:4], groups=TRAIN, X_test=X[4:], groups_test=TEST, estimator=estimator)
    assert "2 groups with both training and test images\n    7: 2 training images and 3 test" in found.summary()
    assert found.to_frame().query("kind == 'shared_group'")["name"].tolist() == ["7", "8"]
    found.to_html(tmp_path / "audit.html")
    assert "Shared groups" in (tmp_path / "audit.html").read_text()
