"""The version of sktl, and those of the libraries on which bits depend."""

from __future__ import annotations

import functools
import platform

__version__ = "0.1.0.dev0"

_LIBRARIES = ("numpy", "pillow", "safetensors", "scikit-learn", "skorch", "timm", "torch", "torchvision")


@functools.cache
def version_of(library: str) -> str:
    """Return the version of a library that is installed, without importing it."""
    import importlib.metadata  # takes longer than all else that `import sktl` does

    return importlib.metadata.version(library)


def library_versions() -> dict[str, str]:
    """Return name and version of sktl, Python and the libraries that are installed."""
    libraries = {name: version_of(name) for name in _LIBRARIES}
    return {"sktl": __version__, "python": platform.python_version()} | libraries
