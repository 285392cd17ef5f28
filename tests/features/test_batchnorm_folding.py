"""A folded network is the same function with fewer operations; what cannot be folded is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backbones import small_conv_net, stochastic_net, trunk_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features import frozen_trunk as _trunk
from sktl._features.batchnorm_folding import _ActivationAlone, _PassThrough, fold_batchnorm
from sktl._images.preprocessing import Preprocessing

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def ready(network):
    """Return a network in eval mode whose BatchNorm does something."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 2, generator=generator)
    return network.eval().requires_grad_(False)


def n_folded(network):
    return sum(isinstance(module, _PassThrough | _ActivationAlone) for module in network.modules())


def fold(network, images=IMAGES):
    return fold_batchnorm(network, lambda: network(images[:1]))


def assert_same(found, expected):
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@settings(max_examples=20)
@given(
    bias=st.booleans(), affine=st.booleans(), groups=st.sampled_from([1, 3]), kernel=st.integers(1, 3),
    stride=st.integers(1, 2), channels_last=st.booleans(),
)  # fmt: skip
def test_a_folded_pair_is_the_same_function_and_unfolds_to_the_same_bits(
    bias, affine, groups, kernel, stride, channels_last
):
    convolution = nn.Conv2d(3, 6, kernel, stride, groups=groups, bias=bias)
    network = ready(nn.Sequential(convolution, nn.BatchNorm2d(6, affine=affine), nn.ReLU(inplace=True)))
    if channels_last:
        network.to(memory_format=torch.channels_last)
    expected = network(IMAGES)
    undo = fold(network)
    assert n_folded(network) == 1
    assert_same(network(IMAGES), expected)
    undo()
    assert n_folded(network) == 0
    assert torch.equal(network(IMAGES), expected)


@pytest.mark.parametrize(
    ("name", "folded"),
    [("efficientnet_lite0", 49), ("timm/test_efficientnet", 13), ("timm/test_vit", 0)],
)
def test_real_networks_fold(name, folded):
    weights = "default" if name == "efficientnet_lite0" else None
    backbone = resolve_backbone(name, weights, None if "/" in name else 64, 0)
    network = backbone.build()
    images = backbone._probe_images()
    expected = network(images)
    fold(network, images)
    assert n_folded(network) == folded
    assert_same(network(images), expected)


class Residual(nn.Module):
    """The output of the convolution goes to BatchNorm and past it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)

    def forward(self, images):
        middle = self.convolution(images)
        return self.norm(middle) + 1e-9 * middle


class Twice(Residual):
    """The convolution is used twice."""

    def forward(self, images):
        return self.norm(self.convolution(images)) + self.convolution(images)


class Shared(Residual):
    """BatchNorm is used twice."""

    def forward(self, images):
        return self.norm(self.convolution(images)) + self.norm(images.repeat(1, 2, 1, 1)).mean()


class Standardised(nn.Conv2d):
    """A convolution whose weight is changed before it is used."""

    def forward(self, images):
        return self._conv_forward(images, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    "network",
    [
        Residual(), Twice(), Shared(),
        nn.Sequential(Standardised(3, 6, 3), nn.BatchNorm2d(6)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)),
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)),
    ],
    ids=["bypass", "convolution twice", "norm twice", "other convolution", "parametrised", "between", "of the batch"],
)  # fmt: skip
def test_what_does_more_than_that_is_left_alone(network):
    ready(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = network(IMAGES)
    fold(network)
    assert n_folded(network) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network(IMAGES), expected)


def test_a_trunk_folds_its_own_network_and_no_other():
    module = ready(small_conv_net())
    module.preprocessing = Preprocessing(16, (16, 16))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    backbone = resolve_backbone(lambda: module, "default", None, 0)
    trunk = trunk_of(backbone)
    assert n_folded(trunk._function) == 1
    for network in (module, backbone.build()):
        assert n_folded(network) == 0
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("n_trainable", [1, 2, 3])
def test_a_trunk_in_front_of_a_cut_folds_what_it_runs_and_gives_the_same_activations(n_trainable):
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    trunk = trunk_of(backbone, n_trainable)
    assert n_folded(trunk._function.__self__) > 0
    cut = backbone.cut(n_trainable)
    pixels = torch.from_numpy(np.random.default_rng(5).integers(0, 256, trunk.probe.shape, np.uint8))
    expected = cut.trunk(backbone.preprocessing.normalize(pixels))
    assert_same(torch.from_numpy(trunk.run(pixels.numpy())), expected)


def test_a_trunk_unfolds_where_the_outputs_would_be_others(monkeypatch):
    backbone = resolve_backbone(small_conv_net, "default", None, 0)
    folded = trunk_of(backbone)
    monkeypatch.setattr(_trunk, "_FOLDING_TOLERANCE", -1.0)
    plain = trunk_of(backbone)
    assert (n_folded(folded._function), n_folded(plain._function)) == (1, 0)
    normalised = backbone.preprocessing.normalize(torch.from_numpy(plain.probe))
    assert_same(torch.from_numpy(plain.answer), backbone.tapped()(normalised))
    assert not np.array_equal(plain.answer, folded.answer)
