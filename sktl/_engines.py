"""Run a frozen network fast on one device, always in chunks of one fixed shape.

One shape for every chunk makes the bits of an image's features independent of its neighbours. Engines are kept in a
registry of the process, never on an estimator: two estimators with the same backbone share one network.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from ._backbones import Backbone
from ._cut import Cut
from ._pixels import DECODING_RULE
from ._torch import place, single_threaded_pool
from .exceptions import BackboneError, BackboneWarning, SktlError

# Images of one chunk: on a CPU small enough that activations stay in the processor's cache.
CPU_CHUNK = 4
ACCELERATOR_CHUNK = 64
_KEPT_ENGINES = 3


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine once it has run.

    Parameters
    ----------
    fingerprint : str or None
        Identifies the function from image content to output; None if two runs differed, so that nothing may be kept.
    shape : tuple of int
        Of the output for one image: (n_features,), or that of an activation.
    """

    fingerprint: str | None
    shape: tuple[int, ...]


class TorchEngine:
    """The frozen part of a backbone on a device, run by torch.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_trainable : int
        How many of the last stages are left out; with 0 the output is the features, else activations.
    """

    def __init__(self, backbone: Backbone, device: torch.device, n_trainable: int = 0):
        self.backbone = backbone
        self.device = device
        self.n_trainable = n_trainable
        self.chunk = CPU_CHUNK if device.type == "cpu" else ACCELERATOR_CHUNK
        # On a CPU each thread of the pass runs its own chunk; an accelerator takes one chunk at a time.
        self._turn = nullcontext() if device.type == "cpu" else threading.Lock()
        try:
            network = backbone.cut(n_trainable) if n_trainable else backbone.build()
            place(network, device)
            self._function = network.trunk if isinstance(network, Cut) else network
            self.facts = self._probe()
        except SktlError:
            raise
        except Exception as error:  # whatever a network, perhaps of the user's, raises
            height, width = backbone.preprocessing.crop
            remedy = "Leave image_size=None for the size that its weights were trained with, or change the network."
            raise BackboneError(
                f"backbone={backbone.name!r} fails on images of {height} x {width} pixels: {error}. {remedy}"
            ) from error

    def new_chunk(self) -> np.ndarray:
        """Return zeros for the pixels of one chunk, uint8 of shape (chunk, H, W, 3)."""
        return np.zeros((self.chunk, *self.backbone.preprocessing.crop, 3), np.uint8)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""
        with self._turn, torch.inference_mode():
            batch = self.backbone.preprocessing.normalize(torch.from_numpy(pixels).to(self.device))
            output = self._function(batch)
            if not isinstance(output, torch.Tensor):
                raise BackboneError(
                    f"backbone={self.backbone.name!r} returns a {type(output).__name__}; it must return one tensor of "
                    "shape (n, n_features)."
                )
            return output.to("cpu", torch.float32).numpy()

    def _probe(self) -> EngineFacts:
        probe = np.random.default_rng(0).integers(0, 256, self.new_chunk().shape, np.uint8)
        with single_threaded_pool(1) as pool:
            first, second = (pool.submit(self._run_probe, probe).result() for _ in range(2))
        if not np.isfinite(first).all():
            raise BackboneError(
                f"backbone={self.backbone.name!r} with weights {self.backbone.weights!r} gives features that are not "
                "finite. Use other weights."
            )
        if not np.array_equal(first, second):
            warnings.warn(
                f"backbone={self.backbone.name!r} gives other features each time that it sees the same images, so they "
                "are not kept and results will not repeat.",
                BackboneWarning,
                stacklevel=2,
            )
            return EngineFacts(None, first.shape[1:])
        parts = (self.backbone.identity, self.n_trainable, DECODING_RULE, str(self.device), "torch", probe.shape)
        digest = hashlib.sha256(repr(parts).encode())
        digest.update(np.ascontiguousarray(first).data)
        return EngineFacts(digest.hexdigest(), first.shape[1:])

    def _run_probe(self, probe: np.ndarray) -> np.ndarray:
        features = self.run(probe)
        if not self.n_trainable and (features.ndim != 2 or len(features) != len(probe)):
            raise BackboneError(
                f"backbone={self.backbone.name!r} maps images of shape (n, 3, H, W) to an output of shape "
                f"{features.shape}; it must be (n, n_features), so pool and flatten it."
            )
        return features


_Key: TypeAlias = tuple[str, str, int]


class _Registry:
    """The engines used last, and the facts of all engines that this process ever ran."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._engines: OrderedDict[_Key, TorchEngine] = OrderedDict()
        self._facts: dict[_Key, EngineFacts] = {}

    def engine(self, backbone: Backbone, device: torch.device, n_trainable: int) -> TorchEngine:
        key = (backbone.identity, str(device), n_trainable)
        with self._lock:
            if key not in self._engines:
                self._engines[key] = TorchEngine(backbone, device, n_trainable)
                self._facts[key] = self._engines[key].facts
            self._engines.move_to_end(key)
            while len(self._engines) > _KEPT_ENGINES:
                self._engines.popitem(last=False)
            return self._engines[key]

    def facts(self, backbone: Backbone, device: torch.device, n_trainable: int) -> EngineFacts:
        with self._lock:
            known = self._facts.get((backbone.identity, str(device), n_trainable))
        return known or self.engine(backbone, device, n_trainable).facts


_registry = _Registry()


def open_engine(backbone: Backbone, device: torch.device, n_trainable: int = 0) -> TorchEngine:
    """Return the engine of a backbone on a device, building and probing its network unless it is at hand."""
    return _registry.engine(backbone, device, n_trainable)


def engine_facts(backbone: Backbone, device: torch.device, n_trainable: int = 0) -> EngineFacts:
    """Return what is known of the engine of a backbone, building its network only the first time in a process."""
    return _registry.facts(backbone, device, n_trainable)
