"""The frozen part of a backbone, built for a fixed chunk shape on a device and checked on a chunk of noise.

Engines run trunks. All chunks have the same shape, so the bits of an image's features do not depend on other images.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from sktl._backbones.backbone import Backbone
from sktl._backbones.cut import Cut
from sktl._backbones.taps import StageLayout, Tapped
from sktl._images.decoding import decoding_rule
from sktl._short_text import type_of
from sktl._utils.devices import is_out_of_memory
from sktl._utils.operation_watch import OperationWatch
from sktl._utils.process_errors import raise_process_error
from sktl._utils.threads import single_threaded_pool
from sktl._utils.torch_kernels import place
from sktl.exceptions import BackboneError, SktlError

from .batchnorm_folding import fold_batchnorm
from .feature_provenance import relative_difference
from .network_checks import depends_on_others, keeps_state

# Images per chunk. On a CPU, activations of a chunk must fit into the processor's cache: large batches spend their time
# mapping memory. Changing a size changes the last bits of features.
_CPU_CHUNK = 4
_ACCELERATOR_CHUNK = 64
# Folding must not change outputs by more than rounding does. The tolerance is relative to the largest output of a
# group, because features are standardized per group.
_FOLDING_TOLERANCE = 1e-5


@dataclass(frozen=True)
class EngineFacts:
    """Properties of an engine that are known once it has run.

    Parameters
    ----------
    fingerprint : str or None
        Identifies the function from image content to output. None if two runs differed; then nothing may be cached.
    shape : tuple of int
        Shape of the output for one image: a full row of features or an activation.
    engine : {"torch", "openvino"}
        The library that runs the network.
    layout : StageLayout
        Layout of a row of features. An activation is one group.
    """

    fingerprint: str | None
    shape: tuple[int, ...]
    engine: str
    layout: StageLayout

    def format(self) -> bytes:
        """Convert the facts to bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, text: bytes | None) -> EngineFacts | None:
        """Convert bytes from `format` back to facts; None if they are not valid."""
        if text is None:
            return None
        try:
            values = json.loads(text)
            layout = StageLayout(tuple(map(tuple, values["layout"]["groups"])), tuple(values["layout"]["sizes"]))
            return cls(values["fingerprint"], tuple(values["shape"]), values["engine"], layout)
        except (KeyError, TypeError, ValueError):  # written by another version
            return None


def in_keys(precision: str) -> tuple[str, ...]:
    """Return what a precision adds to keys and fingerprints: nothing for float32, once the only precision."""
    return () if precision == "float32" else (precision,)


def _computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    if precision == "float32":
        return nullcontext()
    # Threads would share the cache of converted weights, which is meant for weights that require gradients.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def chunk_size(device: torch.device) -> int:
    """Return the number of images that run at once on a device with enough memory."""
    return _CPU_CHUNK if device.type == "cpu" else _ACCELERATOR_CHUNK


