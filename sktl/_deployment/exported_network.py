"""A fitted estimator as one network, from uint8 pixels of the network's size to probabilities, numbers or features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sktl._backbones.taps import Tapped
from sktl._estimators.fitted_features import other_blocks
from sktl._features.batchnorm_folding import fold_batchnorm
from sktl._features.feature_provenance import relative_difference
from sktl._images.preprocessing import Preprocessing
from sktl._short_text import one_line
from sktl._utils.compiler_import import import_compiler_without_folder
from sktl._utils.forked_gradients import keep_gradients_possible
from sktl._utils.locks import fork_safe_lock
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import ExportError, SktlError
from sktl.runtime.document import INPUT, OUTPUTS, TYPICALITY

from .typicality_graph import TypicalityGraph

# Folding must not change outputs by more than rounding does, as in a pass.
_FOLDING_TOLERANCE = 1e-5
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "classes": lambda: nn.Softmax(dim=1),
    "labels": nn.Sigmoid,
    "numbers": nn.Identity,
    "features": nn.Identity,
}
# torch traces for one thread at a time.
TRACING = fork_safe_lock()


class PixelGraph(nn.Module):
    """All that follows resizing and cropping: normalization, network, output layer, and softmax or sigmoid.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of which the normalization is a part of the graph.
    features : nn.Module
        From normalized images to features.
    head : nn.Module
        The output layer. Standardization, and the way back to the unit of numbers, are folded into it.
    kind : {"classes", "labels", "numbers", "features"}
    typicality : TypicalityGraph or None
        If given, p-values are a second output.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        features: nn.Module,
        head: nn.Module,
        kind: str,
        typicality: TypicalityGraph | None,
    ):
        super().__init__()
        self.preprocessing = preprocessing
        self.features = features
        self.head = head
        self.activation = _ACTIVATIONS[kind]()
        self.typicality = typicality
        self.output_names = (OUTPUTS[kind],) if typicality is None else (OUTPUTS[kind], TYPICALITY)

    @classmethod
    def of(cls, estimator: Any, kind: str, include_references: bool) -> PixelGraph:
        """Return the graph of a fitted estimator, which does not change.

        Raises
        ------
        BackboneError
            If the installed libraries build another network than the network of the fit.
        """
        backbone = estimator.backbone_
        references = estimator._typicality if include_references else None
        n_stages = max(estimator._features.n_stages, 1 if references is None else references.n_stages)
        features = _features(estimator, n_stages)
        texture = features.tapped.layout.texture if isinstance(features, _FirstFeatures) else slice(0)
        graph = cls(
            backbone.preprocessing,
            features,
            nn.Identity() if kind == "features" else _in_float32(estimator.net_.module_.output),
            kind,
            None if references is None else TypicalityGraph(references, texture),
        )
        graph.eval()
        _own_weights(graph)
        _simplify(graph.features, backbone.preprocessing)
        return graph

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        # Otherwise, torch records how it would pool pixels whose channels come last, in a dozen operations.
        normalized = self.preprocessing.normalize(images).contiguous()
        features = self.features(normalized).to(torch.float32)
        own = features if self.typicality is None else features[:, : self.head.in_features]
        outputs = self.activation(self.head(own))
        return outputs if self.typicality is None else (outputs, self.typicality(features))


class _FirstFeatures(nn.Module):
    """The features of the last stages of a tapped network."""

    def __init__(self, tapped: Tapped, feature_stages: int):
        super().__init__()
        self.tapped = tapped
        self.feature_stages = feature_stages

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.tapped.features(images, self.feature_stages)


def _features(estimator: Any, n_stages: int) -> nn.Module:
    """Return the network that computes the features of a fitted estimator, and those of further stages."""
    backbone, fitted = estimator.backbone_, estimator._features
    _, features = replace(fitted, n_stages=n_stages).modules(backbone)
    if not isinstance(features, Tapped):
        return features
    if features.layout.groups_of(fitted.n_stages) != fitted.groups:
        raise other_blocks(backbone)
    return _FirstFeatures(features, n_stages)


def _in_float32(layer: nn.Linear) -> nn.Linear:
    # Initializing the weights would advance torch's global generator.
    copied = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features)
    with torch.no_grad():
        copied.weight.copy_(layer.weight)
        copied.bias.copy_(layer.bias)
    return copied


def _own_weights(network: nn.Module) -> None:
    """Replace all parameters by copies in plain layout. The estimator shares its parameters with the network."""
    copies: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                plain = parameter.detach().clone(memory_format=torch.contiguous_format)
                copied = copies.setdefault(id(parameter), nn.Parameter(plain, requires_grad=False))
                module._parameters[name] = copied


def _simplify(features: nn.Module, preprocessing: Preprocessing) -> None:
    """Fold BatchNorm into convolutions, and undo settings that only matter to torch's kernels."""
    for module in features.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = (1, 1)  # otherwise, runtimes miss their fast matrix products
    image = preprocessing.normalize(torch.from_numpy(_noise(preprocessing)[:1])).contiguous()
    with torch.no_grad():
        expected = features(image)
        undo = fold_batchnorm(features, lambda: features(image))
        if not relative_difference(features(image).numpy(), expected.numpy()) <= _FOLDING_TOLERANCE:
            undo()


def _noise(preprocessing: Preprocessing) -> np.ndarray:
    """Return two images of noise. With one image, the trace would hold for one image only."""
    return np.random.default_rng(0).integers(0, 256, (2, *preprocessing.crop, 3), np.uint8)


def traced(graph: PixelGraph, backbone_name: str) -> torch.export.ExportedProgram:
    """Return the graph as a program for any number of images.

    Raises
    ------
    ExportError
        If the network cannot be exported, for instance because its forward method reads values of tensors.
    """
    example = torch.from_numpy(_noise(graph.preprocessing))
    keep_gradients_possible()
    import_compiler_without_folder()
    try:
        with TRACING, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own code
            return torch.export.export(graph, (example,), dynamic_shapes={INPUT: {0: torch.export.Dim("n")}})
    except SktlError:
        raise
    except Exception as error:  # networks may do anything that cannot be traced
        raise_process_error(error)
        raise not_exportable(backbone_name, error) from error


def not_exportable(backbone_name: str, error: BaseException) -> ExportError:
    """Return the error for a network that torch cannot export."""
    reason = one_line(str(error).partition("\n\n")[0], 300).rstrip(".")
    return ExportError(
        f"backbone={backbone_name!r} cannot be exported by torch: {reason}. Fit with another backbone, or deploy the "
        "estimator with PyTorch."
    )
