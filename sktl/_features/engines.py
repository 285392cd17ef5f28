"""Engines run a trunk fast on one device, with torch or OpenVINO, in threads of the caller's.

They are kept in a registry of the process, never on an estimator: two estimators with the same backbone share one.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import nullcontext
from typing import TypeAlias

import numpy as np
import torch

from sktl._backbones.backbone import Backbone
from sktl._images.decoding import decoding_rule
from sktl._utils.devices import halved, within_memory
from sktl._utils.kernels import arithmetic_switches, describe_arithmetic
from sktl._utils.threads import single_threaded, single_threaded_pool
from sktl._utils.warnings import warn
from sktl._version import __version__
from sktl.exceptions import BackboneWarning, DeviceWarning, EngineError

from .openvino import CompiledFunction, check_available, installed_version, survived
from .trunk import EngineFacts, Trunk, chunk_size

_KEPT_ENGINES = 3
# Largest difference of outputs between OpenVINO and torch, as a share of the largest output of a group.
_TOLERANCE = 1e-4


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
    """A trunk, run by torch.

    Parameters
    ----------
    trunk : Trunk
    """

    def __init__(self, trunk: Trunk):
        self.trunk = trunk
        self.backbone = trunk.backbone
        self.chunk = trunk.chunk
        # On a CPU each thread of the pass runs its own chunk; an accelerator takes one chunk at a time.
        self._turn = nullcontext() if trunk.device.type == "cpu" else threading.Lock()
        with single_threaded_pool(1) as pool:
            answer = pool.submit(self.run, trunk.probe).result()
            # The trunk answered under a watch, which might have led torch to other kernels.
            repeats = np.array_equal(answer, trunk.answer) or np.array_equal(
                answer, pool.submit(self.run, trunk.probe).result()
            )
        if not repeats:
            warn(
                f"backbone={self.backbone.name!r} gives other features each time that it sees the same images, so they "
                "are not kept and results will not repeat.",
                BackboneWarning,
            )
        self.facts = trunk.facts("torch", torch.__version__, answer, repeats)

    def reserve(self, n_threads: int) -> None:
        """Do nothing: any number of threads may run, or wait for their turn."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of one chunk of pixels, float32 of shape (chunk, ...)."""
        with self._turn:
            return self.trunk.run(pixels)


class OpenVinoEngine(Engine):
    """A trunk on the CPU, converted once and run by OpenVINO.

    Parameters
    ----------
    trunk : Trunk
        Not needed any more afterwards.
    n_threads : int
        How many threads are expected at once; see `reserve`.

    Raises
    ------
    EngineError
        If the network cannot be converted, or the outputs for a chunk of noise are not those of torch.
    """

    def __init__(self, trunk: Trunk, n_threads: int = 1):
        self.backbone = trunk.backbone
        self.chunk = trunk.chunk
        if trunk.reads_values:
            raise self._error("its forward depends on the values of tensors, which cannot be converted")
        try:
            with single_threaded_pool(1) as pool:
                pixels = torch.from_numpy(trunk.probe)
                self._compiled = pool.submit(CompiledFunction, trunk.compute, pixels, n_threads).result()
            first, second = (self.run(trunk.probe) for _ in range(2))
        except Exception as error:  # whatever the conversion makes of a network
            reason = " ".join(str(error).split())  # OpenVINO's go over several lines
            raise self._error(f"its conversion fails: {reason}") from error
        difference = trunk.difference(first)
        if not np.array_equal(first, second, equal_nan=True):
            raise self._error("it gives other features each time that it sees the same images")
        if not difference <= _TOLERANCE:
            raise self._error(f"its outputs differ from those of torch, by {difference:.1e} of the largest")
        self.facts = trunk.facts("openvino", self._compiled.version, first)

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


def _load(
    backbone: Backbone, device: torch.device, n_trainable: int, chunk: int, engine: str, n_threads: int
) -> Engine:
    """Return an engine as wanted; "auto" is OpenVINO where it can run the network, else torch."""
    trunk = None
    if engine != "torch":
        try:
            check_available(device)
            trunk = Trunk(backbone, device, n_trainable, chunk)
            return OpenVinoEngine(trunk, n_threads)
        except EngineError:
            if engine != "auto":
                raise
    return TorchEngine(trunk or Trunk(backbone, device, n_trainable, chunk))


_Place: TypeAlias = tuple[str, tuple[int, ...], str, int]
_Part: TypeAlias = tuple[str, str, int, int, tuple[object, ...]]
_Key: TypeAlias = tuple[_Part, str]


