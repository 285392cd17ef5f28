"""Convert the `backbone`, `weights` and `image_size` parameters to a `Backbone`."""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import nn

from sktl._images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from sktl._utils.isolation import isolated
from sktl._utils.paths import user_path
from sktl._utils.random import generator, seeded_globals
from sktl._utils.threads import single_threaded
from sktl._utils.warnings import warn
from sktl._version import version_of
from sktl.exceptions import BackboneError, BackboneWarning, InvalidParameterError, UnknownBackboneError

from . import model_libraries as _libraries
from .cut import Cut
from .first_stages import IndivisibleError, Shortening, find_shortening, stage_map_of
from .model_libraries import LocalFile, Origin, Published, Random, Source
from .stages import Stage, StageMap, find_stages
from .taps import Tapped, TappedCut, stage_blocks
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


@dataclass(frozen=True)
class Backbone:
    """A description of a pretrained network without its output layer; `build` creates the network itself.

    Parameters
    ----------
    name : str
        Name as given to the estimator, or the qualified name of a callable.
    weights : str
        Name of the weights for users: a published name, a path, or "random".
    preprocessing : Preprocessing
        Preprocessing that the network expects.
    identity : str
        Digest of everything that affects the features of an image, including preprocessing and library versions.
    first_stages : int or None
        Number of stages, counted from the input, if later stages were removed.
    """

    name: str
    weights: str
    preprocessing: Preprocessing
    identity: str
    first_stages: int | None = field(default=None, kw_only=True)
    _source: Source = field(repr=False, compare=False)
    _image_size: int | None = field(default=None, repr=False, compare=False)
    _seed: int = field(default=0, repr=False, compare=False)

    @isolated()
    def build(self) -> nn.Module:
        """Return a new frozen network in eval mode: (n, 3, H, W) normalized float32 -> (n, n_features)."""
        return self._build()

    def _build(self) -> nn.Module:
        with seeded_globals(self._seed):
            module = self._source.build(self._image_size)
        return module.float().eval().requires_grad_(False)

    @property
    def restored(self) -> bool:
        """Whether the network was loaded from a saved model."""
        return isinstance(self._source, BuiltNetwork) and self._source.restored

    @isolated()
    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return `state_shapes` of a network with random weights, without allocating it if possible."""
        try:
            with torch.device("meta"):
                network = self._build()
        except Exception:  # constructors that read tensor values fail on the meta device
            network = self._build()
        return state_shapes(network)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the network from input to output, each with its name and number of parameters."""
        return self.stage_map().stages

    @property
    def n_stages(self) -> int | None:
        """Number of stages of the network, if it is known without building the network."""
        found = _stage_maps.get(self.identity)
        return None if found is None else len(found.stages)

    @isolated()
    def stage_map(self, network: nn.Module | None = None) -> StageMap:
        """Return the stages, determined once per process. `network` is the result of `build`, if available."""
        if self.identity not in _stage_maps:
            network = network or self.build()
            _stage_maps[self.identity] = stage_map_of(network) or find_stages(network, self._probe_images()[:1])
        return _stage_maps[self.identity]

    @property
    def described(self) -> str:
        """The parameters that name the network, for messages."""
        return f"backbone={self.name!r}" + (f" with n_stages={self.first_stages}" if self.first_stages else "")

    @isolated()
    def first(self, n_stages: int | str) -> Backbone:
        """Return the backbone that ends after its first stages; "all" and their number return this backbone.

        The features are the output of the last of them: averaged over positions, or tokens that are pooled as the
        network pools its own.

        Raises
        ------
        InvalidParameterError
            If there are fewer stages. The message lists them.
        BackboneError
            If later stages cannot be removed.
        """
        if n_stages == "all":
            return self
        stages = self.stages
        if int(n_stages) > len(stages):
            raise InvalidParameterError(
                f'n_stages={n_stages} is more than {self._listed(stages)} Pass at most {len(stages)}, or "all".'
                if stages
                else f'n_stages={n_stages} is not possible: backbone={self.name!r} has no stages. Pass n_stages="all".'
            )
        return self if int(n_stages) == len(stages) else self._shortened(int(n_stages))

    def _shortened(self, n_stages: int) -> Backbone:
        identity = hashlib.sha256(f"{self.identity} first {n_stages}".encode()).hexdigest()
        if identity not in _shortenings:
            network = self.build()
            try:
                found = find_shortening(network, self.stage_map(network), n_stages, self._probe_images())
            except IndivisibleError as error:
                raise BackboneError(
                    f"n_stages={n_stages} is not possible: later stages cannot be removed from "
                    f'backbone={self.name!r}, because {error}. Pass n_stages="all", or choose another backbone.'
                ) from error
            _shortenings[identity] = found
            _stage_maps[identity] = found.stage_map
        source: Source = ShortenedNetwork(self, _shortenings[identity])
        if isinstance(self._source, BuiltNetwork):  # its last stages would stay in memory
            source = replace(self._source, module=source.build(None), digest=identity)
        return replace(self, identity=identity, _source=source, first_stages=n_stages)

    def _listed(self, stages: tuple[Stage, ...]) -> str:
        listed = ", ".join(stage.name for stage in stages)
        return f"the {len(stages)} stages of {self.described}: {listed}."

    def count_trainable(self, trainable_stages: int | str) -> int:
        """Return the number of stages for a `trainable_stages` parameter.

        Raises
        ------
        InvalidParameterError
            If there are fewer stages. The message lists them.
        """
        if trainable_stages == 0:
            return 0
        stages = self.stages
        wanted = len(stages) if trainable_stages == "all" else int(trainable_stages)
        if not stages:
            raise InvalidParameterError(
                f"trainable_stages={trainable_stages!r} is not possible: backbone={self.name!r} has no trainable "
                "parameters. Leave trainable_stages=0."
            )
        if wanted > len(stages):
            raise InvalidParameterError(
                f"trainable_stages={trainable_stages!r} is more than {self._listed(stages)} Pass at most "
                f'{len(stages)}, or "all".'
            )
        return wanted

    @isolated()
    def cut(self, n_tail_stages: int, feature_stages: int = 1) -> Cut:
        """Return a new network, cut in front of its last stages; with all stages, it is not divided.

        With more than one feature stage, the tail also returns the pooled outputs of the blocks of the last stages.

        Raises
        ------
        BackboneError
            If the network has fewer stages whose blocks can be tapped.
        """
        images = self._probe_images()
        if feature_stages == 1:
            network = self.build()
            return Cut(network, self.stage_map(network), n_tail_stages, images)
        tapped = self.tapped()
        if not isinstance(tapped, Tapped) or tapped.layout.n_stages < feature_stages:
            raise BackboneError(f"{self.described} has no features of {feature_stages} stages.")
        return TappedCut(tapped, self.stage_map(tapped.network), n_tail_stages, feature_stages, images)

    @isolated()
    def tapped(self) -> nn.Module:
        """Return the same as `build`, as a `Tapped` network if its blocks can be tapped."""
        network = self.build()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about reading values of tensors that require gradients
                stages = stage_blocks(network, self.stage_map(network))
            return Tapped(network, stages, self._probe_images()) if stages else network
        except Exception:  # gradients and hooks may cause any error; other faults are reported in the first run
            return self.build()

    def with_network(self, network: nn.Module, digest: str) -> Backbone:
        """Return this backbone with another network of the same architecture, whose tensors have the given digest."""
        identity = hashlib.sha256(f"{self.identity} {digest}".encode()).hexdigest()
        source = BuiltNetwork(network, self.preprocessing, identity)
        if self.identity in _stage_maps:  # trained networks have the same stages, so they need not be determined again
            _stage_maps[identity] = _stage_maps[self.identity]
        name = f"{self.weights}, trained"
        return Backbone(self.name, name, self.preprocessing, identity, source, first_stages=self.first_stages)

    def _probe_images(self) -> torch.Tensor:
        """Return two images of noise as network input."""
        shape = (2, *self.preprocessing.crop, 3)
        return self.preprocessing.normalize(torch.randint(256, shape, dtype=torch.uint8, generator=generator(0)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self  # immutable

    def __getstate__(self) -> dict[str, Any]:
        # Networks from local files and user functions are included in the pickle. Networks with published weights are
        # found again by name.
        state = self.__dict__.copy()
        origin = getattr(self._source, "origin", None)
        if isinstance(origin, LocalFile):
            state["_source"] = BuiltNetwork(self.build(), self.preprocessing, self.identity)
        return state


_stage_maps: dict[str, StageMap] = {}
_shortenings: dict[str, Shortening] = {}


@dataclass(frozen=True, eq=False)
class BuiltNetwork:
    """An existing network, returned by a user's callable."""

    module: nn.Module
    preprocessing: Preprocessing
    digest: str
    weights_name: str = "from the callable"
    restored: bool = False

    def identity(self) -> str:
        return self.digest

    def build(self, image_size: int | None) -> nn.Module:
        return copy.deepcopy(self.module)


@dataclass(frozen=True, eq=False)
class ShortenedNetwork:
    """The first stages of a network that has a name."""

    whole: Backbone
    shortening: Shortening

    @property
    def weights_name(self) -> str:
        return self.whole.weights

    @property
    def preprocessing(self) -> Preprocessing:
        return self.whole.preprocessing

    @property
    def origin(self) -> Origin | None:
        return getattr(self.whole._source, "origin", None)

    def identity(self) -> str:
        return self.whole.identity

    def build(self, image_size: int | None) -> nn.Module:
        return self.shortening.shorten(self.whole._build())


def state_shapes(network: nn.Module) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return the shape and dtype of each tensor in a network's state."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()}


def tensors_digest(network: nn.Module) -> str:
    """Return a digest of the names and values of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def resolve_backbone(
    backbone: BackboneName, weights: Weights, image_size: int | None, seed: int, n_stages: int | str = "all"
) -> Backbone:
    """Return the backbone for the parameters of an estimator.

    Networks that have a name are built only if `n_stages` is a number, once per process.

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
            f"backbone is a {type(backbone).__name__}, a network itself: pass a callable that returns it, as in "
            "backbone=lambda: network, so that each fit starts from the same weights."
        )
    if callable(backbone) and not isinstance(backbone, str):
        if weights is not None and weights != "default":
            raise InvalidParameterError(
                f"weights={weights!r} cannot be combined with a callable backbone: let the callable load them, and "
                "pass weights=None if they are random."
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

    Its identity depends on the tensors, because the name of the weights might be shared with other tensors.
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
    raise InvalidParameterError(f"weights is a {type(weights).__name__}. {advice}.")


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
    if _is_path(weights):
        path = user_path(weights)
        return LocalFile(path, file_digest(path))
    raise UnknownBackboneError(
        f'weights={weights!r} are not known for backbone={backbone!r}: pass "default", None, or the path of a '
        ".safetensors or .pth file. timm names its weights in the backbone, as in "
        '"timm/resnet50.a1_in1k".'
    )


def _torchvision_origin(name: str, weights: Weights) -> Origin:
    published = _libraries.torchvision_weights(name)
    if weights == "default":
        return Published(published.DEFAULT.name)
    if weights is None or _is_path(weights):
        return _origin(weights, "", name)
    if isinstance(weights, str):
        member = published.__members__.get(weights.removeprefix(f"{published.__name__}."))
    else:
        member = weights if isinstance(weights, published) else None
    if member is None:
        raise UnknownBackboneError(
            f"weights={weights!r} are not known for backbone={name!r}; there are "
            f'{", ".join(map(repr, published.__members__))}. Or pass "default", None, or the path of a file.'
        )
    return Published(member.name)


def _is_path(weights: Weights) -> TypeGuard[str | os.PathLike[str]]:
    if isinstance(weights, str):
        return weights.lower().endswith(_FILE_SUFFIXES) or Path(weights).name != weights
    return isinstance(weights, os.PathLike)


def _unknown(name: str) -> UnknownBackboneError:
    names = [*_libraries.PACKAGED, *_libraries.torchvision_names()]
    names += [_libraries.TIMM_PREFIX + bare for bare in _libraries.timm_names()]
    plain = {known.lower().replace("-", "").replace("_", ""): known for known in reversed(names)}
    wanted = name.lower().replace("-", "").replace("_", "")
    near = [plain[key] for key in difflib.get_close_matches(wanted, plain, _SUGGESTIONS)]
    near += [plain[key] for key in difflib.get_close_matches("timm/" + wanted, plain, _SUGGESTIONS)]
    nearest = ", ".join(map(repr, list(dict.fromkeys(near))[:_SUGGESTIONS]))
    return UnknownBackboneError(
        f"backbone={name!r} is not known. The nearest names are: {nearest or 'none'}. There are "
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
            f"backbone={name} returned a {type(module).__name__}; it must return a torch.nn.Module that maps float32 "
            "images (n, 3, H, W) to features (n, n_features)."
        )
    preprocessing = _declared_preprocessing(module, name)
    # Copied, because the caller may change the module later.
    return BuiltNetwork(copy.deepcopy(module), preprocessing, _module_digest(module, preprocessing))


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


def _module_digest(module: nn.Module, preprocessing: Preprocessing) -> str:
    """Return a digest of a module's tensors, structure and code. Other differences may show in the pass's probe."""
    digest = hashlib.sha256(repr(module).encode())
    for part_name, part in module.named_modules():
        code = getattr(type(part).forward, "__code__", None)
        constants = [c for c in code.co_consts if isinstance(c, bool | int | float | str)] if code else []
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple)}
        described = (part_name, type(part).__module__, type(part).__qualname__, sorted(plain.items()))
        digest.update(repr((described, constants, code and (code.co_code, code.co_names))).encode())
    for tensor_name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{tensor_name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(_answer(module, preprocessing))
    return digest.hexdigest()


def _answer(module: nn.Module, preprocessing: Preprocessing) -> bytes:
    """Return the output for one fixed image, which reveals differences that the code of a network does not show."""
    image = torch.randn(1, 3, *preprocessing.crop, generator=generator(0))
    try:
        with single_threaded(), seeded_globals(0), torch.inference_mode():
            return copy.deepcopy(module).cpu().float().eval()(image).numpy().tobytes()
    except Exception:  # the engine's probe reports the error
        return b""
