"""EfficientNet-Lite, the bundled network, with timm's names of modules and tensors, without importing timm.

timm imports torchvision, which imports a compiler. Together, these imports take two seconds in each new process that
predicts an image.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the usual name

# Multipliers of the numbers of channels and of blocks.
_MULTIPLIERS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
# Number of blocks, kernel size, stride and number of output channels of each stage of "efficientnet_lite0".
_STAGES = (
    (1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320),
)  # fmt: skip
_STEM_CHANNELS, _FEATURES = 32, 1280
_EXPANSION = 6
_EPSILON = 1e-3


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its output layer (M. Tan and Q. Le, "EfficientNet", ICML 2019).

    Tensors have the same names and order as in timm's `tf_efficientnet_lite*`, and operations are the same, so features
    and gradients are equal bit for bit.

    Parameters
    ----------
    name : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    """

    def __init__(self, name: str):
        super().__init__()
        width, depth = _MULTIPLIERS[name]
        self.conv_stem = _SamePadding(3, _STEM_CHANNELS, 3, stride=2, bias=False)
        self.bn1 = _NormedActivation(_STEM_CHANNELS)
        stages, n_channels = [], _STEM_CHANNELS
        for number, (n_blocks, kernel, stride, n_out) in enumerate(_STAGES):
            is_outer = number in (0, len(_STAGES) - 1)  # always a single block
            n_repeats, n_out = n_blocks if is_outer else math.ceil(n_blocks * depth), _rounded(n_out * width)
            kind = _InvertedResidual if number else _SeparableConvolution
            inputs = (n_channels, *[n_out] * (n_repeats - 1))
            strides = (stride, *[1] * (n_repeats - 1))
            blocks = [kind(n_in, n_out, kernel, s) for n_in, s in zip(inputs, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            n_channels = n_out
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(n_channels, _FEATURES, 1, bias=False)
        self.bn2 = _NormedActivation(_FEATURES)
        self.global_pool = nn.Sequential()
        self.global_pool.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.global_pool.add_module("flatten", nn.Flatten(1))

    def draw_weights(self) -> None:
        """Draw initial weights from torch's generator, as timm and the authors of the network do.

        Weights are normal with variance 2 / (area of the kernel * output channels per group).
        """
        for module in self.modules():
            # Without data, torch would import its compiler to draw nothing.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                n_weights = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / n_weights))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.blocks(self.bn1(self.conv_stem(images)))
        pooled: torch.Tensor = self.global_pool(self.bn2(self.conv_head(features)))
        return pooled


class _SeparableConvolution(nn.Module):
    """A convolution of each channel, then a convolution across channels at each position."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int):
        super().__init__()
        self.conv_dw = _convolution(n_in, kernel, stride)
        self.bn1 = _NormedActivation(n_in)
        self.conv_pw = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out, _EPSILON)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(images))))
        return normed


class _InvertedResidual(nn.Module):
    """A separable convolution on more channels (M. Sandler et al., "MobileNetV2", CVPR 2018)."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int):
        super().__init__()
        n_inner = _rounded(n_in * _EXPANSION)
        self.adds_input = stride == 1 and n_in == n_out
        self.conv_pw = nn.Conv2d(n_in, n_inner, 1, bias=False)
        self.bn1 = _NormedActivation(n_inner)
        self.conv_dw = _convolution(n_inner, kernel, stride)
        self.bn2 = _NormedActivation(n_inner)
        self.conv_pwl = nn.Conv2d(n_inner, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out, _EPSILON)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv_dw(self.bn1(self.conv_pw(images))))
        projected: torch.Tensor = self.bn3(self.conv_pwl(inner))
        return projected + images if self.adds_input else projected


class _NormedActivation(nn.BatchNorm2d):
    """BatchNorm and an activation. The children have the names by which folding recognizes such layers of timm."""

    def __init__(self, n_channels: int):
        super().__init__(n_channels, _EPSILON)
        self.drop = nn.Identity()
        self.act = nn.ReLU6(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.act(super().forward(images))
        return activated


class _SamePadding(nn.Conv2d):
    """A convolution with TensorFlow's padding, which depends on the size of the image and favors bottom and right."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (height, width), (kernel, _), (stride, _) = images.shape[-2:], self.kernel_size, self.stride
        rows, columns = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in (height, width))
        padded = F.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(padded)


def _convolution(n_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    """Return a convolution of each channel."""
    options = {"groups": n_channels, "bias": False}
    if stride == 1:
        return nn.Conv2d(n_channels, n_channels, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]
    return _SamePadding(n_channels, n_channels, kernel, stride, **options)  # type: ignore[arg-type]


def _rounded(n_channels: float) -> int:
    """Return the multiple of 8 that is nearest to a number of channels, but not less than nine tenths of it."""
    rounded = max(8, int(n_channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * n_channels else rounded
