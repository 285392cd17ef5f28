"""Images at URLs: downloaded through the file systems of fsspec, within stated bounds of time and memory."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from sktl._short_text import one_line
from sktl._utils.locks import fork_safe_lock
from sktl._utils.optional import require
from sktl._utils.paths import shown, why_no_file
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import MissingPackageError

from .problems import ImageProblem
from .url_text import local_links, masked, schemes_of, without_secrets

_BLOCK = 1 << 20
# Answers after which another try may succeed; after other answers from 400 to 499 it cannot.
_TEMPORARY = {408, 425, 429}
# aiohttp's errors about redirects, which have no words of their own.
_REDIRECTS = {
    "TooManyRedirects": "cannot be read: the server redirects without end",
    "RedirectClientError": "cannot be read: the server redirects to a URL that is not valid, or not http or https",
}
# A file modified within this many seconds may be modified again without a change of its tag, and the clocks of two
# machines differ.
_RACY = 10.0
# An extra of sktl would also install PyTorch, which `sktl.runtime` does without.
_REQUIREMENT = "fsspec[http]"
_WEB = {"http", "https"}
_ARCHIVES_PER_THREAD = 4


@dataclass(frozen=True)
class Bounds:
    """Bounds on the effort for one image at a URL.

    Parameters
    ----------
    n_bytes : int
        The largest file.
    n_tries : int
    pause : float
        Seconds before the second try; doubled before each other.
    stall : float
        Seconds without data after which a try ends.
    total : float
        Seconds after which a try ends.
    n_silent : int
        Number of images in a row whose server does not answer before its other images are given up at once. Otherwise,
        a server that is down would take minutes for each image.
    silence : float
        Seconds after which such a server is tried again.
    """

    n_bytes: int = 128 << 20
    n_tries: int = 3
    pause: float = 0.5
    stall: float = 30.0
    total: float = 300.0
    n_silent: int = 8
    silence: float = 60.0


bounds = Bounds()


class UrlStamp(NamedTuple):
    """Metadata of a file on a server that change when its content changes."""

    url: str
    size: int | None
    tag: str
    modified: str

    def is_settled(self) -> bool:
        """Return True if any later modification would change the stamp."""
        if not self.modified:
            return True
        try:
            when = parsedate_to_datetime(self.modified).timestamp()
        except (ValueError, OverflowError, OSError):  # not a date, or one that this machine cannot represent
            return False
        return when < time.time() - _RACY


@dataclass(frozen=True, slots=True)
class UrlSample:
    """An image file at a URL, read again at each access."""

    url: str

    @property
    def name(self) -> str:
        return masked(self.url)

    def stamp(self) -> UrlStamp | None:
        """Return what the server says about the file if that includes a tag of its content; None otherwise."""
        server = _Server.of(self.url)
        try:
            info = {} if server.is_silent(bounds) else _Request(self.url, bounds).info()
        except Exception as error:  # `read` finds the reason again, and reports it
            raise_process_error(error)
            server.note(error)
            return None
        tag = next((info[name] for name in ("ETag", "etag") if info.get(name)), None)
        if not isinstance(tag, str) or tag.startswith("W/"):  # weak tags do not promise equal bytes
            return None
        modified = next((info[name] for name in ("Last-Modified", "LastModified", "last_modified") if name in info), "")
        return UrlStamp(self.url, info.get("size"), tag, _as_text(modified))

    def read(self) -> bytes:
        return read_url(self.url)


def _as_text(modified: Any) -> str:
    """Return a time in the form of HTTP headers."""
    return modified.strftime("%a, %d %b %Y %H:%M:%S %z") if isinstance(modified, datetime) else str(modified)


def url_sample(url: str) -> UrlSample:
    """Return the sample of a URL.

    Raises
    ------
    MissingPackageError
        If the package that reads such URLs is not installed.
    ImageProblem
        If fsspec does not know the scheme.
    """
    for scheme in schemes_of(url):
        check_scheme(scheme)
    return UrlSample(url)


# -------------------------------------------------------------------------------------------------------------- reading


def read_url(url: str) -> bytes:
    """Return the bytes at a URL, after a few tries if need be.

    Raises
    ------
    ImageProblem
        If it cannot be read, or not within the bounds. The reason holds no credentials.
    """
    limits, server = bounds, _Server.of(url)
    reason, tries = "", 0
    for tries in range(1, limits.n_tries + 1):
        if server.is_silent(limits):
            raise ImageProblem("was not tried, because its server does not answer; try again later")
        try:
            content = _Request(url, limits).content()
        except ImageProblem:
            raise
        except Exception as error:  # file systems of other packages may raise anything
            raise_process_error(error)
            reason, is_final = _why(error, url, limits)
            if is_final:
                raise ImageProblem(reason) from None
            if tries < limits.n_tries:
                time.sleep(limits.pause * 2 ** (tries - 1))
            else:
                server.note(error)
        else:
            server.answered()
            return content
    raise ImageProblem(f"{reason}, in {tries} tries; try again later, or download it and pass its path")


class _Server:
    """How many images in a row the server of some URLs did not answer for, and when it did not for the last one."""

    _all: dict[str, _Server] = {}  # noqa: RUF012 - shared by the process
    _lock = fork_safe_lock()  # one for all servers, because each such lock stays registered and slows down forks

    def __init__(self) -> None:
        self._n_silent = 0
        self._since = 0.0

    @classmethod
    def of(cls, url: str) -> _Server:
        last = url.rpartition("::")[2]
        return cls._all.setdefault("/".join(last.split("/", 3)[:3]), cls())

    def is_silent(self, limits: Bounds) -> bool:
        return self._n_silent >= limits.n_silent and time.monotonic() < self._since + limits.silence

    def note(self, error: Exception) -> None:
        """Count an error if it is a time-out or a connection that failed, but not if the server answered with it."""
        if isinstance(error, TimeoutError | ConnectionError) or _is_connection_error(error):
            with self._lock:
                self._n_silent, self._since = self._n_silent + 1, time.monotonic()

    def answered(self) -> None:
        with self._lock:
            self._n_silent = 0


def _is_connection_error(error: Exception) -> bool:
    # aiohttp's name, which is an OSError but no ConnectionError.
    return any(kind.__name__ == "ClientConnectorError" for kind in type(error).__mro__)


class _Short(Exception):  # noqa: N818 - never raised to the user
    """A file that ended before its end."""


class _Request:
    """Requests for one URL, within bounds."""

    def __init__(self, url: str, limits: Bounds):
        self.limits = limits
        self.file_system, self.path = file_system_of(url)

    def info(self) -> dict[str, Any]:
        """Return what the file system says about the file, without reading it."""
        if not is_async(self.file_system):
            return {}
        found: dict[str, Any] = self._sync(lambda: self.file_system._info(self.path), self.limits.stall)
        return found

    def content(self) -> bytes:
        """Return the bytes of the file."""
        if not is_async(self.file_system):
            return self._read_file()
        limits = self.limits
        content: bytes
        if is_web(self.file_system):
            content = self._sync(self._stream, limits.total)
        else:
            content = self._sync(
                lambda: self.file_system._cat_file(self.path, start=0, end=limits.n_bytes + 1), limits.total
            )
        self._check_size(len(content))
        return content

    def _sync(self, coroutine: Callable[[], Any], seconds: float) -> Any:
        return fsspec_package().asyn.sync(self.file_system.loop, lambda: asyncio.wait_for(coroutine(), seconds))

    async def _stream(self) -> bytes:
        """Read a file of the web in one request, block by block. fsspec's own readers load a body of any size."""
        # A size keeps fsspec from asking for it, and its options hold the headers that the user configured.
        file = await self.file_system.open_async(self.path, size=0, **self.file_system.kwargs)
        content = bytearray()
        try:
            while block := await asyncio.wait_for(file.read(_BLOCK), self.limits.stall):
                content += block
                self._check_size(len(content))
        finally:
            await file.close()
        return bytes(content)

    def _read_file(self) -> bytes:
        with self.file_system.open(self.path, "rb") as file:
            size = getattr(file, "size", None)
            self._check_size(size or 0)
            content = bytearray()
            while block := file.read(_BLOCK):
                content += block
                self._check_size(len(content))
        if isinstance(size, int) and len(content) < size:
            raise _Short(f"{len(content):,} of {size:,} bytes")
        return bytes(content)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.limits.n_bytes:
            raise ImageProblem(
                f"has more than {self.limits.n_bytes >> 20} MiB, the limit for URLs; download it, and pass the path"
            )


