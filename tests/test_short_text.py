"""Text of others, labels and numbers fit: on one line, bounded, and the same in each run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sktl._short_text import (
    count,
    decimal,
    distinct_texts,
    error_words,
    first_few,
    fitted,
    number,
    one_line,
    percent,
    rounded,
    shown_name,
    shown_value,
    type_of,
    with_percent,
)

JOINERS = "\u200c\u200d"


@given(text=st.text(max_size=2000), length=st.integers(10, 400))
def test_one_line_is_one_printable_line_of_bounded_length(text, length):
    line = one_line(text, length)
    assert len(line) <= length
    assert line.isprintable()


@given(words=st.lists(st.text("abc:.,'", min_size=1, max_size=5), max_size=20))
def test_short_words_stay_as_they_are(words):
    assert one_line("\n".join(words)) == " ".join(words)


def test_addresses_are_left_out():
    class Mine:
        pass

    things = [io.BytesIO(), Mine(), np.array(Mine(), dtype=object), lambda: 0]
    for thing in things:
        line = one_line(f"cannot identify {thing!r}")
        assert "0x" not in line
        assert line.startswith("cannot identify ")
    assert one_line("flag 0x1f, <a at 0x7f00deadbeef>") == "flag 0x1f, <a>"


@given(name=st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"]), max_size=240))
def test_a_name_that_can_be_shown_is_shown_in_full(name):
    assert shown_name(name) == name


@given(name=st.one_of(st.text(), st.text(min_size=200).map(lambda text: 20 * text)))
@example(name="\U000e0001" * 240)
@example(name="\U000e0001" * 4000)
def test_any_name_is_shown_in_a_bounded_line(name):
    shown = shown_name(name)
    assert shown.isprintable()
    assert len(shown) <= 280


def test_both_ends_of_a_long_name_are_shown():
    shown = shown_name("photos/" + "x" * 10_000 + "/cat.jpg")
    assert shown.startswith("photos/xxx")
    assert shown.endswith("xxx/cat.jpg, 10,015 characters")
    assert len(shown) < 300
    assert shown_name("a\nb\x1b[31m.png") == r"'a\nb\x1b[31m.png'"


@given(text=st.text(max_size=2000), length=st.integers(30, 400))
def test_an_error_is_its_type_and_its_message(text, length):
    words = error_words(ValueError(text), length)
    assert words.startswith("ValueError")
    assert len(words) <= length
    assert words == one_line(f"ValueError: {text}", length) or words == "ValueError"


def test_an_object_whose_text_raises_an_error_has_one_nevertheless():
    class FaultError(Exception):
        def __str__(self):
            raise self

    assert one_line(FaultError()) == "unprintable message"
    assert error_words(FaultError()) == "FaultError: unprintable message"
    assert error_words(KeyError()) == "KeyError"


class Sulky:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (object(), "<object object>"), ([object()], "[<object object>]"), ("a", "'a'"), (Sulky(), "<Sulky>"),
        ([10**5000], "<list>"), (np.zeros(2), "array([0., 0.])"), (np.random.RandomState(0), "RandomState(MT19937)"),
    ],
)  # fmt: skip
def test_a_value_is_shown_by_its_repr_without_its_address(value, shown):
    assert shown_value(value) == shown


@given(value=st.lists(st.integers() | st.text()) | st.text(min_size=1000))
def test_any_value_is_shown_in_a_bounded_text(value):
    assert len(shown_value(value)) <= 90


@pytest.mark.parametrize(
    ("value", "words"), [(None, "None"), (5, "an int"), ([], "a list"), (np.zeros(1), "an ndarray"), ("", "a str")]
)
def test_a_type_has_its_article(value, words):
    assert type_of(value) == words


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


@pytest.mark.parametrize("scale", [0.0, math.inf, math.nan])
def test_a_number_of_no_scale_is_shown(scale):
    assert rounded(0.0, scale) == "0"


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
