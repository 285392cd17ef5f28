"""Several labels as one text, and back."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement, pairwise, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._targets.joined_labels import SEPARATOR, SEPARATORS, find_joined, separator_in, split_labels

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


@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=5, unique=True), st.sampled_from(SEPARATORS[:-2]))
def test_a_name_of_other_names_is_found_with_its_separator(names, separator):
    assert find_joined(names) is None
    assert find_joined([*names, separator.join(names)])[:2] == (separator.join(names), separator)


@given(st.integers(0, 6), st.integers(0, 6), st.sampled_from([" ", "/"]))
def test_names_with_spaces_or_slashes_are_joined_if_most_of_several_are(n_joined, n_others, separator):
    parts = [*"abcdefg"]
    joined = [f"{a}{separator}{b}" for a, b in pairwise(parts)][:n_joined]
    others = [f"no{separator}{part}" for part in parts[:n_others]]
    are_joined = n_joined >= max(3, n_others)
    names = [*parts, *joined, *others]
    found = find_joined(names)
    assert (found and found[:2]) == ((f"a{separator}b", separator) if are_joined else None)
    assert separator_in(names) == (separator if are_joined else None)


@pytest.mark.parametrize("separator", SEPARATORS[:-2])
def test_other_separators_are_enough_without_names_that_are_joined(separator):
    assert separator_in([f"polar bear{separator}N/A"]) == separator


@given(st.permutations("abcde"), st.sampled_from(SEPARATORS), st.integers(0, 6))
def test_labels_of_which_none_is_a_name_are_joined_if_few_parts_make_many_names(labels, separator, n_others):
    names = [separator.join(some) for n in range(2, 6) for some in combinations(labels, n)]
    found = find_joined([*names, *(f"other-{i}" for i in range(n_others))])
    if separator in ",/":  # these are also in numbers and dates
        assert found is None
    else:
        assert found == (min(names), separator, "its parts are in other classes, too")


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.sampled_from(SEPARATORS))
def test_names_of_attributes_are_not_joined(n_colors, n_sizes, n_others, separator):
    names = [f"color{i}{separator}size{j}" for i, j in product(range(n_colors), range(n_sizes))]
    assert find_joined([*names, *(f"other{i}{separator}tree" for i in range(n_others))]) is None


@given(st.integers(6, 9), st.sampled_from([combinations_with_replacement, permutations]), st.sampled_from(["", "to "]))
def test_sequences_of_words_are_not_joined(n, pairs, between):
    """Dominoes have repeated parts, and transitions have both orders, which a table of 0 and 1 would lose."""
    names = [f"{a} {between}{b}" for a, b in pairs(range(n), 2)]
    assert find_joined([*names, "no number", "none"]) is None
    assert find_joined([*names, "no number", "0 1 2 3"]) is not None  # labels vary in number


def test_lists_as_text_are_not_joined():
    names = [str(list(some)) for n in range(2, 6) for some in combinations("abcde", n)]
    assert (find_joined(names), separator_in(names)) == (None, None)


@pytest.mark.parametrize(
    "names", [["upper", "left", "upper left"], ["red", "panda", "red panda"], ["N", "A", "N/A"], ["3", "4", "3/4"]]
)
def test_a_name_of_one_thing_is_not_joined(names):
    assert find_joined(names) is None


@pytest.mark.parametrize("names", [[], ["cat", "dog", "cat;owl"], ["bora", "bora bora"], ["a", "a;"], ["a;b", "c"]])
def test_other_names_are_not_joined(names):
    assert find_joined(names) is None
