"""Small networks for tests that are about something else than the network."""

from __future__ import annotations

import copy
import functools
import hashlib
import os

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from sktl import Preprocessing
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features.engines import FrozenPart
from sktl._features.frozen_trunk import Trunk, chunk_size

CPU = torch.device("cpu")
NEW_TIMM = pytest.mark.skipif("test_maxvit" not in timm.list_models(), reason="this timm has no small MaxViT")


class Pixels(nn.Module):
    """The grey values of tiny images as features."""

    def __init__(self, size: int = 8):
        super().__init__()
        self.preprocessing = Preprocessing((size, size), (size, size), "nearest", mean=(0.5,) * 3, std=(0.5,) * 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0].flatten(1)


class LoggedPixels(Pixels):
    """Appends a line for each image that it sees to the file that SKTL_TEST_LOG names, in whatever process."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = super().forward(images)
        lines = [hashlib.md5(row.tobytes()).hexdigest() + "\n" for row in features.numpy()]
        file = os.open(os.environ["SKTL_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(lines).encode())
        os.close(file)
        return features


class Function(nn.Module):
    """A network that is a function of the images."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.preprocessing = Preprocessing(8, (8, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)


def trunk_of(backbone, n_tail_stages=0, device=CPU) -> Trunk:
    """Return the frozen part of a backbone, for as many images at once as usual on the device."""
    return FrozenPart(backbone, device, n_tail_stages).trunk(chunk_size(device))


def backbone_of(function):
    """Return the backbone of a function from images to features."""
    return resolve_backbone(lambda: Function(function), "default", None, 0)


class SmallConvNet(nn.Module):
    """Two random convolutions with BatchNorm; its weights come from torch's generator."""

    def __init__(self, size: int = 16, n_features: int = 12):
        super().__init__()
        self.preprocessing = Preprocessing(size, (size, size))
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, n_features, 3), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).flatten(1)


def small_conv_net() -> nn.Module:
    """Return the same small network each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallConvNet()


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.down, self.norm = nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False), nn.BatchNorm2d(n_out)
        self.residual = nn.Sequential(nn.Conv2d(n_out, n_out, 1), nn.Dropout(0.1), StochasticDepth(0.3, "row"))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = self.norm(self.down(images)).relu()
        return images + self.residual(images)


class StochasticNet(nn.Module):
    """A stem and three blocks, which are its stages, with BatchNorm, dropout and stochastic depth."""

    def __init__(self, size: int = 16, n_features: int = 16):
        super().__init__()
        self.preprocessing = Preprocessing(size, (size, size))
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(_Block(8, 8), _Block(8, 12), _Block(12, n_features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(images)).mean((2, 3))


def stochastic_net() -> nn.Module:
    """Return the same network each time, its BatchNorm statistics and weights away from where they start."""
    return copy.deepcopy(_stochastic_net())


@functools.cache
def _stochastic_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StochasticNet()
        with torch.no_grad():
            for _ in range(20):
                network(torch.rand(16, 3, 16, 16))
        return network.eval()


class PixelNet(nn.Module):
    """A stage of one layer behind the grey values of tiny images."""

    def __init__(self, size: int = 8, n_features: int = 64):
        super().__init__()
        self.preprocessing = Preprocessing((size, size), (size, size), "nearest", mean=(0.5,) * 3, std=(0.5,) * 3)
        self.layer = nn.Linear(size * size, n_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images[:, 0].flatten(1)).relu()


def pixel_net() -> nn.Module:
    """Return the same small network each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PixelNet()


class TwoBranches(nn.Module):
    """No single tensor carries the image: both branches see it, and meet only at the end."""

    def __init__(self):
        super().__init__()
        branches = [nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)) for _ in range(2))) for _ in range(2)]
        self.branches = nn.ModuleList(branches)

    def forward(self, images):
        left, right = (branch(images) for branch in self.branches)
        return torch.cat([left.mean((2, 3)), right.mean((2, 3))], dim=1)


def resolve(backbone, weights="default", image_size=None, seed=0):
    return resolve_backbone(backbone, weights, image_size, seed)


def images_for(backbone, n=2):
    return torch.randn(n, 3, *backbone.preprocessing.crop, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def features_of(backbone, images=None):
    return backbone.build()(images_for(backbone) if images is None else images)
