"""A pretrained network without its output layer, as a value from which the network is built, cut or tapped."""

from __future__ import annotations

import copy
import hashlib
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from sktl._images.preprocessing import Preprocessing
from sktl._short_text import LONGEST_REASON, error_words
from sktl._utils.process_errors import raise_process_error
from sktl._utils.random import generator, seeded_globals
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import BackboneError, InvalidParameterError, SktlError

from .cut import Cut
from .model_libraries import LocalFile, Origin, Source
from .shortening import IndivisibleError, Shortening, find_shortening, stage_map_of
from .stages import Stage, StageMap, find_stages
from .taps import Tapped, TappedCut, UntappableError, stage_blocks


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
        module.float().eval()
        for parameter in module.parameters():  # `requires_grad_` of a module refuses modules of TorchScript
            parameter.requires_grad_(False)
        return module

    @property
    def restored(self) -> bool:
        """Whether the network was loaded from a saved model."""
        return isinstance(self._source, BuiltNetwork) and self._source.restored

    @property
    def from_callable(self) -> bool:
        """Whether a user's callable returned the network, which may then do anything in its forward method."""
        source = self._source.whole._source if isinstance(self._source, ShortenedNetwork) else self._source
        return isinstance(source, BuiltNetwork) and not source.restored

    @isolated()
    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return `state_shapes` of a network with random weights, without allocating it if possible."""
        try:
            with torch.device("meta"):
                network = self._build()
        except Exception as error:  # constructors that read tensor values fail on the meta device
            raise_process_error(error)
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
            _stage_maps[self.identity] = stage_map_of(network) or self._find_stages(network)
        return _stage_maps[self.identity]

    def _find_stages(self, network: nn.Module) -> StageMap:
        try:
            return find_stages(network, self._probe_images()[:1])
        except SktlError:
            raise
        except Exception as error:  # gradients and hooks may cause any error in a user's network
            raise_process_error(error)
            remedy = _view_remedy(error) or 'Pass n_stages="all" and trainable_stages=0, which need no stages.'
            raise BackboneError(
                f"The stages of {self.described} cannot be found: {_reason(error)}. {remedy}"
            ) from error

    @property
    def why_untapped(self) -> str | None:
        """The error for which the last result of `tapped` has no features of stages; None if it was not an error."""
        return _untapped.get(self.identity)

    def failure(self, error: Exception) -> BackboneError:
        """Return the error that says that the network fails on images of its size, and what to do."""
        height, width = self.preprocessing.crop
        contract = (
            "The network receives float32 images of shape (n, 3, H, W) and must return features of shape (n, "
            "n_features). module.preprocessing = sktl.Preprocessing(...) sets their size."
        )
        if self._image_size is not None:
            remedy = "Leave image_size=None for the size that its weights were trained with, or change the network."
        else:
            remedy = contract if isinstance(self._source, BuiltNetwork) else "Choose another backbone."
        return BackboneError(
            f"{self.described} fails on images of {height} x {width} pixels: {_reason(error)}. "
            f"{_view_remedy(error) or remedy}"
        )

    @property
    def described(self) -> str:
        """The parameters that name the network, for messages."""
        return f"backbone={self.name!r}" + (f" with n_stages={self.first_stages}" if self.first_stages else "")

    @isolated()
    def first(self, n_stages: int | str) -> Backbone:
        """Return the backbone that ends after its first `n_stages` stages; for all stages, return this backbone.

        The features are the output of the last remaining stage, averaged over positions or, if it consists of tokens,
        pooled as the network pools its own tokens.

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
        """Return a new network that is cut before its last `n_tail_stages` stages.

        If the tail contains all stages, the network is not divided. With more than one feature stage, the tail also
        returns the pooled outputs of the blocks of the last stages.

        Raises
        ------
        BackboneError
            If fewer than `feature_stages` stages have blocks that can be tapped.
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
        """Return a new network, as `build` does, but as a `Tapped` network if its blocks can be tapped."""
        network = self.build()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about reading values of tensors that require gradients
                stages = stage_blocks(network, self.stage_map(network))
            return Tapped(network, stages, self._probe_images()) if stages else network
        except UntappableError:
            return self.build()
        except Exception as error:  # gradients and hooks may cause any error; the first run reports other faults
            raise_process_error(error)
            _untapped[self.identity] = _reason(error.__cause__ or error)
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
        # looked up by name.
        state = self.__dict__.copy()
        origin = getattr(self._source, "origin", None)
        if isinstance(origin, LocalFile):
            state["_source"] = BuiltNetwork(self.build(), self.preprocessing, self.identity)
        return state


_stage_maps: dict[str, StageMap] = {}
_shortenings: dict[str, Shortening] = {}
_untapped: dict[str, str] = {}


def _reason(error: BaseException) -> str:
    return error_words(error, LONGEST_REASON).rstrip(".")


def _view_remedy(error: Exception) -> str | None:
    """Return what to do if `view` fails on the memory format that makes convolutions fast."""
    if "view size is not compatible" not in str(error):
        return None
    return (
        "The network receives images in channels_last memory format. Replace x.view(n, -1) in its forward by "
        "x.flatten(1) or x.reshape(n, -1)."
    )


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
        return duplicate(self.module)


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


def duplicate(network: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a copy of a network. `memo` is `copy.deepcopy`'s."""
    with torch.no_grad():  # otherwise, parameters in a copy of a TorchScript module are computed from the original's
        return copy.deepcopy(network, memo)


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
