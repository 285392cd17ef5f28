"""The frozen part of a backbone, built on a device for one fixed shape of chunk and checked on a chunk of noise.

Engines run it. One shape for every chunk makes the bits of an image's features independent of its neighbours.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sktl._backbones.backbone import Backbone
from sktl._backbones.cut import Cut
from sktl._backbones.taps import StageLayout, Tapped
from sktl._images.decoding import decoding_rule
from sktl._utils.devices import is_out_of_memory
from sktl._utils.kernels import place
from sktl._utils.threads import single_threaded_pool
from sktl.exceptions import BackboneError, SktlError

from .folding import fold_batchnorm

# Images of one chunk: on a CPU small enough that activations stay in the processor's cache.
_CPU_CHUNK = 4
_ACCELERATOR_CHUNK = 64
# Largest difference of outputs by folding BatchNorm, as a share of the largest output of a group.
_FOLDING_TOLERANCE = 1e-5


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine once it has run.

    Parameters
    ----------
    fingerprint : str or None
        Identifies the function from image content to output; None if two runs differed, so that nothing may be kept.
    shape : tuple of int
        Of the output for one image: that of a full row of features, or of an activation.
    engine : {"torch", "openvino"}
        What runs the network.
    layout : StageLayout
        What a row of features consists of; an activation is one group.
    """

    fingerprint: str | None
    shape: tuple[int, ...]
    engine: str
    layout: StageLayout

    def format(self) -> bytes:
        """Return the facts as bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, text: bytes | None) -> EngineFacts | None:
        """Return the facts that `format` made bytes of, or None."""
        if text is None:
            return None
        try:
            values = json.loads(text)
            layout = StageLayout(tuple(map(tuple, values["layout"]["groups"])), tuple(values["layout"]["sizes"]))
            return cls(values["fingerprint"], tuple(values["shape"]), values["engine"], layout)
        except (KeyError, TypeError, ValueError):  # of another version
            return None


def chunk_size(device: torch.device) -> int:
    """Return how many images of one network run at once on a device that has the memory for it."""
    return _CPU_CHUNK if device.type == "cpu" else _ACCELERATOR_CHUNK


class Trunk:
    """The frozen part of a backbone on a device, as torch computes it.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_tail_stages : int
        How many of the last stages are left out; with 0 the output is features of all stages, else activations.
    chunk : int or None
        How many images run at once; None is what suits the device.

    Attributes
    ----------
    probe, answer : ndarray
        One chunk of noise, and the output for it.
    layout : StageLayout
        What a row of the output consists of.
    reads_values : bool
        Whether it was seen to depend on the values of tensors in ways that tracing cannot follow.
    """

    def __init__(self, backbone: Backbone, device: torch.device, n_tail_stages: int = 0, chunk: int | None = None):
        self.backbone = backbone
        self.device = device
        self.n_tail_stages = n_tail_stages
        self.chunk = chunk or chunk_size(device)
        self.reads_values = False
        self.probe = np.random.default_rng(0).integers(0, 256, (self.chunk, *backbone.preprocessing.crop, 3), np.uint8)
        try:
            network = backbone.cut(n_tail_stages) if n_tail_stages else backbone.tapped()
            place(network, device)
            self._function = network.trunk if isinstance(network, Cut) else network
            with single_threaded_pool(1) as pool:
                self.answer = pool.submit(self._first_answer).result()
                whole = StageLayout.of_output(self.answer.shape[1])
                self.layout = network.layout if isinstance(network, Tapped) else whole
                if device.type == "cpu":
                    pool.submit(self._fold, network).result()
        except SktlError:
            raise
        except Exception as error:  # whatever a network, perhaps of the user's, raises
            if is_out_of_memory(error, device):
                raise
            height, width = backbone.preprocessing.crop
            remedy = "Leave image_size=None for the size that its weights were trained with, or change the network."
            raise BackboneError(
                f"backbone={backbone.name!r} fails on images of {height} x {width} pixels: {error}. {remedy}"
            ) from error

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""
        with torch.inference_mode():
            return self.compute(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what `run` does, as tensors on the device."""
        output = self._function(self.backbone.preprocessing.normalize(pixels))
        if not isinstance(output, torch.Tensor):
            raise BackboneError(
                f"backbone={self.backbone.name!r} returns a {type(output).__name__}; it must return one tensor of "
                "shape (n, n_features)."
            )
        return output.to(torch.float32)

    def facts(self, engine: str, version: str, answer: np.ndarray, repeats: bool = True) -> EngineFacts:
        """Return the facts of an engine that runs this trunk and gave an answer to the probe."""
        parts = (self.backbone.identity, self.n_tail_stages, decoding_rule(), str(self.device))
        digest = hashlib.sha256(repr((*parts, engine, version, self.probe.shape)).encode())
        digest.update(np.ascontiguousarray(answer).data)
        return EngineFacts(digest.hexdigest() if repeats else None, answer.shape[1:], engine, self.layout)

    def difference(self, answer: np.ndarray) -> float:
        """Return the largest difference of another answer to the probe, as a share of the largest of its group.

        Each group of features is standardised by itself, whatever the size of the others.
        """
        if answer.shape != self.answer.shape:
            return np.inf
        pairs = zip(self.layout.split(answer), self.layout.split(self.answer), strict=True)
        return float(np.max([relative_difference(found, expected) for found, expected in pairs]))

    def _first_answer(self) -> np.ndarray:
        answer = self.run(self.probe)
        if not self.n_tail_stages and (answer.ndim != 2 or len(answer) != len(self.probe)):
            raise BackboneError(
                f"backbone={self.backbone.name!r} maps images of shape (n, 3, H, W) to an output of shape "
                f"{answer.shape}; it must be (n, n_features), so pool and flatten it."
            )
        if not np.isfinite(answer).all():
            raise BackboneError(
                f"backbone={self.backbone.name!r} with weights {self.backbone.weights!r} gives features that are not "
                "finite. Use other weights."
            )
        return answer

    def _fold(self, network: torch.nn.Module) -> None:
        """Fold BatchNorm into convolutions, in the network of this trunk alone, if the outputs stay the same."""
        pixels = torch.from_numpy(self.probe)
        undo = fold_batchnorm(network, lambda: self.compute(pixels[:1]))
        with torch.no_grad(), ReadingWatch() as watch:  # inference mode would hide what operations are made of
            answer = self.compute(pixels).numpy()
        self.reads_values = watch.saw_reading
        if self.difference(answer) <= _FOLDING_TOLERANCE:
            self.answer = answer
        else:
            undo()


class ReadingWatch(TorchDispatchMode):
    """Sees whether Python reads the value of a tensor: a trace would take it for the same in all images."""

    def __init__(self) -> None:
        super().__init__()
        self.saw_reading = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.saw_reading |= func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


def relative_difference(outputs: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference of outputs, as a share of the largest output; infinite if shapes differ."""
    if outputs.shape != reference.shape:
        return np.inf
    largest = float(np.abs(reference).max(initial=0.0))
    return float(np.abs(outputs - reference).max(initial=0.0)) / (largest or 1.0)
