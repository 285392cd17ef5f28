"""Labels and numbers as text that fits."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sktl._utils.short_text import (
    count,
    decimal,
    distinct_texts,
    first_few,
    fitted,
    number,
    percent,
    rounded,
    with_percent,
)

JOINERS = "\u200c\u200d"


@given(st.text(min_size=1), st.integers(2, 30), st.integers(1, 3))
def test_a_label_keeps_to_its_lines_and_letters(text, width, lines):
    shown = fitted(text, width, lines)
    words = " ".join("".join(c if c.isprintable() or c in JOINERS else " " for c in text).split())
    assert shown.translate(dict.fromkeys(map(ord, f"{JOINERS}\n"), " ")).isprintable()
    if len(words) > width:
        assert len(shown.split("\n")) <= lines
        assert all(len(line) <= width for line in shown.split("\n"))
    else:
        assert shown == words


def test_joiners_within_words_stay():
    for word in ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937"):
        assert fitted(word, 30) == word


@given(st.text(min_size=1), st.floats(0, 1), st.integers(12, 30))
def test_a_label_and_its_probability_keep_to_two_lines(text, share, width):
    shown = with_percent(" ".join(text.split()) or "x", share, width)
    assert shown.endswith(f"({percent(share, 0)})")
    assert shown.count("\n") <= 1
    assert all(len(line) <= width for line in shown.split("\n"))


@given(st.floats(0, 1), st.integers(0, 2))
@example(0.005, 0)
@example(0.995, 0)
def test_only_all_are_100_percent_and_only_none_0(share, digits):
    text = percent(share, digits)
    assert text.endswith(" %")
    assert (text == "100 %") == (share == 1)
    assert (text == "0 %") == (share == 0)
    figure = float(text.removesuffix(" %").strip("<> "))
    assert abs(figure - 100 * share) <= 10.0**-digits


@pytest.mark.parametrize(
    ("share", "text"), [(0.9194, "91.9 %"), (0.99999, "> 99.9 %"), (1e-9, "< 0.1 %"), (math.nan, "-"), (0.5, "50.0 %")]
)
def test_percent(share, text):
    assert percent(share) == text


def test_figures_that_are_not_defined_are_dashes():
    assert number(math.inf) == number(None) == decimal(math.nan) == decimal(None) == "-"


def test_a_noun_follows_its_number():
    assert [count(n) for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert [count(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e12))
def test_a_rounded_number_is_as_near_as_differences_need(number, scale):
    shown = rounded(number, scale)
    assert abs(float(shown) - number) <= max(scale / 19, abs(number) * 6e-4 if "e" in shown or scale < 1e-5 else 0)
    assert shown not in ("-0", "-0.0", "-0.00")


def test_a_number_of_no_scale_is_shown():
    assert rounded(0.0, 0.0) == "0"


@given(st.lists(st.integers(-1, 2) | st.booleans() | st.floats(-1, 2) | st.sampled_from(["1", "'1'", "1.0", "True"])))
def test_texts_of_names_are_distinct_and_plain_where_they_can_be(names):
    found, plain = distinct_texts(names), [str(name) for name in names]
    assert len(set(found)) == len(found) == len(names)
    assert (found == plain) == (len(set(plain)) == len(plain))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 8))
def test_of_many_values_the_first_are_shown_and_the_others_counted(values, n):
    shown = first_few(values, "<{}>".format, n)
    assert shown.count("<") == min(n, len(values))
    assert shown.startswith(", ".join(f"<{value}>" for value in values[:n]))
    assert shown.endswith(f", and {len(values) - n} more") == (len(values) > n)
