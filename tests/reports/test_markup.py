"""Text of strangers on pages: it is shown, and never does anything."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._reports.markup import Markup, data_block, named, plain, tag


class _Seen(HTMLParser):
    """What a parser of HTML finds: elements, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.values, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += attrs

    def handle_data(self, data):
        self.text += data


@given(st.text())
def test_any_text_in_an_element_and_in_an_attribute_is_read_back_as_text(text):
    text = text.encode("utf-8", "replace").decode()
    seen = _Seen(tag("p", text, title=text))
    assert seen.tags == ["p"]
    assert seen.values == [("title", text)]
    assert seen.text == text


@given(st.text(st.sampled_from(list("<>&/scriptSCRIPT!-'\"\\\u2028\udce9"))))
def test_data_blocks_hold_any_text_and_end_where_they_end(text):
    block = data_block("data", [text])
    assert block.count("<") == 2
    inner = block.partition(">")[2].rpartition("<")[0]
    assert json.loads(inner) == [text]


@pytest.mark.parametrize("attribute", ["onclick", "onerror", "style"])
def test_attributes_that_the_policy_forbids_are_refused(attribute):
    with pytest.raises(ValueError, match="forbids"):
        tag("img", **{attribute: "x"})


@pytest.mark.parametrize("address", ["https://example.com/x.png", "//example.com", "javascript:alert(1)", "x.png", ""])
def test_attributes_that_would_send_a_request_are_refused(address):
    with pytest.raises(ValueError, match="request"):
        tag("a", "x", href=address)


def test_markup_is_not_escaped_twice():
    assert tag("p", tag("b", "<")) == "<p><b>&lt;</b></p>"
    assert tag("br") == "<br>"
    assert tag("input", disabled=True, class_="x", value=None, data_kind="y") == (
        '<input disabled class="x" data-kind="y">'
    )
    assert isinstance(tag("p"), Markup)


def test_names_do_not_turn_the_text_around_them():
    assert named("\u202egpj.exe") == "<bdi>\ufffdgpj.exe</bdi>"


def test_names_are_shown_at_bounded_length_without_characters_that_are_no_text():
    assert plain("caf\udce9\n\x1b[31m") == "caf\ufffd\ufffd\ufffd[31m"
    assert len(plain("x" * 10_000)) < 500
