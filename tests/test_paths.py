"""What a name of a file is made of."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._paths import is_utf8


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@given(name=st.binary(min_size=1).filter(lambda name: not set(name) & set(b"/\0")))
def test_a_name_is_utf8_if_its_bytes_are(name):
    try:
        name.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    path = os.fsdecode(name)
    assert is_utf8(path) == is_utf8(Path(path)) == expected
