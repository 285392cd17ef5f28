"""What a fitted estimator makes of images: features of the pretrained network, or of one with trained stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from sktl._backbones.backbone import Backbone
from sktl._backbones.cut import Cut
from sktl._backbones.taps import Tapped
from sktl._features.extractor import FeatureExtractor, TailExtractor
from sktl._images.samples import Sample
from sktl.exceptions import BackboneError


@dataclass(frozen=True)
class PretrainedFeatures:
    """Features of the network as it was when the estimator was fitted.

    Parameters
    ----------
    n_stages : int
        Of how many of the last stages they are.
    groups : tuple of (str, int)
        The block that each group of features is from, "" for the output of the network, and how many there are.
    """

    n_stages: int
    groups: tuple[tuple[str, int], ...]

    def __call__(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features)."""
        extractor = replace(extractor, feature_stages=self.n_stages)
        features = extractor(samples)
        if extractor.layout.groups_of(self.n_stages) != self.groups:
            raise BackboneError(
                f"backbone={extractor.backbone.name!r} has other blocks here than where the estimator was fitted. Fit "
                "it again, or install the versions of torch, torchvision and timm that it was fitted with."
            )
        return features

    def modules(self, backbone: Backbone) -> tuple[nn.Module, nn.Module]:
        """Return the network, and the module that maps images to features, which may be the same."""
        if self.n_stages == 1:
            network = backbone.build()
            return network, network
        tapped = backbone.tapped()
        assert isinstance(tapped, Tapped)
        return tapped.network, tapped


@dataclass(frozen=True)
class TunedFeatures:
    """Features of the output of a network whose last stages were trained.

    Parameters
    ----------
    cut : Cut
        The network, in eval mode and on the CPU.
    n_trained : int
        How many of its last stages were trained.
    digest : str
        Of its weights.
    groups : tuple of (str, int)
        As `PretrainedFeatures` has them.
    """

    cut: Cut
    n_trained: int
    digest: str
    groups: tuple[tuple[str, int], ...]

    @property
    def n_stages(self) -> int:
        """How many stages give features."""
        return 1

    def __call__(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return the features of samples, float32 of shape (n_samples, n_features)."""
        if self.cut.split:
            return TailExtractor(replace(extractor, n_tail_stages=self.n_trained), self.cut)(samples)
        trained = extractor.backbone.with_network(self.cut.network, self.digest)
        return replace(extractor, backbone=trained)(samples)

    def modules(self, backbone: Backbone) -> tuple[nn.Module, nn.Module]:
        """Return the network twice, which shares its weights with the cut one."""
        network = backbone.build()
        network.load_state_dict(self.cut.network.state_dict(keep_vars=True), assign=True)
        return network, network
