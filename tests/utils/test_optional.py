"""Optional packages are imported when they are needed, or named with their remedy."""

from __future__ import annotations

import json

import pytest

from sktl._utils.optional import require
from sktl.exceptions import MissingPackageError


def test_what_is_there_is_returned():
    assert require("json", "X.plot", "json") is json


@pytest.mark.parametrize("requirement", ["sktl[plot]", "pandas"])
def test_what_is_missing_is_named_with_its_remedy(requirement):
    with pytest.raises(MissingPackageError) as caught:
        require("not_there", "X.plot", requirement)
    assert str(caught.value) == f"X.plot needs not_there, which is not installed: pip install '{requirement}'"
    assert issubclass(MissingPackageError, ImportError)
