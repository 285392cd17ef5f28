"""A bounded store of values in an SQLite database. Damaged entries are treated as missing.

Methods that a fit calls raise no errors: see `Database` for what happens instead. Methods that users call raise
`CacheError`.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .sqlite_database import Database, transaction
from .value_store import BULKY, LARGEST_VALUE, LEASE, Contents, checksum, is_dead, machine

# SQLite limits the number of parameters of a statement.
_KEYS_PER_QUERY = 500
_DAY = 24  # hours after which an unread entry may be evicted for any other
_IDLE = 60.0  # seconds after which entries of an unused space may be evicted for others
_LARGER = 8  # entries are not evicted for entries this many times as large
_SWAPPED = 1 / 32  # fraction of new entries that replace others of their space when the store is full: it adapts slowly
_UNBOUNDED = 2**63 - 1  # the largest integer in SQLite
_SCHEMA = """
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, used REAL NOT NULL);
CREATE TABLE entries (
    space INTEGER NOT NULL, key BLOB NOT NULL, used INTEGER NOT NULL, size INTEGER NOT NULL,
    checksum BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (space, key));
CREATE INDEX entries_by_use ON entries (used, space, size);
CREATE TABLE claims (
    space INTEGER NOT NULL, key BLOB NOT NULL, owner TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class SQLiteStore:
    """A bounded map from (space, key) to bytes in a directory.

    A full store first evicts entries unread for a day, for any new entry. It then evicts entries of spaces unused for a
    minute, least recently used first, but not small entries for much larger ones, and for entries of bulky spaces only
    entries of other bulky spaces. Within a space, entries stay, except that one new entry in 32 replaces another:
    evicting the least recently used entry would never give a hit under the cyclic scans of a search.

    Parameters
    ----------
    directory : Path
        Created on first use.
    default_limit : callable
        Returns the size limit in bytes of a store that has no limit of its own.
    durable : bool
        Whether the file stays consistent if the machine loses power.
    """

    def __init__(self, directory: Path, default_limit: Callable[[], int], durable: bool = True):
        self.directory = directory
        self._default_limit = default_limit
        self._database = Database(directory, _SCHEMA, durable)

    @property
    def address(self) -> tuple[str, ...]:
        return machine(), str(self.directory)

    def read(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the intact values by key. Missing and damaged values are left out."""
        found: dict[bytes, bytes] = {}
        stale: list[bytes] = []
        wanted = set(keys)
        # Use is recorded by the hour, so that most reads do not have to write.
        now = _hours()

        def read(connection: sqlite3.Connection) -> bool:
            for some in _batches(keys, _KEYS_PER_QUERY):
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    "SELECT key, used, checksum, value FROM entries WHERE space = "
                    f"(SELECT id FROM spaces WHERE name = ?) AND key IN ({marks})",
                    (space, *some),
                )
                for key, used, digest, value in rows:
                    # A damaged index can return rows that were not requested.
                    if key in wanted and isinstance(value, bytes) and checksum(space, key, value) == digest:
                        found[key] = value
                        if used != now:
                            stale.append(key)
            row = connection.execute("SELECT used FROM spaces WHERE name = ?", (space,)).fetchone()
            return row is not None and time.time() - row[0] > _IDLE / 6

        long_ago = self._database.attempt(read, False)
        if stale or long_ago:
            self._touch(space, stale)
        return found

    def write(self, space: str, items: Sequence[tuple[bytes, bytes]], owner: str = "") -> None:
        """Store values in one transaction as far as there is room, and release the owner's claims on their keys."""

        def write(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                number = _space(connection, space)
                if owner:
                    claimed = [(number, key, owner) for key, _ in items]
                    connection.executemany("DELETE FROM claims WHERE space = ? AND key = ? AND owner = ?", claimed)
                    # A write shows that the owner is alive, so its other claims are renewed.
                    until = time.time() + LEASE
                    connection.execute("UPDATE claims SET until = ? WHERE owner = ?", (until, owner))
                fitting = _make_room(connection, number, items, self._limit(connection))
                rows = [
                    (number, key, _hours(), len(value), checksum(space, key, value), value) for key, value in fitting
                ]
                connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._database.attempt(write, None, writes=True)

    def claim(self, space: str, keys: Sequence[bytes], owner: str) -> list[bytes]:
        """Claim keys. Return those that the owner must compute now; other owners are computing the rest."""

        def claim(connection: sqlite3.Connection) -> list[bytes]:
            with transaction(connection):
                number = _space(connection, space)
                self._drop_lapsed_claims(connection)
                lease = [(number, key, owner, time.time() + LEASE) for key in keys]
                connection.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)", lease)
                rows = connection.execute("SELECT key FROM claims WHERE space = ? AND owner = ?", (number, owner))
                mine = {key for (key,) in rows}
            return [key for key in keys if key in mine]

        return self._database.attempt(claim, list(keys), writes=True)

    def release(self, owner: str) -> None:
        """Release all claims of an owner."""

        def release(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))

        self._database.attempt(release, None, writes=True)

    def count(self, hits: int, misses: int) -> bool:
        """Add hits and misses to the statistics. Return True if they are the first since the store was emptied."""

        def count(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                known = connection.execute("SELECT 1 FROM numbers WHERE name = 'hits'").fetchone()
                connection.executemany(
                    "INSERT INTO numbers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                    [("hits", hits), ("misses", misses)],
                )
            return known is None

        return self._database.attempt(count, False, writes=True)

    def contents(self, spaces_apart: str) -> Contents:
        """Return statistics. Entries of spaces with the given prefix are counted in bytes only."""

        def contents(connection: sqlite3.Connection) -> Contents:
            numbers = dict(connection.execute("SELECT name, value FROM numbers"))
            (size,) = connection.execute("SELECT TOTAL(size) FROM entries").fetchone()
            (entries,) = connection.execute(
                "SELECT COUNT(*) FROM entries WHERE space NOT IN (SELECT id FROM spaces WHERE name GLOB ?)",
                (spaces_apart + "*",),
            ).fetchone()
            hits, misses = numbers.get("hits", 0), numbers.get("misses", 0)
            return Contents(hits, misses, entries, int(size), self._limit(connection))

        if not os.path.exists(self.directory):
            return Contents(0, 0, 0, 0, self._default_limit())
        return self._database.execute(contents, "read")

    def set_limit(self, max_bytes: int | None) -> None:
        """Set the size limit of this store, or None for the default, and remove what exceeds it."""

        def set_limit(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.execute("DELETE FROM numbers WHERE name = 'max_bytes'")
                if max_bytes is not None:
                    connection.execute("INSERT INTO numbers VALUES ('max_bytes', ?)", (min(max_bytes, _UNBOUNDED),))
                excess = _total(connection) - self._limit(connection)
                _drop(connection, excess, "1 ORDER BY used", ())
            if excess > 0:
                _shrink(connection)

        self._database.execute(set_limit, "limited", writes=True)

    def clear(self) -> None:
        """Remove all entries and reset the statistics to zero. The size limit stays."""

        def clear(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                for statement in (
                    "DELETE FROM entries", "DELETE FROM spaces", "DELETE FROM claims",
                    "DELETE FROM numbers WHERE name != 'max_bytes'",
                ):  # fmt: skip
                    connection.execute(statement)
            _shrink(connection)

        if os.path.exists(self.directory):
            self._database.execute(clear, "cleared", writes=True)

    def close(self) -> None:
        """Close the connection of this process. The next use opens it again."""
        self._database.close()

    def _limit(self, connection: sqlite3.Connection) -> int:
        row = connection.execute("SELECT value FROM numbers WHERE name = 'max_bytes'").fetchone()
        return self._default_limit() if row is None else int(row[0])

    def _touch(self, space: str, keys: Sequence[bytes]) -> None:
        """Record that a space and some of its entries were used."""

        def touch(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                number = _space(connection, space)
                rows = [(_hours(), number, key) for key in keys]
                connection.executemany("UPDATE entries SET used = ? WHERE space = ? AND key = ?", rows)

        self._database.attempt(touch, None, writes=True)

    def _drop_lapsed_claims(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        connection.execute("DELETE FROM claims WHERE until < ? OR until > ?", (now, now + 2 * LEASE))
        owners = [owner for (owner,) in connection.execute("SELECT DISTINCT owner FROM claims")]
        dead = [(owner,) for owner in owners if is_dead(owner)]
        connection.executemany("DELETE FROM claims WHERE owner = ?", dead)


def _space(connection: sqlite3.Connection, name: str) -> int:
    """Return the number of a space, and mark the space as used."""
    connection.execute(
        "INSERT INTO spaces (name, used) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET used = excluded.used",
        (name, time.time()),
    )
    return int(connection.execute("SELECT id FROM spaces WHERE name = ?", (name,)).fetchone()[0])


def _total(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT TOTAL(size) FROM entries").fetchone()[0])


def _room(connection: sqlite3.Connection, limit: int, wanted: int) -> int:
    """Return the free space, or `wanted` if that much is certainly free: a total takes long with many entries."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return wanted if (pages - free) * size + wanted <= limit else limit - _total(connection)


def _make_room(
    connection: sqlite3.Connection, space: int, items: Sequence[tuple[bytes, bytes]], limit: int
) -> list[tuple[bytes, bytes]]:
    """Evict entries for these items as far as allowed. Return the items that fit."""
    items = [(key, value) for key, value in items if len(value) <= min(LARGEST_VALUE, limit)]
    if not items:
        return []
    wanted = min(sum(len(value) for _, value in items), limit)
    largest = max(len(value) for _, value in items)
    room = _room(connection, limit, wanted)
    if room < wanted:
        room += _drop(connection, wanted - room, "used < ? ORDER BY used", (_hours() - _DAY,))
        for idle in _idle_spaces(connection, space) if room < wanted else ():
            condition = "space = ? AND size * ? >= ? ORDER BY used"
            room += _drop(connection, wanted - room, condition, (idle, _LARGER, largest))
    fitting = []
    # A new generator, because the state of the global one belongs to the user.
    chance = random.Random()
    for key, value in items:
        if len(value) > room and chance.random() < _SWAPPED:
            room += _drop(connection, len(value) - room, "space = ? ORDER BY used", (space,))
        if len(value) <= room:
            fitting.append((key, value))
            room -= len(value)
    return fitting


def _idle_spaces(connection: sqlite3.Connection, space: int) -> list[int]:
    """Return the unused spaces whose entries may be evicted for entries of a space, least recently used first."""
    rows = connection.execute(
        "SELECT id FROM spaces WHERE id != ? AND used < ? AND EXISTS (SELECT 1 FROM entries WHERE space = id) "
        "AND (name GLOB ? OR NOT EXISTS (SELECT 1 FROM spaces WHERE id = ? AND name GLOB ?)) ORDER BY used",
        (space, time.time() - _IDLE, f"{BULKY}*", space, f"{BULKY}*"),
    )
    return [number for (number,) in rows.fetchall()]


def _drop(connection: sqlite3.Connection, excess: int, condition: str, values: tuple[Any, ...]) -> int:
    """Remove the first entries of a query until `excess` bytes are free. Return the number of bytes freed."""
    # This index yields entries one by one, oldest first. Otherwise, SQLite would sort all entries at each eviction.
    query = "SELECT rowid, size FROM entries INDEXED BY entries_by_use WHERE "
    doomed, freed = [], 0
    if excess > 0:
        for number, size in connection.execute(query + condition, values):
            doomed.append((number,))
            freed += size
            if freed >= excess:
                break
        connection.executemany("DELETE FROM entries WHERE rowid = ?", doomed)
    return freed


def _hours() -> int:
    return int(time.time() // 3600)


def _batches(items: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _shrink(connection: sqlite3.Connection) -> None:
    """Release the disk space of removed entries."""
    with contextlib.suppress(sqlite3.OperationalError):  # another process is reading; the space is reused later
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