class Trunk:
    """The frozen part of a backbone on a device, computed by torch.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_tail_stages : int
        Number of last stages that are left out. With 0, the output is features of all stages; otherwise, it is
        activations.
    chunk : int
        Number of images that run at once.
    precision : {"float32", "bfloat16"}
        The precision in which `run` computes. With `"bfloat16"`, torch still computes layers in float32 if they need
        it.

    Attributes
    ----------
    probe, answer : ndarray
        A chunk of noise, and the output for it in float32. They show whether an engine computes the same output, and
        whether repeated runs agree.
    layout : StageLayout
        Layout of a row of the output.
    reads_values : bool
        Whether the network reads values of tensors, which tracing cannot follow.
    keeps_state : bool
        Whether runs in several threads would disturb one another.
    """

    def __init__(self, backbone: Backbone, device: torch.device, n_tail_stages: int, chunk: int, precision: str):
        self.backbone = backbone
        self.device = device
        self.n_tail_stages = n_tail_stages
        self.chunk = chunk
        self.precision = precision
        self.reads_values = self.keeps_state = False
        # Fixed noise, so that all engines and processes compute the same probe.
        self.probe = np.random.default_rng(0).integers(0, 256, (self.chunk, *backbone.preprocessing.crop, 3), np.uint8)
        try:
            network = backbone.cut(n_tail_stages) if n_tail_stages else backbone.tapped()
            place(network, device)
            self._function = network.trunk if isinstance(network, Cut) else network
            # In a thread like those of the pass: the number of intra-op threads affects the bits of results.
            with single_threaded_pool(1) as pool:
                self.answer = pool.submit(self._first_answer).result()
                whole = StageLayout.of_output(self.answer.shape[1])
                self.layout = network.layout if isinstance(network, Tapped) else whole
                if backbone.from_callable and not n_tail_stages:
                    own = network.network if isinstance(network, Tapped) else network
                    pool.submit(self._check_network, own).result()
                if device.type == "cpu":
                    pool.submit(self._fold, network).result()
        except SktlError:
            raise
        except Exception as error:  # networks, including users' own, may raise anything
            if is_out_of_memory(error, device):
                raise
            raise_process_error(error)
            raise backbone.failure(error) from error

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of a chunk of pixels, as float32 of shape (chunk, ...)."""
        return self._run(pixels, self.precision)

    def _run(self, pixels: np.ndarray, precision: str) -> np.ndarray:
        with torch.inference_mode(), _computing_in(precision, self.device):
            return self.compute(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def compute(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features or activations of pixels on the device, as float32, in the precision of the caller."""
        output = self._function(self.backbone.preprocessing.normalize(pixels))
        if not isinstance(output, torch.Tensor):
            raise BackboneError(
                f"backbone={self.backbone.name!r} returns {type_of(output)}; it must return one tensor of "
                "shape (n, n_features)."
            )
        return output.to(torch.float32)

    def facts(self, engine: str, version: str, answer: np.ndarray, repeats: bool = True) -> EngineFacts:
        """Return the facts of an engine that runs this trunk, given its answer to the probe."""
        parts = (self.backbone.identity, self.n_tail_stages, decoding_rule(), str(self.device))
        of_engine = (engine, version, self.probe.shape, *in_keys(self.precision))
        digest = hashlib.sha256(repr((*parts, *of_engine)).encode())
        digest.update(np.ascontiguousarray(answer).data)
        return EngineFacts(digest.hexdigest() if repeats else None, answer.shape[1:], engine, self.layout)

    def difference(self, answer: np.ndarray) -> float:
        """Return the largest difference from this trunk's answer, relative to the largest output of its group.

        Groups are compared separately because they are standardized separately, whatever their scales.
        """
        if answer.shape != self.answer.shape:
            return np.inf
        pairs = zip(self.layout.split(answer), self.layout.split(self.answer), strict=True)
        return float(np.max([relative_difference(found, expected) for found, expected in pairs]))

    def _first_answer(self) -> np.ndarray:
        answer = self._run(self.probe, "float32")
        if not self.n_tail_stages and (answer.ndim != 2 or len(answer) != len(self.probe)):
            raise BackboneError(
                f"backbone={self.backbone.name!r} maps images of shape (n, 3, H, W) to an output of shape "
                f"{answer.shape}; it must be (n, n_features), so pool and flatten it."
            )
        if not np.isfinite(answer).all():
            raise BackboneError(
                f"{self.backbone.described} with weights {self.backbone.weights!r} returns features that are not "
                "finite. Use other weights."
            )
        return answer

    def _check_network(self, network: torch.nn.Module) -> None:
        """Check what is known of networks of libraries. Networks that do not repeat are left to the engine."""
        run = partial(self._run, precision="float32")
        if not np.array_equal(run(self.probe), self.answer):
            return
        if depends_on_others(run, self.probe, self.answer):
            raise BackboneError(
                f"{self.backbone.described} returns features of an image that depend on the other images of a batch, "
                "for example because a BatchNorm has no running statistics. Replace this layer."
            )
        if self.device.type == "cpu":
            normalize = self.backbone.preprocessing.normalize
            with torch.inference_mode():  # the network alone: what adds features of stages runs parts of it again
                self.keeps_state = keeps_state(
                    network, lambda pixels: network(normalize(torch.from_numpy(pixels))).numpy(), self.probe[:1]
                )

    def _fold(self, network: torch.nn.Module) -> None:
        """Fold BatchNorm into convolutions in this trunk's own network, if the outputs stay the same."""
        pixels = torch.from_numpy(self.probe)
        undo = fold_batchnorm(network, lambda: self.compute(pixels[:1]))
        with torch.no_grad(), ReadingWatch() as watch:  # inference mode would hide the basic operations from the watch
            answer = self.compute(pixels).numpy()
        self.reads_values = watch.saw_reading
        if self.difference(answer) <= _FOLDING_TOLERANCE:
            self.answer = answer
        else:
            undo()


class ReadingWatch(OperationWatch):
    """Detect whether Python reads the value of a tensor. A trace would fix the value for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.saw_reading = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.saw_reading |= func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))
