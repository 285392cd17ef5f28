"""Whatever happens to a cache: no wrong value, no error in a fit, one warning of each kind, and equal bits."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import Pixels
from processes import ROOTS, Child, in_child, needs_fork, results
from representatives import slow_except

from sktl import PretrainedImageClassifier
from sktl._storage import cache as _cache
from sktl._storage import sqlite_database as _database
from sktl._storage.cache import open_cache
from sktl._storage.sqlite_database import Database
from sktl._storage.sqlite_store import SQLiteStore
from sktl._storage.value_store import new_owner
from sktl.exceptions import CacheError, CacheWarning

pytestmark = needs_fork
KEYS = [b"key %d" % i for i in range(40)]
SPACES = ("a", "b")
LIMIT = 1 << 20
PARTS = ("", "-wal", "-shm")


def value(space, key, size):
    """Return what is stored under a key, so that any value can be checked; its size varies."""
    return size.to_bytes(4) + hashlib.shake_128(space.encode() + key).digest(size)


def put(store, rng, n=4, owner=""):
    space = rng.choice(SPACES)
    store.write(space, [(k, value(space, k, rng.choice([10, 500, 20_000]))) for k in rng.sample(KEYS, n)], owner)


def check(store):
    """Read everything, and return how much there was, none of it wrong."""
    n = 0
    for space in SPACES:
        for k, found in store.read(space, KEYS).items():
            assert k in KEYS
            assert found == value(space, k, int.from_bytes(found[:4]))
            n += 1
    return n


def use(store, rng):
    """Call every method of a store; return how many values it had."""
    owner = new_owner()
    claimed = store.claim("a", KEYS, owner)
    assert set(claimed) <= set(KEYS)
    put(store, rng, owner=owner)
    n = check(store)
    store.release(owner)
    store.count(1, 1)
    with contextlib.suppress(CacheError):  # users ask for statistics, fits do not
        assert store.contents("about ").max_bytes >= 0
    return n


def filled(directory, seed=0):
    store = SQLiteStore(directory, lambda: LIMIT, durable=False)
    rng = random.Random(seed)
    for _ in range(20):
        put(store, rng, 10)
    return store


@contextlib.contextmanager
def few_warnings(*kinds, stores=1):
    """Check that each store warns at most once of each kind, and that there is no other warning; return all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
    messages = [str(w.message) for w in caught]
    assert all(w.category is CacheWarning for w in caught), messages
    found = [kind for kind in ("was damaged", "cannot be written", "cannot be used") for m in messages if kind in m]
    assert len(found) == len(messages), messages
    assert all(found.count(kind) <= stores for kind in found), messages
    assert not kinds or set(found) <= set(kinds), messages


def heals(store, rng):
    """Tell whether a store works again, as one opened later would."""
    store.close()
    again = SQLiteStore(store.directory, lambda: LIMIT, durable=False)
    put(again, rng)
    n = check(again)
    again.close()
    return n > 0


# ------------------------------------------------------------------------------------------------ several processes


def work_forever(directory, seed):
    store, rng, owner = SQLiteStore(directory, lambda: LIMIT, durable=False), random.Random(seed), new_owner()
    while True:
        store.claim("a", rng.sample(KEYS, 5), owner)
        put(store, rng, owner=owner)
        check(store)


@pytest.mark.thorough
@pytest.mark.parametrize("n_batches", slow_except([8, 25], 8))
def test_writers_killed_at_any_moment_leave_nothing_wrong_behind(tmp_path, n_batches):
    rng, store = random.Random(0), SQLiteStore(tmp_path / "cache", lambda: LIMIT, durable=False)
    with few_warnings() as caught:
        for batch in range(n_batches):
            children = [Child(work_forever, tmp_path / "cache", 2 * batch + i) for i in range(2)]
            time.sleep(rng.random() ** 3 / 10)  # the moment: mostly at the beginning, where files are made
            for child in children:
                child.kill()
            check(store)
        assert caught == []
    assert check(store) > 0
    assert store.claim("a", KEYS, new_owner()) == KEYS
    store.close()
    drafts = [name for name in os.listdir(tmp_path / "cache") if "draft" in name]
    assert len(drafts) <= 3 * 2 * n_batches
    assert [name for name in os.listdir(tmp_path / "cache") if name not in drafts] == ["features-v1-0000.sqlite"]


