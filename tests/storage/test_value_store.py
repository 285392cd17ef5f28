"""Laws of all stores: what is found was put there, damage is missing, and claims have one owner at a time."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import Child, in_child, needs_fork, results
from representatives import examples

from sktl._storage import redis_store, sqlite_store, value_store
from sktl._storage.redis_store import RedisStore
from sktl._storage.sqlite_store import SQLiteStore
from sktl._storage.value_store import checksum, is_dead, new_owner
from sktl._utils.processes import is_running

# One store serves all examples of a law, emptied in between.
FEW = settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
pytestmark = pytest.mark.filterwarnings("error::sktl.exceptions.CacheWarning")


def key(i):
    return b"key %d" % i


def keys(n):
    return [key(i) for i in range(n)]


@pytest.fixture(params=["sqlite", "redis"])
def make(request, tmp_path):
    """Make stores that share their content, as several processes would."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    if server is not None:
        server.client().flushall()
    made = []

    def make():
        new = SQLiteStore(tmp_path / "cache", lambda: 10 << 20, durable=False) if server is None else None
        made.append(new or RedisStore(server.url))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make):
    return make()


# ------------------------------------------------------------------------------------------------------------- values

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "clear"]),
        st.sampled_from(["a", "a key", "about b"]),
        st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=60)), max_size=4),
    ),
    max_size=12,
)


@given(STEPS)
@FEW
def test_what_is_found_is_what_was_put_last(store, steps):
    store.clear()
    put = {}
    for kind, space, items in steps:
        if kind == "clear":
            store.clear()
            put = {}
        else:
            store.write(space, items)
            put |= {(space, k): value for k, value in items}
    every = sorted({k for _, _, items in steps for k, _ in items} | {b"other"})
    found = {(space, k): v for space in ("a", "a key", "about b") for k, v in store.read(space, every).items()}
    assert found == put
    contents = store.contents("about ")
    assert contents.entries == sum(not space.startswith("about") for space, _ in put)
    assert contents.bytes == sum(map(len, put.values()))


@pytest.mark.parametrize("size", [0, 1, 7, 100, 5000, 16383, 16384, 100_000, 1_000_000])
def test_values_of_any_size_are_found_as_they_were_put(store, size):
    values = {key(i): bytes(range(i, i + 64)) * (size // 64) + b"." * (size % 64) for i in range(3)}
    store.write("a", list(values.items()))
    assert store.read("a", keys(4)) == values
    assert store.read("b", keys(4)) == {}


def test_keys_and_spaces_are_told_apart_wherever_they_are_split(store):
    store.write("a", [(b"b c", b"1")])
    store.write("a b", [(b"c", b"2")])
    assert (store.read("a", [b"b c"]), store.read("a b", [b"c"])) == ({b"b c": b"1"}, {b"c": b"2"})
    assert checksum("a", b"b c", b"1") != checksum("a b", b"c", b"1")


def test_more_keys_than_one_query_takes_are_found(store):
    store.write("a", [(k, k) for k in keys(3000)])
    assert store.read("a", [*keys(3000), b"other"]) == {k: k for k in keys(3000)}
    assert store.read("a", []) == {}


def test_values_larger_than_the_largest_are_not_kept_and_the_others_are(store, monkeypatch):
    for module in (sqlite_store, redis_store):
        monkeypatch.setattr(module, "LARGEST_VALUE", 1000)
    store.write("a", [(key(0), b"x" * 1001), (key(1), b"x" * 1000)])
    assert list(store.read("a", keys(2))) == [key(1)]


def test_statistics_of_several_add_up_and_are_reset(make):
    stores = make(), make(), make()
    for _ in range(2):
        assert [store.count(i, 10) for i, store in enumerate(stores)] == [True, False, False]
        assert make().contents("about ")[:2] == (3, 30)
        make().clear()
        assert make().contents("about ")[:4] == (0, 0, 0, 0)


# ------------------------------------------------------------------------------------------------------------- claims

CLAIMS = st.lists(
    st.tuples(st.sampled_from(["claim", "claim", "write", "renew", "release"]), st.integers(0, 2), st.integers(0, 6)),
    max_size=30,
)


@given(CLAIMS)
@FEW
def test_a_key_is_claimed_by_whoever_asks_first_until_that_one_stores_or_releases_it(store, steps):
    store.clear()
    owners, held = [new_owner() for _ in range(3)], {}
    for kind, i, number in steps:
        some = [key(number), key(number + 1)]
        if kind == "claim":
            free = [k for k in some if held.get(k, i) == i]
            assert store.claim("a", some, owners[i]) == free
            held |= dict.fromkeys(free, i)
        elif kind == "write":
            store.write("a", [(key(number), b"value")], owners[i])
            held = {k: owner for k, owner in held.items() if (k, owner) != (key(number), i)}
        elif kind == "renew":
            store.write("a", (), owners[i])
        else:
            store.release(owners[i])
            held = {k: owner for k, owner in held.items() if owner != i}


def test_claims_of_different_spaces_do_not_meet(store):
    assert store.claim("a", keys(2), new_owner()) == keys(2)
    assert store.claim("b", keys(2), new_owner()) == keys(2)


def test_claiming_nothing_gives_nothing(store):
    assert store.claim("a", [], new_owner()) == []


@needs_fork
def test_claims_of_a_dead_process_are_taken_over_at_once(store):
    owner = in_child(lambda: (owner := new_owner(), store.claim("a", keys(2), owner))[0])
    assert store.claim("a", keys(3), new_owner()) == keys(3)
    assert not is_running(int(owner.split()[-2]))


def test_owners_on_another_machine_of_the_same_name_are_not_taken_for_dead(store, monkeypatch):
    elsewhere = new_owner().split()
    elsewhere[-2] = "999999999"
    assert is_dead(" ".join(elsewhere))
    assert store.claim("a", keys(2), " ".join(elsewhere)) == keys(2)
    monkeypatch.setattr(value_store, "_boot", lambda: "another start of a machine of this name")
    assert not is_dead(" ".join(elsewhere))
    assert store.claim("a", keys(3), new_owner()) == [key(2)]


@needs_fork
def test_processes_share_the_keys_between_them_and_their_statistics_add_up(store):
    readers, writer = os.pipe()

    def claim_all():
        owner, mine = new_owner(), []
        os.read(readers, 1)
        for start in range(0, 200, 4):
            mine += store.claim("a", [key(i) for i in range(start, start + 4)], owner)
            store.count(1, 0)
        return mine

    children = [Child(claim_all) for _ in range(3)]
    os.write(writer, b"...")
    claimed = results(children)
    assert sorted(k for mine in claimed for k in mine) == sorted(keys(200))
    assert store.contents("about ").hits == 3 * 50


def test_threads_hold_no_key_at_once_and_find_what_the_others_wrote(store):
    barrier, held, twice = threading.Barrier(6, timeout=60), set(), []

    def work():
        owner = new_owner()
        barrier.wait()
        for i in range(60):
            mine = store.claim("a", [key(i), key(i + 1)], owner)
            twice.extend(held.intersection(mine))
            held.update(mine)
            store.read("a", mine)
            held.difference_update(mine)  # before the others may claim them
            store.write("a", [(k, k * 3) for k in mine], owner)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert twice == []
    assert store.read("a", keys(61)) == {k: k * 3 for k in keys(61)}
