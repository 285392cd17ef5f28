"""ONNX Runtime, imported without its telemetry."""

from __future__ import annotations

import os
import sys
from typing import Any

from .locks import fork_safe_lock
from .optional import require

# Official builds report their use to Microsoft from a thread that starts at import, unless this variable is set then.
# At exit, a forked child would wait for that thread, which it does not have.
_SWITCH = "ORT_DISABLE_TELEMETRY"
_IMPORTING = fork_safe_lock()


def onnxruntime(user: str) -> Any:
    """Return the package onnxruntime, which reports nothing if sktl is the first to import it.

    Parameters
    ----------
    user : str
        What needs the package, as the message of an error names it.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    with _IMPORTING:
        if "onnxruntime" in sys.modules or _SWITCH in os.environ:
            return require("onnxruntime", user, "onnxruntime>=1.20")
        os.environ[_SWITCH] = "1"
        try:
            return require("onnxruntime", user, "onnxruntime>=1.20")
        finally:
            os.environ.pop(_SWITCH, None)
