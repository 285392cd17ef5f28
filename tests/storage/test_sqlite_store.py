"""Laws of the store: what is found was put there, the bound holds, scans hit, and claims have one owner at a time."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from representatives import examples

from sktl._storage import sqlite_store as _store
from sktl._storage.sqlite_store import SQLiteStore
from sktl._storage.value_store import Contents, new_owner

FEW = settings(max_examples=examples(25))
NOBODY = f"elsewhere 1 {'0' * 32}"  # an owner on a machine that cannot be asked


def key(i):
    return b"key %d" % i


def keys(n):
    return [key(i) for i in range(n)]


@pytest.fixture
def clock(monkeypatch):
    """Set the time of the store, in seconds from now."""
    now = _store.time.time()

    class Clock:
        seconds = 0.0

        @classmethod
        def time(cls):
            return now + cls.seconds

    monkeypatch.setattr(_store, "time", Clock)
    return Clock


@pytest.fixture
def make(tmp_path):
    """Make stores, one directory each."""
    numbers = itertools.count()
    made = []

    def make(limit=1 << 20):
        made.append(SQLiteStore(tmp_path / str(next(numbers)), lambda: limit, durable=False))
        return made[-1]

    yield make
    for store in made:
        store.close()


def scan(store, space, n, size=100):
    """Ask for n values as a pass does, some at a time, and put those that are missing; return how many were there."""
    hits = 0
    for start in range(0, n, 8):
        some = [key(i) for i in range(start, min(start + 8, n))]
        found = store.read(space, some)
        hits += len(found)
        store.write(space, [(k, k.ljust(size, b"v")) for k in some if k not in found])
    return hits


def n_bytes(store):
    return store.contents("about ").bytes


# ------------------------------------------------------------------------------------------- values and the bound

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "write", "write", "limit", "clear", "hour"]),
        st.sampled_from(["a", "b", "a key"]),
        st.integers(0, 5),
        st.integers(0, 60),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 200))
@FEW
def test_the_bound_holds_at_any_time_and_every_value_found_was_put_for_that_space_and_key(steps, limit):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store = SQLiteStore(Path(folder, "store"), lambda: 200, durable=False)
        store.set_limit(limit)
        hours, put = 0, {}
        for i, (kind, space, number, size) in enumerate(steps):
            if kind == "read":
                asked = [key(number), key(number + 1)]
                for k, value in store.read(space, asked).items():
                    assert k in asked
                    assert value in put[space, k]
            elif kind == "write":
                items = [(key(number + j), b"%d " % i * (size // 4)) for j in range(2)]
                for k, value in items:
                    put.setdefault((space, k), set()).add(value)
                store.write(space, items)
            elif kind == "limit":
                limit = 3 * size
                store.set_limit(limit)
            elif kind == "clear":
                store.clear()
                put = {}
            else:
                hours += size
                patch.setattr(_store, "_hours", lambda hours=hours: hours)
            assert n_bytes(store) <= limit == store.contents("about ").max_bytes
        kept = [v for space in ("a", "b", "a key") for v in store.read(space, keys(8)).values()]
        assert n_bytes(store) == sum(map(len, kept))
        assert store.contents("about ").entries == len(kept)
        store.close()


def test_a_value_that_was_changed_in_the_file_is_not_found(make):
    store = make()
    store.write("a", [(k, k * 4) for k in keys(3)])
    for column in ("value", "checksum"):
        with store._database._open().connection as connection:
            connection.execute(f"UPDATE entries SET {column} = zeroblob(20) WHERE key = ?", (key(0),))
        assert sorted(store.read("a", keys(3))) == keys(3)[1:]


def test_values_that_changed_places_in_the_file_are_not_found(make):
    store = make()
    store.write("a", [(k, k * 4) for k in keys(3)])
    store.write("b", [(key(2), b"of b")])
    with store._database._open().connection as connection:
        for old, new in ((0, 9), (1, 0), (9, 1)):
            connection.execute("UPDATE entries SET key = ? WHERE key = ?", (key(new), key(old)))
        for old, new in ((1, 9), (2, 1), (9, 2)):
            connection.execute("UPDATE entries SET space = ? WHERE space = ?", (new, old))
    assert store.read("a", keys(3)) == store.read("b", keys(3)) == {}


def test_a_damaged_index_leads_to_no_wrong_value(make):
    store = make()
    store.write("a", [(k, k * 4) for k in keys(4)])
    with store._database._open().connection as connection:
        connection.execute(
            "CREATE TABLE twin (space, key, used, size, checksum, value, UNIQUE (space, key))",
        )
        connection.execute("INSERT INTO twin (rowid, space, key) SELECT 5 - rowid, space, key FROM entries")
        names = ("sqlite_autoindex_entries_1", "sqlite_autoindex_twin_1")
        roots = [
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (n,)).fetchone() for n in names
        ]
        connection.execute("PRAGMA writable_schema = ON")
        for name, (root,) in zip(names, reversed(roots), strict=True):
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (root, name))
    store.close()
    assert store.read("a", keys(4)) == {}


# ------------------------------------------------------------------------------------------------ what stays, what goes


def test_a_scan_that_fits_hits_everything(make):
    store = make(50 * 100)
    assert [scan(store, "a", 50) for _ in range(3)] == [0, 50, 50]


@pytest.mark.parametrize(("n_fit", "n"), [(40, 60), (40, 200), (200, 300)])
def test_a_cyclic_scan_larger_than_the_bound_keeps_hitting(make, n_fit, n):
    store = make(n_fit * 100)
    hits = [scan(store, "a", n) for _ in range(8)][1:]
    assert min(hits) >= 0.65 * n_fit
    assert sum(hits) / len(hits) >= 0.8 * n_fit


def test_another_working_set_in_the_same_space_is_followed_eventually(make):
    store = make(40 * 100)
    scan(store, "a", 40)
    new = [key(i) for i in range(100, 140)]
    hits = []
    for _ in range(400):
        found = store.read("a", new)
        hits.append(len(found))
        store.write("a", [(k, b"v" * 100) for k in new if k not in found])
    assert hits[1] < 20, "at once"
    assert hits[-1] >= 36


@pytest.mark.parametrize("condition", ["space = ? ORDER BY used", "space = ? AND size > 5 ORDER BY used"])
def test_what_goes_first_is_found_without_sorting_all(make, condition):
    store = make()
    plans = []

    def explain(connection):
        connection.set_trace_callback(plans.append)
        _store._drop(connection, 1, condition, (1,))
        connection.set_trace_callback(None)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {plans[0].replace('?', '1')}").fetchall()
        return " ".join(row[-1] for row in plan)

    plan = store._database.attempt(explain, "")
    assert "COVERING INDEX entries_by_use" in plan
    assert "TEMP B-TREE" not in plan


def test_what_nobody_read_for_a_day_makes_room_for_anything(make, clock):
    store = make(10 * 100)
    scan(store, "a", 10)
    clock.seconds = 23 * 3600
    store.read("a", keys(4))
    clock.seconds = 26 * 3600
    store.write("a", [(key(i), b"v" * 100) for i in range(10, 16)])
    assert sorted(store.read("a", keys(20))) == sorted([key(i) for i in (*range(4), *range(10, 16))])


def test_idle_spaces_go_first_the_longest_unused_before_the_others(make, clock):
    store = make(6 * 100)
    for space in "abc":
        scan(store, space, 2)
        clock.seconds += 100
    scan(store, "a", 2)  # b is now the one used longest ago
    clock.seconds += 100
    scan(store, "d", 1)
    assert [len(store.read(space, keys(2))) for space in "abcd"] == [2, 1, 2, 1]


def test_a_space_in_use_is_not_pushed_out(make, clock):
    store = make(4 * 100)
    scan(store, "a", 4)
    clock.seconds = 30
    scan(store, "b", 4)
    assert len(store.read("a", keys(4))) == 4


def test_reading_keeps_a_space_in_use(make, clock):
    store = make(4 * 100)
    scan(store, "a", 4)
    for _ in range(5):
        clock.seconds += 40
        assert scan(store, "a", 4) == 4
    scan(store, "b", 4)
    assert len(store.read("a", keys(4))) == 4


def test_small_rows_are_not_pushed_out_by_large_ones(make, clock):
    store = make(20 * 100)
    scan(store, "a", 10)
    clock.seconds = 100
    store.write("b", [(key(0), b"v" * 1900)])
    assert len(store.read("a", keys(10))) == 10
    clock.seconds = 200
    store.write("c", [(key(0), b"v" * 1200)])
    assert len(store.read("a", keys(10))) == 10
    clock.seconds = 300
    store.write("d", [(key(0), b"v" * 790), (key(1), b"v" * 790)])
    assert len(store.read("a", keys(10))) < 10


def test_bulky_spaces_push_out_others_of_their_kind_alone(make, clock):
    store = make(6 * 100)
    bulky = _store.BULKY + "b"
    scan(store, "a", 3)
    scan(store, bulky, 3)
    clock.seconds = 100
    scan(store, _store.BULKY + "c", 6)
    assert [len(store.read(space, keys(6))) for space in ("a", bulky, _store.BULKY + "c")] == [3, 0, 3]
    clock.seconds = 200
    scan(store, "d", 6)
    assert [len(store.read(space, keys(6))) for space in ("a", bulky, _store.BULKY + "c", "d")] == [0, 0, 0, 6]


def test_what_is_read_counts_as_used(make, clock):
    store = make(4 * 100)
    scan(store, "a", 4)
    clock.seconds = 100
    assert len(store.read("a", keys(4))) == 4
    store.write("b", [(key(0), b"v" * 90)])
    assert len(store.read("a", keys(4))) == 4


def test_a_value_that_can_never_be_kept_displaces_nothing(make, clock):
    store = make(4 * 100)
    scan(store, "a", 3)
    clock.seconds = 100
    store.write("b", [(key(0), b"v" * 401)])
    assert len(store.read("a", keys(3))) == 3


def test_a_store_without_room_keeps_nothing(make):
    store = make(0)
    assert [scan(store, "a", 3) for _ in range(2)] == [0, 0]
    assert store.contents("about ") == Contents(0, 0, 0, 0, 0)


def test_a_smaller_bound_drops_what_was_used_longest_ago_at_once(make, clock):
    store = make(10 * 100)
    scan(store, "a", 10)
    clock.seconds = 2 * 3600
    store.read("a", keys(4))
    store.set_limit(4 * 100)
    assert sorted(store.read("a", keys(10))) == keys(4)
    store.set_limit(None)
    assert store.contents("about ").max_bytes == 10 * 100


def test_a_bound_beyond_all_numbers_of_sqlite_loses_nothing(make):
    store = make(10 * 100)
    scan(store, "a", 3)
    store.set_limit(2**80)
    assert scan(store, "a", 3) == 3
    assert store.contents("about ").max_bytes >= 2**62


def test_clear_forgets_entries_claims_and_statistics_and_gives_the_disk_back(make):
    store = make(4 << 20)
    store.set_limit(3 << 20)
    store.write("a", [(key(i), b"v" * 500_000) for i in range(5)])
    store.claim("a", keys(3), NOBODY)
    store.count(1, 2)
    store.clear()
    assert store.contents("about ") == Contents(0, 0, 0, 0, 3 << 20)
    assert store.read("a", keys(5)) == {}
    assert store.claim("a", keys(3), new_owner()) == keys(3)
    assert sum(file.stat().st_size for file in store.directory.iterdir()) < 1 << 20


def test_a_store_that_was_never_used_makes_no_directory_when_asked_or_cleared(make):
    store = make(7)
    assert store.contents("about ") == Contents(0, 0, 0, 0, 7)
    store.clear()
    assert not store.directory.exists()


def test_what_is_plainly_there_needs_no_total(make, monkeypatch):
    store = make(1 << 30)
    monkeypatch.setattr(_store, "_total", lambda connection: pytest.fail("summed all entries"))
    store.write("a", [(k, b"x" * 1000) for k in keys(500)])
    assert len(store.read("a", keys(500))) == 500


# ------------------------------------------------------------------------------------------------------------ claims

CLAIMS = st.lists(
    st.tuples(st.sampled_from(["claim", "claim", "write", "release", "wait"]), st.integers(0, 2), st.integers(0, 6)),
    max_size=30,
)


@given(CLAIMS)
@FEW
def test_no_key_is_claimed_by_two_owners_at_once(steps):
    seconds = _store.time.time()
    owners = [new_owner() for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_store.time, "time", lambda: seconds)
        store = SQLiteStore(Path(folder, "store"), lambda: 1 << 20, durable=False)
        until = {}  # (key, owner) to the end of the lease
        for kind, i, number in steps:
            some = [key(number), key(number + 1)]
            if kind == "claim":
                until = {c: end for c, end in until.items() if end >= seconds}  # an owner may renew what nobody took
                for k in store.claim("a", some, owners[i]):
                    assert not [owner for claimed, owner in until if claimed == k and owner != owners[i]]
                    until.setdefault((k, owners[i]), seconds + _store.LEASE)
                assert {k for k, _ in until} >= set(some), "a key that nobody holds was refused"
            elif kind == "write":
                store.write("a", [(key(number), b"value")], owners[i])
                until.pop((key(number), owners[i]), None)
                until = {c: seconds + _store.LEASE if c[1] == owners[i] else end for c, end in until.items()}
            elif kind == "release":
                store.release(owners[i])
                until = {c: end for c, end in until.items() if c[1] != owners[i]}
            else:
                seconds += 10 * number
        store.close()


def test_a_claim_lapses_unless_its_owner_writes_meanwhile(make, clock):
    store = make()
    slow, other = new_owner(), new_owner()
    store.claim("a", keys(3), slow)
    clock.seconds = _store.LEASE - 1
    store.write("a", [(key(0), b"x")], slow)
    clock.seconds = _store.LEASE + 1
    assert store.claim("a", keys(3), other) == [key(0)]
    clock.seconds = 2 * _store.LEASE
    assert store.claim("a", keys(3), other) == keys(3)


def test_claims_from_a_clock_far_ahead_are_not_heeded(make, clock):
    store = make()
    clock.seconds = 1e6
    store.claim("a", keys(1), NOBODY)
    clock.seconds = 0
    assert store.claim("a", keys(1), new_owner()) == keys(1)


def test_claims_of_another_machine_are_heeded_until_they_lapse(make, clock):
    store = make()
    store.claim("a", keys(1), NOBODY)
    assert store.claim("a", keys(1), new_owner()) == []
    clock.seconds = _store.LEASE + 1
    assert store.claim("a", keys(1), new_owner()) == keys(1)


def test_a_batch_larger_than_the_limit_evicts_what_was_not_read_for_a_day(tmp_path, clock):
    store = SQLiteStore(tmp_path, lambda: 1000)
    store.write("a", [(key(i), b"x" * 100) for i in range(9)])
    clock.seconds = 2 * 86400
    store.write("b", [(key(i), b"y" * 100) for i in range(11)])
    assert len(store.read("b", keys(11))) >= 9
