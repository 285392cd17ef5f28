"""The bundled network in less time, for examples whose code is the same whatever it computes."""

from __future__ import annotations

import dataclasses

import pytest

from sktl import PretrainedImageClassifier
from sktl._backbones.model_libraries import BUNDLED, PACKAGED


def take_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network take images of 64 pixels a side instead of 224."""
    digest, preprocessing = PACKAGED[BUNDLED]
    monkeypatch.setitem(PACKAGED, BUNDLED, (digest, dataclasses.replace(preprocessing, resize=73, crop=(64, 64))))


def keep_two_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let classifiers keep two stages of the network: an export of the whole takes ten seconds."""
    monkeypatch.setitem(PretrainedImageClassifier.__init__.__kwdefaults__, "n_stages", 2)
