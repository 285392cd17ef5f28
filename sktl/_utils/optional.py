"""Optional packages, which only some functions need."""

from __future__ import annotations

import importlib.util
from typing import Any

from sktl.exceptions import MissingPackageError


def lacking_package(error: ImportError) -> str | None:
    """Return the package without which an import failed; None if it is there, and a part of it is lacking.

    An old version of a package lacks parts, and so does a damaged installation.
    """
    package = (error.name or "").partition(".")[0]
    return package if package and importlib.util.find_spec(package) is None else None


def require(package: str, user: str, requirement: str) -> Any:
    """Import an optional package and return it.

    Parameters
    ----------
    package : str
    user : str
        What needs the package, as the message names it.
    requirement : str
        Argument for `pip install`, such as "sktl[plot]".

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{user} needs {package}, which is not installed: pip install '{requirement}'"
        ) from error
