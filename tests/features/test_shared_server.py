"""Processes that share nothing but a server compute each image once, whoever of them is killed, on one host or two."""

from __future__ import annotations

import collections
import ctypes
import hashlib
import os
import random
import shutil
import subprocess
import time
import uuid
import warnings

import numpy as np
import pytest
from backbones import LoggedPixels, Pixels
from processes import Child, needs_fork, results
from redis_server import needs_redis, running_redis
from sklearn.model_selection import GridSearchCV

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._storage import cache as _cache
from sktl._storage import redis_store as _store
from sktl._storage import value_store
from sktl._storage.cache import Cache
from sktl._storage.redis_store import RedisStore
from sktl.exceptions import CacheWarning

pytestmark = [needs_redis, needs_fork]
N_IMAGES = 60
X = np.random.default_rng(2).integers(0, 256, (N_IMAGES, 8, 8, 3), np.uint8)
Y = np.arange(N_IMAGES) % 2
_NETWORK = 0x40000000  # CLONE_NEWNET


class SlowPixels(LoggedPixels):
    """Takes a while, so that a process is mostly killed in a pass."""

    def forward(self, images):
        time.sleep(0.02)
        return super().forward(images)


@pytest.fixture(scope="module")
def digests():
    """Return what the log holds for each image of X."""
    features = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=False, n_jobs=1).fit(X).transform(X)
    return [hashlib.md5(row.tobytes()).hexdigest() for row in features]


@pytest.fixture
def seen(tmp_path, monkeypatch, digests):
    """Return how often networks in all processes saw each image of X; others, such as probes, do not count."""
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))

    def seen():
        counts = collections.Counter((tmp_path / "log").read_text().split())
        return [counts[digest] for digest in digests]

    return seen


def search(url, n_candidates=2, cv=2, n_jobs=None, backbone=LoggedPixels):
    clf = PretrainedImageClassifier(
        backbone=backbone, engine="torch", cache=url, n_jobs=1, max_epochs=2, random_state=0, weight_decay=0.1
    )
    grid = {"weight_decay": np.logspace(-4, 0, n_candidates).tolist()}
    return GridSearchCV(clf, grid, cv=cv, n_jobs=n_jobs, error_score="raise")


def scores(url, *arguments, **named):
    return search(url, *arguments, **named).fit(X, Y).cv_results_["mean_test_score"].tolist()


@pytest.fixture(scope="module")
def expected():
    """Return the scores of an undisturbed search without a cache."""
    return scores(False, backbone=Pixels)


def on_another_machine(url, lease, function, *arguments):
    """Call a function where no process of another machine can be asked whether it is running."""
    name = uuid.uuid4().hex
    value_store._boot = lambda: name
    _cache._caches[url] = Cache(RedisStore(url, lease))
    return function(*arguments)


# ------------------------------------------------------------------------------------------------------ computed once


@pytest.mark.parametrize("machines", [1, 2])
def test_two_searches_at_once_compute_each_image_once(redis_server, seen, expected, machines):
    redis_server.client().flushall()
    url = redis_server.url
    if machines == 1:
        children = [Child(scores, url) for _ in range(2)]
    else:
        children = [Child(on_another_machine, url, 60, scores, url) for _ in range(2)]
    assert results(children) == [expected] * 2
    assert seen() == [1] * N_IMAGES


@pytest.mark.slow
def test_a_search_of_12_candidates_in_two_workers_computes_each_image_once(redis_server, seen):
    redis_server.client().flushall()
    expected = scores(False, 12, 5, backbone=Pixels)
    assert scores(redis_server.url, 12, 5, n_jobs=2) == expected
    assert seen() == [1] * N_IMAGES


# ------------------------------------------------------------------------------------------------------------- killed


def kill_at_random(make, n_kills, rng):
    """Kill a child n times at random moments, each time for a new one; return the results of two that were not."""
    undisturbed = make()
    for _ in range(n_kills):
        child = make()
        time.sleep(rng.random() * 0.5)
        child.kill()
    return results([undisturbed, make()])


