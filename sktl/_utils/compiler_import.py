"""Import torch's compiler where the working folder of the process has been removed, for which torch asks at import."""

from __future__ import annotations

import importlib
import os


def import_compiler_without_folder() -> None:
    """Import torch's compiler, which optimizers and exports need, if the working folder has been removed.

    Elsewhere, torch imports it when it needs it. The process leaves the folder for the duration of the import.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        here = os.open(os.curdir, os.O_RDONLY)
        try:
            os.chdir(os.sep)
            importlib.import_module("torch._dynamo")
        finally:
            os.fchdir(here)
            os.close(here)
