"""The versions of sktl and of the libraries that affect its results."""

from __future__ import annotations

import functools
import platform

__version__ = "0.1.0.dev0"

_LIBRARIES = ("numpy", "pillow", "safetensors", "scikit-learn", "skorch", "timm", "torch", "torchvision")


@functools.cache
def version_of(library: str) -> str:
    """Return the version of an installed library without importing it."""
    import importlib.metadata  # takes longer than everything else in `import sktl`

    return importlib.metadata.version(library)


def library_versions() -> dict[str, str]:
    """Return the names and versions of sktl, Python and the libraries that affect results."""
    libraries = {name: version_of(name) for name in _LIBRARIES}
    return {"sktl": __version__, "python": platform.python_version()} | libraries
