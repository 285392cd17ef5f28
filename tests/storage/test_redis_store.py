"""A server of values: damage is missing, faults are reported once and never raised, and nothing shows a password."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import socket
import struct
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import Child, in_child, needs_fork
from redis_server import faulty_server, needs_redis, running_redis
from representatives import examples
from sklearn.base import clone

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._storage import cache as _cache
from sktl._storage import redis_store as _store
from sktl._storage.cache import open_cache
from sktl._storage.redis_store import RedisStore
from sktl._storage.value_store import new_owner
from sktl.exceptions import CacheError, CacheWarning, InvalidParameterError, MissingPackageError

pytestmark = needs_redis
FEW = settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
NOBODY = f"elsewhere 1 {'0' * 32}"  # an owner on a machine that cannot be asked
KEYS = [b"key %d" % i for i in range(4)]
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
Y = np.arange(12) % 2


@pytest.fixture
def client(redis_server):
    client = redis_server.client()
    client.flushall()
    return client


@pytest.fixture
def store(redis_server, client):
    with contextlib.closing(RedisStore(redis_server.url)) as store:
        yield store


def entry(space, key):
    return b"sktl:v1:entry:%s:%s" % (space.encode(), key)


def claim(space, key):
    return b"sktl:v1:claim:%s:%s" % (space.encode(), key)


def use(store):
    """Call every method of a store that has values of KEYS in space "a"; return the values that it found."""
    owner = new_owner()
    claimed = store.claim("b", KEYS, owner)
    assert set(claimed) <= set(KEYS)
    store.write("b", [(k, k * 2) for k in claimed[:2]], owner)
    store.write("b", (), owner)
    found = store.read("a", KEYS)
    assert all(value == key * 3 for key, value in found.items())
    assert all(value == key * 2 for key, value in store.read("b", KEYS).items())
    store.release(owner)
    store.count(1, 1)
    with contextlib.suppress(CacheError):  # users ask for statistics, fits do not
        store.contents("about ")
    return found


@contextlib.contextmanager
def warned(*problems):
    """Check that these problems are reported, each once, and no others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(w.message) for w in caught if w.category is not ResourceWarning]
    assert len(messages) == len(problems), messages
    assert all(problem in message for problem, message in zip(problems, messages, strict=True)), messages
    assert {w.category for w in caught} <= {CacheWarning}


@pytest.fixture
def hasty(monkeypatch):
    """Wait for replies only for a moment."""
    monkeypatch.setattr(_store, "_REPLY_SECONDS", 0.2)
    monkeypatch.setattr(_store, "_CONNECT_SECONDS", 0.2)


# ------------------------------------------------------------------------------------------------------ what is stored


def test_all_keys_have_the_prefix_and_clear_removes_no_others(store, client):
    others = {b"sktl", b"sktl:v0:entry:a:key", b"mine"}
    client.mset(dict.fromkeys(others, b"x"))
    use(store)
    store.write("a", [(b"%d" % i, b"x") for i in range(3000)])
    store.claim("a", KEYS, NOBODY)
    assert {name[:8] for name in client.keys("*") if name not in others} == {b"sktl:v1:"}
    assert store.contents("").entries == 0
    assert store.contents("about ").entries == 3002
    store.clear()
    assert set(client.keys("*")) == others


@given(st.integers(0, 43), st.integers(1, 255), st.booleans())
@FEW
def test_a_damaged_or_shortened_value_is_missing(store, client, position, change, shortened):
    store.write("a", [(k, k * 4) for k in KEYS])
    record = bytearray(client.get(entry("a", KEYS[0])))
    record[position % len(record)] ^= change
    client.set(entry("a", KEYS[0]), bytes(record[: position % len(record)] if shortened else record))
    assert store.read("a", KEYS) == {k: k * 4 for k in KEYS[1:]}


def test_values_that_changed_places_are_missing(store, client):
    store.write("a", [(k, k * 4) for k in KEYS])
    store.write("b", [(KEYS[0], b"of b")])
    for one, other in ((entry("a", KEYS[0]), entry("b", KEYS[0])), (entry("a", KEYS[1]), entry("a", KEYS[2]))):
        values = client.mget(one, other)
        client.mset({one: values[1], other: values[0]})
    assert sorted(store.read("a", KEYS)) == KEYS[3:]
    assert store.read("b", KEYS) == {}


