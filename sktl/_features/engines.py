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
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class FrozenPart:
    """Which part of which network is frozen, on which device it runs, and by which engine.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_tail_stages : int
        How many of the last stages are left out; with 0 the output is features, else activations.
    engine : {"auto", "torch", "openvino"}
        `"auto"` is OpenVINO where it is installed, the device is the CPU, and it can run the network; else torch.
    """

    backbone: Backbone
    device: torch.device
    n_tail_stages: int = 0
    engine: str = "auto"

    def trunk(self, chunk: int) -> Trunk:
        """Return it built for chunks of so many images."""
        return Trunk(self.backbone, self.device, self.n_tail_stages, chunk)


def _load(part: FrozenPart, chunk: int, n_threads: int) -> Engine:
    """Return an engine as wanted; "auto" is OpenVINO where it can run the network, else torch."""
    trunk = None
    if part.engine != "torch":
        try:
            check_available(part.device)
            trunk = part.trunk(chunk)
            return OpenVinoEngine(trunk, n_threads)
        except EngineError:
            if part.engine != "auto":
                raise
    return TorchEngine(trunk or part.trunk(chunk))


# What needs the same memory, whatever its weights; what computes the same bits, whichever engine; and the engine.
_Size: TypeAlias = tuple[str, tuple[int, ...], str, int]
_Function: TypeAlias = tuple[str, str, int, int, tuple[object, ...]]
_Key: TypeAlias = tuple[_Function, str]


class EngineRegistry:
    """The engines used last, and the facts of all engines that this process ever ran."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._turn = threading.RLock()
        self._engines: OrderedDict[_Key, Engine] = OrderedDict()
        self._facts: dict[_Key, EngineFacts] = {}
        self._automatic: dict[_Function, str] = {}
        self._chunks: dict[_Size, int] = {}

    def open(self, part: FrozenPart, n_threads: int = 1) -> Engine:
        """Return the engine that runs a part of a network, building and probing it unless it is at hand.

        Parameters
        ----------
        part : FrozenPart
        n_threads : int
            How many threads are going to run it at once.

        Raises
        ------
        EngineError
            If `engine="openvino"` is not possible.
        DeviceMemoryError
            If not even one image fits into the memory of an accelerator.
        """
        return within_memory(lambda: self._opened(part, n_threads), lambda: self.shrink(part), part.device)

    def is_open(self, part: FrozenPart) -> bool:
        """Tell whether `open` has an engine at hand."""
        with self._lock:
            return self._key(part) in self._engines

    def facts(self, part: FrozenPart) -> EngineFacts | None:
        """Return what this process knows of an engine."""
        with self._lock:
            return self._facts.get(self._key(part))

    def remember(self, part: FrozenPart, facts: EngineFacts) -> None:
        """Let this process know facts of an engine that another one found out."""
        with self._lock:
            function = self._function(part)
            self._facts[function, facts.engine] = facts
            if part.engine != "torch":
                self._automatic[function] = facts.engine

    def facts_key(self, part: FrozenPart) -> bytes:
        """Return what identifies the facts of an engine on this machine, in its state: they are not checked again."""
        versions = (__version__, installed_version(), survived(), decoding_rule())
        wanted = (part.backbone.identity, part.n_tail_stages, self.chunk(part), part.engine)
        return hashlib.sha256(repr((*wanted, *versions, *describe_arithmetic(part.device))).encode()).digest()

    def chunk(self, part: FrozenPart) -> int:
        """Return how many images an engine takes at once."""
        return self._chunks.get(self._size(part), chunk_size(part.device))

    def shrink(self, part: FrozenPart) -> None:
        """Let engines of a backbone take half as many images at once from now on: the memory of a device is full.

        The number is a part of their facts' fingerprint, as other numbers lead to other last bits. Warns the first
        time.
        """
        name, device = part.backbone.name, part.device
        with self._lock:
            for key in [key for key in self._engines if key[0][1] == str(device)]:
                del self._engines[key]  # to free what they hold there
            before = self.chunk(part)
            after = halved(before, f"backbone={name!r}", device)
            size = self._size(part)
            if size not in self._chunks:
                warn(
                    f"The memory of device={str(device)!r} is too small for {before} images at once in "
                    f"backbone={name!r}. From now on it takes fewer, slower and with other last bits; free "
                    "memory there to take as many again in a new process.",
                    DeviceWarning,
                )
            self._chunks[size] = after

    @property
    def _lock(self) -> threading.RLock:
        """Whose turn it is; a forked process begins anew, where OpenVINO cannot go on."""
        if self._process != os.getpid():
            self._process, self._turn = os.getpid(), threading.RLock()
            if not survived():
                self._engines, self._facts, self._automatic = OrderedDict(), {}, {}
        return self._turn

    def _opened(self, part: FrozenPart, n_threads: int) -> Engine:
        with self._lock:
            key = self._key(part)
            if key not in self._engines:
                with single_threaded():  # a forked process waits for ever for further threads of torch's
                    wanted = replace(part, engine="torch") if key[1] == "torch" else part
                    engine = _load(wanted, self.chunk(part), n_threads)
                self.remember(part, engine.facts)
                key = (key[0], engine.facts.engine)
                self._engines[key] = engine
            self._engines.move_to_end(key)
            while len(self._engines) > _KEPT_ENGINES:
                self._engines.popitem(last=False)
            engine = self._engines[key]
        engine.reserve(n_threads)
        return engine

    def _size(self, part: FrozenPart) -> _Size:
        return part.backbone.name, part.backbone.preprocessing.crop, str(part.device), part.n_tail_stages

    def _function(self, part: FrozenPart) -> _Function:
        switches = (*arithmetic_switches(part.device), decoding_rule())
        return part.backbone.identity, str(part.device), part.n_tail_stages, self.chunk(part), switches

    def _key(self, part: FrozenPart) -> _Key:
        function = self._function(part)
        return function, self._automatic.get(function, "auto") if part.engine == "auto" else part.engine


registry = EngineRegistry()
