"""Run a frozen network fast on one device, always in chunks of one fixed shape.

One shape for every chunk makes the bits of an image's features independent of its neighbours. Engines are kept in a
registry of the process, never on an estimator: two estimators with the same backbone share one network.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
import torch

from ._backbones import Backbone
from ._cut import Cut
from ._folding import fold_batchnorm
from ._openvino import CompiledFunction, check_available, installed_version, survived
from ._pixels import DECODING_RULE
from ._torch import describe_arithmetic, place, single_threaded, single_threaded_pool
from ._version import __version__
from .exceptions import BackboneError, BackboneWarning, EngineError, SktlError

# Images of one chunk: on a CPU small enough that activations stay in the processor's cache.
CPU_CHUNK = 4
ACCELERATOR_CHUNK = 64
_KEPT_ENGINES = 3
# Largest differences of outputs, as shares of the largest output: between OpenVINO and torch, and by folding BatchNorm.
_TOLERANCE = 1e-4
_FOLDING_TOLERANCE = 1e-5


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine once it has run.

    Parameters
    ----------
    fingerprint : str or None
        Identifies the function from image content to output; None if two runs differed, so that nothing may be kept.
    shape : tuple of int
        Of the output for one image: (n_features,), or that of an activation.
    engine : {"torch", "openvino"}
        What runs the network.
    """

    fingerprint: str | None
    shape: tuple[int, ...]
    engine: str

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
            return cls(values["fingerprint"], tuple(values["shape"]), values["engine"])
        except (KeyError, TypeError, ValueError):  # of another version
            return None


class Engine(ABC):
    """The frozen part of a backbone on a device, which threads may run at once."""

    backbone: Backbone
    chunk: int
    facts: EngineFacts

    def new_chunk(self) -> np.ndarray:
        """Return zeros for the pixels of one chunk, uint8 of shape (chunk, H, W, 3)."""
        return np.zeros((self.chunk, *self.backbone.preprocessing.crop, 3), np.uint8)

    @abstractmethod
    def reserve(self, n_threads: int) -> None:
        """Make ready for so many threads at once."""

    @abstractmethod
    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""


class TorchEngine(Engine):
    """The frozen part of a backbone on a device, run by torch.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_trainable : int
        How many of the last stages are left out; with 0 the output is the features, else activations.

    Attributes
    ----------
    probe, answer : ndarray
        One chunk of noise, and the output for it.
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
            self.probe = np.random.default_rng(0).integers(0, 256, self.new_chunk().shape, np.uint8)
            self.answer, self.facts = self._probe()
            if device.type == "cpu" and self.facts.fingerprint is not None:
                self._fold(network)
        except SktlError:
            raise
        except Exception as error:  # whatever a network, perhaps of the user's, raises
            height, width = backbone.preprocessing.crop
            remedy = "Leave image_size=None for the size that its weights were trained with, or change the network."
            raise BackboneError(
                f"backbone={backbone.name!r} fails on images of {height} x {width} pixels: {error}. {remedy}"
            ) from error

    def reserve(self, n_threads: int) -> None:
        """Do nothing: any number of threads may run, or wait for their turn."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""
        with self._turn, torch.inference_mode():
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

    def _probe(self) -> tuple[np.ndarray, EngineFacts]:
        with single_threaded_pool(1) as pool:
            first, second = (pool.submit(self._run_probe).result() for _ in range(2))
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
            return first, EngineFacts(None, first.shape[1:], "torch")
        return first, self._facts_of(first)

    def _facts_of(self, answer: np.ndarray) -> EngineFacts:
        parts = (self.backbone.identity, self.n_trainable, DECODING_RULE, str(self.device))
        return _facts(parts, "torch", torch.__version__, self.probe, answer)

    def _fold(self, network: torch.nn.Module) -> None:
        """Fold BatchNorm into convolutions, in the network of this engine alone, if the outputs stay the same."""
        with single_threaded_pool(1) as pool:
            image = torch.from_numpy(self.probe[:1])
            undo = pool.submit(fold_batchnorm, network, lambda: self.compute(image)).result()
            answer = pool.submit(self.run, self.probe).result()
            if _relative_difference(answer, self.answer) <= _FOLDING_TOLERANCE:
                self.answer, self.facts = answer, self._facts_of(answer)
            else:
                undo()

    def _run_probe(self) -> np.ndarray:
        features = self.run(self.probe)
        if not self.n_trainable and (features.ndim != 2 or len(features) != len(self.probe)):
            raise BackboneError(
                f"backbone={self.backbone.name!r} maps images of shape (n, 3, H, W) to an output of shape "
                f"{features.shape}; it must be (n, n_features), so pool and flatten it."
            )
        return features


