"""Select the store of features that a pass uses; statistics, clearing and the size limit of caches.

`cache="auto"` is a private store of this process and its workers. All of them name the store by the process id of the
main process, so pickles contain nothing about it. The store is removed when the main process ends. Stores of killed
processes, and of main processes that did not import sktl themselves, are removed by the next process that creates a
store.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Literal, NamedTuple

from sktl._short_text import shown_value
from sktl._utils.environment_limits import bound_from
from sktl._utils.locks import fork_safe_lock
from sktl._utils.paths import checked_path
from sktl._utils.processes import is_running
from sktl._utils.warnings import warn_once
from sktl.exceptions import CacheWarning, InvalidParameterError

from .redis_store import RedisStore, is_redis_url, without_password
from .sqlite_store import SQLiteStore
from .value_store import ValueStore, machine

LIMIT_VARIABLE = "SKTL_CACHE_MAX_BYTES"
# Prefix of spaces whose entries do not belong to images, such as facts about engines. They are not counted as images.
APART = "about "
_DEFAULT_LIMIT = 4 << 30
# Small values, such as features, also stay in memory up to this size, where they are found ten times as fast.
_IN_MEMORY = 64 << 20
_SMALL = 64 << 10
_WORDS = ("", "auto", "none", "false", "true", "off", "no")
_FOLDERS = 10  # names to try for a private folder of this user


class CacheInfo(NamedTuple):
    """Statistics of a cache over all processes that use it, similar to `cache_info` of :func:`functools.lru_cache`.

    Attributes
    ----------
    hits, misses : int
        Number of images whose features were found or not found since the cache was created or cleared.
    images : int
        Number of images whose features are cached, counted once per network.
    bytes, max_bytes : int
        Total size of the cached values, and its limit. Files on disk are about a tenth larger. The limit of a Redis
        server is its `maxmemory`, for all of its data, or 0 if it has none.
    """

    hits: int
    misses: int
    images: int
    bytes: int
    max_bytes: int


class Cache:
    """A store, and the first small values that this process read from it or wrote to it.

    Parameters
    ----------
    store : ValueStore or None
        None caches nothing.
    place : str, path or False
        The `cache` parameter that opens this cache. A copy in another process opens what the parameter means there.
    """

    def __init__(self, store: ValueStore | None, place: str | os.PathLike[str] | Literal[False] = False):
        self.store = store
        self.place = place
        self._lock = fork_safe_lock()
        self._start()

    def __reduce__(self) -> tuple[Callable[..., Cache], tuple[object]]:
        return open_cache, (self.place,)

    @property
    def address(self) -> tuple[str, ...] | None:
        """Identifier of this cache among the caches of all processes and machines; None if it caches nothing."""
        return None if self.store is None else self.store.address

    def _start(self) -> None:
        with self._lock:
            self._memory: dict[tuple[str, bytes], bytes] = {}
            self._bytes = 0

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the cached values by key."""
        if self.store is None:
            return {}
        memory = self._memory
        found = {key: value for key in keys if (value := memory.get((space, key))) is not None}
        if len(found) < len(keys):
            stored = self.store.read(space, [key for key in keys if key not in found])
            self._remember(space, stored)
            found |= stored
        return found

    def put(self, space: str, items: Sequence[tuple[bytes, bytes]], owner: str = "") -> None:
        """Store values as far as there is room, and release the owner's claims on their keys."""
        if self.store is not None and items:
            self.store.write(space, items, owner)
            self._remember(space, dict(items))

    def claim(self, space: str, keys: Sequence[bytes], owner: str) -> list[bytes]:
        """Claim keys. Return those whose values the owner must compute now."""
        return list(keys) if self.store is None else self.store.claim(space, keys, owner)

    def renew(self, space: str, owner: str) -> None:
        """Renew the claims of an owner, so that they do not expire."""
        if self.store is not None:
            self.store.write(space, (), owner)

    def release(self, owner: str) -> None:
        """Release all claims of an owner."""
        if self.store is not None:
            self.store.release(owner)

    def count(self, hits: int, misses: int) -> None:
        """Add hits and misses to the statistics. Store what is in memory again if the store was emptied by others."""
        if self.store is not None and self.store.count(hits, misses) and hits:
            for space, values in self._by_space().items():
                self.store.write(space, values)

    def set_limit(self, max_bytes: int | None) -> None:
        """Set the size limit of the store; None restores the default."""
        self._start()
        if self.store is not None:
            self.store.set_limit(max_bytes)

    def clear(self) -> None:
        """Remove all entries."""
        self._start()
        if self.store is not None:
            self.store.clear()

    def _by_space(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """Return the values in memory."""
        with self._lock:
            memory = [*self._memory.items()]
        found: dict[str, list[tuple[bytes, bytes]]] = {}
        for (space, key), value in memory:
            found.setdefault(space, []).append((key, value))
        return found

    def _remember(self, space: str, values: dict[bytes, bytes]) -> None:
        with self._lock:
            for key, value in values.items():
                size = len(value) + len(key)
                if len(value) <= _SMALL and self._bytes + size <= _IN_MEMORY and (space, key) not in self._memory:
                    self._memory[space, key] = value
                    self._bytes += size


NO_CACHE = Cache(None)
_caches: dict[Path | str, Cache] = {}


def open_cache(cache: str | os.PathLike[str] | Literal[False]) -> Cache:
    """Return the cache for a `cache` parameter: `"auto"`, a directory, a Redis URL, or False to cache nothing.

    Raises
    ------
    InvalidParameterError
        If it is something else. Without an error, an empty path would write features into the current folder.
    """
    if cache is False:
        return NO_CACHE
    check_cache(cache)
    if is_redis_url(cache):
        url = str(cache)
        if url not in _caches:
            _caches[url] = Cache(RedisStore(url), url)
        return _caches[url]
    private = cache == "auto"
    try:
        directory = _private_directory() if private else Path(os.path.abspath(checked_path(cache, "cache")))
        if private and not os.path.isdir(directory):
            _remove_abandoned(directory.parent)
    except OSError as error:
        warn_once(f"No folder is available for a cache of features: {error}.", CacheWarning)
        return NO_CACHE
    if directory not in _caches:
        place = "auto" if private else directory
        _caches[directory] = Cache(
            SQLiteStore(directory, lambda: _default_limit(directory), durable=not private), place
        )
    return _caches[directory]


def check_cache(cache: object) -> None:
    """Raise `InvalidParameterError` unless a value is a path, a Redis URL, "auto" or False.

    A string that is probably not meant as the name of a folder is refused, too.
    """
    if cache is False or is_redis_url(cache):
        return
    if isinstance(cache, str) and not _may_be_cache(cache):
        named = f" A folder of that name is {os.path.join(os.curdir, cache)!r}." if cache.isalpha() else ""
        raise InvalidParameterError(
            f'cache={_shown(cache)} is not a folder: pass "auto" for a private one, the path of a folder, the URL of a '
            f"Redis server such as redis://host:6379/0, or False for none.{named}"
        )
    checked_path(cache, "cache", ', "auto", the URL of a Redis server, or False for none')


def _may_be_cache(cache: str) -> bool:
    return cache == "auto" or is_redis_url(cache) or not (cache.lower() in _WORDS or "://" in cache or "\0" in cache)


def _shown(cache: object) -> str:
    return shown_value(without_password(cache) if isinstance(cache, str) else cache)


def _cache_at(path: str | os.PathLike[str] | None) -> Cache:
    """Return the cache at a path of the user.

    Raises
    ------
    InvalidParameterError
        If it is no path, or a string that is probably not meant as the name of a folder.
    """
    is_path = path is None or isinstance(path, os.PathLike)
    if not is_path and not (isinstance(path, str) and _may_be_cache(path)):
        raise InvalidParameterError(
            f"path={_shown(path)} is not a folder: pass the path of a folder, the URL of a Redis server such as "
            "redis://host:6379/0, or None for the private cache."
        )
    return open_cache("auto" if path is None else path if is_redis_url(path) else checked_path(path, "path"))


def cache_info(path: str | os.PathLike[str] | None = None) -> CacheInfo:
    """Return statistics of a cache of features.

    Parameters
    ----------
    path : str or path, default=None
        Directory, or URL of a Redis server, that estimators use as `cache`. None selects the private cache of this
        process and its workers.

    Returns
    -------
    CacheInfo
        Named tuple with the fields hits, misses, images, bytes and max_bytes.

    Raises
    ------
    InvalidParameterError
        If `path` is neither a folder nor the URL of a Redis server.
    CacheError
        If the cache cannot be read.

    Examples
    --------
    >>> import sktl
    >>> sktl.clear_cache()
    >>> sktl.cache_info().images
    0
    """
    store = _cache_at(path).store
    return CacheInfo(0, 0, 0, 0, 0) if store is None else CacheInfo(*store.contents(APART))


def clear_cache(path: str | os.PathLike[str] | None = None) -> None:
    """Remove all features from a cache, and reset its statistics to zero.

    Parameters
    ----------
    path : str or path, default=None
        Directory, or URL of a Redis server, that estimators use as `cache`. None selects the private cache of this
        process and its workers.

    Raises
    ------
    InvalidParameterError
        If `path` is neither a folder nor the URL of a Redis server.
    CacheError
        If the cache cannot be cleared, for instance because another process has locked the database.
    """
    _cache_at(path).clear()


def set_cache_limit(max_bytes: int | None, path: str | os.PathLike[str] | None = None) -> None:
    """Set the size limit of a cache of features, for all processes that use the cache.

    Parameters
    ----------
    max_bytes : int or None
        Maximum size in bytes, at least 0. None restores the default: the value of the environment variable
        `SKTL_CACHE_MAX_BYTES`, or 4 GiB, but at most half of the free disk space.
    path : str or path, default=None
        Directory that estimators use as `cache`. None selects the private cache of this process and its workers.

    Raises
    ------
    InvalidParameterError
        If `max_bytes` is neither None nor an integer of at least 0; if `path` is not a folder; or if `path` is a Redis
        server, which has its own limit.
    CacheError
        If the limit cannot be stored.
    """
    if max_bytes is not None and (not isinstance(max_bytes, Integral) or isinstance(max_bytes, bool) or max_bytes < 0):
        raise InvalidParameterError(f"max_bytes={shown_value(max_bytes)} must be an integer of at least 0, or None.")
    _cache_at(path).set_limit(None if max_bytes is None else int(max_bytes))


def _remove_private() -> None:
    """Remove the private cache that this process and its workers used. A worker leaves the one that it used itself."""
    with contextlib.suppress(OSError):
        for folder in filter(os.path.isdir, _own_folders()):
            directory = folder / _name_for(os.getpid())
            if (cache := _caches.pop(directory, None)) and cache.store is not None:
                cache.store.close()
            shutil.rmtree(directory, ignore_errors=True)


atexit.register(_remove_private)


def _private_directory() -> Path:
    return _own_folder() / _private_name()


def _private_name() -> str:
    parent = multiprocessing.parent_process()
    return _name_for(os.getpid() if parent is None else parent.pid)


def _name_for(pid: int | None) -> str:
    return f"{machine()}-{pid}"


def _own_folder() -> Path:
    """Return a folder for temporary files that only this user can read or write, the same in all of their processes."""
    folders = _own_folders()
    for folder in folders:
        if _is_private(folder):
            return folder
    raise PermissionError(f"{str(folders[0])!r} and its alternatives are not private folders of this user")


def _own_folders() -> list[Path]:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    base = Path(tempfile.gettempdir(), f"sktl-{user}")
    return [base, *(Path(f"{base}-{number}") for number in range(1, _FOLDERS))]


def _is_private(folder: Path) -> bool:
    """Create a folder if it does not exist. Return True if only this user can access it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(folder)
    except OSError:
        return False
    own = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
    return stat.S_ISDIR(status.st_mode) and own


def _remove_abandoned(folder: Path) -> None:
    """Remove the private caches of processes on this machine that have ended."""
    prefix = f"{machine()}-"
    for name in os.listdir(folder):
        owner = name.removeprefix(prefix)
        if name.startswith(prefix) and owner.isdigit() and not is_running(int(owner)):
            shutil.rmtree(folder / name, ignore_errors=True)


def _default_limit(directory: Path) -> int:
    limit = bound_from(LIMIT_VARIABLE, 0, f"a number of bytes, such as {_DEFAULT_LIMIT}", CacheWarning)
    if limit is not None:
        return limit
    there = next((folder for folder in (directory, *directory.parents) if os.path.isdir(folder)), Path())
    used = 0
    try:
        # The cache's own files count as free space. Otherwise, the limit would shrink while the cache grows.
        for file in there.glob("features-v1-*") if there == directory else ():
            with contextlib.suppress(FileNotFoundError):  # SQLite removes its log at any time
                used += file.stat().st_size
        return min(_DEFAULT_LIMIT, (shutil.disk_usage(there).free + used) // 2)
    except OSError:
        return _DEFAULT_LIMIT
