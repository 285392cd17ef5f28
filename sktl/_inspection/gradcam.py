"""Grad-CAM: which places of an image speak for a class, by the gradients of its logit.

R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization", ICCV 2017.
Captum computes it, the only package that this file adds; what is here is where in a network it is computed, and the
layout there: (n, C, H, W) of convolutions, (n, H, W, C) of Swin, or tokens (n, T, C) of a ViT, perhaps behind class
tokens. Of tokens each is weighted by its own gradient instead of the mean: HiResCAM, R. L. Draelos and L. Carin, "Use
HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", arXiv 2011.08891, 2020. Where
all places are pooled by their mean, both are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from sktl._backbones.stages import Call, record, single_tensors, tensors
from sktl._utils.random import generator
from sktl.exceptions import BackboneError, InvalidParameterError

_MOST_CLASS_TOKENS = 16
_CHUNK = 8


@dataclass(frozen=True)
class Layout:
    """How a tensor describes places of an image.

    Parameters
    ----------
    height, width : int
        Of the grid of places.
    channels_last : bool
    n_class_tokens : int or None
        Of tokens, how many before the others describe no place; None if they are no tokens.
    """

    height: int
    width: int
    channels_last: bool
    n_class_tokens: int | None = None

    def to_map(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the places as (n, C, height, width)."""
        if self.n_class_tokens is not None:
            tokens = tensor[:, self.n_class_tokens :].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], self.height, self.width)
        return tensor.permute(0, 3, 1, 2) if self.channels_last else tensor

    def with_map(self, tensor: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return a tensor with other places: the inverse of `to_map`."""
        if self.n_class_tokens is not None:
            return torch.cat([tensor[:, : self.n_class_tokens], places.flatten(2).transpose(1, 2)], dim=1)
        return places.permute(0, 2, 3, 1) if self.channels_last else places


@dataclass(frozen=True)
class TargetLayer:
    """Where in a network Grad-CAM looks: at one of the tensors that a module returns."""

    module: str
    output: int
    layout: Layout


def find_layout(shape: tuple[int, ...], image_shape: tuple[int, int]) -> Layout | None:
    """Return how a tensor of this shape describes places of an image (height, width); None if it does not."""
    if len(shape) == 3:
        return _token_layout(shape[1], image_shape)
    if len(shape) != 4:
        return None
    first, last = _is_like(shape[2:], image_shape), _is_like(shape[1:3], image_shape)
    height, width = shape[1:3] if last and not first else shape[2:]
    return Layout(height, width, last and not first) if (first or last) and height * width > 1 else None


def _is_like(shape: tuple[int, ...], image_shape: tuple[int, int]) -> bool:
    """Tell whether a grid may be a shrunk image: the same scale in both directions, up to rounding."""
    if shape[0] > image_shape[0] or shape[1] > image_shape[1]:
        return False
    # Padding and strides round each side up or down.
    return abs(shape[0] / image_shape[0] * image_shape[1] - shape[1]) < 2 and (
        image_shape[0] != image_shape[1] or shape[0] == shape[1]
    )


def _token_layout(n_tokens: int, image_shape: tuple[int, int]) -> Layout | None:
    height, width = image_shape
    common = math.gcd(height, width)
    for scale in range(common, 0, -1):
        grid = height // common * scale, width // common * scale
        spare = n_tokens - grid[0] * grid[1]
        if 0 <= spare <= _MOST_CLASS_TOKENS and grid[0] * grid[1] > 1:
            return Layout(*grid, channels_last=True, n_class_tokens=spare)
        if spare > _MOST_CLASS_TOKENS:
            return None
    return None


def find_target_layer(network: nn.Module, image_shape: tuple[int, int], layer: str | None = None) -> TargetLayer:
    """Return the last place in a network at which a tensor carries the image as a map that the output depends on.

    In front of the pooling of a convolutional network that is what is pooled. Behind the last block of a ViT that is
    read at its class token the other tokens no longer count: there it is what the block's attention reads.

    Parameters
    ----------
    network : module
        Images (n, 3, H, W) to features (n, n_features), in eval mode.
    image_shape : (int, int)
        Height and width of its input.
    layer : str, default=None
        The module to take instead; its first output that is a map counts.

    Raises
    ------
    BackboneError
        If there is no such layer.
    InvalidParameterError
        If the network has no such layer, or it returns no map.
    """
    image = torch.randn(1, 3, *image_shape, generator=generator(0)).to(_device_of(network))
    if layer is not None:
        return _named_layer(network, image, layer)
    boundaries, calls = single_tensors(network, image)
    counts = _InfluenceCounter(calls[-1].output)
    outputs = {call.name: tensors(call.output) for call in calls}
    for boundary in reversed(boundaries):
        tensor = outputs[boundary.module][boundary.output]
        layout = find_layout(tuple(tensor.shape), image_shape)
        if layout is not None and len(tensor) == 1 and counts(tensor, layout):
            last = TargetLayer(boundary.module, boundary.output, layout)
            return _last_like(last, tensor.shape, calls, counts) if layout.n_class_tokens else last
    raise BackboneError(
        "No layer of the network keeps a map of places that its output depends on, which Grad-CAM needs. If you know "
        "one, pass its name as layer=, as in network.named_modules()."
    )


class _InfluenceCounter:
    """Tells whether an output depends on the places of a tensor behind it."""

    def __init__(self, output: torch.Tensor):
        # In a random direction: the sum of what a layer normalisation returns is constant.
        with torch.enable_grad():
            self.value = (output * torch.randn(output.shape, generator=generator(1)).to(output)).sum()

    def __call__(self, tensor: torch.Tensor, layout: Layout) -> bool:
        if not tensor.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(self.value, [tensor], allow_unused=True, retain_graph=True)
        return gradient is not None and bool(layout.to_map(gradient).any())


def _last_like(layer: TargetLayer, shape: torch.Size, calls: list[Call], counts: _InfluenceCounter) -> TargetLayer:
    """Return the last place behind this one that still counts: the attention's input, normalised, in a ViT.

    Residuals carry the other tokens past it, so that it is no single tensor, but nothing reads them there.
    """
    names = [call.name for call in calls]
    behind = [call for call in calls[names.index(layer.module) + 1 :] if names.count(call.name) == 1]
    alike = (call for call in reversed(behind) if getattr(call.output, "shape", None) == shape)
    return next(
        (TargetLayer(call.name, 0, layer.layout) for call in alike if counts(call.output, layer.layout)),
        layer,
    )


def _named_layer(network: nn.Module, image: torch.Tensor, layer: str) -> TargetLayer:
    with torch.no_grad():
        calls, _ = record(network, image, whole=True)
    outputs = [output for call in calls if call.name == layer for output in enumerate(tensors(call.output))]
    if not outputs:
        names = ", ".join(name for name, _ in network.named_children())
        raise InvalidParameterError(
            f"layer={layer!r} is no module that the network runs. Its outermost modules are {names}; for all others "
            "see estimator.module_.backbone.named_modules()."
        )
    for number, tensor in outputs:
        height, width = image.shape[2:]
        if layout := find_layout(tuple(tensor.shape), (height, width)):
            return TargetLayer(layer, number, layout)
    raise InvalidParameterError(
        f"layer={layer!r} returns a tensor of shape {tuple(outputs[0][1].shape)} for one image, which is no map of "
        "places: take a layer in front of the pooling."
    )


def class_maps(
    model: nn.Module, network: nn.Module, layer: TargetLayer, images: torch.Tensor, targets: Any
) -> torch.Tensor:
    """Return Grad-CAM of images.

    Parameters
    ----------
    model : module
        Images to logits, in eval mode; its parameters are left as they are.
    network : module
        The part of it, or all of it, in which `layer` is.
    layer : TargetLayer
    images : float32 tensor of shape (n, 3, H, W)
        Normalised.
    targets : int tensor of shape (n,)
        A class for each image.

    Returns
    -------
    maps : float32 tensor of shape (n, height, width), on the CPU
        How much each place of the layout raises the logit of the class, not negative.
    """
    from captum.attr import LayerGradCam, LayerGradientXActivation

    device = _device_of(model)
    # Where tokens are not pooled but attended to, each has gradients of its own: their mean would say nothing of it.
    method = LayerGradCam if layer.layout.n_class_tokens is None else LayerGradientXActivation
    with _tapped(network, layer) as places:
        attribution = method(model, places)
        maps = [
            attribution.attribute(some.to(device).requires_grad_(), classes.to(device)).sum(dim=1)
            for some, classes in zip(images.split(_CHUNK), torch.as_tensor(targets).split(_CHUNK), strict=True)
        ]
    return torch.cat(maps).detach().relu().float().cpu()


@contextmanager
def _tapped(network: nn.Module, layer: TargetLayer) -> Iterator[nn.Module]:
    """Let a layer's map pass through a module that returns it as (n, C, H, W), whatever the layout."""
    tap = nn.Identity()

    def pass_through(module: nn.Module, inputs: Any, output: Any) -> Any:
        leaves, structure = tree_flatten(output)
        number = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)][layer.output]
        leaves[number] = layer.layout.with_map(leaves[number], tap(layer.layout.to_map(leaves[number])))
        return tree_unflatten(leaves, structure)

    hook = network.get_submodule(layer.module).register_forward_hook(pass_through)
    try:
        yield tap
    finally:
        hook.remove()


def _device_of(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), torch.device("cpu"))
