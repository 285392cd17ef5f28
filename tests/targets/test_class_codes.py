"""Labels are positions among the classes of a model."""

from __future__ import annotations

import numpy as np
import pytest

from sktl._targets.class_codes import class_codes, class_codes_of_model
from sktl.exceptions import InvalidInputError


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ([1.0, 0.0], [0, 1], [1, 0]),
        (["1", "0"], [0, 1], [1, 0]),  # names of folders
        ([1, 0], ["0", "1"], [1, 0]),
        ([True, False], [False, True], [1, 0]),
    ],
)
def test_labels_are_matched(labels, classes, codes):
    names, found = class_codes(labels, np.array(classes))
    assert found.tolist() == codes
    assert names == tuple(map(str, classes))


def test_unknown_labels_come_after_the_classes_of_the_model():
    names, codes = class_codes(["z", "a", "y", "z"], np.array(["a", "b"]))
    assert names == ("a", "b", "y", "z")
    assert codes.tolist() == [3, 0, 2, 3]


@pytest.mark.parametrize(("labels", "classes"), [(["x"], ["a", "b"]), ([True], [0, 1])])
def test_labels_of_which_the_model_knows_none_are_refused(labels, classes):
    with pytest.raises(InvalidInputError, match="No label in y is a class of the model"):
        class_codes_of_model(labels, np.array(classes))
    names, codes = class_codes(labels, np.array(classes))
    assert names[codes[0]] == str(labels[0])
    with pytest.raises(InvalidInputError, match=r"as in fit\. 'Tea' looks like 'tea'"):
        class_codes_of_model(["Tea"], np.array(["tea", "coffee"]))
