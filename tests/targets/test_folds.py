"""Laws of the folds within a fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl._targets.folds import deal

CODES = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
SEEDS = st.integers(0, 2**31 - 1)


@given(CODES, st.integers(2, 7), SEEDS)
def test_each_class_is_spread_over_folds_of_like_size(codes, n_folds, seed):
    folds = deal(codes, None, n_folds, seed)
    assert folds.n_folds == min(n_folds, len(codes))
    sizes = np.bincount(folds.of_sample)
    assert sizes.max() - sizes.min() <= 1
    for code in set(codes):
        counts = np.bincount(folds.of_sample[codes == code], minlength=folds.n_folds)
        assert counts.max() - counts.min() <= 1


@given(CODES, st.integers(2, 7), SEEDS, st.data())
def test_groups_stay_together(codes, n_folds, seed, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(codes), max_size=len(codes))))
    folds = deal(codes, groups, n_folds, seed)
    for group in set(groups):
        assert len(set(folds.of_sample[groups == group])) == 1
    assert folds.n_folds <= n_folds


@given(CODES, st.booleans(), SEEDS)
def test_a_sample_is_scored_if_other_folds_have_its_class(codes, grouped, seed):
    folds = deal(codes, np.arange(len(codes)) // 2 if grouped else None, 5, seed)
    for code, fold, scored in zip(codes, folds.of_sample, folds.scored, strict=True):
        assert scored == (code in codes[folds.of_sample != fold])


def test_images_of_classes_with_two_are_in_two_folds():
    folds = deal(np.repeat(np.arange(20), 2), None, 5, 0)
    assert folds.scored.all()


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_follow_from_the_seed(grouped):
    codes, groups = np.tile([0, 1], 30), np.repeat(np.arange(20), 3) if grouped else None
    first, again, other = (deal(codes, groups, 5, seed).of_sample for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert (first != other).any()
