"""Reasons why images cannot be used, as command lines give them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sktl
from sktl._images.command_reasons import PHRASES, for_command_line
from sktl._images.unreadable_formats import _KINDS, _KNOWN


@pytest.mark.thorough
def test_each_phrase_is_one_of_the_library():
    """Else a message was reworded, and command lines speak of Python again."""
    texts = [
        node.value
        for path in Path(sktl.__file__).parent.rglob("*.py")
        if path.name != "command_reasons.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [phrase for phrase in PHRASES if not any(phrase in text for text in texts)] == []


@pytest.mark.parametrize("remedy", sorted({kind.remedy for kind in (*_KINDS, *_KNOWN)}))
def test_no_remedy_for_a_format_asks_for_arrays(remedy):
    assert not re.search(r"pass (the |its )?(arrays|slices)|numpy|as bytes", for_command_line(remedy))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "has values up to 3; floats must lie in [0, 1]: pass x / 255; scale all images alike (x = the pixels of "
            "the file)",
            "has values up to 3; convert it to 8 bits, all images alike",
        ),
        (
            'is a data URI, not a path; pass the bytes: base64.b64decode(x.partition(",")[2])',
            "is a data URI, not a path; decode it, and pass the decoded file",
        ),
        (
            "is base64 text instead of an image; pass the bytes: base64.b64decode(x) (x = the text of the file)",
            "is base64 text instead of an image; decode it, and pass the decoded file",
        ),
        (
            "no such file: the file has the suffix .jpg; pass str(x) + '.jpg'",
            "no such file: the file has the suffix .jpg; add .jpg to its name",
        ),
        ("is damaged: broken data stream", "is damaged: broken data stream"),
    ],
)
def test_expressions_of_python_become_words(reason, expected):
    assert for_command_line(reason) == expected
