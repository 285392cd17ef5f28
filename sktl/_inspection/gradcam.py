"""Grad-CAM: the positions in an image that support a class, by the gradients of its logit.

R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization", ICCV 2017.
Captum computes Grad-CAM. This file decides at which tensor of a network, and how the tensor is laid out: (n, C, H, W)
in convolutional networks, (n, H, W, C) in Swin, or tokens (n, T, C) in a ViT, which may follow class tokens. Each token
is weighted by its own gradient instead of the mean gradient, as in HiResCAM: R. L. Draelos and L. Carin, "Use HiResCAM
instead of Grad-CAM for faithful explanations of convolutional neural networks", arXiv 2011.08891, 2020. If all
positions are pooled by their mean, both methods give the same map.
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

from sktl._backbones.stages import Call, is_like, record, single_tensors, tensors
from sktl._short_text import shown_value
from sktl._utils.random import generator
from sktl.exceptions import BackboneError, InvalidParameterError

_MOST_CLASS_TOKENS = 16
_CHUNK = 8


@dataclass(frozen=True)
class Layout:
    """How a tensor represents positions in an image.

    Parameters
    ----------
    height, width : int
        Size of the grid of positions.
    channels_last : bool
    n_class_tokens : int or None
        Number of leading tokens that do not represent a position; None if the tensor does not consist of tokens.
    """

    height: int
    width: int
    channels_last: bool
    n_class_tokens: int | None = None

    def to_map(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the positions as a tensor of shape (n, C, height, width)."""
        if self.n_class_tokens is not None:
            tokens = tensor[:, self.n_class_tokens :].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], self.height, self.width)
        return tensor.permute(0, 3, 1, 2) if self.channels_last else tensor

    def with_map(self, tensor: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the tensor with the positions replaced: the inverse of `to_map`."""
        if self.n_class_tokens is not None:
            return torch.cat([tensor[:, : self.n_class_tokens], places.flatten(2).transpose(1, 2)], dim=1)
        return places.permute(0, 2, 3, 1) if self.channels_last else places


@dataclass(frozen=True)
class TargetLayer:
    """The tensor that Grad-CAM uses: one of the outputs of a module."""

    module: str
    output: int
    layout: Layout


def find_layout(shape: tuple[int, ...], image_shape: tuple[int, int]) -> Layout | None:
    """Return how a tensor of this shape represents positions in an image (height, width), or None if it does not."""
    if len(shape) == 3:
        return _token_layout(shape[1], image_shape)
    if len(shape) != 4:
        return None
    first, last = is_like(shape[2:], image_shape), is_like(shape[1:3], image_shape)
    height, width = shape[1:3] if last and not first else shape[2:]
    return Layout(height, width, last and not first) if (first or last) and height * width > 1 else None


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
    """Return the last tensor in a network that is a map of the image and that the output depends on.

    In a convolutional network, this is the input of the pooling. In a ViT whose output is its class token, the other
    tokens have no influence after the last block: there it is the input of the block's attention.

    Parameters
    ----------
    network : module
        Maps images (n, 3, H, W) to features (n, n_features), in eval mode.
    image_shape : (int, int)
        Height and width of its input.
    layer : str, default=None
        Module to use instead; its first output that is a map is used.

    Raises
    ------
    BackboneError
        If the network has no such tensor.
    InvalidParameterError
        If `layer` does not exist, or its outputs are not maps.
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
        "Grad-CAM needs a layer that keeps a map of the image, but the network has none that its output depends on. If "
        "you know one, pass its name in network.named_modules() as layer."
    )


class _InfluenceCounter:
    """Whether an output depends on the positions in an earlier tensor."""

    def __init__(self, output: torch.Tensor):
        # A random direction, because the sum of the outputs of a layer normalization is constant and has no gradient.
        with torch.enable_grad():
            self.value = (output * torch.randn(output.shape, generator=generator(1)).to(output)).sum()

    def __call__(self, tensor: torch.Tensor, layout: Layout) -> bool:
        if not tensor.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(self.value, [tensor], allow_unused=True, retain_graph=True)
        return gradient is not None and bool(layout.to_map(gradient).any())


def _last_like(layer: TargetLayer, shape: torch.Size, calls: list[Call], counts: _InfluenceCounter) -> TargetLayer:
    """Return the last layer after this one that influences the output: in a ViT, the attention's normalized input.

    It is not a boundary, because residual connections carry the other tokens past it, but nothing reads them there.
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
            f"layer={shown_value(layer)} is not a module that the network runs. Its outermost modules are {names}; "
            "estimator.module_.backbone.named_modules() lists all of them."
        )
    for number, tensor in outputs:
        height, width = image.shape[2:]
        if layout := find_layout(tuple(tensor.shape), (height, width)):
            return TargetLayer(layer, number, layout)
    raise InvalidParameterError(
        f"layer={shown_value(layer)} returns a tensor of shape {tuple(outputs[0][1].shape)} for one image, which is "
        "not a map of the image: pass a layer before the pooling."
    )


def class_maps(
    model: nn.Module, network: nn.Module, layer: TargetLayer, images: torch.Tensor, targets: Any
) -> torch.Tensor:
    """Return the Grad-CAM maps of images.

    Parameters
    ----------
    model : module
        Maps images to logits, in eval mode. Its parameters do not change.
    network : module
        The part of the model, or the whole model, that contains `layer`.
    layer : TargetLayer
    images : float32 tensor of shape (n, 3, H, W)
        Normalized images.
    targets : int tensor of shape (n,)
        Class of each image.

    Returns
    -------
    maps : float32 tensor of shape (n, height, width), on the CPU
        How much each position raises the logit of the class; negative values are set to zero.
    """
    from captum.attr import LayerGradCam, LayerGradientXActivation

    device = _device_of(model)
    # Tokens that are attended to instead of pooled have different gradients, which their mean would hide.
    method = LayerGradCam if layer.layout.n_class_tokens is None else LayerGradientXActivation
    with _tapped(network, layer) as places:
        # A copy, because the network may change its input in place, which a leaf of the graph does not allow.
        attribution = method(lambda some: model(some.clone()), places)
        maps = [
            attribution.attribute(some.to(device).requires_grad_(), classes.to(device)).sum(dim=1)
            for some, classes in zip(images.split(_CHUNK), torch.as_tensor(targets).split(_CHUNK), strict=True)
        ]
    return torch.cat(maps).detach().relu().float().cpu()


@contextmanager
def _tapped(network: nn.Module, layer: TargetLayer) -> Iterator[nn.Module]:
    """Yield a module that a layer's map passes through in the layout (n, C, H, W), which Captum expects."""
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
