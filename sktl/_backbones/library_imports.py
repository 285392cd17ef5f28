"""Import the libraries of models, and say what to do if they do not fit the installed torch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from sktl._words import one_line
from sktl.exceptions import BackboneError


def library(name: str) -> ModuleType:
    """Import torchvision, timm, or a module of theirs when it is needed, because each takes a second.

    Raises
    ------
    BackboneError
        If it cannot be imported, as when torch and torchvision were installed by different commands: torchvision's
        compiled part fits a single version of torch.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise BackboneError(
            f"{name} cannot be imported beside torch {torch.__version__}: {one_line(error)}. torch and torchvision "
            "probably do not fit each other. Install both by one command: pip install --upgrade torch torchvision"
        ) from error
