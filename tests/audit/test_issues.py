"""Findings are rows of a structured array, the weightiest of each kind first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._audit.issues import DTYPE, KINDS, Issue, as_array

ISSUES = st.lists(
    st.builds(
        Issue,
        kind=st.sampled_from(KINDS),
        part=st.sampled_from(["train", "test"]),
        position=st.integers(-1, 50),
        name=st.text(),
        score=st.floats(0, 1),
    )
)


@given(ISSUES)
def test_findings_are_sorted_by_kind_then_by_falling_score(issues):
    array = as_array(issues)
    assert array.dtype == DTYPE
    keys = [(KINDS.index(kind), -score) for kind, score in zip(array["kind"], array["score"], strict=True)]
    assert keys == sorted(keys)
    assert sorted(array["name"].tolist()) == sorted(issue.name for issue in issues)


@given(st.permutations([Issue(kind="near_copy", position=i, score=i % 2) for i in range(6)]))
def test_their_order_does_not_matter(issues):
    assert as_array(issues)["position"].tolist() == [1, 3, 5, 0, 2, 4]


@pytest.mark.parametrize("text", ["a" * 1000, "\0", "é\n\udcff"])
def test_text_is_neither_cut_nor_changed(text):
    assert as_array([Issue(kind="unreadable", name=text)])["name"].tolist() == [text]


def test_no_findings_are_an_array_too():
    assert as_array([]).shape == (0,)
    assert np.array_equal(as_array([])["score"], [])
