"""Import the libraries of models, with an error that says what to do if torch is incompatible."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from sktl._words import one_line
from sktl.exceptions import BackboneError


def library(name: str) -> ModuleType:
    """Import and return torchvision, timm, or one of their modules.

    They are imported when they are needed, because each takes about a second.

    Raises
    ------
    BackboneError
        If the library cannot be imported. The usual cause is that torch and torchvision were installed by different
        commands: the compiled part of torchvision works with a single version of torch.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise BackboneError(
            f"{name} cannot be imported beside torch {torch.__version__}: {one_line(error)}. torch and torchvision "
            "are probably incompatible versions. Install both with one command: pip install --upgrade torch torchvision"
        ) from error
