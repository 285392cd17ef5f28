"""Laws of the folds within a fit."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from sktl._targets.folds import deal, hold_out_groups, stratify

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


def test_many_groups_of_many_classes_take_little_memory():
    codes, groups = np.arange(2000) % 1000, np.arange(2000) // 2
    tracemalloc.start()
    folds = deal(codes, groups, 5, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.bincount(folds.of_sample).tolist() == [400] * 5
    assert peak < 2e6  # a table of images and classes would take 16 MB


# ---------------------------------------------------------------------------------------------------- several labels

LABELS = arrays(np.int64, st.tuples(st.integers(1, 40), st.integers(2, 5)), elements=st.integers(0, 1))
SHARES = st.sampled_from([(0.9, 0.1), (0.5, 0.5), (0.2,) * 5, (1 / 3,) * 3]).map(np.array)


@settings(max_examples=40)
@given(LABELS, SHARES, SEEDS)
def test_the_rarest_label_has_its_share_in_each_part(labels, shares, seed):
    parts = stratify(labels, shares, np.random.RandomState(seed))
    assert parts.shape == (len(labels),)
    assert set(parts) <= set(range(len(shares)))
    counts = labels.sum(axis=0)
    if counts.any():
        rarest = np.where(counts > 0, counts, np.inf).argmin()
        of_parts = np.bincount(parts[labels[:, rarest] > 0], minlength=len(shares))
        assert (np.abs(of_parts - shares * counts[rarest]) < 1 + 1e-9).all()


@settings(max_examples=40)
@given(CODES, SHARES, SEEDS)
def test_labels_that_exclude_each_other_have_their_shares_like_classes(codes, shares, seed):
    labels = (codes[:, None] == np.arange(5)).astype(np.int64)
    parts = stratify(labels, shares, np.random.RandomState(seed))
    for code in set(codes):
        counts = np.bincount(parts[codes == code], minlength=len(shares))
        assert (np.abs(counts - shares * (codes == code).sum()) < 1 + 1e-9).all()


@settings(max_examples=40)
@given(st.integers(1, 60), SHARES, SEEDS)
def test_samples_without_labels_fill_parts_to_their_shares(n, shares, seed):
    parts = stratify(np.zeros((n, 3)), shares, np.random.RandomState(seed))
    assert (np.abs(np.bincount(parts, minlength=len(shares)) - shares * n) < 1 + 1e-9).all()


def test_proportions_of_all_labels_are_closer_than_at_random():
    labels = (np.random.default_rng(0).random((200, 8)) < np.linspace(0.03, 0.5, 8)).astype(int)

    def unevenness(parts):
        return np.abs([labels[parts == part].sum(axis=0) - labels.sum(axis=0) / 5 for part in range(5)]).max()

    dealt = [unevenness(stratify(labels, np.full(5, 0.2), np.random.RandomState(seed))) for seed in range(5)]
    at_random = [unevenness(np.random.RandomState(seed).permutation(200) % 5) for seed in range(5)]
    assert max(dealt) <= 3 < min(at_random)


@settings(max_examples=40)
@given(LABELS, st.integers(2, 7), SEEDS, st.data())
def test_groups_of_samples_with_labels_stay_together(labels, n_folds, seed, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels))))
    folds = deal(labels, groups, n_folds, seed)
    for group in set(groups):
        assert len(set(folds.of_sample[groups == group])) == 1
    assert folds.n_folds <= n_folds
    assert (folds.scored == (folds.n_folds > 1)).all()


@settings(max_examples=40)
@given(LABELS, st.integers(2, 7), SEEDS)
def test_folds_of_labels_follow_from_the_seed_and_are_never_empty(labels, n_folds, seed):
    folds = deal(labels, None, n_folds, seed)
    assert_array_equal(folds.of_sample, deal(labels, None, n_folds, seed).of_sample)
    assert folds.n_folds <= min(n_folds, len(labels))
    assert np.bincount(folds.of_sample).all()


# --------------------------------------------------------------------------------------------------- groups to hold out


@settings(max_examples=60)
@given(LABELS, st.sampled_from([0.1, 0.3, 0.5]), SEEDS, st.data())
def test_groups_that_are_held_out_leave_samples_with_and_without_each_label(labels, fraction, seed, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels))))
    try:
        train, held_out = hold_out_groups(labels, groups, fraction, seed)
    except ValueError:
        assume(False)
    assert sorted([*train, *held_out]) == [*range(len(labels))]
    assert not {*groups[train]} & {*groups[held_out]}
    if n_lost(labels, train):  # then each fold has all images with some label, or without it
        folds = deal(labels, groups, max(2, Fraction(fraction).limit_denominator(20).denominator), seed).of_sample
        n_each = [n_lost(labels, folds != fold) for fold in range(folds.max() + 1)]
        assert n_lost(labels, train) == min(n_each)


@given(st.floats(0.001, 0.999), SEEDS)
def test_the_share_of_groups_that_are_held_out_is_near_the_fraction(fraction, seed):
    """At least a twentieth is held out, and at most 19 twentieths."""
    codes, groups = np.arange(200) % 2, np.arange(200) // 2
    _, held_out = hold_out_groups(codes, groups, fraction, seed)
    # At most half of the largest of up to 20 folds of 100 groups, and what the fraction is rounded by.
    assert abs(len(held_out) / 200 - np.clip(fraction, 0.05, 0.95)) <= 0.04


def n_lost(labels, train):
    return sum({*column[train]} != {*column} for column in labels.T)


def test_groups_of_which_none_can_be_held_out_are_refused():
    with pytest.raises(ValueError, match="each fold of groups has all images of some class"):
        hold_out_groups(np.arange(3), np.arange(3), 0.3, 0)
    with pytest.raises(ValueError, match="effectively only one group"):
        hold_out_groups(np.eye(3, dtype=int), np.zeros(3, dtype=int), 0.3, 0)


def test_where_each_group_has_a_label_of_its_own_the_group_with_the_fewest_is_held_out():
    labels = np.eye(4, dtype=int)[[0, 1, 2, 2, 3]]
    labels = np.concatenate([labels, labels[:, :3]], axis=1)  # only group 3 has a single label of its own
    for seed in range(5):
        _, held_out = hold_out_groups(labels, np.array([0, 1, 2, 2, 3]), 0.2, seed)
        assert held_out.tolist() == [4]


def test_a_label_of_a_single_group_is_trained_for_every_seed():
    groups = np.arange(40) // 5
    labels = np.stack([np.arange(40) % 2, groups == 0, groups != 1], axis=1).astype(int)
    for seed in range(20):
        train, held_out = hold_out_groups(labels, groups, 0.1, seed)
        assert len(held_out) == 5
        assert labels[train, 1].any()
        assert not labels[train, 2].all()


@pytest.mark.parametrize("rare", [[0, 1], [0, 1, 2]])
def test_of_folds_of_equal_size_those_with_typical_proportions_are_held_out(rare):
    groups = np.arange(100) // 5
    of_group = np.isin(np.arange(20), rare).astype(int)
    held_out = set()
    for seed in range(20):
        codes = of_group[np.random.default_rng(seed).permutation(20)][groups]
        rows = hold_out_groups(codes, groups, 0.1, seed)[1]
        assert codes[rows].sum() == 0  # nearer to the share of the class than the five images of one of its groups
        held_out |= {*groups[rows]}
    assert len(held_out) > 10


def test_which_of_equal_groups_are_held_out_depends_on_the_seed():
    groups, codes = np.arange(40) // 4, np.zeros(40, dtype=int)
    held_out = {tuple(hold_out_groups(codes, groups, 0.1, seed)[1]) for seed in range(20)}
    assert len(held_out) > 5
