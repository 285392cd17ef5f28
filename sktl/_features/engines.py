"""Engines, which run a trunk fast on one device with torch or OpenVINO, in the caller's threads.

A process-wide registry owns them, never an estimator, so two estimators with the same backbone share an engine.
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
from sktl._utils.devices import check_precision, halved, within_memory
from sktl._utils.locks import fork_safe_lock
from sktl._utils.process_errors import is_from_signal_handler
from sktl._utils.threads import single_threaded, single_threaded_pool
from sktl._utils.torch_kernels import arithmetic_switches, describe_arithmetic
from sktl._utils.warnings import warn
from sktl._version import __version__
from sktl.exceptions import BackboneWarning, DeviceWarning, EngineError

from .frozen_trunk import EngineFacts, Trunk, chunk_size, in_keys
from .openvino import CompiledFunction, check_available, installed_version, survived

# Each open engine holds a network in memory, so only the most recently used ones stay open.
_MOST_ENGINES = 3
# Largest allowed differences from torch's outputs in float32, relative to the largest output of a group. In float32,
# outputs differ only by accumulated rounding. In bfloat16, which has 8 significant bits, differences of up to 0.14 were
# measured on noise. A larger difference than allowed means that a network needs more bits, or was converted wrongly.
_TOLERANCES = {"float32": 1e-4, "bfloat16": 0.25}


class Engine(ABC):
    """The frozen part of a backbone on a device. Threads may run it concurrently."""

    backbone: Backbone
    chunk: int
    facts: EngineFacts

    def new_chunk(self) -> np.ndarray:
        """Return zeros for the pixels of one chunk, as uint8 of shape (chunk, H, W, 3)."""
        return np.zeros((self.chunk, *self.backbone.preprocessing.crop, 3), np.uint8)

    @abstractmethod
    def reserve(self, n_threads: int) -> None:
        """Prepare for this number of concurrent threads."""

    @abstractmethod
    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of a chunk of pixels, as float32 of shape (chunk, ...)."""


class TorchEngine(Engine):
    """A trunk run by torch.

    Parameters
    ----------
    trunk : Trunk

    Raises
    ------
    EngineError
        If bfloat16 changes the outputs for a chunk of noise too much.
    """

    def __init__(self, trunk: Trunk):
        self.trunk = trunk
        self.backbone = trunk.backbone
        self.chunk = trunk.chunk
        # On a CPU, each thread of the pass runs its own chunk. An accelerator processes one chunk at a time.
        at_once = trunk.device.type == "cpu" and not trunk.keeps_state
        self._turn = nullcontext() if at_once else fork_safe_lock()
        with single_threaded_pool(1) as pool:
            answer = pool.submit(self.run, trunk.probe).result()
            # The trunk computed its answer under a watch, which might have led torch to other kernels. So a different
            # answer is compared with a second run.
            repeats = np.array_equal(answer, trunk.answer) or np.array_equal(
                answer, pool.submit(self.run, trunk.probe).result()
            )
        if not repeats:
            warn(
                f"backbone={self.backbone.name!r} returns different features for the same images, so they are not "
                "cached and results will not be reproducible.",
                BackboneWarning,
            )
        if repeats and trunk.precision != "float32":
            self._check_precision(answer)
        self.facts = trunk.facts("torch", torch.__version__, answer, repeats)

    def _check_precision(self, answer: np.ndarray) -> None:
        difference = self.trunk.difference(answer)
        if not difference <= _TOLERANCES[self.trunk.precision]:
            raise EngineError(
                f"precision={self.trunk.precision!r} changes the outputs of backbone={self.backbone.name!r} by "
                f'{difference:.1e} of the largest output. Pass precision="float32".'
            )

    def reserve(self, n_threads: int) -> None:
        """Do nothing: any number of threads may run or wait for their turn."""

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of a chunk of pixels, as float32 of shape (chunk, ...)."""
        with self._turn:
            return self.trunk.run(pixels)


class OpenVinoEngine(Engine):
    """A trunk on the CPU, converted once and run by OpenVINO.

    Parameters
    ----------
    trunk : Trunk
        Not needed after the conversion.
    n_threads : int
        Expected number of concurrent threads; see `reserve`.

    Raises
    ------
    EngineError
        If the network cannot be converted, or its outputs for a chunk of noise differ from torch's.
    """

    def __init__(self, trunk: Trunk, n_threads: int = 1):
        self.backbone = trunk.backbone
        self.chunk = trunk.chunk
        if trunk.reads_values:
            raise self._error("its forward depends on the values of tensors, which cannot be converted")
        try:
            with single_threaded_pool(1) as pool:
                pixels = torch.from_numpy(trunk.probe)
                arguments = trunk.compute, pixels, n_threads, trunk.precision
                self._compiled = pool.submit(CompiledFunction, *arguments).result()
            first, second = (self.run(trunk.probe) for _ in range(2))
        except Exception as error:  # conversions may fail in any way
            if is_from_signal_handler(error):
                raise
            reason = " ".join(str(error).split())  # OpenVINO's messages span several lines
            raise self._error(f"its conversion fails: {reason}") from error
        difference = trunk.difference(first)
        if not np.array_equal(first, second, equal_nan=True):
            raise self._error("it returns different features for the same images")
        if not difference <= _TOLERANCES[trunk.precision]:
            found = "its outputs" if trunk.precision == "float32" else f"its outputs in {trunk.precision}"
            raise self._error(f"{found} differ from torch's by {difference:.1e} of the largest output")
        self.facts = trunk.facts("openvino", self._compiled.version, first)

    def reserve(self, n_threads: int) -> None:
        """Prepare for this number of concurrent threads."""
        self._compiled.reserve(n_threads)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the features or activations of a chunk of pixels, as float32 of shape (chunk, ...)."""
        return self._compiled.run(pixels)

    def _error(self, reason: str) -> EngineError:
        return EngineError(
            f"engine='openvino' cannot run backbone={self.backbone.name!r}: {reason}. Pass engine=\"torch\", or "
            'engine="auto", which uses OpenVINO only if it can.'
        )


