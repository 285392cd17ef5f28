"""Convert the `backbone`, `weights` and `image_size` parameters to a `Backbone`."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import nn

from sktl._images.preprocessing import Preprocessing
from sktl._short_text import shown_value, type_of
from sktl._utils.paths import user_path
from sktl._version import version_of
from sktl.exceptions import InvalidParameterError, UnknownBackboneError

from . import model_libraries as _libraries
from .backbone import Backbone, BuiltNetwork, tensors_digest
from .model_libraries import LocalFile, Origin, Published, Random, Source
from .user_networks import call_backbone, qualified_name
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
        source: Source = call_backbone(backbone, seed)
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