def work(directory, seed, n, limit):
    store, rng = SQLiteStore(directory, lambda: limit), random.Random(seed)
    for _ in range(n):
        use(store, rng)
        assert store.contents("about ").bytes <= limit
    return check(store)


@pytest.mark.parametrize("limit", [LIMIT, 50_000])
def test_processes_at_once(tmp_path, limit):
    with few_warnings() as caught:
        children = [Child(work, tmp_path / "cache", seed, 60, limit) for seed in range(2)]
        assert work(tmp_path / "cache", 9, 60, limit) > 0
        assert min(results(children)) > 0
        assert caught == []
    assert SQLiteStore(tmp_path / "cache", lambda: limit).contents("about ").hits == 180


@pytest.mark.parametrize("method", ["os.fork", "multiprocessing"])
def test_a_store_used_before_and_after_forking(tmp_path, method):
    store, rng = filled(tmp_path / "cache"), random.Random(1)
    before = check(store)

    def child():
        assert check(store) >= before  # the parent may be writing
        for _ in range(20):
            use(store, random.Random(2))
        store.close()

    if method == "os.fork":
        in_child(child)
    else:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        for _ in range(10):
            use(store, rng)
        process.join(60)
        assert process.exitcode == 0
    assert use(store, rng) >= before
    assert heals(store, rng)