class _Registry:
    """The engines used last, and the facts of all engines that this process ever ran."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._turn = threading.RLock()
        self._engines: OrderedDict[_Key, Engine] = OrderedDict()
        self._facts: dict[_Key, EngineFacts] = {}
        self._automatic: dict[_Part, str] = {}
        self._chunks: dict[_Place, int] = {}

    @property
    def _lock(self) -> threading.RLock:
        """Whose turn it is; a forked process begins anew, where OpenVINO cannot go on."""
        if self._process != os.getpid():
            self._process, self._turn = os.getpid(), threading.RLock()
            if not survived():
                self._engines, self._facts, self._automatic = OrderedDict(), {}, {}
        return self._turn

    def engine(self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str, n_threads: int) -> Engine:
        with self._lock:
            part = self._part(backbone, device, n_trainable)
            key = self._key(part, wanted)
            if key not in self._engines:
                with single_threaded():  # a forked process waits for ever for further threads of torch's
                    kind = "torch" if key[1] == "torch" else wanted
                    engine = _load(backbone, device, n_trainable, part[3], kind, n_threads)
                key = (part, engine.facts.engine)
                self._engines[key], self._facts[key] = engine, engine.facts
                if wanted != "torch":
                    self._automatic[part] = engine.facts.engine
            self._engines.move_to_end(key)
            while len(self._engines) > _KEPT_ENGINES:
                self._engines.popitem(last=False)
            engine = self._engines[key]
        engine.reserve(n_threads)
        return engine

    def has(self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str) -> bool:
        with self._lock:
            return self._key(self._part(backbone, device, n_trainable), wanted) in self._engines

    def facts(self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str) -> EngineFacts | None:
        with self._lock:
            return self._facts.get(self._key(self._part(backbone, device, n_trainable), wanted))

    def remember(
        self, backbone: Backbone, device: torch.device, n_trainable: int, wanted: str, facts: EngineFacts
    ) -> None:
        with self._lock:
            part = self._part(backbone, device, n_trainable)
            self._facts[part, facts.engine] = facts
            if wanted != "torch":
                self._automatic[part] = facts.engine

    def chunk(self, backbone: Backbone, device: torch.device, n_trainable: int) -> int:
        return self._chunks.get(self._place(backbone, device, n_trainable), chunk_size(device))

    def shrink(self, backbone: Backbone, device: torch.device, n_trainable: int) -> None:
        with self._lock:
            for key in [key for key in self._engines if key[0][1] == str(device)]:
                del self._engines[key]  # to free what they hold there
            before = self.chunk(backbone, device, n_trainable)
            after = halved(before, f"backbone={backbone.name!r}", device)
            place = self._place(backbone, device, n_trainable)
            if place not in self._chunks:
                warn(
                    f"The memory of device={str(device)!r} is too small for {before} images at once in "
                    f"backbone={backbone.name!r}. From now on it takes fewer, slower and with other last bits; free "
                    "memory there to take as many again in a new process.",
                    DeviceWarning,
                )
            self._chunks[place] = after

    def _place(self, backbone: Backbone, device: torch.device, n_trainable: int) -> _Place:
        """Return what needs the same memory, whatever its weights."""
        return backbone.name, backbone.preprocessing.crop, str(device), n_trainable

    def _part(self, backbone: Backbone, device: torch.device, n_trainable: int) -> _Part:
        chunk = self.chunk(backbone, device, n_trainable)
        switches = (*arithmetic_switches(device), decoding_rule())
        return backbone.identity, str(device), n_trainable, chunk, switches

    def _key(self, part: _Part, wanted: str) -> _Key:
        return part, self._automatic.get(part, "auto") if wanted == "auto" else wanted


_registry = _Registry()


def open_engine(
    backbone: Backbone, device: torch.device, n_trainable: int = 0, engine: str = "auto", n_threads: int = 1
) -> Engine:
    """Return the engine of a backbone on a device, building and probing its network unless it is at hand.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_trainable : int
        How many of the last stages are left out.
    engine : {"auto", "torch", "openvino"}
        `"auto"` is OpenVINO where it is installed, the device is the CPU, and it can run the network; else torch.
    n_threads : int
        How many threads are going to run it at once.

    Raises
    ------
    EngineError
        If `engine="openvino"` is not possible.
    DeviceMemoryError
        If not even one image fits into the memory of an accelerator.
    """
    return within_memory(
        lambda: _registry.engine(backbone, device, n_trainable, engine, n_threads),
        lambda: shrink_chunk(backbone, device, n_trainable),
        device,
    )


def shrink_chunk(backbone: Backbone, device: torch.device, n_trainable: int = 0) -> None:
    """Let engines of a backbone take half as many images at once from now on, since the memory of a device is full.

    The number is a part of their facts' fingerprint, as other numbers lead to other last bits. Warns the first time.
    """
    _registry.shrink(backbone, device, n_trainable)


def is_open(backbone: Backbone, device: torch.device, n_trainable: int = 0, engine: str = "auto") -> bool:
    """Tell whether `open_engine` has an engine at hand."""
    return _registry.has(backbone, device, n_trainable, engine)


def known_facts(backbone: Backbone, device: torch.device, n_trainable: int, engine: str) -> EngineFacts | None:
    """Return what this process knows of an engine."""
    return _registry.facts(backbone, device, n_trainable, engine)


def remember_facts(backbone: Backbone, device: torch.device, n_trainable: int, engine: str, facts: EngineFacts) -> None:
    """Let this process know facts of an engine that another one found out."""
    _registry.remember(backbone, device, n_trainable, engine, facts)


def facts_key(backbone: Backbone, device: torch.device, n_trainable: int, engine: str) -> bytes:
    """Return what identifies the facts of an engine on this machine, in its state: they are not checked again."""
    versions = (__version__, installed_version(), survived(), decoding_rule())
    chunk = _registry.chunk(backbone, device, n_trainable)
    parts = (backbone.identity, n_trainable, chunk, engine, *versions, *describe_arithmetic(device))
    return hashlib.sha256(repr(parts).encode()).digest()
