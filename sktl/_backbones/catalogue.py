"""`list_backbones`: which networks there are by name, how large they are, and where their weights come from."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from functools import cached_property

from sktl.exceptions import BackboneError

from . import sources as _sources
from .sources import PackagedNetwork, Published, TimmNetwork, TorchvisionNetwork

_Network = PackagedNetwork | TorchvisionNetwork | TimmNetwork


@dataclass(frozen=True)
class BackboneInfo:
    """A network that the parameter `backbone` can name.

    Attributes
    ----------
    name : str
        The value of the parameter.
    image_size : tuple of int, or None
        Height and width in pixels of what the network sees; None of a network whose preprocessing sktl does not have.
    parameters : int
        Their number, output layer included; for networks of timm it is counted when it is asked for.
    weights : str
        Where its weights come from.
    at_hand : bool
        Whether they are on this machine, so that nothing has to be downloaded or installed.
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
    """Return the networks that the parameter `backbone` can name, with their sizes and the source of their weights.

    Nothing is downloaded.

    Parameters
    ----------
    pattern : str, default=None
        Part of the name, or a pattern of the shell such as `"timm/vit_*_224"`. None is all networks of sktl and of
        torchvision, without the more than thousand of timm.

    Returns
    -------
    backbones : list of BackboneInfo
        Those that sktl knows packages for, then those of torchvision and timm, each by name.

    Examples
    --------
    >>> from sktl import list_backbones
    >>> [info.name for info in list_backbones("resnet1*")]
    ['resnet101', 'resnet152', 'resnet18']
    >>> list_backbones()[0].at_hand
    True
    """
    names = [*_sources.PACKAGED, *sorted(_sources.torchvision_names())]
    if pattern is not None:
        names += [_sources.TIMM_PREFIX + bare for bare in sorted(set(_sources.timm_names()))]
        wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
        names = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
    return [BackboneInfo(name, _network(name)) for name in names]


def _network(name: str) -> _Network:
    if name in _sources.PACKAGED:
        return PackagedNetwork(name, Published("ImageNet"))
    if name.startswith(_sources.TIMM_PREFIX):
        return TimmNetwork(name.removeprefix(_sources.TIMM_PREFIX), Published("default"))
    return TorchvisionNetwork(name, Published(_sources.torchvision_weights(name).DEFAULT.name))
