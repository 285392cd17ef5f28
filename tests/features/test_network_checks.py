"""Networks of users whose features would depend on other images, or on what other threads compute, are found."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from backbones import Pixels, small_conv_net, stochastic_net, trunk_of
from numpy.testing import assert_array_equal
from processes import Child, needs_fork
from torch import nn

from sktl import Preprocessing, PretrainedImageEncoder
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features.engines import TorchEngine
from sktl.exceptions import BackboneError

X = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)


class Hooked(nn.Module):
    """Reads its features from an attribute that a hook has set."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(32, (32, 32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 4, 3))
        self.layers[1].register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.kept = output

    def forward(self, images):
        self.layers(images)
        return self.kept.mean((2, 3))


class BatchStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(32, (32, 32))
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images):
        return self.norm(images).square().mean((2, 3))


def features(backbone, n_jobs):
    encoder = PretrainedImageEncoder(backbone=backbone, engine="torch", cache=False, n_jobs=n_jobs)
    return encoder.fit_transform(X)


@pytest.mark.parametrize(
    ("backbone", "keeps"), [(Hooked, True), (small_conv_net, False), (stochastic_net, False), (Pixels, False)]
)
def test_state_that_a_run_leaves_for_itself_is_found(backbone, keeps):
    trunk = trunk_of(resolve_backbone(backbone, "default", None, 0))
    assert trunk.keeps_state == keeps


def test_threads_take_turns_in_a_network_that_keeps_state():
    expected = features(Hooked, 1)
    for _ in range(3):
        assert_array_equal(features(Hooked, 4), expected)


@needs_fork
def test_a_forked_child_gets_its_turn_while_another_thread_has_it():
    engine = TorchEngine(trunk_of(resolve_backbone(Hooked, "default", None, 0)))
    engine.trunk = SimpleNamespace(run=len)  # threads of torch may not work in the child

    def take():
        signal.alarm(10)
        return engine.run(X)

    with engine._turn:
        child = Child(take)
    assert child.result() == len(X)


def test_features_that_depend_on_other_images_are_refused():
    with pytest.raises(BackboneError, match=r"depend on the other images of a batch.* Replace this layer"):
        features(BatchStatistics, 1)
