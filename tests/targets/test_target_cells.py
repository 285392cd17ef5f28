"""Numbers come in any container, and what is none is named with what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from sktl._targets.number_targets import number_columns
from sktl._targets.target_cells import as_numbers, cell_of
from sktl.exceptions import InvalidInputError


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5], (1, 2.5), np.array([1, 2.5]), np.array([1, 2.5], dtype=object),
        torch.tensor([1, 2.5], requires_grad=True),
        pd.Series([1, 2.5], index=["x", "x"]), pd.Series([1, 2.5], dtype="Float64"), np.ma.array([1, 2.5]),
    ],
    ids=lambda values: type(values).__name__,
)  # fmt: skip
def test_numbers_are_numbers_whatever_holds_them(values):
    found = as_numbers(values, "w")
    assert found.tolist() == [1, 2.5]
    assert type(found) is np.ndarray


@pytest.mark.parametrize(
    "values",
    [
        [1, None], [1, np.nan], [1, pd.NA], pd.Series([1, None], dtype="Int64"), np.ma.array([1, 2], mask=[0, 1]),
        pd.Series([1, None]), torch.tensor([1, np.nan]),
    ],
)  # fmt: skip
def test_missing_numbers_are_nan(values):
    assert np.isnan(as_numbers(values, "w")).tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1", "2"], r"w\[0\] is a str, '1'"),
        (np.array(["1", "2"]), r"w\[0\] is a str_"),
        ([1, "2"], r"w\[1\] is a str, '2'"),
        ("12", "w is a str"),
        ({1, 2}, "w is a set"),
        ({"a": 1}, "w is a dict"),
        (csr_array(np.eye(2)), "w is a csr_array"),
        ([1j, 2], r"w\[0\] is a complex"),
        ([1, [2, 3]], r"w\[1\] is a list"),
        ([[1], [2, 3]], "w must hold numbers"),
        (np.array([1, 2], "M8[s]"), r"w\[0\] is a datetime64"),
        ((weight for weight in (1, 2)), "w is a generator"),
    ],
)
def test_what_are_no_numbers_is_refused(values, words):
    with pytest.raises(InvalidInputError, match=words):
        as_numbers(values, "w")


def test_scalars_have_no_position():
    assert cell_of("y") == "y"
    with pytest.raises(InvalidInputError, match="one for each image; weight is a str"):
        as_numbers(np.array("x"), "weight")


def test_dates_are_not_advised_to_be_numbers():
    with pytest.raises(InvalidInputError, match="must hold numbers") as caught:
        as_numbers(np.array(["2020-01-01", "NaT"], "M8[D]"), "y")
    assert "float" not in str(caught.value)


@pytest.mark.parametrize("y", [["1", "2.5"], np.array(["1", "2.5"]), pd.Series(["1", "2.5"]), [["1", 3], [2, 5]]])
def test_the_remedy_for_numbers_as_strings_works(y):
    with pytest.raises(InvalidInputError, match=r"Pass np\.array\(y, dtype=float\)\.$"):
        as_numbers(y, "y")
    assert np.isfinite(as_numbers(np.array(y, dtype=float), "y")).all()


@pytest.mark.parametrize("y", [["cat", "dog"], ["1", "dog"]])
def test_of_classes_in_place_of_numbers_the_classifier_is_named(y):
    with pytest.raises(InvalidInputError, match=r"If y holds classes, use PretrainedImageClassifier\.$"):
        as_numbers(y, "y")
    with pytest.raises(InvalidInputError, match=r"'(cat|1)'\.$"):
        as_numbers(y, "sample_weight")


@pytest.mark.parametrize("y", [["0,5", "12"], ["-1", "+2,25", "3,0"]])
def test_of_decimal_commas_the_point_is_named(y):
    with pytest.raises(InvalidInputError, match=r"Write numbers with a decimal point and without separators\.$"):
        as_numbers(y, "y")


def test_a_column_of_strings_among_numbers_is_named():
    frame = pd.DataFrame({"age": [1, 2], "image": ["a.png", "b.png"]})
    with pytest.raises(
        InvalidInputError, match=r"y\[0, 'image'\] is a str, 'a\.png'\. Leave out columns of strings\.$"
    ):
        number_columns(frame, "y")
