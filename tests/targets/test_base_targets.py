"""What all targets can do: smaller sets of samples with the same proportions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets

N = 400
CODES = np.arange(N) % 3
LABELS = (np.random.default_rng(0).random((N, 30)) < 0.2).astype(float)
GROUPS = np.arange(N) // 50
ALL = {
    "classes": ClassTargets(np.arange(3), CODES, np.ones(N), GROUPS),
    "labels": LabelTargets(np.arange(30), LABELS, np.ones(N), GROUPS),
}


@pytest.mark.parametrize("targets", ALL.values(), ids=ALL)
def test_thinned_rows_are_never_more_than_allowed_and_have_the_same_proportions(targets):
    rows = np.arange(0, N, 2)
    assert targets.thinned(rows, 200, 0) is rows
    for seed in range(20):
        for most in (100, 66):
            found = targets.thinned(rows, most, seed)
            assert 0.7 * most <= len(found) <= most
            assert set(found) <= set(rows)
            assert_array_equal(found, np.sort(found))
            shares, expected = (targets.memberships()[some].mean(axis=0) for some in (found, rows))
            assert np.abs(shares - expected).mean() < 0.05