@dataclass(frozen=True)
class FrozenPart:
    """The frozen part of a network, with the device and the engine that run it.

    Parameters
    ----------
    backbone : Backbone
    device : torch.device
    n_tail_stages : int
        Number of last stages that are left out. With 0, the output is features; otherwise, it is activations.
    engine : {"auto", "torch", "openvino"}
        `"auto"` selects OpenVINO if it is installed, the device is the CPU, and OpenVINO can run the network;
        otherwise, torch.
    precision : {"float32", "bfloat16"}
        The precision in which the engine computes.
    """

    backbone: Backbone
    device: torch.device
    n_tail_stages: int = 0
    engine: str = "auto"
    precision: str = "float32"

    def trunk(self, chunk: int) -> Trunk:
        """Build the trunk for chunks of this size."""
        return Trunk(self.backbone, self.device, self.n_tail_stages, chunk, self.precision)


def _load(part: FrozenPart, chunk: int, n_threads: int) -> Engine:
    """Return the requested engine. "auto" selects OpenVINO if it can run the network, and otherwise torch."""
    check_precision(part.precision, part.device)
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


# Parts with the same `_Size` need the same memory, whatever their weights. Parts with the same `_Function` compute the
# same function. `_Key` adds the engine.
_Size: TypeAlias = tuple[str, tuple[int, ...], str, int, str]
_Function: TypeAlias = tuple[str, str, int, int, str, tuple[object, ...]]
_Key: TypeAlias = tuple[_Function, str]


