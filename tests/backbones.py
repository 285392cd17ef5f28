"""Small networks for tests that are about something else than the network."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from sktl import Preprocessing

NEW_TIMM = pytest.mark.skipif("test_maxvit" not in timm.list_models(), reason="this timm has no small MaxViT")


class Pixels(nn.Module):
    """The grey values of tiny images as features."""

    def __init__(self, size: int = 8):
        super().__init__()
        self.preprocessing = Preprocessing((size, size), (size, size), "nearest", mean=(0.5,) * 3, std=(0.5,) * 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0].flatten(1)


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