class OpenVinoEngine(Engine):
    """The frozen part of a backbone on the CPU, run by OpenVINO.

    Parameters
    ----------
    reference : TorchEngine
        Runs the same network; not needed any more afterwards.
    n_threads : int
        How many threads are expected at once; see `reserve`.

    Raises
    ------
    EngineError
        If the network cannot be converted, or the outputs for a chunk of noise are not those of torch.
    """

    def __init__(self, reference: TorchEngine, n_threads: int = 1):
        self.backbone = reference.backbone
        self.chunk = reference.chunk
        if reference.facts.fingerprint is None:
            raise self._error("it gives other features each time that it sees the same images")
        try:
            with single_threaded_pool(1) as pool:
                pixels = torch.from_numpy(reference.probe)
                self._compiled = pool.submit(CompiledFunction, reference.compute, pixels, n_threads).result()
            first, second = (self.run(reference.probe) for _ in range(2))
        except Exception as error:  # whatever the conversion makes of a network
            raise self._error(f"its conversion fails: {error}") from error
        difference = _relative_difference(first, reference.answer)
        if not difference <= _TOLERANCE or not np.array_equal(first, second):
            raise self._error(f"its outputs differ from those of torch, by {difference:.1e} of the largest")
        parts = (self.backbone.identity, reference.n_trainable, DECODING_RULE, str(reference.device))
        self.facts = _facts(parts, "openvino", self._compiled.version, reference.probe, first)

    def reserve(self, n_threads: int) -> None:
        """Make ready for so many threads at once."""
        self._compiled.reserve(n_threads)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""
        return self._compiled.run(pixels)

    def _error(self, reason: str) -> EngineError:
        return EngineError(
            f"engine='openvino' cannot run backbone={self.backbone.name!r}: {reason}. Pass engine=\"torch\", or "
            'engine="auto", which takes OpenVINO only where it can.'
        )


def _relative_difference(outputs: np.ndarray, reference: np.ndarray) -> float:
    if outputs.shape != reference.shape:
        return np.inf
    largest = float(np.abs(reference).max(initial=0.0))
    return float(np.abs(outputs - reference).max(initial=0.0)) / (largest or 1.0)


def _facts(parts: tuple[object, ...], engine: str, version: str, probe: np.ndarray, output: np.ndarray) -> EngineFacts:
    digest = hashlib.sha256(repr((*parts, engine, version, probe.shape)).encode())
    digest.update(np.ascontiguousarray(output).data)
    return EngineFacts(digest.hexdigest(), output.shape[1:], engine)


def _load(backbone: Backbone, device: torch.device, n_trainable: int, engine: str, n_threads: int) -> Engine:
    """Return an engine as wanted; "auto" is OpenVINO where it can run the network, else torch."""
    reference = None
    try:
        if engine != "torch":
            check_available(device)
        reference = TorchEngine(backbone, device, n_trainable)
        return reference if engine == "torch" else OpenVinoEngine(reference, n_threads)
    except EngineError:
        if engine != "auto":
            raise
        return reference or TorchEngine(backbone, device, n_trainable)


