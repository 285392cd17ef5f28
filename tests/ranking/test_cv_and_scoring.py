"""Folds of a ranking: for classes as in scikit-learn, for labels and numbers random and balanced; groups stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, StratifiedKFold

from sktl import rank_backbones
from sktl._ranking.cv_and_scoring import check_splits
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers
from sktl.exceptions import InvalidParameterError

X = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)


def splits_of_classes(codes, cv, groups=None, seed=0):
    return check_splits(cv, check_classes(codes, None, None, len(codes)), codes, groups, seed)


def splits_of_labels(table, cv, groups=None, seed=0):
    return check_splits(cv, check_indicator(table, None, None, len(table)), table, groups, seed)


def splits_of_numbers(numbers, cv, groups=None, seed=0):
    targets = check_numbers(numbers, None, "squared_error", len(numbers))
    return check_splits(cv, targets, numbers, groups, seed)


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**31), st.booleans())
def test_each_image_is_scored_once_and_groups_stay_together(n_folds, seed, grouped):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.arange(40) // 3) if grouped else None
    for splits in (
        splits_of_classes(np.arange(40) % 2, n_folds, groups, seed),
        splits_of_numbers(rng.normal(size=40), n_folds, groups, seed),
        splits_of_labels(np.c_[np.arange(40) % 2, rng.permutation(40) % 5 == 0].astype(int), n_folds, groups, seed),
    ):
        assert len(splits) == n_folds
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(40))
        for train, test in splits:
            np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(40))
            if groups is not None:
                assert not np.intersect1d(groups[train], groups[test]).size


@settings(max_examples=20)
@given(st.integers(2, 5), st.integers(0, 2**31))
def test_each_fold_has_its_share_of_each_label_however_the_images_are_sorted(n_folds, seed):
    table = np.sort(np.random.default_rng(seed).integers(0, 2, (40, 2)), axis=0)
    for _, test in splits_of_labels(table, n_folds, seed=seed):
        assert (np.abs(table[test].sum(axis=0) - table.sum(axis=0) / n_folds) <= 2).all()


def test_sorted_numbers_are_not_trained_on_one_end_and_scored_on_the_other():
    for train, test in splits_of_numbers(np.arange(60.0), 3):
        assert train.min() < test.mean() < train.max()


def test_folds_follow_from_the_seed():
    first, same, other = (splits_of_numbers(np.arange(30.0), 3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0][1], same[0][1])
    assert not np.array_equal(first[0][1], other[0][1])


def test_classes_have_the_folds_of_scikit_learn():
    y = np.arange(30) % 3
    found = check_splits(5, check_classes(y, None, None, 30), y, None, 0)
    for (train, test), expected in zip(found, StratifiedKFold(5).split(y, y), strict=True):
        np.testing.assert_array_equal(train, expected[0])
        np.testing.assert_array_equal(test, expected[1])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cv": 1}, "pass at least 2 folds"),
        ({"cv": 0}, "pass at least 2 folds"),
        ({"cv": True}, "pass at least 2 folds"),
        ({"cv": 31}, "only 30 folds are possible"),
        ({"cv": 3, "groups": np.arange(30) % 2}, "this y and these groups: groups has only 2 groups: pass cv=2"),
        ({"cv": 3, "groups": np.zeros(30)}, "groups has only 1 group, and folds do not split groups"),
        ({"cv": [(range(1), range(1, 30))]}, "trains on fewer than two images"),
        ({"cv": GroupKFold(3)}, "not possible with this y"),
        ({"cv": 3, "scoring": "accuracy"}, "scoring='accuracy' is not possible"),
        ({"cv": LeaveOneOut()}, "scoring='r2' returned nan for fold 0.*several images"),
    ],
)
def test_what_numbers_do_not_allow_is_refused_before_any_pass(parameters, words):
    with pytest.raises(InvalidParameterError, match=words):
        rank_backbones(X, np.arange(30), [Pixels], task="regression", **parameters)


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored by KFold")  # which is why the advice differs
@pytest.mark.parametrize(
    ("cv", "advice"),
    [(2, "needs groups in at least two folds"), (GroupKFold(2), "needs groups in at least two"), (KFold(2), "Shuffle")],
)
def test_advice_about_folds_of_one_class_follows_from_whether_they_split_groups(cv, advice):
    y = np.repeat([0, 1], 15)
    groups = y if not isinstance(cv, KFold) else np.arange(30) % 15
    with pytest.raises(InvalidParameterError, match=advice):
        splits_of_classes(y, cv, groups)


def test_a_column_of_groups_warns_once():
    groups = np.repeat(np.arange(10), 3)[:, None]
    with pytest.warns(DataConversionWarning, match="groups") as warned:
        rank_backbones(X, np.arange(30) % 2, [Pixels], groups=groups, cache=False, random_state=0)
    assert len([warning for warning in warned if issubclass(warning.category, DataConversionWarning)]) == 1


def test_generators_get_groups_as_they_were_passed():
    seen = []

    class Recording(GroupKFold):
        def split(self, X, y=None, groups=None):
            seen.extend(groups)
            return super().split(X, y, groups)

    names = [*"abcdefghij"] * 3
    rank_backbones(X, np.arange(30) % 2, [Pixels], groups=names, cv=Recording(3), cache=False, random_state=0)
    assert seen == names


def test_generators_that_need_classes_are_refused_for_labels():
    with pytest.raises(InvalidParameterError, match=r"cv=StratifiedKFold.* is not possible with this y"):
        rank_backbones(X, np.c_[np.arange(30) % 2, np.arange(30) % 3 == 0].astype(int), [Pixels], cv=StratifiedKFold(3))
