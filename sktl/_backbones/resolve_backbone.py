"""Convert the `backbone`, `weights` and `image_size` parameters to a `Backbone`."""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sktl._images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from sktl._utils.paths import user_path
from sktl._utils.process_errors import raise_process_error
from sktl._utils.random import generator, seeded_globals
from sktl._utils.threads import single_threaded
from sktl._utils.warnings import warn
from sktl._version import version_of
from sktl._words import error_words, shown_value, type_of
from sktl.exceptions import BackboneError, BackboneWarning, InvalidParameterError, UnknownBackboneError

from . import model_libraries as _libraries
from .backbone import Backbone, BuiltNetwork, duplicate, tensors_digest
from .model_libraries import LocalFile, Origin, Published, Random, Source
from .own_networks import KeptOutputLayer, run, uncompiled
from .weights import SUFFIXES, file_digest

BackboneName: TypeAlias = str | Callable[[], nn.Module]
# Enum members are torchvision's weights. Naming their class here would import torchvision.
Weights: TypeAlias = str | os.PathLike[str] | Enum | None

# Suffixes of files that are not names of published weights. Reading such a file reports its kind.
_FILE_SUFFIXES = (
    *SUFFIXES, ".pkl", ".pickle", ".joblib", ".onnx", ".h5", ".hdf5", ".keras", ".pb", ".tflite", ".npz", ".npy",
    ".xml", ".json", ".zip", ".gz", ".pt2", ".jit", ".torchscript", ".model",
)  # fmt: skip
_SUGGESTIONS = 5
_LONGEST_NAME = 200  # to compare with known names


def resolve_backbone(
    backbone: BackboneName, weights: Weights, image_size: int | None, seed: int, n_stages: int | str = "all"
) -> Backbone:
    """Return the backbone for the parameters of an estimator.

    A network that has a name is built only if `n_stages` is a number, and only once per process.

    Parameters
    ----------
    backbone, weights, image_size, n_stages
        See :class:`sktl.PretrainedImageClassifier`.
    seed : int
        Seed for random weights.

    Raises
    ------
    UnknownBackboneError
        If no network or weights have this name. The message suggests the most similar names.
    WeightsNotFoundError
        If a local file does not exist.
    """
    if isinstance(backbone, nn.Module):
        raise InvalidParameterError(
            f"backbone is {type_of(backbone)}, a network itself: pass a callable that returns it, as in "
            "backbone=lambda: network, so that each fit starts from the same weights."
        )
    if callable(backbone) and not isinstance(backbone, str):
        if weights is not None and weights != "default":
            raise InvalidParameterError(
                f"weights={shown_value(weights)} cannot be combined with a callable backbone: let the callable load "
                "them, and pass weights=None if they are random."
            )
        name = qualified_name(backbone)
        source: Source = _call(backbone, seed)
    else:
        name, source = backbone, _named_source(backbone, weights)
    preprocessing = source.preprocessing
    if image_size is not None:
        image_size = int(image_size)
        preprocessing = preprocessing.with_image_size(image_size)
    used_seed = seed if weights is None else 0
    identity = _identity(source.identity(), preprocessing, used_seed)
    whole = Backbone(name, source.weights_name, preprocessing, identity, source, image_size, used_seed)
    return whole.first(n_stages)


def rebuilt_backbone(
    bare: Backbone, weights: str, preprocessing: Preprocessing, image_size: int | None, network: nn.Module
) -> Backbone:
    """Return a backbone for a network that was built from a saved description and filled with saved weights.

    Its identity depends on the tensors, because other tensors might have the same name of weights.
    """
    identity = _identity(f"{bare.name} {tensors_digest(network)}", preprocessing, 0)
    source = BuiltNetwork(network, preprocessing, identity, restored=True)
    return Backbone(bare.name, weights, preprocessing, identity, source, image_size, first_stages=bare.first_stages)


def _identity(source: str, preprocessing: Preprocessing, seed: int) -> str:
    versions = (torch.__version__, version_of("torchvision"), version_of("timm"))
    return hashlib.sha256(repr((source, preprocessing, *versions, seed)).encode()).hexdigest()


