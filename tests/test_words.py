"""Words of others in messages are on one line, bounded, and the same in each run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sktl._words import error_words, one_line, shown_name, shown_value, type_of


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
