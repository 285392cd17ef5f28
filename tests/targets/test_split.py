"""Training and validation parts of samples with their targets."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.number_targets import check_numbers
from sktl._targets.split import Labelled, hold_out
from sktl.exceptions import InvalidParameterError

N = 60
WEIGHTS = np.where(np.arange(N) % 4 == 1, 0.0, 1.0)
COUNTED = np.flatnonzero(WEIGHTS)
CODES = np.arange(N) % 3
CODES[5] = 3  # of weight zero


def targets_of(kind, groups=None):
    if kind == "classes":
        return ClassTargets(np.arange(4), CODES, WEIGHTS, groups)
    if kind == "labels":
        return LabelTargets(np.arange(4), (CODES[:, None] == np.arange(4)).astype(float), WEIGHTS, groups)
    return check_numbers(CODES, WEIGHTS, "squared_error", N, groups=groups)


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
@pytest.mark.parametrize("groups", [None, np.arange(N) // 3], ids=["samples", "groups"])
def test_samples_of_weight_zero_are_neither_trained_nor_held_out(kind, groups):
    targets = targets_of(kind, groups)
    counted = targets.restricted(COUNTED)
    for seed in range(5):
        train, held_out = hold_out(targets, 0.2, seed)
        assert_array_equal(np.sort(np.r_[train, held_out]), COUNTED)
        for found, expected in zip((train, held_out), hold_out(counted, 0.2, seed), strict=True):
            assert_array_equal(found, COUNTED[expected])


def test_too_few_samples_of_nonzero_weight_are_counted_without_the_others():
    targets = ClassTargets(np.arange(2), np.arange(10) % 2, np.r_[np.ones(3), np.zeros(7)])
    with pytest.raises(InvalidParameterError, match="of 3 images of nonzero weight with 2 classes, of which 1 has 1:"):
        hold_out(targets, 0.5, 0)


def test_samples_are_only_copied_if_some_have_weight_zero():
    rows = np.arange(2 * N).reshape(N, 2)
    labelled = Labelled(rows, targets_of("classes"))
    found = labelled.counted()
    assert_array_equal(found.samples, rows[COUNTED])
    assert found.targets.weights.all()
    assert found.counted() is found