@pytest.mark.parametrize("n_kills", [2, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("lease", [60, pytest.param(1, marks=pytest.mark.thorough)])
def test_a_killed_worker_changes_no_bit_and_nobody_waits_for_it(redis_server, seen, expected, n_kills, lease):
    """With a lease of a minute, nobody waits because the dead are known; on another machine, until it expires."""
    redis_server.client().flushall()
    url, started = redis_server.url, time.monotonic()

    def make():
        if lease == 60:
            return Child(scores, url, 2, 2, None, SlowPixels)
        return Child(on_another_machine, url, lease, scores, url, 2, 2, None, SlowPixels)

    for found in kill_at_random(make, n_kills, random.Random(n_kills)):
        assert found == expected
    assert time.monotonic() - started < 50  # less than a lease of a minute
    # Of a killed process, the rows that it had not yet written are computed again.
    assert sum(seen()) <= N_IMAGES * (1 + n_kills)
    assert min(seen()) >= 1


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_server_that_is_killed_changes_no_bit(seen, expected, when):
    with running_redis() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        if when == "before":
            server.stop()
        child = Child(scores, server.url, 2, 2, None, SlowPixels)
        time.sleep(0.1)
        server.stop()
        assert child.result() == expected
    assert min(seen()) >= 1


# ---------------------------------------------------------------------------------------------------------- two hosts


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def hosts():
    """Make two network namespaces that a cable connects; return their names and addresses."""
    if shutil.which("ip") is None:
        pytest.skip("ip, which makes network namespaces, is not installed")
    names = [f"sktl-{uuid.uuid4().hex[:6]}" for _ in range(2)]
    made = [name for name in names if ip("netns", "add", name).returncode == 0]
    try:
        if len(made) < 2:
            pytest.skip("network namespaces cannot be made here; that takes CAP_SYS_ADMIN")
        cable = ip(
            "link", "add", "sktl0", "netns", names[0], "type", "veth", "peer", "name", "sktl0", "netns", names[1]
        )
        if cable.returncode:
            pytest.skip(f"no cable can be made between network namespaces here: {cable.stderr.strip()}")
        addresses = ["10.231.77.1", "10.231.77.2"]
        for name, address in zip(names, addresses, strict=True):
            for words in (f"address add {address}/24 dev sktl0", "link set sktl0 up", "link set lo up"):
                done = ip("-n", name, *words.split())
                assert done.returncode == 0, done.stderr
        yield dict(zip(names, addresses, strict=True))
    finally:
        for name in made:
            ip("netns", "del", name)


def on_host(name, function, *arguments):
    """Move this process to a network namespace, which has other sockets, and call a function there."""
    with open(f"/var/run/netns/{name}") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.setns(namespace.fileno(), _NETWORK) == 0, os.strerror(ctypes.get_errno())
    return on_another_machine(*arguments[:2], function, *arguments[2:])


@pytest.mark.thorough
def test_workers_on_two_hosts_compute_each_image_once(hosts, seen, expected):
    (first, address), (second, _) = hosts.items()
    with running_redis(prefix=("ip", "netns", "exec", first), host=address) as server:
        children = [Child(on_host, name, scores, server.url, 60, server.url) for name in (first, second)]
        assert results(children) == [expected] * 2
        assert seen() == [1] * N_IMAGES


def scores_and_warnings(*arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = scores(*arguments)
    return found, [str(w.message) for w in caught if w.category is CacheWarning]


def test_a_cable_that_is_pulled_changes_no_bit(hosts, seen, expected, monkeypatch):
    monkeypatch.setattr(_store, "_REPLY_SECONDS", 0.5)
    (first, address), (second, _) = hosts.items()
    with running_redis(prefix=("ip", "netns", "exec", first), host=address) as server:
        work = (scores_and_warnings, server.url, 60, server.url, 2, 2, None, SlowPixels)
        child = Child(on_host, second, *work)
        while not os.path.exists(os.environ["SKTL_TEST_LOG"]) or max(seen()) == 0:
            time.sleep(0.01)
        assert ip("-n", second, "link", "set", "sktl0", "down").returncode == 0
        found, messages = child.result()
    assert found == expected
    assert len(messages) == 1
    assert "cannot be used" in messages[0]