def renew_at_once(directory, barrier_reader):
    store = SQLiteStore(directory, lambda: LIMIT, durable=False)
    os.read(barrier_reader, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        for _ in range(5):
            put(store, random.Random(os.getpid()))
        return check(store)


@pytest.mark.thorough
def test_processes_that_find_a_damaged_file_at_once_go_on_with_one(tmp_path):
    for seed in range(5):
        directory = tmp_path / str(seed)
        filled(directory).close()
        file = directory / "features-v1-0000.sqlite"
        file.write_bytes(b"garbage" * 5000)
        reader, writer = os.pipe()
        children = [Child(renew_at_once, directory, reader) for _ in range(4)]
        os.write(writer, b"....")
        assert min(results(children)) > 0
        store = SQLiteStore(directory, lambda: LIMIT, durable=False)
        assert check(store) > 0
        store.close()
        assert len([name for name in os.listdir(directory) if name.endswith(".sqlite")]) == 1


# -------------------------------------------------------------------------------------------------- files that break


def file_of(directory, part):
    """Return the path of the newest database, or of its log or index."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".sqlite"))
    return Path(f"{directory / names[-1]}{part}") if names else directory / "none"


def overwrite(file, rng, n):
    """Write garbage somewhere into a file."""
    size = os.path.getsize(file) if file.exists() else 0
    with open(file, "r+b") if size else contextlib.nullcontext() as opened:
        for _ in range(n if size else 0):
            # Half of the damage in the first pages, where the structure is.
            opened.seek(rng.randrange(min(size, rng.choice([100, 1000, 20_000, size, size, size]))))
            opened.write(rng.randbytes(rng.choice([1, 1, 4, 100, 5000]))[: max(0, size - opened.tell())])


def damage_in_use(seeds, folder):
    for seed in seeds:
        rng = random.Random(seed)
        directory = Path(folder, str(seed))
        store = filled(directory, seed)
        other = SQLiteStore(directory, lambda: LIMIT, durable=False)
        check(other)
        with few_warnings(stores=2):
            for _ in range(4):
                overwrite(file_of(directory, rng.choice(PARTS)), rng, rng.choice([1, 1, 5, 50]))
                use(store, rng)
                use(other, rng)
        store.close()
        other.close()
        shutil.rmtree(directory)


def damage_between_uses(seeds, folder):
    """Damage copies of the three files of a store in use, as they lie there when a process was killed."""
    source = Path(folder, "source")
    store = filled(source)
    for seed in seeds:
        rng = random.Random(seed)
        directory = Path(folder, str(seed))
        shutil.copytree(source, directory)
        for _ in range(rng.choice([1, 2, 3])):
            overwrite(file_of(directory, rng.choice(PARTS)), rng, rng.choice([1, 1, 5, 50]))
        again = SQLiteStore(directory, lambda: LIMIT, durable=False)
        with few_warnings():
            use(again, rng)
            use(again, rng)
            assert heals(again, rng)
        shutil.rmtree(directory)
    store.close()


@pytest.mark.parametrize("damage", [damage_in_use, damage_between_uses])
@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 1500), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_garbage_anywhere_in_the_files(tmp_path, damage, seeds, monkeypatch):
    monkeypatch.setattr(_database, "_PATIENCE", 0.05)
    in_child(damage, seeds, tmp_path)


LENGTHS = (0, 1, 18, 99, 100, 511, 512, 4096, 16_384, 16_385, 32_768, 65_536, 100_000, -16_384, -1000, -1)


def cut(file, length):
    if file.exists():
        size = file.stat().st_size
        os.truncate(file, max(0, length if length >= 0 else size + length))


def truncate_all(part, in_use, folder):
    for length in LENGTHS:
        directory = Path(folder, str(length))
        store = filled(directory)
        copy = Path(folder, f"{length} copy")
        if not in_use:
            shutil.copytree(directory, copy)
            store.close()
            store = SQLiteStore(copy, lambda: LIMIT, durable=False)
        cut(file_of(store.directory, part), length)
        with few_warnings():
            for _ in range(3):
                use(store, random.Random(0))
            assert heals(store, random.Random(1))


@pytest.mark.parametrize("in_use", [False, True], ids=["between uses", "in use"])
@pytest.mark.parametrize("part", PARTS)
def test_files_cut_to_any_length(tmp_path, part, in_use):
    in_child(truncate_all, part, in_use, tmp_path)


def grow_and_cut(directory):
    store = SQLiteStore(directory, lambda: 1 << 30)
    with contextlib.closing(sqlite3.connect(file_of(filled(directory).directory, ""))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM entries").fetchone()  # so that the log can only grow
        for i in range(30):
            store.write("c", [(b"%d %d" % (i, j), os.urandom(100_000)) for j in range(40)])
    size = file_of(directory, "-shm").stat().st_size
    assert size > 32_768
    os.truncate(file_of(directory, "-shm"), size - 32_768)
    with few_warnings("was damaged"):
        use(store, random.Random(0))
    return True


@pytest.mark.slow
def test_a_long_index_cut_by_a_part_ends_no_process(tmp_path):
    assert in_child(grow_and_cut, tmp_path / "cache")


@pytest.mark.parametrize("part", PARTS)
def test_files_removed_in_use(tmp_path, part):
    store = filled(tmp_path / "cache")
    file_of(tmp_path / "cache", part).unlink()
    with few_warnings("was damaged"):
        for _ in range(2):
            assert use(store, random.Random(0)) > 0
        assert heals(store, random.Random(1))


def test_the_directory_removed_in_use(tmp_path):
    store = filled(tmp_path / "cache")
    for _ in range(3):
        shutil.rmtree(tmp_path / "cache")
        with few_warnings() as caught:
            assert use(store, random.Random(0)) == 4
        assert caught == []


def test_the_directory_removed_again_and_again_by_another_process(tmp_path):
    def remove():
        for _ in range(200):
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            os.sched_yield()

    store = SQLiteStore(tmp_path / "cache", lambda: LIMIT, durable=False)
    child = Child(remove)
    with few_warnings():
        for _ in range(50):
            use(store, random.Random(0))
    child.result()


# --------------------------------------------------------------------------------------- what cannot be written or made


def full(directory, n_bytes):
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    store = SQLiteStore(directory, lambda: LIMIT, durable=False)
    with few_warnings():
        for i in range(30):
            use(store, random.Random(i))
            store._database._available.unwritable_until = 0  # as if a minute had passed
            store._database._available.unusable_until = 0
    return check(store)


@pytest.mark.parametrize("n_bytes", [0, 1000, 20_000, 100_000, 200_000])
@pytest.mark.parametrize("there", [False, True])
def test_files_that_cannot_grow(tmp_path, n_bytes, there):
    if there:
        filled(tmp_path / "cache").close()
    assert in_child(full, tmp_path / "cache", n_bytes) >= 0
    assert use(SQLiteStore(tmp_path / "cache", lambda: LIMIT, durable=False), random.Random(0)) > 0


@pytest.mark.parametrize("pages", [1, 3, 5, 10, 30])
def test_a_disk_that_is_full(tmp_path, pages, monkeypatch):
    configure = Database._configure

    def bounded(self, connection):
        configure(self, connection)
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_configure", bounded)
        store = SQLiteStore(tmp_path / "cache", lambda: LIMIT, durable=False)
        with few_warnings("cannot be written", "cannot be used") as caught:
            for i in range(30):
                use(store, random.Random(i))
            assert caught
        store.close()
    assert use(SQLiteStore(tmp_path / "cache", lambda: LIMIT, durable=False), random.Random(0)) > 0


# On a file system of its own, which is unmounted with the process.
ON_A_SMALL_DISK = """
import sys, warnings
from pathlib import Path
from sktl._storage.sqlite_store import SQLiteStore
warnings.simplefilter("always")
SQLiteStore(Path(sys.argv[1], "cache"), lambda: 1 << 20).write("a", [(b"key", bytes(30_000))])
"""


@pytest.mark.parametrize("size", ["200k", "250k", "300k"])
def test_a_disk_too_small_for_a_new_file_is_not_called_damage(tmp_path, size):
    if shutil.which("unshare") is None or os.getuid():
        pytest.skip("only root can mount a file system")
    script = 'mount -t tmpfs -o size="$1" none "$2" && shift && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", size, tmp_path, sys.executable, ON_A_SMALL_DISK],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("a container cannot mount a file system")
    assert "(database or disk is full)" in done.stderr


@pytest.fixture
def public():
    """Return a directory that every user can reach."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder)


def as_nobody(function, *args):
    def run():
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        except PermissionError:
            return "skip"
        return function(*args)

    answer = in_child(run)
    if answer == "skip":
        pytest.skip("only root can become somebody else")
    return answer


def use_elsewhere(directory):
    store = SQLiteStore(directory, lambda: LIMIT, durable=False)
    with few_warnings() as caught:
        numbers = [use(store, random.Random(i)) for i in range(3)]
    return numbers, [str(w.message) for w in caught]


@pytest.mark.parametrize("live", [False, True])
def test_a_directory_that_can_only_be_read_is_read(public, live):
    reader, writer = os.pipe()
    answer, tell = os.pipe()

    def keep_open():
        store = filled(public / "cache")
        os.write(tell, b".")
        os.read(reader, 1)
        return use(store, random.Random(0))

    if live:  # the log of another process is read too
        child = Child(keep_open)
        os.read(answer, 1)
        assert file_of(public / "cache", "-wal").stat().st_size > 0
    else:
        filled(public / "cache").close()
    os.chmod(public / "cache", 0o755)
    for name in os.listdir(public / "cache"):
        os.chmod(public / "cache" / name, 0o644)
    numbers, messages = as_nobody(use_elsewhere, public / "cache")
    assert [("cannot be written" in message) for message in messages] == [True]
    if live:
        os.write(writer, b".")
        assert child.result() == numbers[0]
    assert numbers == [check(SQLiteStore(public / "cache", lambda: LIMIT, durable=False))] * 3


def test_a_damaged_file_that_can_only_be_read_is_left_alone(public):
    filled(public / "cache").close()
    file = file_of(public / "cache", "")
    overwrite(file, random.Random(0), 500)
    os.chmod(public / "cache", 0o755)
    os.chmod(file, 0o644)
    content = file.read_bytes()
    _, messages = as_nobody(use_elsewhere, public / "cache")
    assert not any("anew" in message and "damaged" in message for message in messages)
    assert file.read_bytes() == content


def test_a_directory_of_others_is_left_alone(public):
    filled(public / "cache").close()
    numbers, messages = as_nobody(use_elsewhere, public / "cache")
    assert numbers == [0] * 3
    assert 1 <= len(messages) <= 2
    os.chmod(public / "cache", 0o755)
    numbers, messages = as_nobody(use_elsewhere, public / "cache")
    assert numbers == [0] * 3
    assert any("'features-v1-0000.sqlite' may not be read by this user" in message for message in messages)
    numbers, _ = as_nobody(use_elsewhere, public / "another")
    assert numbers == [0] * 3


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/none")]
)
@pytest.mark.parametrize("below", [False, True])
def test_a_path_that_is_no_directory(tmp_path, make, below):
    make(tmp_path / "cache")
    store = SQLiteStore(tmp_path / "cache" / "below" if below else tmp_path / "cache", lambda: LIMIT, durable=False)
    with few_warnings("cannot be written", "cannot be used") as caught:
        for _ in range(2):
            assert use(store, random.Random(0)) == 0
        with pytest.raises(CacheError, match=r"cannot be limited: .*Remove the cause"):
            store.set_limit(5)
        if os.path.exists(store.directory):
            with pytest.raises(CacheError, match="cannot be cleared"):
                store.clear()
            with pytest.raises(CacheError, match="cannot be read"):
                store.contents("about ")
        assert caught