def _why(error: Exception, url: str, limits: Bounds) -> tuple[str, bool]:
    """Return why a try failed, and whether others would fail, too."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return _why_refused(status), status < 500 and status not in _TEMPORARY
    if isinstance(error, FileNotFoundError | KeyError):
        return "no such file: the server or archive has none of this name", True
    if isinstance(error, PermissionError):
        return _why_refused(403), True
    if isinstance(error, TimeoutError):
        return f"no data arrived for {limits.stall:g} s, or not all within {limits.total:g} s", False
    if isinstance(error, _Short):
        return f"ended early, after {error}", False
    if type(error).__name__ == "ClientPayloadError":  # aiohttp's error for a body that ends before its length
        return "ended early: the connection was closed before all bytes arrived", False
    if redirects := [words for kind in type(error).__mro__ if (words := _REDIRECTS.get(kind.__name__))]:
        return redirects[0], True
    words = without_secrets(one_line(error), url)
    is_final = isinstance(error, ValueError | TypeError | EOFError | zipfile.BadZipFile | zlib.error)
    return f"cannot be read: {words or type(error).__name__}", is_final


def _why_refused(status: int) -> str:
    phrase = next((f" ({one.phrase})" for one in HTTPStatus if one == status), "")
    hint = "; check the credentials, and whether a signed URL has expired" if status in (401, 403) else ""
    return f"cannot be read: the server answers {status}{phrase}{hint}"


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
