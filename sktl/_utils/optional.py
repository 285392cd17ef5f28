"""Packages that only some functions need, and that not every installation has."""

from __future__ import annotations

import importlib
from typing import Any

from sktl.exceptions import MissingPackageError


def require(package: str, user: str, requirement: str) -> Any:
    """Import an optional package and return it.

    Parameters
    ----------
    package : str
    user : str
        Who needs it, as the message says it.
    requirement : str
        What pip is to install, such as "sktl[plot]".

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{user} needs {package}, which is not installed: pip install '{requirement}'"
        ) from error
