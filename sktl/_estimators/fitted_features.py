"""Features that a fitted estimator computes: of the pretrained network, or of a network with trained stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from sktl._backbones.backbone import Backbone
from sktl._backbones.cut import Cut
from sktl._backbones.taps import Tapped
from sktl._features.extractor import FeatureExtractor
from sktl._features.tail_extractor import TailExtractor
from sktl._images.samples import Sample
from sktl.exceptions import BackboneError, ImageFailure


@dataclass(frozen=True)
class PretrainedFeatures:
    """Features of the pretrained network.

    Parameters
    ----------
    n_stages : int
        Number of the last stages that provide features.
    groups : tuple of (str, int)
        The name and the number of features of each group, as in `StageLayout`.
    """

    n_stages: int
    groups: tuple[tuple[str, int], ...]

    def __call__(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features), or what the extractor keeps."""
        extractor = replace(extractor, feature_stages=self.n_stages)
        features = extractor(samples)
        self._check_groups(extractor)
        return features

    def usable(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> tuple[np.ndarray, list[ImageFailure]]:
        """Return the features of usable samples, in order, and the failures of the others."""
        extractor = replace(extractor, feature_stages=self.n_stages)
        found = extractor.usable(samples)
        self._check_groups(extractor)
        return found

    def _check_groups(self, extractor: FeatureExtractor) -> None:
        if extractor.layout.groups_of(self.n_stages) != self.groups:
            raise other_blocks(extractor.backbone)

    def modules(self, backbone: Backbone) -> tuple[nn.Module, nn.Module]:
        """Return the network and the module that maps images to features, which may be the same module."""
        return _modules(backbone, self.n_stages)


@dataclass(frozen=True)
class TunedFeatures:
    """Features of a network whose last stages were trained.

    Parameters
    ----------
    cut : Cut
        The network, in eval mode and on the CPU.
    n_trained : int
        Number of its last stages that were trained.
    digest : str
        Digest of its weights.
    n_stages, groups
        As in `PretrainedFeatures`.
    """

    cut: Cut
    n_trained: int
    digest: str
    n_stages: int
    groups: tuple[tuple[str, int], ...]

    def __call__(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features), or what the extractor keeps."""
        if self.cut.split:
            return TailExtractor(replace(extractor, n_tail_stages=self.n_trained), self.cut)(samples)
        trained = extractor.backbone.with_network(self.cut.network, self.digest)
        return replace(extractor, backbone=trained, feature_stages=self.n_stages)(samples)

    def modules(self, backbone: Backbone) -> tuple[nn.Module, nn.Module]:
        """Return the same as `PretrainedFeatures.modules`; the network shares its weights with the cut network."""
        network, features = _modules(backbone, self.n_stages)
        network.load_state_dict(self.cut.network.state_dict(keep_vars=True), assign=True)
        return network, features


def other_blocks(backbone: Backbone) -> BackboneError:
    """Return the error for a network whose features differ from those of the fit."""
    return BackboneError(
        f"{backbone.described} has other blocks here than where the estimator was fitted. Fit the "
        "estimator again, or install the versions of torch, torchvision and timm that it was fitted with."
    )


def _modules(backbone: Backbone, n_stages: int) -> tuple[nn.Module, nn.Module]:
    if n_stages == 1:
        network = backbone.build()
        return network, network
    tapped = backbone.tapped()
    assert isinstance(tapped, Tapped)
    return tapped.network, tapped