def test_values_of_other_types_are_missing_and_replaced(store, client):
    store.write("a", [(k, k) for k in KEYS])
    client.delete(entry("a", KEYS[0]))
    client.rpush(entry("a", KEYS[0]), "of somebody else")
    with warned():
        assert sorted(store.read("a", KEYS)) == KEYS[1:]
        assert store.contents("about ")[2:4] == (3, 15)
        store.write("a", [(KEYS[0], b"new")])
    assert store.read("a", KEYS[:1]) == {KEYS[0]: b"new"}


def test_requests_are_bounded_in_bytes(store, monkeypatch):
    monkeypatch.setattr(_store, "_BYTES_PER_REQUEST", 10_000)
    sizes = []
    for name in ("mget", "mset"):
        method = getattr(store._server, name)

        def note(names, method=method, name=name):
            found = method(names)
            sizes.append((name, sum(map(len, names.values() if name == "mset" else filter(None, found)))))
            return found

        monkeypatch.setattr(store._server, name, note)
    values = {b"%d" % i: b"x" * 1000 for i in range(100)} | {b"large": b"x" * 20_000}
    store.write("a", list(values.items()))
    assert store.read("a", list(values)) == values
    written, read = ([n for method, n in sizes if method == name] for name in ("mset", "mget"))
    assert len(written) == 11
    assert max(written[:-1]) <= 10_200
    assert written[-1] == 20_016
    assert max(read[1:-1]) <= 10_200  # the first shows how large values are


def test_a_server_that_evicts_bounds_the_cache_and_scans_keep_hitting(monkeypatch):
    monkeypatch.setattr(_store, "_BYTES_PER_REQUEST", 50_000)
    with running_redis("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lfu") as server, warned():
        store, keys = RedisStore(server.url), [b"%d" % i for i in range(1000)]
        assert store.contents("about ").max_bytes == 8 << 20
        hits = []
        for _ in range(6):
            found = store.read("a", keys)
            hits.append(len(found))
            store.write("a", [(key, key.ljust(12_500)) for key in keys if key not in found])
        assert 4 << 20 < store.contents("about ").bytes < 8 << 20
        assert min(hits[1:]) > 100
        store.close()


# -------------------------------------------------------------------------------------------------------------- claims


def test_claims_expire_unless_their_owner_gives_a_sign_of_life(redis_server, store, client):
    owner = new_owner()
    store.claim("a", KEYS, owner)
    assert all(50_000 < client.pttl(claim("a", key)) <= 60_000 for key in KEYS)
    for key in KEYS:
        client.pexpire(claim("a", key), 30_000)
    store.write("a", [(KEYS[0], b"value")], owner)
    assert not client.exists(claim("a", KEYS[0]))
    assert all(client.pttl(claim("a", key)) > 50_000 for key in KEYS[1:])
    with contextlib.closing(RedisStore(redis_server.url, lease=0.05)) as short:
        assert short.claim("b", KEYS, NOBODY) == KEYS
        deadline = time.monotonic() + 30
        while store.claim("b", KEYS, owner) != KEYS:
            assert time.monotonic() < deadline


def test_only_ones_own_claims_are_renewed_and_released(store, client):
    slow, other = new_owner(), NOBODY
    store.claim("a", KEYS, slow)
    client.delete(*(claim("a", key) for key in KEYS[:2]))  # they expired
    assert store.claim("a", KEYS, other) == KEYS[:2]
    client.pexpire(claim("a", KEYS[0]), 30_000)
    store.write("a", [(KEYS[1], b"late")], slow)
    assert client.pttl(claim("a", KEYS[0])) <= 30_000
    assert client.get(claim("a", KEYS[1])) == other.encode()
    store.release(slow)
    assert [client.get(claim("a", key)) for key in KEYS] == [other.encode()] * 2 + [None] * 2


def test_claims_whose_reply_was_lost_are_released_too(store, client, monkeypatch):
    owner, claim_keys = new_owner(), store._claim_keys

    def lost(names, values):
        claim_keys(names, values)
        raise TimeoutError

    monkeypatch.setattr(store, "_claim_keys", lost)
    with warned("cannot be used"):
        assert store.claim("a", KEYS, owner) == KEYS
    store._available.unusable_until = 0
    store.release(owner)
    assert client.keys("*") == []


# -------------------------------------------------------------------------------------------------------------- faults


def _silent(connection):
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def _closing(connection):
    connection.recv(1 << 16)