@pytest.mark.parametrize("path", ["/proc/self/cache", "/dev/null/cache", "/tmp/" + "x" * 300, "/tmp/a\0b"])
def test_a_directory_that_cannot_be_made(path):
    store = SQLiteStore(Path(path), lambda: LIMIT, durable=False)
    with few_warnings() as caught:
        assert use(store, random.Random(0)) == 0
        with pytest.raises(CacheError):
            store.set_limit(5)
        store.clear()  # there is nothing
        assert _cache._default_limit(Path(path)) >= 0
        assert caught


@contextlib.contextmanager
def locked(directory):
    """Let another process hold the database."""
    answer, tell = os.pipe()
    wait, release = os.pipe()

    def hold():
        connection = sqlite3.connect(file_of(directory, ""), isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        os.write(tell, b".")
        os.read(wait, 1)

    child = Child(hold)
    os.read(answer, 1)
    yield
    os.write(release, b".")
    child.result()


def test_a_database_locked_by_others_is_not_awaited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(_database, "_PATIENCE", 0.05)
    store = filled(tmp_path / "cache")
    n = check(store)
    store.close()
    with locked(tmp_path / "cache"), few_warnings("cannot be written"):
        started = time.monotonic()
        assert use(store, random.Random(0)) == n
        assert store.claim("a", KEYS, new_owner()) == KEYS
        assert time.monotonic() - started < 5
    store._database._available.unwritable_until = 0
    assert use(store, random.Random(0)) >= n


def test_what_users_ask_for_is_done_in_a_pause_too_or_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(_database, "_PATIENCE", 0.05)
    store = filled(tmp_path / "cache")
    with locked(tmp_path / "cache"):
        with few_warnings("cannot be written"):
            put(store, random.Random(0))  # the cache is left alone from now on
        with few_warnings() as caught:
            for act, task in (store.clear, "cleared"), (lambda: store.set_limit(5), "limited"):
                with pytest.raises(CacheError, match=f"cache' cannot be {task}: database is locked"):
                    act()
            assert caught == []
    assert check(store) > 0
    store.set_limit(1 << 19)
    store.clear()
    assert store.contents("about ") == (0, 0, 0, 0, 1 << 19)
    put(store, random.Random(0))  # the pause has ended
    assert check(store) > 0


def test_what_may_only_be_read_cannot_be_cleared(public):
    filled(public / "cache").close()
    os.chmod(public / "cache", 0o755)
    os.chmod(file_of(public / "cache", ""), 0o644)

    def clear():
        store = SQLiteStore(public / "cache", lambda: LIMIT, durable=False)
        with few_warnings("cannot be written"), pytest.raises(CacheError, match=r"cleared: .* cannot be written by"):
            store.clear()
        return True

    assert as_nobody(clear)
    assert check(SQLiteStore(public / "cache", lambda: LIMIT, durable=False)) > 0


# ------------------------------------------------------------------------------------------------------ fits in faults

X = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
Y = np.arange(16) % 2


def nothing(directory):
    return contextlib.nullcontext()


def removed(directory):
    shutil.rmtree(directory)
    return contextlib.nullcontext()


def replaced_by_a_file(directory):
    shutil.rmtree(directory)
    directory.touch()
    return contextlib.nullcontext()


def truncated(part, length):
    def fault(directory):
        cut(file_of(directory, part), length)
        return contextlib.nullcontext()

    return fault


def garbage(part, seed):
    def fault(directory):
        overwrite(file_of(directory, part), random.Random(seed), 300)
        return contextlib.nullcontext()

    return fault


def other_tables(directory):
    with contextlib.closing(sqlite3.connect(file_of(directory, ""))) as connection:
        connection.executescript("DROP TABLE entries; CREATE TABLE entries (other);")
    return contextlib.nullcontext()


@contextlib.contextmanager
def no_room(directory):
    with pytest.MonkeyPatch.context() as patch:
        configure = Database._configure
        patch.setattr(
            Database, "_configure", lambda self, c: (configure(self, c), c.execute("PRAGMA max_page_count = 1"))
        )
        _database._close_all()
        yield


FAULTS = {
    "nothing": nothing,
    "removed": removed,
    "replaced by a file": replaced_by_a_file,
    "locked": locked,
    "no room": no_room,
    "other tables": other_tables,
    **{f"truncated{part} {length}": truncated(part, length) for part in PARTS for length in (0, 20_000, -1)},
    **{f"garbage{part} {seed}": garbage(part, seed) for part in PARTS for seed in range(2)},
}


def fit_in_fault(fault, directory, expected):
    torch.set_num_threads(1)
    clf = PretrainedImageClassifier(
        backbone=Pixels, engine="torch", cache=directory, n_jobs=1, max_epochs=2, random_state=0
    )
    clf.fit(X[:10], Y[:10])  # some is there
    with few_warnings(), FAULTS[fault](directory):
        for again in range(2):
            predictions = clf.fit(X, Y).predict_proba(X)
            assert predictions.tobytes() == expected.tobytes()
            if again == 0:  # as another process would find it
                open_cache(directory).store._database.close()


# One of each kind, and of each file.
ALWAYS = [
    "nothing", "removed", "replaced by a file", "locked", "no room", "other tables", "truncated 20000",
    "truncated-wal -1", "truncated-shm 0", "garbage 0", "garbage-wal 1", "garbage-shm 0",
]  # fmt: skip


@pytest.mark.parametrize("fault", slow_except(FAULTS, *ALWAYS))
def test_fits_in_each_fault_differ_by_no_bit(tmp_path, fault, monkeypatch):
    monkeypatch.setattr(_database, "_PATIENCE", 0.05)
    monkeypatch.setattr(_cache, "_IN_MEMORY", 0)
    reference = PretrainedImageClassifier(
        backbone=Pixels, engine="torch", cache=False, n_jobs=1, max_epochs=2, random_state=0
    )
    expected = reference.fit(X, Y).predict_proba(X)
    in_child(fit_in_fault, fault, tmp_path / "cache", expected)
