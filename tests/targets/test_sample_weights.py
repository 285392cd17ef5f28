"""Weights: one for each image, finite and present, or an error by the name of their argument."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from sktl._targets.sample_weights import as_weight, check_sample_weight
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


@pytest.mark.parametrize("weight", [2, 2.0, np.float32(2), np.int64(2), Fraction(2)])
def test_a_weight_of_a_class_is_a_number(weight):
    assert as_weight(weight, "class_weight['a']") == 2
    for other in (str(weight), None, [weight], complex(weight), pd.NA):
        with pytest.raises(InvalidParameterError, match=r"class_weight\['a'\] is .*weights are numbers"):
            as_weight(other, "class_weight['a']")
