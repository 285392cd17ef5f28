"""Lists of names on standard input."""

from __future__ import annotations

import codecs
import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.names_on_stdin import names_on_input
from sktl.exceptions import InvalidInputError

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
NAME = st.binary(min_size=1).filter(lambda name: not name.startswith(MARKS))
NAMES = st.lists(NAME.filter(lambda name: b"\0" not in name), min_size=2)
LINES = st.lists(NAME.filter(lambda name: not set(name) & set(b"\0\r\n")), min_size=1)
TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), min_size=1), min_size=1
)  # fmt: skip


def names_in(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", content if content is None else io.TextIOWrapper(io.BytesIO(content)))
        return [os.fsencode(name) for name in names_on_input()]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@given(names=NAMES, ends=st.sampled_from([b"", b"\0"]))
def test_names_of_any_bytes_are_separated_by_nul(names, ends):
    assert names_in(b"\0".join(names) + ends) == names


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@given(names=LINES, line_break=st.sampled_from([b"\n", b"\r\n", b"\n\n"]), ends=st.booleans())
def test_names_without_line_breaks_are_lines(names, line_break, ends):
    assert names_in(line_break.join(names) + line_break * ends) == names


@given(names=TEXTS, encoding=st.sampled_from(["utf-8-sig", "utf-16"]))
def test_lists_of_programs_of_windows_are_decoded(names, encoding):
    assert names_in("\r\n".join([*names, ""]).encode(encoding)) == [name.encode() for name in names]


def test_big_endian_lists_are_decoded():
    assert names_in(codecs.BOM_UTF16_BE + "\u00e9.png\n".encode("utf-16-be")) == ["\u00e9.png".encode()]


@pytest.mark.parametrize("content", [b"\xff\xfea", codecs.BOM_UTF16_LE + b"\x00\xd8"])
def test_what_cannot_be_decoded_is_an_error(content):
    with pytest.raises(InvalidInputError, match=r"not in UTF-8\. Write them in UTF-8\.$"):
        names_in(content)


def test_names_that_windows_cannot_decode_are_an_error(monkeypatch):
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidInputError, match="not in UTF-8"):
        names_in(b"\xe9.png\r\n")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\0", None])
def test_no_names_are_an_error(content):
    with pytest.raises(InvalidInputError, match="Standard input has no names of images"):
        names_in(content)
