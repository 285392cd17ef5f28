"""`list_backbones`: the networks available by name, their sizes, and the sources of their weights."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from functools import cached_property

from sktl.exceptions import BackboneError

from . import model_libraries as _libraries
from .model_libraries import PackagedNetwork, Published, TimmNetwork, TorchvisionNetwork

_Network = PackagedNetwork | TorchvisionNetwork | TimmNetwork


@dataclass(frozen=True)
class BackboneInfo:
    """A network that is available by name.

    Attributes
    ----------
    name : str
        The value to pass as `backbone`.
    image_size : tuple of int, or None
        Height and width of the network's input in pixels. None if sktl does not support the network's preprocessing.
    parameters : int
        Number of parameters, including the output layer. For timm's networks, they are counted on first access.
    weights : str
        Source of the weights.
    at_hand : bool
        Whether the weights are on this machine, so that nothing has to be downloaded or installed.
    """

    name: str
    _network: _Network = field(repr=False)

    @property
    def image_size(self) -> tuple[int, int] | None:
        try:
            return self._network.preprocessing.crop
        except BackboneError:
            return None

    @cached_property
    def parameters(self) -> int:
        return self._network.count_parameters()

    @property
    def weights(self) -> str:
        return self._network.whereabouts()[0]

    @property
    def at_hand(self) -> bool:
        return self._network.whereabouts()[1]


def list_backbones(pattern: str | None = None) -> list[BackboneInfo]:
    """List the networks that are available by name, with their sizes and the sources of their weights.

    Nothing is downloaded.

    Parameters
    ----------
    pattern : str, default=None
        Part of the name, or a shell-style pattern such as `"timm/vit_*_224"`. None lists the bundled network, networks
        from packages and torchvision's networks, but not the more than one thousand networks of timm.

    Returns
    -------
    backbones : list of BackboneInfo
        Networks from packages, then torchvision's, then timm's. The networks of torchvision and timm are sorted by
        name.

    Examples
    --------
    >>> from sktl import list_backbones
    >>> [info.name for info in list_backbones("resnet1*")]
    ['resnet101', 'resnet152', 'resnet18']
    >>> list_backbones()[0].at_hand
    True
    """
    names = [*_libraries.PACKAGED, *sorted(_libraries.torchvision_names())]
    if pattern is not None:
        names += [_libraries.TIMM_PREFIX + bare for bare in sorted(set(_libraries.timm_names()))]
        wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
        names = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
    return [BackboneInfo(name, _network(name)) for name in names]


def _network(name: str) -> _Network:
    if name in _libraries.PACKAGED:
        return PackagedNetwork(name, Published("ImageNet"))
    if name.startswith(_libraries.TIMM_PREFIX):
        return TimmNetwork(name.removeprefix(_libraries.TIMM_PREFIX), Published("default"))
    return TorchvisionNetwork(name, Published(_libraries.torchvision_weights(name).DEFAULT.name))
