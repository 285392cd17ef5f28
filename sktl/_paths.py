"""Paths as people write them, and names of files that not every library can open."""

from __future__ import annotations

import os


def user_path(path: str | os.PathLike[str]) -> str:
    """Return a path that a person wrote, with `~` or `~user` at its start replaced by the home directory."""
    return os.path.expanduser(str(os.fsdecode(path)))


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Tell whether a name is UTF-8: safetensors writes under names of other bytes, too, but opens none of them."""
    try:
        os.fsdecode(path).encode()
    except UnicodeEncodeError:
        return False
    return True
