"""Weights and groups: one for each image, finite and present, or an error by the name of their argument."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from sktl._targets.sample_weights import as_weight, check_groups, check_sample_weight
from sktl.exceptions import InvalidInputError, InvalidParameterError


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, None, 1], r"\[1\] is nan"),
        (pd.Series([1, None, 1], dtype="Int64"), r"\[1\] is nan"),
        (np.ma.array([1, 1, 1], mask=[0, 1, 0]), r"\[1\] is nan"),
        (torch.tensor([1.0, -1.0, 1.0]), r"\[1\] is -1"),
        (["1", "1", "1"], r" must hold numbers.*\[0\] is a str, '1'"),
        (np.array(["1", "1", "1"]), r" must hold numbers"),
        (csr_array(np.ones((1, 3))), " is a csr_array"),
        (range(3).__iter__(), " is a range_iterator"),
        ({0: 1, 1: 1, 2: 1}, " is a dict"),
        (np.ones((3, 1)), r" has shape \(3, 1\), but .* pass shape \(3,\)"),
        (np.ones(2), r" has shape \(2,\)"),
        ([1e308] * 3, " has numbers up to 1e.308, beyond float64"),
        ([1e-320] * 3, " has numbers up to .*beyond float64"),
        (1j, " is a complex"),
        ("1", " is a str"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("of", "name"), [("X", "sample_weight"), ("X_val", "sample_weight_val")])
def test_sample_weights_are_refused_by_the_name_of_their_argument(weights, words, of, name):
    with pytest.raises(InvalidInputError, match=f"{name}{words}"):
        check_sample_weight(weights, 3, of)


@pytest.mark.parametrize("weights", [2, 2.0, np.float32(2), np.array(2), torch.tensor(2.0)])
def test_one_number_is_the_weight_of_all(weights):
    assert check_sample_weight(weights, 3).tolist() == [2, 2, 2]


def test_exact_numbers_are_weights():
    assert check_sample_weight([Decimal("0.5"), Fraction(1, 4), 1], 3).tolist() == [0.5, 0.25, 1]


def test_no_weights_are_equal_weights():
    assert check_sample_weight(None, 3).tolist() == [1, 1, 1]


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(InvalidInputError, match="sample_weight is all zero"):
        check_sample_weight(np.zeros(3), 3)


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


@pytest.mark.parametrize("weight", [2, 2.0, np.float32(2), np.int64(2), Fraction(2)])
def test_a_weight_of_a_class_is_a_number(weight):
    assert as_weight(weight, "class_weight['a']") == 2
    for other in (str(weight), None, [weight], complex(weight), pd.NA):
        with pytest.raises(InvalidParameterError, match=r"class_weight\['a'\] is .*weights are numbers"):
            as_weight(other, "class_weight['a']")