class EngineRegistry:
    """The most recently used engines, and the facts about all engines that this process has run.

    Attributes
    ----------
    n_passes : int
        Number of concurrent passes for which engines are prepared. Cluster workers that run tasks in threads set it.
    """

    n_passes = 1

    def __init__(self) -> None:
        self._process = os.getpid()
        self._turn = threading.RLock()
        self._engines: OrderedDict[_Key, Engine] = OrderedDict()
        self._facts: dict[_Key, EngineFacts] = {}
        self._automatic: dict[_Function, str] = {}
        self._chunks: dict[_Size, int] = {}

    def open(self, part: FrozenPart, n_threads: int = 1) -> Engine:
        """Return the engine that runs a part of a network. Build and probe it if it is not open.

        Parameters
        ----------
        part : FrozenPart
        n_threads : int
            Number of threads of a pass that will run the engine concurrently.

        Raises
        ------
        EngineError
            If `engine="openvino"` was requested and is not possible, or the network needs float32.
        DeviceError
            If the device does not compute in the requested precision.
        DeviceMemoryError
            If not even one image fits into the memory of an accelerator.
        """
        n_threads *= self.n_passes
        return within_memory(lambda: self._opened(part, n_threads), lambda: self.shrink(part), part.device)

    def is_open(self, part: FrozenPart) -> bool:
        """Return True if the engine is open."""
        with self._lock:
            return self._key(part) in self._engines

    def facts(self, part: FrozenPart) -> EngineFacts | None:
        """Return the facts about an engine if this process knows them."""
        with self._lock:
            return self._facts.get(self._key(part))

    def remember(self, part: FrozenPart, facts: EngineFacts) -> None:
        """Add facts about an engine that another process has determined."""
        with self._lock:
            function = self._function(part)
            self._facts[function, facts.engine] = facts
            if part.engine != "torch":
                self._automatic[function] = facts.engine

    def facts_key(self, part: FrozenPart) -> bytes:
        """Return the key of an engine's facts in the current state of this machine, in which they need no new check."""
        versions = (__version__, installed_version(), survived(), decoding_rule())
        wanted = (part.backbone.identity, part.n_tail_stages, self.chunk(part), part.engine)
        arithmetic = (*describe_arithmetic(part.device), *in_keys(part.precision))
        return hashlib.sha256(repr((*wanted, *versions, *arithmetic)).encode()).digest()

    def chunk(self, part: FrozenPart) -> int:
        """Return the number of images that an engine processes at once."""
        return self._chunks.get(self._size(part), chunk_size(part.device))

    def shrink(self, part: FrozenPart) -> None:
        """Halve the number of images that engines of a backbone process at once, because a device is out of memory.

        The number is part of the fingerprint of facts, because other numbers change the last bits of results. The first
        call warns.
        """
        name, device = part.backbone.name, part.device
        with self._lock:
            for key in [key for key in self._engines if key[0][1] == str(device)]:
                del self._engines[key]  # frees their memory on the device
            before = self.chunk(part)
            after = halved(before, f"backbone={name!r}", device)
            size = self._size(part)
            if size not in self._chunks:
                warn(
                    f"The memory of device={str(device)!r} is too small for {before} images at once in "
                    f"backbone={name!r}. From now on, fewer are processed at once, which is slower and changes "
                    "the last bits of results. Free memory there and start a new process to undo this.",
                    DeviceWarning,
                )
            self._chunks[size] = after

    @property
    def _lock(self) -> threading.RLock:
        """The lock of the registry. A forked process starts with an empty registry if it cannot use OpenVINO."""
        if self._process != os.getpid():
            self._process, self._turn = os.getpid(), threading.RLock()
            if not survived():
                self._engines, self._facts, self._automatic = OrderedDict(), {}, {}
        return self._turn

    def _opened(self, part: FrozenPart, n_threads: int) -> Engine:
        with self._lock:
            key = self._key(part)
            if key not in self._engines:
                with single_threaded():  # a forked process would wait forever for torch's threads
                    wanted = replace(part, engine="torch") if key[1] == "torch" else part
                    engine = _load(wanted, self.chunk(part), n_threads)
                self.remember(part, engine.facts)
                key = (key[0], engine.facts.engine)
                self._engines[key] = engine
            self._engines.move_to_end(key)
            while len(self._engines) > _MOST_ENGINES:
                self._engines.popitem(last=False)
            engine = self._engines[key]
        engine.reserve(n_threads)
        return engine

    def _size(self, part: FrozenPart) -> _Size:
        backbone = part.backbone
        return backbone.name, backbone.preprocessing.crop, str(part.device), part.n_tail_stages, part.precision

    def _function(self, part: FrozenPart) -> _Function:
        switches = (*arithmetic_switches(part.device), decoding_rule())
        n_tail_stages, chunk = part.n_tail_stages, self.chunk(part)
        return part.backbone.identity, str(part.device), n_tail_stages, chunk, part.precision, switches

    def _key(self, part: FrozenPart) -> _Key:
        function = self._function(part)
        return function, self._automatic.get(function, "auto") if part.engine == "auto" else part.engine


registry = EngineRegistry()
