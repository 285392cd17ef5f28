"""The file systems of fsspec that read URLs: which package each needs, and which of them are kept open."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from sktl._utils.optional import require
from sktl._utils.paths import shown, why_no_file
from sktl._words import one_line
from sktl.exceptions import MissingPackageError

from .problems import ImageProblem
from .url_text import local_links, masked, schemes_of

# An extra of sktl would also install PyTorch, which `sktl.runtime` does without.
_REQUIREMENT = "fsspec[http]"
_WEB = {"http", "https"}
_ARCHIVES_PER_THREAD = 4


@functools.cache
def check_scheme(scheme: str) -> None:
    """Raise an error if URLs with a scheme cannot be read.

    Raises
    ------
    MissingPackageError
        If the package that reads them is not installed.
    ImageProblem
        If fsspec does not know the scheme.
    """
    fsspec = require("fsspec", f"Reading {scheme}:// URLs in X", _REQUIREMENT)
    try:
        _kinds.add(fsspec.get_filesystem_class(scheme))
    except ImportError as error:
        if scheme in _WEB:
            raise MissingPackageError(
                f"Reading {scheme}:// URLs in X needs aiohttp, which is not installed: pip install '{_REQUIREMENT}'"
            ) from error
        raise MissingPackageError(f"Reading {scheme}:// URLs in X needs another package: {one_line(error)}") from error
    except ValueError as error:
        raise ImageProblem(f"is a URL, but fsspec knows no scheme {scheme}://; correct it, or pass a path") from error


def fsspec_package() -> Any:
    """Import fsspec, which takes a moment, when the first URL needs it."""
    return require("fsspec", "Reading URLs in X", _REQUIREMENT)


def is_async(file_system: Any) -> bool:
    """Return True if a file system reads by coroutines, in the loop of a thread of fsspec's."""
    return bool(getattr(file_system, "async_impl", False))


def is_web(file_system: Any) -> bool:
    """Return True for fsspec's file system of HTTP."""
    protocol = file_system.protocol
    return bool(_WEB & ({protocol} if isinstance(protocol, str) else {*protocol}))


_local = threading.local()
_kinds: set[Any] = set()  # classes of file systems that were used
_inherited: list[Any] = []


def _keep_connections() -> None:
    """Keep the connections that a forked child inherits, and does not use, from being closed there.

    fsspec empties its caches in a child. Closing a connection would take it out of the selector that the child shares
    with its parent, where the next request would wait until it times out.
    """
    for kind in _kinds:
        _inherited.extend(kind._cache.values())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_connections)


def file_system_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path of the file in it.

    Raises
    ------
    ImageProblem
        If a link of the URL leads to a pipe or a device on this machine.
    """
    fsspec = fsspec_package()
    for link in local_links(url):
        _check_local(_local_path(link))
    first, _, rest = url.partition("::")
    kind = fsspec.get_filesystem_class(schemes_of(url)[0])
    if rest and "://" in first and not kind.cachable:
        return _archive(first.partition("://")[0], rest), kind._strip_protocol(first)
    file_system, path = fsspec.core.url_to_fs(url)
    return file_system, path


def _local_path(link: str) -> str:
    """Return the path on this machine that fsspec opens for a link."""
    path: str = fsspec_package().get_filesystem_class("file")._strip_protocol(link)
    return path


def _check_local(path: str) -> None:
    """Raise `ImageProblem` for a pipe or a device. Folders are left to fsspec, which can open archives in them."""
    if not os.path.isdir(path) and (reason := why_no_file(path)):
        raise ImageProblem(f"leads to {shown(masked(path))}, which {reason}; leave it out")


def _archive(scheme: str, rest: str) -> Any:
    """Return an opened archive. Each thread has its own, because their readers share a position in a file.

    fsspec would open an archive, and read its list of files, once for each image.
    """
    opened: dict[Any, Any] = vars(_local).setdefault("archives", {})
    key = (os.getpid(), scheme, rest, _version_of(rest))
    if key not in opened:
        while len(opened) >= _ARCHIVES_PER_THREAD:
            del opened[next(iter(opened))]
        opened[key], _ = fsspec_package().core.url_to_fs(f"{scheme}://::{rest}")
    return opened[key]


def _version_of(archive: str) -> tuple[int, ...]:
    """Return what changes when an archive on this machine, or one that contains it, is replaced."""
    version: list[int] = []
    for link in local_links(archive):
        try:
            status = os.stat(_local_path(link))
        except (OSError, ValueError):
            continue
        version += [status.st_size, status.st_mtime_ns, status.st_ino]
    return tuple(version)
