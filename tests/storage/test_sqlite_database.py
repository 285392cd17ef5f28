"""One file for all who use a directory, renewed when it is damaged, and what counts as which kind of error."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from processes import Child, in_child, needs_fork, results

from sktl._storage import availability
from sktl._storage import sqlite_database as _database
from sktl._storage.sqlite_database import Database, transaction
from sktl.exceptions import CacheWarning

SCHEMA = "CREATE TABLE words (word TEXT);"


@pytest.fixture
def make(tmp_path):
    """Make databases in one directory, as several processes would."""
    made = []

    def make(durable=True):
        made.append(Database(tmp_path / "cache", SCHEMA, durable))
        return made[-1]

    yield make
    for database in made:
        database.close()


def add(word):
    return lambda connection: connection.execute("INSERT INTO words VALUES (?)", (word,)).rowcount


def words(connection):
    return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


def names(database):
    return sorted(os.listdir(database.directory))


def fail(code=sqlite3.SQLITE_CORRUPT, kind=sqlite3.DatabaseError):
    def function(connection):
        error = kind("broken")
        error.sqlite_errorcode = code
        raise error

    return function


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        yield


# ------------------------------------------------------------------------------------------------------------ opening


@pytest.mark.parametrize("durable", [False, True])
def test_what_one_writes_another_reads(make, durable):
    first, second = make(durable), make(durable)
    assert first.attempt(add("a"), 0, writes=True) == 1
    assert second.attempt(words, None) == ["a"]
    assert second.attempt(add("b"), 0, writes=True) == 1
    assert first.attempt(words, None) == ["a", "b"]


def test_the_directory_is_made_for_this_user_alone_and_holds_one_file(make):
    database = make()
    database.attempt(words, None)
    database.close()
    assert names(database) == ["features-v1-0000.sqlite"]
    assert os.name == "nt" or database.directory.stat().st_mode & 0o777 == 0o700
    assert os.name == "nt" or (database.directory / names(database)[0]).stat().st_mode & 0o077 == 0


def test_many_who_begin_at_once_share_one_file(make):
    databases = [make() for _ in range(8)]
    threads = [
        threading.Thread(target=database.attempt, args=(add(str(i)), 0, True)) for i, database in enumerate(databases)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert make().attempt(words, None) == sorted(map(str, range(8)))


@pytest.mark.thorough
@needs_fork
def test_many_processes_that_begin_at_once_share_one_file(make):
    database = make()
    children = [Child(database.attempt, add(str(i)), 0, True) for i in range(8)]
    assert results(children) == [1] * 8
    assert database.attempt(words, None) == sorted(map(str, range(8)))


def test_what_somebody_else_makes_between_looking_and_making_is_used(make, monkeypatch):
    """Else the second file would do away with the first, and with all that was in it."""
    first, second = make(), make()
    mkdir = _database.Path.mkdir

    def be_slow(self, *args, **kwargs):
        monkeypatch.setattr(_database.Path, "mkdir", mkdir)
        first.attempt(add("first"), None, writes=True)

    monkeypatch.setattr(_database.Path, "mkdir", be_slow)
    second.attempt(add("second"), None, writes=True)
    assert first.attempt(words, []) == second.attempt(words, []) == ["first", "second"]


@pytest.mark.parametrize("error", [OSError(95, "not supported"), PermissionError(), NotImplementedError()])
def test_file_systems_without_hard_links(make, monkeypatch, error):
    def link(*args):
        raise error

    monkeypatch.setattr(os, "link", link)
    assert make().attempt(add("a"), 0, writes=True) == 1
    assert make().attempt(words, None) == ["a"]


def test_names_that_look_like_parts_of_an_address(tmp_path):
    database = Database(tmp_path / "a?mode=ro&x#%41 ö", SCHEMA)
    assert database.attempt(add("a"), 0, writes=True) == 1
    database.close()
    assert names(database) == ["features-v1-0000.sqlite"]


def test_the_log_that_another_file_left_behind_is_not_taken_for_that_of_a_new_one(make):
    first = make()
    first.attempt(add("a"), 0, writes=True)
    log = first.directory / "features-v1-0000.sqlite-wal"
    content = log.read_bytes()
    first.close()
    os.unlink(first.directory / "features-v1-0000.sqlite")
    log.write_bytes(content)
    assert make().attempt(words, None) == []
    assert not log.exists()


def test_drafts_of_killed_processes_go_and_files_of_the_users_stay(make):
    database = make()
    database.directory.mkdir()
    old = ["draft-thesis", "features-v1-0000.sqlite.bak", "features-v1-draft-" + 32 * "a"]
    for name in [*old, "features-v1-draft-" + 32 * "b"]:
        (database.directory / name).touch()
        if name in old:
            os.utime(database.directory / name, (1, 1))
    database.attempt(words, None)
    database.close()
    assert names(database) == sorted(["features-v1-0000.sqlite", *old[:2], "features-v1-draft-" + 32 * "b"])


# ------------------------------------------------------------------------------------------------------------- damage


def test_a_damaged_file_is_given_up_for_a_new_one_which_others_follow(make):
    first, second = make(), make()
    first.attempt(add("a"), 0, writes=True)
    assert second.attempt(words, None) == ["a"]
    with pytest.warns(CacheWarning) as caught:
        assert first.attempt(fail(), "nothing") == "nothing"
    assert "was damaged" in str(caught[0].message)
    first._available.unusable_until = 0
    assert first.attempt(add("b"), 0, writes=True) == 1
    assert second.attempt(words, None) == ["b"]
    first.close()
    second.close()
    assert len(names(first)) == 1


def test_what_failed_once_is_tried_again_on_the_new_file(make):
    database = make()
    failures = iter([True, False])

    def function(connection):
        return fail()(connection) if next(failures) else words(connection)

    with pytest.warns(CacheWarning, match="was damaged"):
        assert database.attempt(function, None) == []


@pytest.mark.usefixtures("quiet")
def test_two_that_find_the_same_damage_make_one_new_file(make):
    first, second = make(), make()
    first.attempt(words, None)
    second.attempt(words, None)
    first._renew(sqlite3.DatabaseError("broken"))
    first.attempt(add("a"), 0, writes=True)
    assert second._renew(sqlite3.DatabaseError("broken"))
    assert second.attempt(words, None) == ["a"]


@pytest.mark.usefixtures("quiet")
def test_damage_found_at_opening_does_not_remove_what_another_has_renewed_meanwhile(make, monkeypatch):
    first, second = make(), make()
    first.attempt(words, None)
    connect = sqlite3.connect

    def slow(address, *args, **kwargs):
        monkeypatch.setattr(sqlite3, "connect", connect)
        first._renew(sqlite3.DatabaseError("broken"))
        first.attempt(add("a"), 0, writes=True)
        fail()(None)

    monkeypatch.setattr(sqlite3, "connect", slow)
    assert second.attempt(words, None) == ["a"]


@pytest.mark.usefixtures("quiet")
def test_a_file_removed_between_being_found_and_being_opened_is_no_fault(make, monkeypatch):
    first, second = make(), make()
    first.attempt(words, None)
    connect = sqlite3.connect

    def late(address, *args, **kwargs):
        monkeypatch.setattr(sqlite3, "connect", connect)
        first._renew(sqlite3.DatabaseError("broken"))
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", late)
    assert second.attempt(words, None) == []


CODES = {
    "SQLITE_CORRUPT": True, "SQLITE_CORRUPT_INDEX": True, "SQLITE_NOTADB": True, "SQLITE_ERROR": True,
    "SQLITE_MISMATCH": True, "SQLITE_TOOBIG": True, "SQLITE_CONSTRAINT_UNIQUE": True, "SQLITE_IOERR_SHORT_READ": True,
    "SQLITE_FULL": False, "SQLITE_BUSY": False, "SQLITE_LOCKED": False, "SQLITE_READONLY": False,
    "SQLITE_IOERR_WRITE": False, "SQLITE_IOERR_READ": False, "SQLITE_PERM": False, "SQLITE_PROTOCOL": False,
    "SQLITE_IOERR_SHMSIZE": False, "SQLITE_NOMEM": False,
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
@pytest.mark.usefixtures("quiet")
def test_only_errors_that_mean_damage_begin_anew(make, name):
    database = make()
    database.attempt(add("a"), 0, writes=True)
    assert database.attempt(fail(getattr(sqlite3, name)), "nothing") == "nothing"
    database.close()
    assert make().attempt(words, None) == ([] if CODES[name] else ["a"])


@pytest.mark.parametrize("error", [OSError(5, "I/O"), MemoryError(), FileNotFoundError(), PermissionError()])
@pytest.mark.usefixtures("quiet")
def test_errors_of_the_system_are_not_damage(make, error):
    database = make()
    database.attempt(add("a"), 0, writes=True)

    def function(connection):
        raise error

    assert database.attempt(function, "nothing") == "nothing"
    assert make().attempt(words, None) == ["a"]


@pytest.mark.parametrize("kind", [TimeoutError, ValueError])
def test_a_time_limit_is_neither_damage_nor_a_failure(make, kind):
    def strike(*_):
        raise kind("late")

    database = make()
    database.attempt(add("a"), 0, writes=True)
    handler = signal.signal(signal.SIGINT, strike)
    try:
        with pytest.raises(kind, match="late"):
            database.attempt(lambda _: signal.raise_signal(signal.SIGINT), None)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert database.attempt(words, None) == ["a"]


@pytest.mark.parametrize("error", [TypeError, ValueError, OverflowError])
@pytest.mark.usefixtures("quiet")
def test_values_of_wrong_types_are_damage(make, error):
    database = make()
    database.attempt(add("a"), 0, writes=True)

    def function(connection):
        if words(connection):
            raise error
        return "new"

    assert database.attempt(function, None) == "new"


def test_a_disk_that_fills_up_while_a_file_is_renewed_raises_nothing(make, monkeypatch):
    database = make()
    database.attempt(words, None)
    monkeypatch.setattr(database, "_create", lambda generation: fail(sqlite3.SQLITE_FULL)(None))
    with pytest.warns(CacheWarning, match="cannot be used"):
        assert database.attempt(fail(), "nothing") == "nothing"


def test_a_record_that_claims_to_be_huge_takes_no_memory(make, monkeypatch, quiet):
    monkeypatch.setattr(_database, "LARGEST_VALUE", 1 << 20)
    database = make()
    assert database.attempt(lambda c: c.execute("SELECT length(zeroblob(1000000))").fetchone()[0], 0) == 1_000_000
    assert database.attempt(lambda c: c.execute("SELECT length(zeroblob(9000000))").fetchone()[0], 0) == 0


# ----------------------------------------------------------------------------------------------- warnings and pauses


def test_each_kind_of_fault_is_reported_once(make):
    database = make()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) * 3:
            for writes in (False, True):
                database.attempt(fail(code), None, writes)
                database._available.unusable_until = database._available.unwritable_until = 0
    assert [w.category for w in caught] == [CacheWarning] * 3
    assert [any(kind in str(w.message) for w in caught) for kind in ("damaged", "written", "used")] == [True] * 3


def test_what_cannot_be_written_is_left_alone_for_a_while_and_still_read(make, monkeypatch):
    now = time.monotonic()
    database = make()
    database.attempt(add("a"), 0, writes=True)
    with pytest.warns(CacheWarning, match="cannot be written"):
        database.attempt(fail(sqlite3.SQLITE_FULL), None, writes=True)
    assert database.attempt(add("b"), 0, writes=True) == 0
    assert database.attempt(words, None) == ["a"]
    monkeypatch.setattr(_database.time, "monotonic", lambda: now + 2 * availability.PAUSE)
    assert database.attempt(add("b"), 0, writes=True) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL])
def test_warnings_that_are_errors_leave_no_trace(make, code, writes):
    database = make()
    database.attempt(add("a"), 0, writes=True)
    with pytest.raises(CacheWarning):
        database.attempt(fail(code), None, writes)
    database._available.unusable_until = database._available.unwritable_until = 0
    assert database.attempt(add("b"), 0, writes=True) == 1
    assert database.attempt(words, None) == (["b"] if code == sqlite3.SQLITE_CORRUPT else ["a", "b"])


def test_a_transaction_that_fails_leaves_nothing(make):
    def half(connection):
        with transaction(connection):
            add("a")(connection)
            raise KeyboardInterrupt

    database = make()
    with pytest.raises(KeyboardInterrupt):
        database.attempt(half, None, writes=True)
    assert database.attempt(words, None) == []
    assert make().attempt(add("b"), 0, writes=True) == 1


# ------------------------------------------------------------------------------------------------------------ forking


@needs_fork
def test_a_forked_child_knows_nothing_of_the_locks_of_its_parent(make):
    """Else the parent, which would be the last to close, removes the log into which the child goes on to write."""
    database = make()
    database.attempt(add("parent"), 0, writes=True)
    readers, writer = os.pipe()

    def work():
        database.attempt(add("first"), 0, writes=True)
        os.read(readers, 1)
        database.attempt(add("second"), 0, writes=True)
        return database.attempt(words, None)

    child = Child(work)
    database.attempt(add("other"), 0, writes=True)
    database.close()
    os.write(writer, b".")
    assert set(child.result()) == {"parent", "first", "second", "other"}
    assert make().attempt(words, None) == ["first", "other", "parent", "second"]


@needs_fork
def test_no_connection_is_open_in_a_forked_child(make):
    database = make()
    database.attempt(add("a"), 0, writes=True)
    file = str(database.directory)

    def inherited():
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        return [link for link in links if link.startswith(file)]

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list open files")
    assert inherited()
    assert in_child(inherited) == []


@pytest.mark.thorough
@needs_fork
def test_forking_while_another_thread_writes_locks_nobody_out(make):
    database = make()
    stop = threading.Event()

    def write():
        while not stop.is_set():
            database.attempt(add("a"), 0, writes=True)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            assert in_child(database.attempt, add("b"), 0, True) == 1
    finally:
        stop.set()
        thread.join(60)
    assert database.attempt(words, None).count("b") == 20


@pytest.mark.parametrize("name", ["fork", "exit"])
def test_leaving_a_process_closes_what_it_opened(tmp_path, name):
    """Without a word, also where warnings of unclosed resources are errors."""
    program = f"""
