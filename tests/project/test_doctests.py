"""The examples in the docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import less_to_compute as less
import pytest
from representatives import slow_except

import sktl

MODULES = sorted(module.name for module in pkgutil.walk_packages(sktl.__path__, "sktl."))


LONG = [
    "sktl._audit.audit_images", "sktl._datasets.write_features", "sktl._deployment.export",
    "sktl._estimators.loading", "sktl._reports.evaluation_report", "sktl._ranking.rank_backbones",
]  # fmt: skip


@pytest.mark.parametrize("name", slow_except(MODULES, *MODULES, thorough=LONG))
def test_the_examples_of_a_module(name, monkeypatch):
    if name in ("sktl._audit.audit_images", "sktl._deployment.export", "sktl._ranking.rank_backbones"):
        less.take_small_images(monkeypatch)
        less.try_few_penalties(monkeypatch)
        less.compile_nothing(monkeypatch)
    if name == "sktl._deployment.export":
        less.keep_two_stages(monkeypatch)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name))) >= 4
