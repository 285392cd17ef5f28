"""Networks that users built: torch.compile's wrappers, which are removed, and output layers that were probably left."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

# Numbers of classes of ImageNet, with and without a class for the background.
_OF_IMAGENET = (1000, 1001)
# Fewer outputs than this, each from at least so many inputs, are logits rather than features. Embeddings of so few
# numbers usually have a power of 2 of them.
_FEW = 128
_LEAST_RATIO = 10
_OF_EMBEDDINGS = (16, 32, 64)


def uncompiled(module: nn.Module) -> nn.Module:
    """Return a network without wrappers of `torch.compile`. Those of its parts are removed in place.

    A wrapper compiles anew for each shape and each mode, and cannot be cut or tapped.
    """
    if type(module).__name__ == "OptimizedModule":  # naming the class would import torch's compiler
        return uncompiled(module._orig_mod)  # type: ignore[arg-type]
    for name, part in [*module._modules.items()]:
        if part is not None and (inner := uncompiled(part)) is not part:
            setattr(module, name, inner)
    return module


class KeptOutputLayer(NamedTuple):
    """A fully connected layer of a network, by its name in the network."""

    name: str
    n_in: int
    n_out: int

    def warning(self, backbone: str) -> str:
        """Return the warning about a backbone that returns the output of this layer."""
        return (
            f"backbone={backbone} returns the {self.n_out} outputs of its layer {self.name!r}, which look like logits "
            f"of other classes. The {self.n_in} values that this layer receives are better features: replace the layer "
            "by torch.nn.Identity(), or pass num_classes=0 to timm.create_model."
        )


def run(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, KeptOutputLayer | None]:
    """Return the output of a network, and its layer that is probably an output layer for other classes, if any."""
    last: tuple[str, nn.Linear, torch.Tensor] | None = None

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Linear, inputs: Any, output: torch.Tensor) -> None:
            nonlocal last
            last = name, layer, output.clone()  # activations after the layer may change it in place

        return hook

    layers = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    handles = [part.register_forward_hook(hook_of(name)) for name, part in layers]
    try:
        found = network(images)
    finally:
        for handle in handles:
            handle.remove()
    if last is None or not isinstance(found, torch.Tensor) or not torch.equal(found, last[2]):
        return found, None
    layer = KeptOutputLayer(last[0], last[1].in_features, last[1].out_features)
    return found, layer if _predicts_classes(network, layer) else None


def _predicts_classes(network: nn.Module, layer: KeptOutputLayer) -> bool:
    """Return True if a last layer has as many outputs as classes. Projections to an embedding are last layers, too."""
    config = getattr(network, "pretrained_cfg", None)
    if isinstance(config, dict) and "clip" not in str(config.get("architecture")):
        published = config.get("num_classes")
    else:  # what timm calls the classes of CLIP are the numbers of its embedding
        published = None
    few = layer.n_out < _FEW and layer.n_out not in _OF_EMBEDDINGS and layer.n_in >= _LEAST_RATIO * layer.n_out
    return few or layer.n_out in (*_OF_IMAGENET, published)
