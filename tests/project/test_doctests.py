"""The examples in the docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import less_to_compute as less
import pytest

import sktl

MODULES = sorted(module.name for module in pkgutil.walk_packages(sktl.__path__, "sktl."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name, monkeypatch):
    if name in ("sktl._audit.audit_images", "sktl._deployment.export", "sktl._selection.rank_backbones"):
        less.take_small_images(monkeypatch)
        less.try_few_penalties(monkeypatch)
        less.compile_nothing(monkeypatch)
    if name == "sktl._deployment.export":
        less.keep_two_stages(monkeypatch)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name))) >= 4
