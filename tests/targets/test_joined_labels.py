"""Several labels as one text, and back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._targets.joined_labels import SEPARATOR, SEPARATORS, find_joined, split_labels

NAMES = st.lists(st.text(st.sampled_from("ab, "), min_size=1), min_size=1, max_size=6, unique=True)


@given(NAMES, st.data())
def test_labels_that_were_joined_are_read_as_names_that_join_to_the_same_text(names, data):
    has = data.draw(st.lists(st.sampled_from(names), unique=True))
    text = SEPARATOR.join(has)
    read = split_labels(text, names)
    assert SEPARATOR.join(read) == text
    assert {*read} <= {*names}


@given(st.lists(st.text(st.sampled_from("abc-"), min_size=1), unique=True))
def test_names_without_the_separator_are_read_as_they_were_joined(names):
    assert split_labels(SEPARATOR.join(names), names) == names


def test_other_text_is_no_label():
    assert split_labels("trees, sea", ["trees", "water"]) is None
    assert split_labels("trees,water", ["trees", "water"]) is None
    assert split_labels("", ["trees"]) == []


def test_many_labels_with_separators_in_their_names_take_no_time():
    assert split_labels(", ".join(["a"] * 300 + ["b"]), ["a", "a, a", "a, a, a"]) is None


@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=5, unique=True), st.sampled_from(SEPARATORS[:-1]))
def test_a_name_of_other_names_is_found_with_its_separator(names, separator):
    assert find_joined(names) is None
    assert find_joined([*names, separator.join(names)]) == (separator.join(names), separator)


@given(st.integers(0, 6), st.integers(0, 6))
def test_names_with_spaces_are_joined_if_most_of_several_are(n_joined, n_others):
    parts = [*"abcdefg"]
    joined = [f"{a} {b}" for a, b in itertools.pairwise(parts)][:n_joined]
    others = [f"no {part}" for part in parts[:n_others]]
    expected = ("a b", " ") if n_joined >= max(3, n_others) else None
    assert find_joined([*parts, *joined, *others]) == expected


@pytest.mark.parametrize("names", [["upper", "left", "upper left"], ["red", "panda", "red panda"]])
def test_a_name_of_one_thing_is_not_joined(names):
    assert find_joined(names) is None


@pytest.mark.parametrize("names", [[], ["cat", "dog", "cat;owl"], ["bora", "bora bora"], ["a", "a;"], ["a;b", "c"]])
def test_other_names_are_not_joined(names):
    assert find_joined(names) is None