import os, sys, types
sys.modules["sktl"] = package = types.ModuleType("sktl")
package.__path__ = [{str(Path(_database.__file__).parents[1])!r}]
from pathlib import Path
from sktl._storage.sqlite_database import Database
database = Database(Path({str(tmp_path)!r}), "CREATE TABLE words (word TEXT)")
database.attempt(lambda c: c.execute("INSERT INTO words VALUES ('a')"), None, True)
if {name!r} == "fork" and hasattr(os, "fork") and os.fork():
    os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert os.listdir(tmp_path) == ["features-v1-0000.sqlite"]


@pytest.mark.usefixtures("quiet")
def test_other_tables_are_damage_and_misuse_is_not(make):
    def misuse(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("BEGIN IMMEDIATE")

    make().attempt(add("a"), 0, writes=True)
    database = make()
    assert database.attempt(misuse, "nothing", writes=True) == "nothing"
    assert make().attempt(words, None) == ["a"]
    make().attempt(lambda connection: connection.executescript("DROP TABLE words"), None, writes=True)
    assert make().attempt(words, None) == []


def test_ctrl_c_while_a_transaction_begins_leaves_no_lock_and_loses_nothing(make):
    class Interrupted:
        def __init__(self, connection):
            self.connection = connection
            self.in_transaction = True

        def execute(self, statement):
            self.connection.execute(statement)
            if statement.startswith("BEGIN"):
                raise KeyboardInterrupt

    def write(connection):
        with transaction(Interrupted(connection)):
            raise AssertionError

    database = make()
    database.attempt(add("a"), 0, writes=True)
    with pytest.raises(KeyboardInterrupt):
        database.attempt(write, None, writes=True)
    assert database.attempt(add("b"), 0, writes=True) != 0
    assert make().attempt(words, None) == ["a", "b"]
