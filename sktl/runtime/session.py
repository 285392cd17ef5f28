"""An exported network in ONNX Runtime: opened from memory, checked, shared by threads, opened again after a fork."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

import numpy as np

from sktl._short_text import one_line
from sktl._utils.locks import fork_safe_lock
from sktl._utils.onnx_runtime import onnxruntime
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import DeviceMemoryError, ModelFileError

from .document import INPUT, KEY, OUTPUTS, TYPICALITY, ModelDocument, damaged
from .model_source import ModelSource, other_format

# Where ONNX Runtime looks for weights outside the model file. Without it, a forged model could read files of the
# working directory; below this path nothing can exist.
_NO_FOLDER = os.devnull
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"
# Threads that wait for work by spinning would take the cores from the threads that decode.
_QUIET_THREADS = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
_SILENT = 4

_OPENING = fork_safe_lock()


class Session:
    """A network that computes outputs from pixels. Threads may call it concurrently.

    Parameters
    ----------
    source : ModelSource
    n_threads : int
        Number of threads that compute.

    Attributes
    ----------
    source : ModelSource
        With the checksum of the content.
    document : ModelDocument
        The document in the metadata of the file.
    has_typicality : bool
        Whether the network computes the typicality of images.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by sktl's export, or its inputs and outputs contradict its document.
    """

    def __init__(self, source: ModelSource, n_threads: int):
        self._n_threads = n_threads
        content, self.source = source.read()
        self._network: Any = _open(content, self.source.name, n_threads)
        try:
            self.document = _checked_document(self._network, self.source.name)
        except UnicodeDecodeError as error:  # ONNX Runtime decodes names when they are used
            raise damaged(self.source.name, "it has text that is not UTF-8") from error
        self.has_typicality = len(self._network.get_outputs()) == 2
        _SESSIONS.add(self)

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for pixels, uint8 of shape (n, H, W, 3).

        Raises
        ------
        ModelFileError
            If the network fails, or returns something else than its document says.
        DeviceMemoryError
            If there is not enough memory.
        """
        try:
            outputs = self._opened().run(None, {INPUT: np.ascontiguousarray(pixels)})
        except Exception as error:  # ONNX Runtime has an error class for each of its codes, below Exception alone
            raise _failed(self.source.name, error, f"run it on {len(pixels)} images") from error
        shapes = [(len(pixels), self.document.n_outputs), (len(pixels),)][: len(outputs)]
        if [output.shape for output in outputs] != shapes:
            found = [output.shape for output in outputs]
            raise damaged(self.source.name, f"its outputs have shapes {found}, not {shapes}")
        if not all(np.isfinite(output).all() for output in outputs):
            raise ModelFileError(f"{self.source.name} computes outputs that are not finite. Export the model again.")
        return outputs

    def _opened(self) -> Any:
        """Return the network; in a forked child, one of its own."""
        if self._network is None:
            with _OPENING:
                if self._network is None:
                    content, _ = self.source.read()
                    self._network = _open(content, self.source.name, self._n_threads)
        return self._network

    def _forget(self) -> None:
        """Leave the network of the parent process, whose threads a forked child lacks."""
        # Its destructor would wait for these threads and crash, so it must never run, not even at exit.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._network))
        self._network = None


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _forget_all() -> None:
    for session in _SESSIONS:
        session._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _open(content: bytes, name: str, n_threads: int) -> Any:
    runtime = onnxruntime("sktl.runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    options.log_severity_level = _SILENT  # errors are raised; ONNX Runtime would print them as well
    for key, value in (_QUIET_THREADS | {_FOLDER_KEY: _NO_FOLDER}).items():
        options.add_session_config_entry(key, value)
    try:
        # With fallback, it would print errors of damaged files and try again.
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # see `Session.run`
        if other := other_format(content):
            raise ModelFileError(f"{name} {other}") from error
        raise _failed(name, error, "open it") from error


def _checked_document(network: Any, name: str) -> ModelDocument:
    """Return the document in the metadata of a network, to which its inputs and outputs correspond."""
    metadata = network.get_modelmeta().custom_metadata_map
    if KEY not in metadata:
        raise damaged(name, "its metadata lacks the document")
    document = ModelDocument.from_json(metadata[KEY], name)
    _check_signature(network, document, name)
    return document


def _failed(name: str, error: Exception, action: str) -> Exception:
    """Return our error for an error of ONNX Runtime, which tells by its words that memory ran out."""
    if not isinstance(error, MemoryError):
        raise_process_error(error)
    if isinstance(error, MemoryError) or "alloc" in str(error).lower():
        return DeviceMemoryError(f"There is not enough memory for {name}: ONNX Runtime cannot {action}. Free memory.")
    return damaged(name, f"ONNX Runtime cannot {action} ({one_line(error)})")


def _check_signature(network: Any, document: ModelDocument, name: str) -> None:
    """Raise `ModelFileError` unless inputs and outputs are as the document says.

    Sizes of outputs that the exporter could not infer have names or are None; they are compared when the network runs.
    """
    inputs, outputs = network.get_inputs(), network.get_outputs()
    names = [[place.name for place in places] for places in (inputs, outputs)]
    known = [OUTPUTS[document.kind], TYPICALITY]
    if names not in ([[INPUT], known], [[INPUT], known[:1]]):
        raise damaged(name, f"its inputs and outputs are {one_line(names)}")
    n, *sizes = inputs[0].shape
    if inputs[0].type != "tensor(uint8)" or isinstance(n, int) or sizes != [*document.preprocessing.crop, 3]:
        raise damaged(name, f"its input is {inputs[0].type} of {one_line(inputs[0].shape)}")
    for output in outputs:
        if output.type != "tensor(float)":
            raise damaged(name, f"{output.name} is {output.type}")
