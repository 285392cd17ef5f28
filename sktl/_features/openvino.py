"""Compile a function of one chunk of pixels with OpenVINO and run it. The only file that imports openvino.

A compiled function computes with one thread per chunk and a fixed chunk shape, so the bits of an image's output depend
neither on other images nor on the number of chunks that run concurrently.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import numpy as np
import torch

from sktl._utils.locks import fork_safe_lock
from sktl._utils.settings_isolation import Loan
from sktl.exceptions import EngineError, EngineNotInstalledError

_import_lock = fork_safe_lock()

# By default, OpenVINO would compute in bfloat16 on processors that support it, quantize activations of fully connected
# layers, pin its threads to cores (the same cores in each process), and use one thread per core only.
PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "ENABLE_CPU_PINNING": False,
    "ENABLE_HYPER_THREADING": True,
}
_HINTS = {"float32": "f32", "bfloat16": "bf16"}
# At level DEBUG, it logs the whole graph of the network: thousands of lines in a program that logs at this level.
_GRAPHS = logging.getLogger("openvino.frontend.pytorch.ts_decoder")


def check_available(device: torch.device) -> None:
    """Raise `EngineError` unless OpenVINO is installed and the device is the CPU."""
    if device.type != "cpu":
        raise EngineError(
            f"engine='openvino' runs on the CPU only, and the device is {str(device)!r}. Pass device=\"cpu\", or "
            'engine="auto".'
        )
    if not _is_installed():
        raise EngineNotInstalledError(
            "engine='openvino' needs the package openvino, which is not installed. Install it with "
            "pip install 'sktl[openvino]', or pass engine=\"auto\"."
        )
    if not survived():
        raise EngineError(
            "engine='openvino' is not possible in a process that was forked from one which used OpenVINO: its threads "
            'are gone. Start processes by "spawn", as joblib does by default, or pass engine="auto".'
        )


def survived() -> bool:
    """Return True if OpenVINO can be used in this process: it was not forked from a process that used OpenVINO."""
    return _process in (None, os.getpid())


def installed_version() -> str | None:
    """Return the installed version of OpenVINO without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


class CompiledFunction:
    """A function from one chunk of uint8 pixels to a float32 tensor, compiled for the CPU.

    Parameters
    ----------
    function : callable
        Maps a uint8 tensor of shape (chunk, H, W, 3) to a float32 tensor with one row per image.
    example : uint8 tensor of shape (chunk, H, W, 3)
        Pixels with which the function is traced.
    n_threads : int
        Expected number of concurrent calls of `run`; see `reserve`.
    precision : {"float32", "bfloat16"}, default="float32"
        The precision in which most layers compute. The output is float32 in either case.

    Raises
    ------
    Exception
        Of any type, if the function cannot be traced or converted.
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        example: torch.Tensor,
        n_threads: int,
        precision: str = "float32",
    ):
        self._openvino = library()
        self._properties = PROPERTIES | {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        self.version = str(self._openvino.get_version())
        self._model = _convert(self._openvino, function, example)
        self._shape = tuple(self._model.output(0).shape)
        self._lock = threading.Lock()
        self._compile(n_threads)
        _functions.add(self)

    def reserve(self, n_threads: int) -> None:
        """Let this number of threads run concurrently, up to the number of cores. Further threads take turns."""
        with self._lock:
            if n_threads > self.n_threads:
                self._compile(n_threads)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the output for one chunk of pixels as a new array."""
        compiled, requests = self._streams
        try:
            request = requests.pop()
        except IndexError:  # all requests are in use
            request = compiled.create_infer_request()
        # Tensors with shared memory do not keep the arrays alive.
        pixels, output = np.ascontiguousarray(pixels, np.uint8), np.empty(self._shape, np.float32)
        request.set_input_tensor(self._openvino.Tensor(pixels, shared_memory=True))
        request.set_output_tensor(self._openvino.Tensor(output, shared_memory=True))
        # `infer` would compute in the calling thread, on a stream that another thread may be using.
        request.start_async()
        request.wait()
        requests.append(request)
        return output

    def _compile(self, n_threads: int) -> None:
        # Streams share the weights, and each is one thread. Several compiled models would copy the weights.
        n_streams = min(n_threads, joblib.cpu_count())
        streams = {"NUM_STREAMS": n_streams, "INFERENCE_NUM_THREADS": n_streams}
        compiled = core().compile_model(self._model, "CPU", self._properties | streams)
        self._streams: tuple[Any, list[Any]] = (compiled, [])  # with the unused requests
        self.n_threads = n_threads

    def leave_alone(self) -> None:
        """Never release OpenVINO's objects: in a forked process, this would wait for threads that do not exist."""
        compiled, requests = self._streams
        for thing in (self._model, compiled, *requests):
            _never_release(thing)


# The process that imported OpenVINO.
_process: int | None = None
_functions: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for function in list(_functions):
        function.leave_alone()
    if core.cache_info().currsize:  # otherwise, this would create it in the child
        _never_release(core())


def _never_release(thing: object) -> None:
    # With an additional reference, the count never reaches zero.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@functools.cache
def library() -> Any:
    """Import openvino without the telemetry that the import would otherwise start."""
    with _import_lock, _hidden("openvino_telemetry"):
        import openvino
        import openvino.frontend.pytorch.ts_decoder
    global _process
    _process = os.getpid()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
    return openvino


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make a package look as if it were not installed."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[package]
        else:
            sys.modules[package] = before


@functools.cache
def core() -> Any:
    """Return OpenVINO's core, which reads and compiles models."""
    return library().Core()


def _log_no_graphs(before: int) -> None:
    if before == logging.NOTSET:  # otherwise, somebody wants to see them
        _GRAPHS.setLevel(logging.INFO)


_without_graphs = Loan(lambda: _GRAPHS.level, _log_no_graphs, _GRAPHS.setLevel, _GRAPHS.setLevel)


def _convert(openvino: Any, function: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> Any:
    """Convert a function of torch to an OpenVINO model with static shape."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.")  # deprecated
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        # Values that leave torch would become constants in the trace.
        warnings.filterwarnings("error", ".*to a (NumPy array|Python list)", torch.jit.TracerWarning)
        traced = torch.jit.trace(function, example, check_trace=False)
    # `openvino.convert_model` would report each conversion to Intel, and patch torch while it runs.
    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    with _without_graphs.block():
        decoder = openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder(traced, example_input=example)
        graph = frontend.load(decoder)
    (pixels,) = graph.get_inputs()
    graph.set_partial_shape(pixels, openvino.PartialShape(list(example.shape)))
    graph.set_element_type(pixels, openvino.Type.u8)
    return frontend.convert(graph)
