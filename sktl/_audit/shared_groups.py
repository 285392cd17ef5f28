"""Groups, such as patients, that have both training and test images."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktl._evaluation.group_figures import Groups
from sktl._short_text import count
from sktl.exceptions import InvalidInputError

from .issues import Issue


def shared_groups(groups: Any, groups_test: Any, n_train: int, n_test: int | None) -> list[Issue]:
    """Return a finding for each group with the same text in `groups` and `groups_test`.

    Parameters
    ----------
    groups, groups_test : array-like or None
        Groups of the training and the test images. Without those of test images, nothing is found.
    n_train : int
    n_test : int or None
        None without test images.

    Raises
    ------
    InvalidInputError
        If there is not one group for each image, or only test images have groups.
    """
    if groups_test is None:
        return []
    if n_test is None or groups is None:
        raise InvalidInputError("groups_test needs X_test and groups: pass them too.")
    train, test = _counts(groups, n_train, "X"), _counts(groups_test, n_test, "X_test")
    return [_issue(name, train[name], n, n_test) for name, n in test.items() if name in train]


def _counts(groups: Any, n_images: int, of: str) -> dict[str, int]:
    found = Groups.of(groups, n_images, of)
    assert found is not None
    return dict(zip(found.names, np.bincount(found.codes).tolist(), strict=True))


def _issue(name: str, n_train: int, n_test: int, n_test_images: int) -> Issue:
    images = " and ".join(count(n, f"{of} image") for n, of in ((n_train, "training"), (n_test, "test")))
    return Issue(
        kind="shared_group",
        name=name,
        score=n_test / n_test_images,
        suggestion=f"{images} are in this group. Move all of them to one side: a model may recognize the group.",
    )