def check_weights(weights: Any) -> None:
    """Raise `InvalidParameterError` for weights of an unsupported type, without showing values, which may be long."""
    if weights is None or isinstance(weights, str | os.PathLike | Enum):
        return
    advice = "Pass the name of published weights, the path of a file, or None"
    if isinstance(weights, Mapping | nn.Module) or hasattr(weights, "read") or isinstance(weights, bytes | bytearray):
        advice = "Write a state dict to a file, torch.save(module.state_dict(), path), and pass its path"
    raise InvalidParameterError(f"weights is {type_of(weights)}. {advice}.")


def _named_source(name: str, weights: Weights) -> Source:
    if name in _libraries.PACKAGED:
        return _libraries.PackagedNetwork(name, _origin(weights, "ImageNet", name))
    if name.startswith(_libraries.TIMM_PREFIX):
        bare = name.removeprefix(_libraries.TIMM_PREFIX)
        if not _libraries.is_timm_name(bare):
            raise _unknown(name)
        return _libraries.TimmNetwork(bare, _origin(weights, "default", name))
    if name in _libraries.torchvision_names():
        return _libraries.TorchvisionNetwork(name, _torchvision_origin(name, weights))
    raise _unknown(name)


def _origin(weights: Weights, default: str, backbone: str) -> Origin:
    """Return the origin of weights for a backbone that has only the default published weights."""
    if weights == "default":
        return Published(default)
    if weights is None:
        return Random()
    if is_path(weights):
        path = user_path(weights)
        return LocalFile(path, file_digest(path))
    raise UnknownBackboneError(
        f'weights={shown_value(weights)} are not known for backbone={backbone!r}: pass "default", None, or the path of '
        'a .safetensors or .pth file. timm names its weights in the backbone, as in "timm/resnet50.a1_in1k".'
    )


def _torchvision_origin(name: str, weights: Weights) -> Origin:
    published = _libraries.torchvision_weights(name)
    if weights == "default":
        return Published(published.DEFAULT.name)
    if weights is None or is_path(weights):
        return _origin(weights, "", name)
    if isinstance(weights, str):
        member = published.__members__.get(weights.removeprefix(f"{published.__name__}."))
    else:
        member = weights if isinstance(weights, published) else None
    if member is None:
        raise UnknownBackboneError(
            f"weights={shown_value(weights)} are not known for backbone={name!r}; there are "
            f'{", ".join(map(repr, published.__members__))}. Or pass "default", None, or the path of a file.'
        )
    return Published(member.name)


def is_path(weights: Weights) -> TypeGuard[str | os.PathLike[str]]:
    """Return True for weights that are a file instead of the name of published weights."""
    if isinstance(weights, str):
        return weights.lower().endswith(_FILE_SUFFIXES) or Path(weights).name != weights
    return isinstance(weights, os.PathLike)


def _unknown(name: str) -> UnknownBackboneError:
    if name.lower().endswith(_FILE_SUFFIXES):
        return UnknownBackboneError(
            f"backbone={shown_value(name)} names a file instead of a network. Pass a file of weights as weights, and "
            "its network as backbone. To use a saved estimator as it is, call sktl.load."
        )
    names = [*_libraries.PACKAGED, *_libraries.torchvision_names()]
    names += [_libraries.TIMM_PREFIX + bare for bare in _libraries.timm_names()]
    plain = {known.lower().replace("-", "").replace("_", ""): known for known in reversed(names)}
    wanted = name[:_LONGEST_NAME].lower().replace("-", "").replace("_", "")
    near = [plain[key] for key in difflib.get_close_matches(wanted, plain, _SUGGESTIONS)]
    near += [plain[key] for key in difflib.get_close_matches("timm/" + wanted, plain, _SUGGESTIONS)]
    nearest = ", ".join(map(repr, list(dict.fromkeys(near))[:_SUGGESTIONS]))
    return UnknownBackboneError(
        f"backbone={shown_value(name)} is not known. The nearest names are: {nearest or 'none'}. There are "
        '"efficientnet_lite0" (bundled), "efficientnet_lite1" and "efficientnet_lite2", the classification models of '
        'torchvision by name, and those of timm as "timm/<name>".'
    )


def qualified_name(function: Callable[[], nn.Module]) -> str:
    """Return the name of a callable backbone."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def _call(function: Callable[[], nn.Module], seed: int) -> BuiltNetwork:
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
            found, layer = run(copy.deepcopy(module).cpu().float().eval(), image)
            return found.numpy().tobytes(), layer
    except Exception as error:  # the engine's probe reports the error
        raise_process_error(error)
        return b"", None
