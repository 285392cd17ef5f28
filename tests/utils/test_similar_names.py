"""Names that people cannot tell apart are paired, with a remedy that works."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils import similar_names
from sktl._utils.similar_names import as_seen, look_alikes, resemblances

UMLAUTS = ["K\u00e4se", "Br\u00f6tchen", "Stra\u00dfe", "Tee"]


def test_names_that_look_alike_are_paired():
    pairs = look_alikes(["Cat", "dog", "owl ", "a-b", "rose"], ["cat", "dog", "owl", "a\u2013b", "lily"])
    assert pairs == [("Cat", "cat"), ("owl ", "owl"), ("a-b", "a\u2013b")]
    assert look_alikes(["cat "], ["cat", "Cat"]) == look_alikes(["cat "], ["Cat", "cat"]) == [("cat ", "cat")]


@pytest.mark.parametrize(("ours", "theirs"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_the_form_that_the_remedy_names_makes_all_names_equal(ours, theirs):
    names, others = ([unicodedata.normalize(form, name) for name in UMLAUTS] for form in (ours, theirs))
    found = resemblances(names, others)
    assert all(f"{names[i]!a} looks like {others[i]!a}" in found for i in (0, 1))
    assert "Tee" not in found
    call = re.search(r"in Python by (unicodedata.*\))\.$", found)[1]
    assert [eval(call, {"unicodedata": unicodedata, "name": name}) for name in names] == others


def test_white_space_is_shown_and_no_form_of_unicode_named_where_it_does_not_help():
    found = resemblances(["owl ", "K\u00e4se"], ["owl", "Ka\u0308se"])
    assert found.startswith("'owl ' looks like 'owl'")
    assert found.endswith("rename the former like the latter.")


def test_known_names_are_not_compared(monkeypatch):
    monkeypatch.setattr(similar_names, "as_read", None)
    assert resemblances(["a", "b"], [*UMLAUTS, "a", "b"]) == ""


@given(st.text(max_size=8) | st.text("ab \t\x00\x1f", max_size=8))
def test_names_in_ascii_have_the_key_that_any_name_has(name):
    longer = as_seen(name + " \u2013")
    assert longer == " ".join([*as_seen(name).split(), "\u2013"])


@given(st.text(max_size=90), st.text(max_size=90))
def test_the_first_difference_of_long_names_is_shown(before, after):
    composed, decomposed = (f"{before}K{letter}se{after}" for letter in ("\u00e4", "a\u0308"))
    shown = resemblances([decomposed], [composed]).partition(". If they")[0]
    assert len(shown) < 1000
    one, other = shown.split(" looks like ")
    assert one != other


def test_long_names_are_cut_around_their_first_difference():
    one, other = (f"/data/{'x' * 99}/K{letter}se/{'y' * 99}.png" for letter in ("a\u0308", "\u00e4"))
    assert resemblances([one], [other]).startswith(
        rf"...'{'x' * 18}/Ka\u0308se/{'y' * 15}'... looks like ...'{'x' * 18}/K\xe4se/{'y' * 16}'..."
    )


LABELS = st.lists(st.text(max_size=5) | st.integers() | st.booleans(), max_size=4)


@given(LABELS, LABELS)
def test_what_is_equal_resembles_nothing_and_sentences_can_be_printed(names, others):
    assert resemblances(names, [*names, *others]) == ""
    found = resemblances(names, others)
    assert found.isascii()
    assert found.isprintable()
