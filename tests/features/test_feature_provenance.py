"""Sources come back from JSON as they were, and values that no source has are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._features.feature_provenance import FeatureSource, relative_difference
from sktl._features.features_as_input import layout_of

SIZES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=4)


def source(sizes=((4,), (3, 2), (5,)), **values):
    """Return a source with groups of these sizes, in lists of the groups of each stage."""
    groups = [(f"block{i}", size) for i, size in enumerate(size for stage in sizes for size in stage)]
    ends = np.cumsum([sum(stage) for stage in sizes]).tolist()
    facts = {"backbone": "b", "weights": "w", "first_stages": None, "preprocessing": "p", "image_size": (8, 9)}
    facts |= {"digest": "d", "answer": (0.5, float("inf")), "groups": tuple(groups), "sizes": tuple(ends)}
    return FeatureSource(**facts | values)


def parsed(**values):
    return FeatureSource.parse(json.loads(json.dumps(source().format() | values)))


@given(SIZES, st.sampled_from(["float32", "bfloat16"]), st.none() | st.integers(1, 9))
def test_a_source_survives_json(sizes, precision, first_stages):
    found = source(sizes, precision=precision, first_stages=first_stages)
    assert FeatureSource.parse(json.loads(json.dumps(found.format()))) == found
    layout = layout_of(found)
    for n in range(1, len(sizes) + 1):
        assert sum(size for _, size in layout.groups_of(n)) == layout.length(n)


INVALID = {
    "backbone": [None, 3, ["b"]],
    "weights": [None, 3],
    "first_stages": [0, -1, 1.5, "2", [2], 10**30],
    "preprocessing": [None, [1], {}],
    "image_size": [[8], [1, 2, 3], [8, -8], [8, 0], [8, 8.0], [8, "8"], [8, 10**30], 8, None, {}],
    "digest": [None, 3],
    "answer": [["x"], [None], [[0.5]], 0.5],
    "groups": [[], [["", 14]], [["", 4], ["x", 5]], [["", 4, 5]], [[3, 4], ["", 5], ["", 5]], [4, 5, 5], None],
    "sizes": [[], [4], [4, 9], [9, 4, 14], [4, 8, 14], [-4, 9, 14], [0, 14], [4, 9, 14, 15], [4.0, 9, 14], ["a"], None],
    "precision": [None, 16, {"a": 1}],
    "another": ["x"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in INVALID for value in INVALID[name]])
def test_values_that_no_source_has_are_refused(name, value):
    with pytest.raises((KeyError, TypeError, ValueError)):
        parsed(**{name: value})


@pytest.mark.parametrize("name", ["backbone", "weights", "precision"])
def test_descriptions_are_short_whatever_a_file_holds(name):
    assert len(parsed(**{name: "x" * 10**6}).described) < 700


def test_differences_are_shares_of_the_largest_output():
    outputs = np.array([[1.0, -4.0]])
    assert relative_difference(outputs, outputs) == 0
    assert relative_difference(outputs + 1, outputs) == 0.25
    assert relative_difference(outputs[:, :1], outputs) == np.inf
    assert np.isnan(relative_difference(outputs * np.nan, outputs))
