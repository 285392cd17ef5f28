"""An SQLite database in a directory, shared by processes: opened on first use, replaced when it is damaged.

A process may be killed at any moment, and a machine may lose power. A durable database may then lose commits made since
the last checkpoint; a database that is not durable may be lost completely. Every failure is reported once, as a
`CacheWarning`: a damaged file is replaced by a new one, and a database that is full, locked for long, or not writable
is not used for a while.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sktl._utils.process_errors import is_from_signal_handler

from .availability import Availability
from .value_store import LARGEST_VALUE

Result = TypeVar("Result")

_FILE = "features-v1-{:04d}.sqlite"
_DRAFT = "features-v1-draft-{}"
_FILE_PATTERN = re.compile(r"features-v1-(\d{4}|[1-9]\d{4,})\.sqlite(-wal|-shm|-journal)?")
_DRAFT_PATTERN = re.compile(r"features-v1-draft-[0-9a-f]{32}(-wal|-shm|-journal)?")
# Many small rows fill a page of this size well, and large rows need few pages.
_PAGE = 16384
_PATIENCE = 10.0  # seconds to wait for a lock
_DRAFTING = 60.0  # seconds after which a draft must be from a killed process
_DAMAGE = {
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_NOTADB,
}  # fmt: skip
_MISUSE = re.compile("transaction")  # errors that concern the statement, not the file
# Damaged files cause errors of SQLite, and values of unexpected types and sizes.
_ERRORS = (sqlite3.Error, OSError, TypeError, ValueError, OverflowError, MemoryError)


class _ReadOnlyError(Exception):
    """The file can be read, but not written."""


class Database:
    """A database in a directory.

    Parameters
    ----------
    directory : Path
        Created on first use.
    schema : str
        SQL statements that create the tables of a new file.
    durable : bool
        Whether the file stays consistent if the machine loses power.
    """

    def __init__(self, directory: Path, schema: str, durable: bool = True):
        self.directory = directory
        self.schema = schema
        self.durable = durable
        self._opened: _Opened | None = None
        self._file: Path | None = None
        self._available = Availability(repr(str(directory)))
        _databases.add(self)

    def attempt(
        self, function: Callable[[sqlite3.Connection], Result], otherwise: Result, writes: bool = False
    ) -> Result:
        """Return the result of a function of the connection, or `otherwise` if the database cannot be used.

        If the file is damaged or was just removed, the function is called again with a new file.
        """
        with _turn:
            if not self._available.now(writes):
                return otherwise
            try:
                return self._call(function, writes)
            except _ReadOnlyError:  # reported when the file was opened
                return otherwise
            except _ERRORS as error:
                if is_from_signal_handler(error):
                    raise
                self._leave_alone(error, writes)
                return otherwise

    def execute(self, function: Callable[[sqlite3.Connection], Result], task: str, writes: bool = False) -> Result:
        """Return the result of a function that a user asked for, even if the database could not be used just before.

        Parameters
        ----------
        function : callable
            As for `attempt`.
        task : str
            What the function does to the cache, for an error, such as "cleared".
        writes : bool, default=False

        Raises
        ------
        CacheError
            If the database cannot be used.
        """
        with _turn:
            try:
                result = self._call(function, writes)
            except (_ReadOnlyError, *_ERRORS) as error:
                self.close()
                raise self._available.error(task, error) from error
            self._available.resume(writes)
            return result

    def _call(self, function: Callable[[sqlite3.Connection], Result], writes: bool) -> Result:
        for last in (False, False, True):
            try:
                opened = self._open()
                if writes and opened.read_only:
                    raise _ReadOnlyError(f"{str(opened.file)!r} cannot be written by this user")
                return function(opened.connection)
            except _ERRORS as error:
                if last or is_from_signal_handler(error):
                    raise
                if not (_is_gone(error) or (_is_damage(error) and self._renew(error))):
                    raise
        raise AssertionError  # the last time returns or raises

    def close(self) -> None:
        """Close the connection of this process. The next use opens it again."""
        with _turn:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()

    def _leave_alone(self, error: Exception, writes: bool) -> None:
        self.close()
        self._available.leave_alone(str(error), writes)

    def _open(self) -> _Opened:
        """Return the connection of this process to the newest file."""
        if self._opened is not None and not self._opened.is_current():
            self.close()
        if self._opened is None:
            self._opened = self._connect()
            if self._opened.read_only:
                self._available.report("cannot be written", ", so only existing entries are used")
        elif not self._opened.is_whole():
            raise sqlite3.DatabaseError("the index of its log was removed or truncated")
        return self._opened

    def _renew(self, error: Exception) -> bool:
        """Replace a damaged file. Return True if there is a new one."""
        self.close()
        try:
            files = _files(self.directory)
            if not files:
                return False
            if self._file == files[-1]:  # otherwise, another process has already replaced it
                self._create(_generation(files[-1]) + 1)
                for old in files:
                    _remove(old)
        except (sqlite3.Error, OSError):
            return False
        self._available.report("was damaged", f" ({error}), so it starts empty")
        return True

    def _connect(self) -> _Opened:
        """Open the newest file. Create it if none exists."""
        generations = _generations(self.directory)
        if not (files := _files(self.directory, generations)):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The number is larger than all numbers with any file left: SQLite would take the log of an old file for the
            # log of a new one with the same name. It is based on the first listing, so a file that another process
            # creates meanwhile has the same number, and is used.
            self._create(max(generations, default=-1) + 1)
            if not (files := _files(self.directory)):
                raise FileNotFoundError(f"{str(self.directory)!r} is being removed")
        _tidy(self.directory, files[-1])
        self._file = files[-1]
        return _Opened(self._file, self._configure)

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if self.durable else 'OFF'}")
        connection.execute("PRAGMA mmap_size = 0")  # otherwise, reading a truncated file would crash the process
        connection.execute("PRAGMA cell_size_check = ON")
        # A damaged record may claim any length, and SQLite would try to read that much.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE + (1 << 16))
        connection.execute("PRAGMA trusted_schema = OFF")

    def _create(self, generation: int) -> None:
        """Create a new file, which appears complete in one step, unless another process has created it first."""
        draft = self.directory / _DRAFT.format(uuid.uuid4().hex)
        try:
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                self._configure(connection)
                connection.execute(f"PRAGMA page_size = {_PAGE}")
                connection.execute("PRAGMA journal_mode = WAL")  # ignored if the file system does not support it
                connection.executescript(self.schema)
                # Closing would do the same, but not raise an error if the disk is full, and leave half of a file.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            final = self.directory / _FILE.format(generation)
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(draft, final)
                except FileExistsError:
                    raise
                except (AttributeError, NotImplementedError, OSError):  # hard links are not supported
                    os.rename(draft, final)
        finally:
            _remove(draft)


class _Opened:
    """A connection of one process to one file, used by one thread at a time.

    Parameters
    ----------
    file : Path
    configure : callable
        Called with the connection.
    """

    def __init__(self, file: Path, configure: Callable[[sqlite3.Connection], None]):
        self.file = file
        self._index = Path(f"{file}-shm")
        self._inode = os.stat(file).st_ino
        if not os.access(file, os.R_OK):  # SQLite would only say that it is unable to open the file
            raise PermissionError(f"{file.name!r} may not be read by this user")
        self.read_only = not (os.access(file.parent, os.W_OK) and os.access(file, os.W_OK))
        # SQLite must create files beside a database that it reads, unless another process has created them or none
        # will.
        self._frozen = self.read_only and not self._index.exists()
        mode = "ro&immutable=1" if self._frozen else "ro" if self.read_only else "rw"
        address = f"{file.absolute().as_uri()}?mode={mode}"
        # Only one thread uses the connection at a time, but not always the same thread.
        self.connection = sqlite3.connect(address, _PATIENCE, isolation_level=None, check_same_thread=False, uri=True)
        try:
            configure(self.connection)
            self.connection.execute("PRAGMA schema_version").fetchone()  # opens the log
        except BaseException:
            self.connection.close()
            raise
        self._mapped = self._status()

    def _status(self) -> tuple[int, int]:
        """Return inode and size of the index of the log, or zeros if it does not exist."""
        try:
            status = os.stat(self._index)
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size

    def is_current(self) -> bool:
        """Return True if the file is still the one that was opened."""
        try:
            return os.stat(self.file).st_ino == self._inode and not (self._frozen and self._index.exists())
        except OSError:
            return False

    def is_whole(self) -> bool:
        """Return True if the index of the log, which SQLite has mapped into memory, still exists in full."""
        status = self._status()
        if status[0] != self._mapped[0] or status[1] < self._mapped[1]:
            return False
        self._mapped = status
        return True

    def close(self) -> None:
        """Close the connection, unless closing would read a truncated file and so crash the process."""
        inode, size = self._status()
        if inode == self._mapped[0] and size < self._mapped[1]:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))  # never collected, and so never closed
        else:
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()


# Only one thread uses databases at a time, so none uses them while the process is forked: in the child, SQLite's locks
# would stay locked, and its record of file locks would be wrong.
_turn = threading.RLock()
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _close_all() -> None:
    for database in list(_databases):
        database.close()


def _before_fork() -> None:
    _turn.acquire()
    _close_all()


def _after_fork_in_child() -> None:
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=lambda: _turn.release(), after_in_child=_after_fork_in_child
    )
atexit.register(_close_all)


def _generations(directory: Path) -> dict[int, bool]:
    """Return the numbers of files of which anything is left, with True if more than the log is left."""
    there: dict[int, bool] = {}
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        if match := _FILE_PATTERN.fullmatch(name):
            there[int(match[1])] = there.get(int(match[1]), False) or match[2] is None
    return there


def _files(directory: Path, generations: dict[int, bool] | None = None) -> list[Path]:
    """Return the files of a store, newest last."""
    there = _generations(directory) if generations is None else generations
    return [directory / _FILE.format(number) for number in sorted(there) if there[number]]


def _generation(file: Path) -> int:
    match = _FILE_PATTERN.fullmatch(file.name)
    assert match is not None
    return int(match[1])


def _tidy(directory: Path, newest: Path) -> None:
    """Remove old files, which Windows may have refused to remove earlier, and drafts of killed processes."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            file, match = directory / name, _FILE_PATTERN.fullmatch(name)
            old = match is not None and int(match[1]) < _generation(newest)
            if old or (_DRAFT_PATTERN.fullmatch(name) and file.stat().st_mtime < time.time() - _DRAFTING):
                file.unlink(missing_ok=True)


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(f"{file}{suffix}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block as one transaction, which waits for the write lock when it begins."""
    try:  # includes BEGIN, because Ctrl-C may interrupt the wait
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _is_damage(error: Exception) -> bool:
    """Return True if an error means that the file is damaged, including values of wrong types."""
    if isinstance(error, OSError | MemoryError | sqlite3.ProgrammingError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code == sqlite3.SQLITE_ERROR:
        return _MISUSE.search(str(error)) is None
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


def _is_gone(error: Exception) -> bool:
    """Return True if an error may mean that another process has just removed the file."""
    return isinstance(error, FileNotFoundError) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CANTOPEN