def _resetting(connection):
    """Begin a reply, and reset the connection in the middle of it."""
    while request := connection.recv(1 << 16):
        if b"MGET" in request or b"EVALSHA" in request or b"MSET" in request:
            connection.sendall(b"*4\r\n$500\r\nhalf of it")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        connection.sendall(b"+OK\r\n" * request.count(b"*"))


def _babbling(connection):
    rng = random.Random(0)
    pieces = [
        b"+OK\r\n",
        b"*2\r\n",
        b"$-1\r\n",
        b"$3\r\nabc\r\n",
        b":7\r\n",
        b"$x\r\n",
        b"\x00\xff\r\n",
        b"-ERR no\r\n",
    ]
    while connection.recv(1 << 16):
        connection.sendall(b"".join(rng.choices(pieces, k=4)))


def _of_the_web(connection):
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("treat", [_silent, _closing, _resetting, _of_the_web])
def test_a_server_that_does_not_answer_well_is_reported_once_and_left_alone(treat):
    with faulty_server(treat) as server:
        store = RedisStore(server.url)
        with warned("cannot be used"):
            assert use(store) == {}
            n_connections = server.n_connections
            assert n_connections > 0
            assert store.claim("a", KEYS, new_owner()) == KEYS
            assert server.n_connections == n_connections, "it was asked again at once"
            store._available.unusable_until = 0  # a minute later
            assert use(store) == {}
            assert server.n_connections > n_connections
        store.close()


@pytest.mark.usefixtures("hasty")
def test_a_server_that_answers_nonsense_raises_nothing():
    with faulty_server(_babbling) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = RedisStore(server.url)
        for _ in range(40):
            assert use(store) == {}
            store._available.unusable_until = store._available.unwritable_until = 0
        with contextlib.suppress(CacheError):
            store.clear()
        store.close()
    assert len(caught) <= 2
    assert {w.category for w in caught} <= {CacheWarning}


@pytest.mark.parametrize("reply", [[], [b"x"], [b"x"] * 5, 7, None, [1, 2, 3, 4], "some text"])
@pytest.mark.parametrize("method", ["mget", "_claim_keys"])
def test_replies_of_other_kinds_are_faults_of_the_server(store, monkeypatch, method, reply):
    monkeypatch.setattr(store if method == "_claim_keys" else store._server, method, lambda *arguments: reply)
    with warned("cannot be used"):
        use(store)
    monkeypatch.setattr(store._server, "scan", lambda *arguments: reply)
    with pytest.raises(CacheError, match="cannot be cleared"):
        store.clear()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_server_that_is_not_there_is_reported_once(host):
    store = RedisStore(f"redis://{host}")
    with warned(f"'redis://{host}' cannot be used"):
        assert use(store) == {}
        for act in store.clear, lambda: store.contents("about "):
            with pytest.raises(CacheError, match=f"'redis://{host}' cannot be (cleared|read): .*Remove the cause"):
                act()


@pytest.mark.usefixtures("hasty")
def test_a_server_that_dies_and_comes_back_is_used_again():
    with running_redis() as server:
        store = RedisStore(server.url)
        store.write("a", [(k, k * 3) for k in KEYS])
        server.stop()
        with warned("cannot be used"):
            assert use(store) == {}
            server.start()
            assert store.read("a", KEYS) == {}
            assert store.claim("a", KEYS, NOBODY) == KEYS
            assert server.client().keys("*") == [], "it is left alone for a while"
            store.clear()  # which is done nevertheless, and ends the pause
            store.write("a", [(k, k * 3) for k in KEYS])
            assert len(use(store)) == 4
        server.stop()
        server.start()  # while nobody asked
        with warned():
            assert use(store) == {}
        store.close()


def test_a_server_that_answers_slowly_is_left_alone(redis_server, client, monkeypatch):
    monkeypatch.setattr(_store, "_QUICK", 0.01)
    monkeypatch.setattr(_store, "_PATIENCE", 0.1)
    store = RedisStore(redis_server.url)
    store.write("a", [(k, k * 3) for k in KEYS])
    assert store.claim("b", KEYS, new_owner()) == KEYS

    def delayed(*arguments, ask=store._server.mget):
        time.sleep(0.05)
        return ask(*arguments)

    monkeypatch.setattr(store._server, "mget", delayed)
    with warned("answers too slowly"):
        found = [len(store.read("a", KEYS)) for _ in range(10)]
    assert found[:2] == [4, 4]
    assert found[-5:] == [0] * 5
    assert client.keys("*claim*") == [], "others would wait for them"
    store.close()


