"""ONNX Runtime is imported without its telemetry, and the environment is as it was before."""

from __future__ import annotations

import os
import sys
import types

import pytest

from sktl._utils.onnx_runtime import onnxruntime
from sktl.exceptions import MissingPackageError

VARIABLE = "ORT_DISABLE_TELEMETRY"


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Return what the variable was when a package of this name was imported."""
    (tmp_path / "onnxruntime.py").write_text(f"import os\nseen = os.environ.get({VARIABLE!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    yield lambda: onnxruntime("a test").seen
    sys.modules.pop("onnxruntime", None)


def test_nothing_is_reported_and_the_environment_is_left_alone(seen, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert seen() == "1"
    assert VARIABLE not in os.environ


@pytest.mark.parametrize("value", ["0", "1", ""])
def test_what_a_user_has_set_is_left_alone(seen, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    assert seen() == os.environ[VARIABLE] == value


def test_a_package_that_the_program_imported_is_used_as_it_is(monkeypatch):
    imported = types.ModuleType("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", imported)
    assert onnxruntime("a test") is imported


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"a test needs onnxruntime.*pip install 'onnxruntime"):
        onnxruntime("a test")
    assert VARIABLE not in os.environ
