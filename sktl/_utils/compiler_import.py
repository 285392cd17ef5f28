"""Import torch's compiler, which looks up the working folder at import, if this folder has been removed."""

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