def test_large_replies_may_take_longer(store, monkeypatch):
    monkeypatch.setattr(_store, "_QUICK", 0.0)
    monkeypatch.setattr(_store, "_PATIENCE", 0.05)
    monkeypatch.setattr(_store, "_BYTES_PER_SECOND", 1e6)
    with warned():
        for i in range(10):
            store.write("a", [(b"%d" % i, b"x" * 500_000)])
            assert len(store.read("a", [b"%d" % i])) == 1


def test_a_full_server_is_still_read_and_nobody_waits_for_what_it_refused(redis_server, store, client):
    store.write("a", [(k, k * 3) for k in KEYS])
    owner = new_owner()
    assert store.claim("b", KEYS, owner) == KEYS
    client.config_set("maxmemory", 1)
    try:
        with warned("cannot be written"):
            store.write("b", [(KEYS[0], b"x" * 100)], owner)
            assert len(use(store)) == 4
            assert store.claim("c", KEYS, new_owner()) == KEYS
            assert store.contents("about ") == (0, 0, 4, 60, 1)
    finally:
        client.config_set("maxmemory", 0)
    with contextlib.closing(RedisStore(redis_server.url)) as other:
        assert other.claim("b", KEYS, new_owner()) == KEYS


def test_a_replica_is_read_only():
    with running_redis() as server:
        store = RedisStore(server.url)
        store.write("a", [(k, k * 3) for k in KEYS])
        server.client().replicaof("127.0.0.1", 1)
        with warned("cannot be written"):
            assert len(use(store)) == 4
        store.close()


def test_a_time_limit_is_no_failure_of_the_server(store):
    def strike(*_):
        raise TimeoutError("late")

    handler = signal.signal(signal.SIGINT, strike)
    try:
        with pytest.raises(TimeoutError, match="late"):
            store._attempt(lambda _: signal.raise_signal(signal.SIGINT), None)
    finally:
        signal.signal(signal.SIGINT, handler)


def test_claims_and_counts_of_other_types_are_reported_once(store, client):
    client.rpush(claim("a", KEYS[0]), "of somebody else")
    client.set(b"sktl:v1:counts", "of somebody else")
    with warned("cannot be written"):
        assert store.claim("a", KEYS, new_owner()) == KEYS
        assert store.claim("a", KEYS, new_owner()) == KEYS
        store.count(1, 1)
    with pytest.raises(CacheError, match="cannot be read: WRONGTYPE"):
        store.contents("about ")


@pytest.mark.filterwarnings("error")
def test_warnings_that_are_errors_leave_no_trace(store, client):
    store.write("a", [(k, k * 3) for k in KEYS])
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(CacheWarning):
            store.write("b", [(KEYS[0], b"x" * 100)])
        assert len(store.read("a", KEYS)) == 4
    finally:
        client.config_set("maxmemory", 0)
    store._available.unwritable_until = 0
    store.write("b", [(KEYS[0], b"x")])
    assert len(store.read("b", KEYS)) == 1


# ---------------------------------------------------------------------------------------------------------- addresses


@pytest.fixture(scope="module")
def guarded():
    with running_redis("--requirepass", "s3cret/@x") as server:
        yield server


