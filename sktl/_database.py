"""One SQLite database in a directory, shared by processes: opened when it is needed, and renewed when it is damaged.

A process may be killed at any moment, and a machine lose power: commits made since the last checkpoint may then be lost
from a durable database, one that is not durable may be lost as a whole. Whatever goes wrong is reported once, as a
`CacheWarning`: a damaged file is given up for a new one, and a database that is full, locked for long, or cannot be
written is left alone for a while.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sqlite3
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from .exceptions import CacheWarning

Result = TypeVar("Result")

_FILE = "features-v1-{:04d}.sqlite"
_FILE_PATTERN = re.compile(r"features-v1-(\d+)\.sqlite")
# Small rows fill a page of this many bytes well, and large ones need few.
_PAGE = 16384
_PATIENCE = 10.0  # seconds to wait for a lock
_PAUSE = 60.0  # seconds for which a database that failed is left alone
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_NOTADB}


class Database:
    """A database in a directory.

    Parameters
    ----------
    directory : Path
        Made when it is needed.
    schema : str
        Statements that make the tables of a new file.
    durable : bool
        Whether the file stays consistent when the machine loses power.
    """

    def __init__(self, directory: Path, schema: str, durable: bool = True):
        self.directory = directory
        self.schema = schema
        self.durable = durable
        self._opened: _Opened | None = None
        self._reported: set[str] = set()
        self._unreadable_until = self._unwritable_until = 0.0
        self._begin()

    def attempt(
        self, function: Callable[[sqlite3.Connection], Result], otherwise: Result, writes: bool = False
    ) -> Result:
        """Return what a function makes of the connection, or something else if it cannot be used.

        Of a damaged file it is tried once more, on a new one.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            for _ in range(2):
                now = time.monotonic()
                if now < self._unreadable_until or (writes and now < self._unwritable_until):
                    break
                try:
                    opened = self._open()
                    if writes and opened.read_only:
                        break
                    return function(opened.connection)
                except (sqlite3.Error, OSError, TypeError, ValueError, OverflowError) as error:
                    if not _is_damage(error):
                        self._leave_alone(error, writes)
                        break
                    self._renew(error)
            return otherwise

    def close(self) -> None:
        """Close the connection of this process; the next use opens it again."""
        with self._lock:
            if self._opened is not None and self._pid == os.getpid():
                self._opened.connection.close()
                self._opened = None

    def _leave_alone(self, error: Exception, writes: bool) -> None:
        until = time.monotonic() + _PAUSE
        if writes:
            self._unwritable_until = until
        else:
            self._unreadable_until = until
        self._report(f"cannot be {'written' if writes else 'used'} ({error}), so features are computed anew meanwhile")

    def _report(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            warnings.warn(f"The cache in {str(self.directory)!r} {problem}.", CacheWarning, stacklevel=2)

    def _open(self) -> _Opened:
        """Return the connection of this process to the newest file."""
        if self._opened is None or not self._opened.is_current():
            self._opened = None
            self._opened = self._connect()
            if self._opened.read_only:
                self._report("cannot be written, so only what is there already is used")
        return self._opened

    def _renew(self, error: Exception) -> None:
        """Give up a damaged file."""
        self._report(f"was damaged ({error}), so that it begins anew")
        damaged, self._opened = self._opened, None
        with contextlib.suppress(OSError):
            files = _files(self.directory)
            if files and (damaged is None or damaged.file == files[-1]):
                self._create(_generation(files[-1]) + 1)
                for old in files:
                    _remove(old)

    def _connect(self) -> _Opened:
        """Open the newest file, and make it if there is none."""
        if not (files := _files(self.directory)):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._create(0)
            files = _files(self.directory)
        for old in files[:-1]:  # Windows may have kept them from being removed
            _remove(old)
        file = files[-1]
        inode = os.stat(file).st_ino
        read_only = not (os.access(self.directory, os.W_OK) and os.access(file, os.W_OK))
        address = file.absolute().as_uri() + ("?mode=ro&immutable=1" if read_only else "?mode=rw")
        # One thread at a time uses it, not always the same.
        connection = sqlite3.connect(address, _PATIENCE, isolation_level=None, check_same_thread=False, uri=True)
        self._configure(connection)
        return _Opened(connection, file, inode, read_only)

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if self.durable else 'OFF'}")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")

    def _create(self, generation: int) -> None:
        """Make a new file appear at once and complete, unless somebody else was faster."""
        draft = self.directory / f"draft-{uuid.uuid4().hex}"
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                self._configure(connection)
                connection.execute(f"PRAGMA page_size = {_PAGE}")
                connection.execute("PRAGMA journal_mode = WAL")  # where the file system has none, it stays as it was
                connection.executescript(self.schema)
            final = self.directory / _FILE.format(generation)
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(draft, final)
                except (AttributeError, NotImplementedError, PermissionError):  # no hard links here
                    os.rename(draft, final)
        finally:
            _remove(draft)

    def _begin(self) -> None:
        """Begin without a connection; one of the parent of a forked process may be neither used nor closed."""
        if self._opened is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._opened.connection))  # so that it never is
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._opened = None


class _Opened(NamedTuple):
    """A connection of one process, used by one thread at a time."""

    connection: sqlite3.Connection
    file: Path
    inode: int
    read_only: bool

    def is_current(self) -> bool:
        """Tell whether the file is still the one that was opened."""
        try:
            return os.stat(self.file).st_ino == self.inode
        except OSError:
            return False


def _files(directory: Path) -> list[Path]:
    """Return the files of a store, the newest last."""
    names = [name for name in os.listdir(directory) if _FILE_PATTERN.fullmatch(name)] if directory.is_dir() else []
    return sorted((directory / name for name in names), key=_generation)


def _generation(file: Path) -> int:
    match = _FILE_PATTERN.fullmatch(file.name)
    assert match is not None
    return int(match[1])


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(f"{file}{suffix}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write in one piece; who waits for the lock does so at the beginning."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _is_damage(error: Exception) -> bool:
    """Tell whether an error means that the file is not what was written; values of wrong types do."""
    if isinstance(error, OSError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ
