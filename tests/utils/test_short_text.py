"""Labels and numbers as text that fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.short_text import distinct_texts, fitted, percent, rounded, with_percent

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
    assert shown.endswith(f"({percent(share)})")
    assert shown.count("\n") <= 1
    assert all(len(line) <= width for line in shown.split("\n"))


@given(st.floats(0, 1))
def test_a_probability_is_not_called_certain_unless_it_is(share):
    assert (percent(share) == "100 %") == (share == 1)
    assert (percent(share) == "0 %") == (share == 0)


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
