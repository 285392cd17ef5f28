"""Fast gradients are torch's, but for rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from representatives import examples
from torch import nn

from sktl._fine_tuning.fast_gradients import FastGradients


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
        n_channels, n_channels, size, groups=n_channels, bias=bias, **({"padding": "same"} | options)
    )
    return convolution.to(memory_format=torch.channels_last)


def pixels(n, n_channels, height, width):
    return torch.randn(n, n_channels, height, width).contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


@settings(max_examples=examples(100))
@given(
    rows=st.integers(1, 11),
    columns=st.integers(4, 11),
    n=st.integers(1, 3),
    n_channels=st.integers(2, 33),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    bias=st.booleans(),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_outputs_are_the_same_bits_and_gradients_the_same_numbers(
    rows, columns, n, n_channels, height, width, bias, stride, padding
):
    height = max(height, rows - 2 * padding[0])  # no smaller than the kernel
    width = max(width, columns - 2 * padding[1])
    convolution = depthwise(n_channels, (rows, columns), bias, stride=stride, padding=padding)
    images = pixels(n, n_channels, height, width)
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
        depthwise(8, (5, 3), padding=1),
        depthwise(8, 5, dilation=2, padding=4),
        depthwise(8, 4, padding="same"),
        nn.Conv2d(8, 16, 5, padding=2, groups=8),
        nn.Conv2d(8, 8, 5, padding=2, groups=2),
        nn.Conv2d(8, 8, 5, padding=2),
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


@pytest.mark.parametrize("mean", [nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3)), lambda x: torch.mean(x, (2, 3))])
def test_what_a_mean_hands_back_has_the_memory_format_of_what_it_was_given(mean):
    found, images = {}, pixels(2, 5, 3, 4).requires_grad_()
    for fast in (False, True):
        seen = []
        layer = images * 2
        with FastGradients() if fast else torch.enable_grad():
            output = mean(layer)
        layer.register_hook(seen.append)
        output.square().sum().backward()
        assert seen[0].is_contiguous(memory_format=torch.channels_last) == fast
        found[fast] = seen[0]
    assert torch.equal(found[False], found[True])


def test_a_mean_of_weights_leaves_no_hook_on_them():
    weight = nn.Parameter(pixels(2, 3, 4, 5))
    with FastGradients():
        weight.mean().backward()
    assert not weight._backward_hooks


@given(
    values=st.lists(st.sampled_from([-9.0, -1.0, -0.0, 0.0, 0.5, 6.0, 7.0, float("nan")]), min_size=1, max_size=9),
    bounds=st.sampled_from([(0.0, 6.0), (-1.0, 0.5)]),
)
def test_an_activation_in_place_is_the_same_to_the_bit(values, bounds):
    found = []
    for fast in (False, True):
        start = torch.tensor(values, requires_grad=True)
        with FastGradients() if fast else torch.enable_grad():
            layer = start * 1
            output = nn.Hardtanh(*bounds, inplace=True)(layer)
        assert output is layer
        assert ("Clamp" in output.grad_fn.name()) == fast
        found.append((output.detach(), *torch.autograd.grad(output.cos().sum(), start)))
    assert all(torch.equal(a.nan_to_num(99.0), b.nan_to_num(99.0)) for a, b in zip(*found, strict=True))


def test_activations_of_parts_of_leaves_and_of_what_needs_no_gradient_are_left_to_torch():
    start = torch.randn(3, 4, requires_grad=True)
    act = nn.ReLU6(inplace=True)
    with FastGradients():
        whole = start * 2
        assert "Clamp" not in act(whole[0]).grad_fn.name()
        assert "Clamp" not in nn.ReLU6()(whole).grad_fn.name()
        with pytest.raises(RuntimeError, match="leaf"):
            act(start)
        with torch.no_grad():
            assert act(start * 2).grad_fn is None


def test_what_was_needed_before_it_changed_in_place_is_an_error_as_ever():
    start = torch.randn(3, requires_grad=True)
    with FastGradients():
        layer = start * 2
        squares = layer.square()
        nn.ReLU6(inplace=True)(layer)
    with pytest.raises(RuntimeError, match="inplace operation"):
        squares.sum().backward()
