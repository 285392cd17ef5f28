"""Examples in less time, where their code is the same whatever is computed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable

import pytest

import sktl
from sktl._backbones.model_libraries import BUNDLED, PACKAGED
from sktl._head.penalty_selection import PENALTIES


def take_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bundled network take images of 64 pixels a side instead of 224."""
    digest, preprocessing = PACKAGED[BUNDLED]
    monkeypatch.setitem(PACKAGED, BUNDLED, (digest, dataclasses.replace(preprocessing, resize=73, crop=(64, 64))))


def compile_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks run in torch: OpenVINO takes as long to compile one as a page takes to use it."""
    for function in (
        sktl.PretrainedImageClassifier.__init__, sktl.PretrainedImageRegressor.__init__,
        sktl.PretrainedImageEncoder.__init__, sktl.rank_backbones,
    ):  # fmt: skip
        monkeypatch.setitem(inspect.unwrap(function).__kwdefaults__, "engine", "torch")


def try_few_penalties(monkeypatch: pytest.MonkeyPatch, n: int = 2, losses: Iterable[str] = tuple(PENALTIES)) -> None:
    """Let output layers choose among the strongest penalties of some losses: weak ones take most of the time."""
    for loss in losses:
        monkeypatch.setitem(PENALTIES, loss, PENALTIES[loss][:n])


def keep_two_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let classifiers keep two stages of the network: an export of the whole takes ten seconds."""
    monkeypatch.setitem(sktl.PretrainedImageClassifier.__init__.__kwdefaults__, "n_stages", 2)