_Part: TypeAlias = tuple[str, str, int]
_Key: TypeAlias = tuple[_Part, str]


class _Registry:
    """The engines used last, and the facts of all engines that this process ever ran."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._turn = threading.RLock()
        self._engines: OrderedDict[_Key, Engine] = OrderedDict()
        self._facts: dict[_Key, EngineFacts] = {}
        self._automatic: dict[_Part, str] = {}

    @property
    def _lock(self) -> threading.RLock:
        """Whose turn it is; a forked process begins anew, where OpenVINO cannot go on."""
        if self._process != os.getpid():
            self._process, self._turn = os.getpid(), threading.RLock()
            if not survived():
                self._engines, self._facts, self._automatic = OrderedDict(), {}, {}
        return self._turn

    def engine(self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str) -> Engine:
        part = (backbone.identity, str(device), n_trainable)
        with self._lock:
            key = self._key(part, wanted)
            if key not in self._engines:
                n_threads = torch.get_num_threads()
                with single_threaded():  # a forked process waits for ever for further threads of torch's
                    kind = "torch" if key[1] == "torch" else wanted
                    engine = _load(backbone, device, n_trainable, kind, n_threads)
                key = (part, engine.facts.engine)
                self._engines[key], self._facts[key] = engine, engine.facts
                if wanted != "torch":
                    self._automatic[part] = engine.facts.engine
            self._engines.move_to_end(key)
            while len(self._engines) > _KEPT_ENGINES:
                self._engines.popitem(last=False)
            return self._engines[key]

    def facts(self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str) -> EngineFacts | None:
        with self._lock:
            return self._facts.get(self._key((backbone.identity, str(device), n_trainable), wanted))

    def remember(
        self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str, facts: EngineFacts
    ) -> None:
        part = (backbone.identity, str(device), n_trainable)
        with self._lock:
            self._facts[part, facts.engine] = facts
            if wanted != "torch":
                self._automatic[part] = facts.engine

    def _key(self, part: _Part, wanted: str) -> _Key:
        return part, self._automatic.get(part, "auto") if wanted == "auto" else wanted


_registry = _Registry()


def open_engine(backbone: Backbone, device: torch.device, n_trainable: int = 0, engine: str = "auto") -> Engine:
    """Return the engine of a backbone on a device, building and probing its network unless it is at hand.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_trainable : int
        How many of the last stages are left out.
    engine : {"auto", "torch", "openvino"}
        `"auto"` is OpenVINO where it is installed, the device is the CPU, and it can run the network; else torch.

    Raises
    ------
    EngineError
        If `engine="openvino"` is not possible.
    """
    return _registry.engine(backbone, device, n_trainable, engine)


def known_facts(backbone: Backbone, device: torch.device, n_trainable: int, engine: str) -> EngineFacts | None:
    """Return what this process knows of an engine."""
    return _registry.facts(backbone, device, n_trainable, engine)


def engine_facts(backbone: Backbone, device: torch.device, n_trainable: int = 0, engine: str = "auto") -> EngineFacts:
    """Return what is known of the engine of a backbone, building its network only the first time in a process."""
    wanted = backbone, device, n_trainable, engine
    return known_facts(*wanted) or open_engine(*wanted).facts


def remember_facts(backbone: Backbone, device: torch.device, n_trainable: int, engine: str, facts: EngineFacts) -> None:
    """Let this process know facts of an engine that another one found out."""
    _registry.remember(backbone, device, n_trainable, engine, facts)


def facts_key(backbone: Backbone, device: torch.device, n_trainable: int, engine: str) -> bytes:
    """Return what identifies the facts of an engine on this machine, in its state: they are not checked again."""
    versions = (__version__, installed_version(), survived(), DECODING_RULE, CPU_CHUNK)
    parts = (backbone.identity, n_trainable, engine, *versions, *describe_arithmetic(device))
    return hashlib.sha256(repr(parts).encode()).digest()
