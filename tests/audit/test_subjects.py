"""Images of an audit keep the container in which they were passed, so that any estimator can be fitted on them."""

import numpy as np
import pandas as pd
import pytest

from sktl._audit.subjects import Part, Subjects

NAMES = [*"abcdef"]


@pytest.mark.parametrize(
    "container",
    [list, np.array, pd.Series, lambda names: pd.DataFrame({"path": names}), lambda names: np.array(names)[:, None]],
    ids=["list", "array", "series", "frame", "column"],
)
def test_some_images_are_in_a_container_like_that_of_all(container):
    whole = {"train": NAMES[:4], "test": NAMES[4:]}
    parts = {part: Part(names, names, names, given=container(names)) for part, names in whole.items()}
    for numbers in ([0, 2, 3], [4, 5], [5]):
        found, expected = Subjects(parts).given(np.array(numbers)), container([NAMES[i] for i in numbers])
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)
