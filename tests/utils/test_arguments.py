"""Counts and seeds are checked alike, whatever function they were passed to."""

from __future__ import annotations

import numpy as np
import pytest

from sktl._utils.arguments import check_count, check_random_state
from sktl.exceptions import InvalidParameterError


@pytest.mark.parametrize("value", [1, 10**20, np.int8(3)])
def test_counts_are_integers_of_at_least_one(value):
    check_count(value, "n")


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, np.ones(2), object()])
def test_other_counts_are_named(value):
    with pytest.raises(InvalidParameterError, match=r"^n=.* must be an integer of at least 1\.$") as caught:
        check_count(value, "n")
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("seed", [None, 0, 2**32 - 1, np.uint32(7), np.random.RandomState(0)])
def test_seeds_are_those_of_scikit_learn(seed):
    check_random_state(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "x", [1], np.random.default_rng(0)])
def test_other_seeds_are_named(seed):
    with pytest.raises(
        InvalidParameterError, match=r"^random_state=.* must be an integer from 0 to 2\*\*32 - 1"
    ) as caught:
        check_random_state(seed)
    assert " at 0x" not in str(caught.value)
