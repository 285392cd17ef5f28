"""Lists of names on standard input."""

from __future__ import annotations

import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.input_names import names_on_input
from sktl.exceptions import InvalidInputError

NAMES = st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), min_size=2)
LINES = st.lists(st.binary(min_size=1).filter(lambda name: not set(name) & set(b"\0\r\n")), min_size=1)


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


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\0", None])
def test_no_names_are_an_error(content):
    with pytest.raises(InvalidInputError, match="Standard input has no names of images"):
        names_in(content)
