"""Features are kept within a bound of bytes, and what is kept is what was put."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sktl
from sktl._cache import FeatureStore

ROW = np.arange(4, dtype=np.float32)  # 16 bytes


def key(i):
    return b"%d" % i


def scan(store, fingerprint, n, row=ROW):
    """Ask for n rows as a pass does, and put those that are missing; return how many were there."""
    keys = [key(i) for i in range(n)]
    found = store.find(fingerprint, keys)
    for missing in [k for k in keys if k not in found]:
        store.put(fingerprint, missing, row)
    return len(found)


operations = st.lists(
    st.tuples(st.sampled_from("pf"), st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 12)), max_size=60
)


@given(operations, st.integers(0, 200))
def test_the_bound_holds_and_every_row_found_is_one_that_was_put(steps, max_bytes):
    store = FeatureStore(max_bytes)
    put = {}
    hits = misses = 0
    for i, (kind, network, number, size) in enumerate(steps):
        if kind == "p":
            before = store.find(network, [key(number)], count=False)
            row = np.full(size, i, np.float32)
            store.put(network, key(number), row)
            if not before:
                put[network, number] = row
        else:
            keys = [key(number), key(number + 1)]
            found = store.find(network, keys)
            hits, misses = hits + len(found), misses + 2 - len(found)
            for k, row in found.items():
                assert row is put[network, int(k)]
        info = store.info()
        kept = [
            row
            for network in "abc"
            for row in store.find(network, [key(i) for i in range(7)], count=False).values()
        ]  # fmt: skip
        assert info.bytes == sum(row.nbytes for row in kept) <= max_bytes == info.max_bytes
        assert info.images == len(kept)
        assert (info.hits, info.misses) == (hits, misses)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 15))
def test_a_cyclic_scan_hits_as_many_rows_as_fit(n_fit, n_more, spare):
    store = FeatureStore(n_fit * ROW.nbytes + spare)
    n = n_fit + n_more
    assert [scan(store, "f", n) for _ in range(4)] == [0, n_fit, n_fit, n_fit]


@given(st.integers(1, 20))
def test_a_scan_that_fits_hits_everything(n):
    store = FeatureStore(n * ROW.nbytes)
    assert [scan(store, "f", n) for _ in range(3)] == [0, n, n]


def test_the_features_of_other_networks_go_first_the_longest_unused_before_the_others():
    store = FeatureStore(6 * ROW.nbytes)
    for network in "abc":
        scan(store, network, 2)
    scan(store, "a", 2)  # b is now the one used longest ago
    scan(store, "d", 1)
    assert [len(store.find(network, [key(0), key(1)])) for network in "abcd"] == [2, 0, 2, 1]


def test_a_network_takes_the_room_of_all_others_but_not_its_own():
    store = FeatureStore(4 * ROW.nbytes)
    scan(store, "a", 3)
    scan(store, "b", 10)
    assert store.find("a", [key(i) for i in range(3)]) == {}
    assert sorted(store.find("b", [key(i) for i in range(10)])) == [key(i) for i in range(4)]


def test_a_row_that_can_never_be_kept_displaces_nothing():
    store = FeatureStore(4 * ROW.nbytes)
    scan(store, "a", 3)
    store.put("b", key(0), np.zeros(5 * len(ROW), np.float32))
    assert len(store.find("a", [key(i) for i in range(3)])) == 3


def test_a_store_without_room_keeps_nothing():
    store = FeatureStore(0)
    assert [scan(store, "f", 3) for _ in range(2)] == [0, 0]
    assert store.info()[2:] == (0, 0, 0)


def test_networks_do_not_share_rows():
    store = FeatureStore()
    store.put("a", key(0), ROW)
    assert store.find("b", [key(0)]) == {}


def test_info_counts_the_images_asked_for():
    store = FeatureStore()
    scan(store, "f", 3)
    scan(store, "f", 5)
    assert store.info() == (3, 5, 5, 5 * ROW.nbytes, 1 << 30)
    store.find("f", [key(0)], count=False)
    assert store.info()[:2] == (3, 5)


def test_an_image_that_is_kept_is_no_miss_however_often_it_is_asked_for():
    store = FeatureStore()
    store.put("f", key(0), ROW)
    store.find("f", [key(0)] * 3)
    assert store.info().misses == 0
    assert store.info().hits >= 1


def test_clear_forgets_rows_and_statistics():
    store = FeatureStore(1000)
    scan(store, "f", 3)
    store.clear()
    assert store.info() == (0, 0, 0, 0, 1000)
    assert scan(store, "f", 3) == 0
    assert scan(store, "f", 3) == 3


def test_exclusive_lets_one_thread_compute_what_all_want():
    store = FeatureStore()
    barrier = threading.Barrier(8, timeout=60)
    computed = []

    def want(_):
        barrier.wait()
        with store.exclusive("f"):
            if not store.find("f", [key(0)]):
                np.linalg.svd(np.ones((60, 60)))  # releases the interpreter, so that others would come in between
                computed.append(1)
                store.put("f", key(0), ROW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(want, range(8)))
    assert computed == [1]


def test_exclusive_is_given_back_by_an_error_and_does_not_block_other_networks():
    store = FeatureStore()
    with pytest.raises(ValueError, match="stop"), store.exclusive("f"):
        raise ValueError("stop")

    def enter(fingerprint):
        with store.exclusive(fingerprint):
            return fingerprint

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter, "f").result(60) == "f"
        with store.exclusive("f"):
            assert pool.submit(enter, "g").result(60) == "g"


def test_the_process_has_one_store():
    sktl.clear_cache()
    assert sktl.cache_info() == (0, 0, 0, 0, 1 << 30)
    assert sktl.cache_info()._fields == ("hits", "misses", "images", "bytes", "max_bytes")
