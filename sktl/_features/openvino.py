"""Compile a function of one chunk of pixels with OpenVINO, and run it in threads; the only file that imports openvino.

A compiled function computes in float32, each chunk in one thread, and chunks have one fixed shape, so that the bits of
an image's output depend neither on its neighbours, nor on how many chunks are computed at once.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
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

from sktl._utils.isolation import fork_safe_lock
from sktl.exceptions import EngineError, EngineNotInstalledError

_import_lock = fork_safe_lock()

# OpenVINO would otherwise compute in bfloat16 where the processor can, quantise activations of fully connected layers,
# pin its threads to cores, the same ones in each process, and leave the second thread of a core alone.
_PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "ENABLE_CPU_PINNING": False,
    "ENABLE_HYPER_THREADING": True,
}


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
    """Tell whether OpenVINO can be used in this process: not after a fork of one that used it."""
    return _process in (None, os.getpid())


def installed_version() -> str | None:
    """Return the version of OpenVINO that is installed, if any, without importing it."""
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
        From a uint8 tensor of shape (chunk, H, W, 3) to a float32 tensor whose rows each follow from one image.
    example : uint8 tensor of shape (chunk, H, W, 3)
        Pixels on which the function is traced.
    n_threads : int
        How many threads are expected to call `run` at once; see `reserve`.

    Raises
    ------
    Exception
        Of any kind, where the function cannot be traced or converted.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor, n_threads: int):
        self._openvino = _library()
        self.version = str(self._openvino.get_version())
        self._model = _convert(self._openvino, function, example)
        self._shape = tuple(self._model.output(0).shape)
        self._lock = threading.Lock()
        self._compile(n_threads)
        _functions.add(self)

    def reserve(self, n_threads: int) -> None:
        """Make sure that so many threads, or as many as there are cores, can run at once; further ones take turns."""
        with self._lock:
            if n_threads > self.n_threads:
                self._compile(n_threads)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the output for one chunk of pixels, a new array."""
        compiled, requests = self._streams
        try:
            request = requests.pop()
        except IndexError:  # all are in use
            request = compiled.create_infer_request()
        # Tensors that share memory do not keep it alive.
        pixels, output = np.ascontiguousarray(pixels, np.uint8), np.empty(self._shape, np.float32)
        request.set_input_tensor(self._openvino.Tensor(pixels, shared_memory=True))
        request.set_output_tensor(self._openvino.Tensor(output, shared_memory=True))
        # Not `infer`, which computes in the calling thread, on a stream that another thread may be using.
        request.start_async()
        request.wait()
        requests.append(request)
        return output

    def _compile(self, n_threads: int) -> None:
        # Streams share the weights. Each is one thread.
        n_streams = min(n_threads, joblib.cpu_count())
        streams = {"NUM_STREAMS": n_streams, "INFERENCE_NUM_THREADS": n_streams}
        compiled = _core().compile_model(self._model, "CPU", _PROPERTIES | streams)
        self._streams: tuple[Any, list[Any]] = (compiled, [])  # with the requests that nobody uses just now
        self.n_threads = n_threads

    def leave_alone(self) -> None:
        """Never let go of what OpenVINO made: it would wait for threads that a fork has not."""
        compiled, requests = self._streams
        for thing in (self._model, compiled, *requests):
            _never_release(thing)


# The process that imported OpenVINO.
_process: int | None = None
_functions: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for function in list(_functions):
        function.leave_alone()
    _never_release(_core())


def _never_release(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@functools.cache
def _library() -> Any:
    """Import openvino, without the telemetry that its import would start unless it was imported before."""
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
    """Let a package look as if it were not installed."""
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
def _core() -> Any:
    return _library().Core()


def _convert(openvino: Any, function: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> Any:
    """Return a function of torch as an OpenVINO model of static shape."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.")  # deprecated
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        # What leaves torch becomes a constant.
        warnings.filterwarnings("error", ".*to a (NumPy array|Python list)", torch.jit.TracerWarning)
        traced = torch.jit.trace(function, example, check_trace=False)
    # Not `openvino.convert_model`, which reports each conversion to its makers, and patches torch while it runs.
    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    decoder = openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder(traced, example_input=example)
    graph = frontend.load(decoder)
    (pixels,) = graph.get_inputs()
    graph.set_partial_shape(pixels, openvino.PartialShape(list(example.shape)))
    graph.set_element_type(pixels, openvino.Type.u8)
    return frontend.convert(graph)
