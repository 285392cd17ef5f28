"""Images of groups count as fewer independent images: by the variance between groups, and never as more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as students_t

from sktl._evaluation.effective_sizes import effective_size, effective_sizes

TAIL = 0.975


@st.composite
def grouped(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_groups = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    return rng.random(n) < draw(st.sampled_from([0.5, 0.95, 1.0])), rng.integers(0, n_groups, n)


@given(grouped())
def test_groups_never_count_as_more_images_and_one_group_as_none(pair):
    hits, groups = pair
    size = effective_size(hits, groups, TAIL)
    assert 0 <= size <= len(hits) + 1e-9
    assert (size == 0) == (len(np.unique(groups)) == 1)


@given(grouped())
def test_hits_and_misses_are_symmetric_and_names_of_groups_do_not_matter(pair):
    hits, groups = pair
    size = effective_size(hits, groups, TAIL)
    assert size == pytest.approx(effective_size(~hits, groups, TAIL))
    assert size == pytest.approx(effective_size(hits[::-1], 10 - groups[::-1], TAIL))


@given(grouped())
def test_running_sizes_are_the_sizes_of_the_first_images(pair):
    hits, groups = pair
    expected = [effective_size(hits[:k], groups[:k], TAIL) for k in range(1, len(hits) + 1)]
    np.testing.assert_allclose(effective_sizes(hits, groups, TAIL), expected, rtol=1e-9)


def test_many_groups_are_measured_by_their_variance_alone():
    """As Korn and Graubard: the share of a group that is added matters only if there are few groups."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(2000), 10)
    hits = rng.random(len(groups)) < rng.beta(4, 2, 2000)[groups]
    share = hits.mean()
    design_effect = (np.bincount(groups, weights=hits - share) ** 2).sum() / (len(hits) * share * (1 - share))
    correction = students_t.ppf(TAIL, len(hits) - 1) / students_t.ppf(TAIL, 1999)
    assert effective_size(hits, groups, TAIL) == pytest.approx(len(hits) / design_effect * correction**2, rel=0.01)


def test_without_groups_all_images_count():
    hits = np.ones(3, bool)
    assert effective_size(hits, None, TAIL) == 3
    assert effective_sizes(hits, None, TAIL).tolist() == [1, 2, 3]
    assert effective_size(hits[:0], hits[:0], TAIL) == 0