@pytest.mark.parametrize("user", ["", ":wr0ng@", "nobody:wr0ng@"])
def test_a_server_that_wants_another_password_is_reported_once_without_it(guarded, user):
    store = RedisStore(guarded.url.replace("//", f"//{user}"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert use(store) == {}
    (message,) = [str(w.message) for w in caught]
    assert f"The cache in '{guarded.url}' cannot be used" in message
    assert "wr0ng" not in message


def test_a_password_may_be_in_the_url_or_in_the_environment(guarded, monkeypatch):
    monkeypatch.setenv("CACHE_PASSWORD", "s3cret%2F%40x")
    for user in (":s3cret%2F%40x@", ":$CACHE_PASSWORD@", "default:${CACHE_PASSWORD}@"):
        with warned():
            store = RedisStore(guarded.url.replace("//", f"//{user}"))
            store.write("a", [(k, k * 3) for k in KEYS])
            assert len(store.read("a", KEYS)) == 4
        assert store.place == repr(guarded.url)
        store.close()


def test_a_variable_that_is_not_set_is_said_and_not_named(guarded, monkeypatch):
    monkeypatch.delenv("CACHE_PASSWORD", raising=False)
    with warned("is disabled; an environment variable in the URL is not set), so"):
        assert use(RedisStore(guarded.url.replace("//", "//:$CACHE_PASSWORD@"))) == {}


def test_a_variable_in_the_password_is_not_suspected_if_the_password_was_not_refused(monkeypatch):
    monkeypatch.setenv("CACHE_PASSWORD", "a$b")
    monkeypatch.delenv("ELSEWHERE", raising=False)
    for user in (":$CACHE_PASSWORD", ":a$ELSEWHERE"):
        with warned(r"refused), so"):
            assert use(RedisStore(f"redis://{user}@127.0.0.1:1/0")) == {}
    with warned("in the URL is not set), so"):
        assert use(RedisStore("redis://${ELSEWHERE}:1/0")) == {}


def test_a_refused_password_with_a_dollar_sign_from_a_variable_is_not_called_unset(guarded, monkeypatch):
    monkeypatch.setenv("CACHE_PASSWORD", "a$b")
    with warned("is disabled), so"):
        assert use(RedisStore(guarded.url.replace("//", "//:$CACHE_PASSWORD@"))) == {}


INVALID = [
    "redis://:s3cret#x@host:6379",
    "redis://u:s3cret@host:port",
    "rediss://u:s3cret@[host",
    "redis://h:99999999",
]


@pytest.mark.parametrize("url", INVALID)
def test_an_invalid_url_is_an_error_without_the_password(url):
    with pytest.raises(InvalidParameterError, match="is not a valid URL") as caught:
        PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=url).fit(X)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["reddis://host", "s3://bucket/cache", "http://user:s3cret@host", "REDIS://host"])
def test_other_urls_are_not_taken_for_folders(url):
    with pytest.raises(InvalidParameterError, match="redis://host:6379/0") as caught:
        PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=url).fit(X)
    assert "s3cret" not in str(caught.value)


def test_a_server_can_be_at_a_socket_and_have_several_databases(tmp_path):
    with running_redis("--unixsocket", str(tmp_path / "socket")) as server, warned():
        stores = [RedisStore(f"unix://{tmp_path}/socket?db={i}") for i in range(2)]
        stores[1].write("a", [(k, k * 3) for k in KEYS])
        assert [len(use(store)) for store in stores] == [0, 4]
        assert [len(RedisStore(server.url[:-1] + db).read("a", KEYS)) for db in "01"] == [0, 4]


def test_without_redis_py_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingPackageError, match=r"cache='redis://host/1' needs redis.*sktl\[redis\]"):
        open_cache("redis://user:s3cret@host/1?socket_timeout=3")


# ------------------------------------------------------------------------------------------- processes, pickles, public


@needs_fork
def test_a_forked_child_has_connections_of_its_own(store, client):
    store.write("a", [(k, k * 3) for k in KEYS])
    readers, writer = os.pipe()

    def work():
        found = [len(store.read("a", KEYS)) for _ in range(200)]
        os.read(readers, 1)
        return found

    child = Child(work)
    assert [len(store.read("a", KEYS)) for _ in range(200)] == [4] * 200
    os.write(writer, b".")
    assert child.result() == [4] * 200
    assert len(store.read("a", KEYS)) == 4


@pytest.mark.thorough
@needs_fork
def test_forking_while_other_threads_use_the_store_locks_nobody_out(store):
    store.write("a", [(k, k * 3) for k in KEYS])
    stop = threading.Event()

    def read():
        while not stop.is_set():
            store.read("a", KEYS)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            assert len(in_child(store.read, "a", KEYS)) == 4
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_estimators_with_a_url_fit_and_pickle_as_with_a_folder(redis_server, client):
    url = redis_server.url
    clf = PretrainedImageClassifier(backbone=Pixels, engine="torch", cache=url, max_epochs=2, random_state=0)
    expected = clone(clf).set_params(cache=False).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(clf.fit(X, Y).predict_proba(X), expected)
    assert sktl.cache_info(url).images == 12
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), expected)
    sktl.clear_cache(url)
    assert sktl.cache_info(url) == (0, 0, 0, 0, 0)
    with pytest.raises(InvalidParameterError, match="maxmemory"):
        sktl.set_cache_limit(1 << 20, url)


def test_one_cache_for_each_url():
    assert open_cache("redis://host/1") is open_cache("redis://host/1")
    assert open_cache("redis://host/1") is not open_cache("redis://host/2")
    assert isinstance(open_cache("redis://host/1").store, RedisStore)
    for url in ("redis://host/1", "redis://host/2"):
        del _cache._caches[url]
