"""Fast gradients of depthwise convolutions are torch's, but for rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sktl._convolutions import FastGradients


def gradients(convolution, images, fast):
    """Return the output of a convolution, and the gradients of a weighted sum of it by images and parameters."""
    images = images.detach().requires_grad_()
    with FastGradients() if fast else torch.enable_grad():
        output = convolution(images)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape).cos()
    wanted = [images, *(p for p in convolution.parameters() if p.requires_grad)]
    return output, torch.autograd.grad((output * weights).sum(), wanted)


def depthwise(n_channels, size, bias=True, **options):
    torch.manual_seed(0)
    convolution = nn.Conv2d(
        n_channels, n_channels, size, groups=n_channels, bias=bias, **({"padding": size // 2} | options)
    )
    return convolution.to(memory_format=torch.channels_last)


def pixels(n, n_channels, height, width):
    return torch.randn(n, n_channels, height, width).contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@settings(deadline=None, max_examples=60)
@given(
    size=st.sampled_from([5, 7, 9, 11]),
    n=st.integers(1, 3),
    n_channels=st.integers(2, 33),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    bias=st.booleans(),
    padding=st.none() | st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_outputs_are_the_same_bits_and_gradients_the_same_numbers(size, n, n_channels, height, width, bias, padding):
    if padding is not None:  # with a stride
        size, height, width = 5, height + 4, width + 4
    options = {} if padding is None else {"stride": 2, "padding": padding}
    convolution, images = depthwise(n_channels, size, bias, **options), pixels(n, n_channels, height, width)
    plain, fast = (gradients(convolution, images, fast) for fast in (False, True))
    assert torch.equal(plain[0], fast[0])
    assert "Depthwise" in fast[0].grad_fn.name()
    exact = gradients(convolution.double(), images.double(), fast=False)[1]
    for found, of_torch, true in zip(fast[1], plain[1], exact, strict=True):
        scale = float(true.abs().max()) + 1e-3
        assert (found - true).abs().max() < 2e-5 * scale + 2 * (of_torch - true).abs().max()
        assert found.shape == of_torch.shape


@pytest.mark.parametrize(
    "convolution",
    [
        depthwise(8, 3),
        depthwise(8, 5, stride=3),
        depthwise(8, 5, stride=(1, 2)),
        depthwise(8, 7, stride=2),
        depthwise(8, 5, dilation=2, padding=4),
        depthwise(8, 5, padding=1),
        depthwise(8, 4, padding=1),
        nn.Conv2d(8, 16, 5, padding=2, groups=8),
        nn.Conv2d(8, 8, 5, padding=2, groups=2),
        nn.Conv2d(8, 8, 5, padding=2),
        nn.Conv2d(8, 8, (5, 7), padding=(2, 3), groups=8),
        depthwise(8, 5).double(),
        depthwise(8, 5).requires_grad_(False),
    ],
)
def test_others_are_left_to_torch(convolution):
    images = pixels(2, 8, 9, 9).to(convolution.weight.dtype)
    plain, fast = (gradients(convolution, images, fast) for fast in (False, True))
    assert plain[0].grad_fn.name() == fast[0].grad_fn.name()
    assert all(torch.equal(a, b) for a, b in zip(plain[1], fast[1], strict=True))


def test_images_in_plain_format_and_inference_are_left_to_torch():
    convolution = depthwise(8, 5)
    assert "Depthwise" not in gradients(convolution, torch.randn(2, 8, 9, 9), fast=True)[0].grad_fn.name()
    with torch.no_grad(), FastGradients():
        assert convolution(pixels(2, 8, 9, 9)).grad_fn is None


@pytest.mark.parametrize(("name", "stride", "padding"), [("same", 1, 2), ("valid", 2, 0)])
def test_padding_by_name_is_known_too(name, stride, padding):
    images = pixels(2, 8, 9, 9)
    named, counted = (depthwise(8, 5, stride=stride, padding=edge) for edge in (name, padding))
    (output, found), (_, expected) = (gradients(convolution, images, fast=True) for convolution in (named, counted))
    assert "Depthwise" in output.grad_fn.name()
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected, strict=True))


def test_weights_alone_or_images_alone_may_want_gradients():
    convolution, images = depthwise(8, 5), pixels(2, 8, 9, 9)
    expected = gradients(convolution, images, fast=False)[1][1]
    with FastGradients():
        output = convolution(images)
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape).cos()
    (found,) = torch.autograd.grad((output * weights).sum(), [convolution.weight])
    assert torch.allclose(found, expected, atol=1e-4)
