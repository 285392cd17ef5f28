"""Engines opened in one line, in whatever registry the module has at the moment."""

from __future__ import annotations

from sktl._features import engines
from sktl._features.engines import Engine, FrozenPart
from sktl._features.frozen_trunk import EngineFacts


def open_engine(*part, **named) -> Engine:
    return engines.registry.open(FrozenPart(*part, **named))


def known_facts(*part, **named) -> EngineFacts | None:
    return engines.registry.facts(FrozenPart(*part, **named))
