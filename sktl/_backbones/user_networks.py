"""Networks that callables of users return: copied, checked and identified, without wrappers of `torch.compile`."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sktl._images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from sktl._short_text import error_words, type_of
from sktl._utils.process_errors import raise_process_error
from sktl._utils.random import generator, seeded_globals
from sktl._utils.threads import single_threaded
from sktl._utils.warnings import warn
from sktl.exceptions import BackboneError, BackboneWarning, InvalidParameterError

from . import model_libraries as _libraries
from .backbone import BuiltNetwork, duplicate

# Numbers of classes of ImageNet, with and without a class for the background.
_OF_IMAGENET = (1000, 1001)
# Fewer outputs than this, each from at least so many inputs, are logits rather than features. Embeddings of so few
# numbers usually have a power of 2 of them.
_FEW = 128
_LEAST_RATIO = 10
_OF_EMBEDDINGS = (16, 32, 64)


def qualified_name(function: Callable[[], nn.Module]) -> str:
    """Return the name of a callable backbone."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def call_backbone(function: Callable[[], nn.Module], seed: int) -> BuiltNetwork:
    """Return a copy of the network that a callable returns, with its preprocessing and a digest of what it computes.

    Raises
    ------
    InvalidParameterError
        If the callable returns something else.
    BackboneError
        If the network has no values yet, or cannot be copied.

    Warns
    -----
    BackboneWarning
        If the network declares no preprocessing, or seems to have kept its output layer for other classes.
    """
    name = qualified_name(function)
    with seeded_globals(seed):
        module = function()
    if not isinstance(module, nn.Module):
        raise InvalidParameterError(
            f"backbone={name} returned {type_of(module)}; it must return a torch.nn.Module that maps float32 "
            "images (n, 3, H, W) to features (n, n_features)."
        )
    preprocessing = _declared_preprocessing(module, name)
    copied = uncompiled(_copied(module, name))
    answer, output_layer = _answer(copied, preprocessing)
    if output_layer is not None:
        warn(output_layer.warning(name), BackboneWarning)
    digest = _module_digest(copied, answer)
    return BuiltNetwork(copied.cpu(), preprocessing, digest)  # networks are built, probed and cut on the CPU


def _copied(module: nn.Module, name: str) -> nn.Module:
    """Return a copy of a network, because the caller may change the network later.

    Raises
    ------
    BackboneError
        If the network has no values yet, or cannot be copied.
    """
    _check_values(module, name)
    try:
        computed = _computed_tensors(module)
        copied = duplicate(module, {id(tensor): tensor.detach().clone() for tensor in computed})
        return _without_weight_norm(copied) if computed else copied
    except Exception as error:  # attributes of users' networks may raise anything
        raise_process_error(error)
        raise BackboneError(
            f"backbone={name} returned a network that cannot be copied by copy.deepcopy: {error_words(error)}. Remove "
            "the attribute that cannot be copied from the network."
        ) from error


def _check_values(module: nn.Module, name: str) -> None:
    """Raise an error for a network whose weights have no values."""
    tensors = (*module.parameters(), *module.buffers())
    if any(is_lazy(tensor) for tensor in tensors):
        raise BackboneError(
            f"backbone={name} returned a network with lazy layers, whose weights have no shape yet. Run the network "
            "once on an image before the callable returns it, as in network(torch.zeros(1, 3, H, W))."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise BackboneError(
            f"backbone={name} returned a network on the meta device, which has no values. Build it on the CPU and "
            "load its weights."
        )


def _computed_tensors(module: nn.Module) -> list[torch.Tensor]:
    """Return the attributes that are computed from parameters, which `copy.deepcopy` refuses to copy."""
    attributes = [value for part in module.modules() for value in vars(part).values()]
    tensors = [value for value in (*attributes, *module.buffers()) if isinstance(value, torch.Tensor)]
    return [tensor for tensor in tensors if not tensor.is_leaf]


def _without_weight_norm(module: nn.Module) -> nn.Module:
    """Replace weights that the deprecated `weight_norm` computes anew in each run, so later copies work too."""
    from torch.nn.utils.weight_norm import WeightNorm  # deprecated, so a future torch may lack it

    for part in module.modules():
        for hook in [*part._forward_pre_hooks.values()]:
            if isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(part, hook.name)
    return module


def _declared_preprocessing(module: nn.Module, name: str) -> Preprocessing:
    declared = getattr(module, "preprocessing", None)
    if isinstance(declared, Preprocessing):
        return declared
    config = getattr(module, "pretrained_cfg", None)
    if isinstance(config, dict):
        return _libraries.timm_preprocessing(config, name)
    warn(
        f"backbone={name} declares no preprocessing, so its images are prepared as for most ImageNet networks: shorter "
        f"side 256, center crop 224, mean {IMAGENET_MEAN}, std {IMAGENET_STD}. Set module.preprocessing = "
        "sktl.Preprocessing(...) to change or confirm it.",
        BackboneWarning,
    )
    return Preprocessing(256, (224, 224))


def _module_digest(module: nn.Module, answer: bytes) -> str:
    """Return a digest of a module's tensors, structure, code and answer. Others may show in the pass's probe."""
    digest = hashlib.sha256(repr(module).encode())
    for part_name, part in module.named_modules():
        code = getattr(getattr(type(part), "forward", None), "__code__", None)  # classes of TorchScript have no forward
        constants = [c for c in code.co_consts if isinstance(c, bool | int | float | str)] if code else []
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple)}
        described = (part_name, type(part).__module__, type(part).__qualname__, sorted(plain.items()))
        digest.update(repr((described, constants, code and (code.co_code, code.co_names))).encode())
    for tensor_name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{tensor_name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(answer)
    return digest.hexdigest()


def _answer(module: nn.Module, preprocessing: Preprocessing) -> tuple[bytes, KeptOutputLayer | None]:
    """Return the output for one fixed image, which reveals differences that the code of a network does not show.

    The second result is the layer that gave the output, if it is probably an output layer for other classes.
    """
    image = torch.randn(1, 3, *preprocessing.crop, generator=generator(0))
    try:
        with single_threaded(), seeded_globals(0), torch.inference_mode():
            found, layer = _run(copy.deepcopy(module).cpu().float().eval(), image)
            return found.numpy().tobytes(), layer
    except Exception as error:  # the engine's probe reports the error
        raise_process_error(error)
        return b"", None


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


def _run(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, KeptOutputLayer | None]:
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
