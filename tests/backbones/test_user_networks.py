"""Networks that users built are used without torch.compile, and a forgotten output layer is a warning."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from sktl import Preprocessing, PretrainedImageEncoder
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.user_networks import uncompiled

X = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


def body(n_features=160):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, n_features, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).eval()


def prepared(network):
    network.preprocessing = Preprocessing(32, (32, 32))
    return network


def warnings_of(network):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolve_backbone(lambda: prepared(network), "default", None, 0)
    return [str(warning.message) for warning in caught]


class Wrapped(nn.Module):
    """A network that does something with the output of another."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, images):
        return self.function(self.inner(images))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: nn.Sequential(body(), nn.Linear(160, 3)), "the 3 outputs of its layer '1'.* The 160 values"),
        (lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.Identity()), "layer '1'"),
        (lambda: nn.Sequential(body(1280), nn.Dropout(0.2), nn.Linear(1280, 102)), "layer '2'"),
        (lambda: nn.Sequential(body(), nn.Linear(160, 1000)), "layer '1'"),
        (lambda: models.resnet18(num_classes=1000), "the 1000 outputs of its layer 'fc'.* The 512 values"),
        (lambda: models.mobilenet_v3_small(num_classes=37), r"layer 'classifier\.3'.* The 1024 values"),
    ],
)
def test_a_network_with_its_output_layer_is_a_warning(network, words):
    (message,) = warnings_of(network())
    assert re.search(words, message)


def without(network, name):
    network.set_submodule(name, nn.Identity())
    return network


@pytest.mark.parametrize(
    "network",
    [
        body,
        lambda: nn.Sequential(body(), nn.Linear(160, 128)),
        lambda: nn.Sequential(body(1280), nn.Linear(1280, 512)),
        lambda: nn.Sequential(body(1280), nn.Linear(1280, 64)),
        lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.BatchNorm1d(3)),
        lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.ReLU(inplace=True)),
        lambda: Wrapped(nn.Sequential(body(), nn.Linear(160, 128)), nn.functional.normalize),
        lambda: without(models.resnet18(), "fc"),
        lambda: without(models.mobilenet_v3_small(), "classifier.3"),
        lambda: without(models.alexnet(), "classifier.6"),
    ],
)
def test_a_network_that_returns_features_is_none(network):
    assert warnings_of(network()) == []


def test_timm_tells_how_many_classes_a_network_has():
    timm = pytest.importorskip("timm")
    assert "layer 'fc'" in warnings_of(timm.create_model("resnet10t"))[0]
    assert warnings_of(timm.create_model("resnet10t", num_classes=0)) == []
    clip = nn.Sequential(body(768), nn.Linear(768, 512))
    clip.pretrained_cfg = {"architecture": "vit_base_patch16_clip_224", "num_classes": 512}
    assert warnings_of(clip) == []


def test_wrappers_of_compiled_networks_are_removed():
    plain = prepared(body())
    whole, part = torch.compile(copy.deepcopy(plain), backend="eager"), copy.deepcopy(plain)
    part[0] = torch.compile(part[0], backend="eager")
    expected = PretrainedImageEncoder(backbone=lambda: plain).fit_transform(X)
    for network in (whole, prepared(torch.compile(part, backend="eager"))):
        encoder = PretrainedImageEncoder(backbone=lambda network=network: network)
        np.testing.assert_array_equal(encoder.fit_transform(X), expected)
        assert [stage.name for stage in encoder.backbone_.stages]
        assert not any("_orig_mod" in name for name, _ in encoder.backbone_.build().named_modules())
    assert uncompiled(plain) is plain
    assert type(whole).__name__ == "OptimizedModule"
    assert type(part[0]).__name__ == "OptimizedModule"
