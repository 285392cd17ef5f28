"""Each image is computed once, whoever wants it, and a file that did not change is not read again."""

from __future__ import annotations

import collections
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from backbones import LoggedPixels, Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import Child, needs_fork, results
from representatives import examples
from sklearn.model_selection import cross_val_score

import sktl
from sktl import Preprocessing, PretrainedImageClassifier, PretrainedImageEncoder
from sktl._features import trunk_pass as _pass
from sktl._features.feature_rows import Rows
from sktl._features.sample_windows import Budget
from sktl._images.content_keys import content_key
from sktl._storage.sqlite_store import SQLiteStore
from sktl._storage.value_store import new_owner
from sktl.exceptions import InvalidImageError

X = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8)
Y = np.arange(40) % 2


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Return how often networks saw each image of X since it was last asked; others, such as probes, do not count."""
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))
    features = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=False, n_jobs=1).fit(X).transform(X)
    digests = [hashlib.md5(row.tobytes()).hexdigest() for row in features]

    def counts():
        lines = (tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []
        (tmp_path / "log").write_text("")
        seen = collections.Counter(lines)
        return [seen[digest] for digest in digests]

    return counts


def encoder(cache):
    return PretrainedImageEncoder(backbone=LoggedPixels, engine="torch", cache=cache, n_jobs=2)


# --------------------------------------------------------------------------------------------------- computed once


def test_without_a_cache_images_are_computed_again(log):
    for _ in range(2):
        encoder(False).fit(X).transform(X)
    assert log() == [2] * 40


def test_an_image_is_computed_once_also_by_threads_at_once(log, tmp_path):
    fitted = encoder(tmp_path / "cache").fit(X)
    barrier = threading.Barrier(4, timeout=60)

    def transform(_):
        barrier.wait()
        return fitted.transform(X)

    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(transform, range(4)):
            np.testing.assert_array_equal(features, fitted.transform(X))
    assert log() == [1] * 40


@pytest.mark.thorough
@needs_fork
def test_an_image_is_computed_once_also_by_processes_at_once(log, tmp_path):
    fitted = encoder(tmp_path / "cache").fit(X[:2])
    children = [Child(fitted.transform, X) for _ in range(3)]
    expected = fitted.transform(X)
    for features in results(children):
        np.testing.assert_array_equal(features, expected)
    assert log() == [1] * 40


@pytest.mark.slow
def test_cross_validation_in_two_processes_computes_each_image_once(log, tmp_path):
    sktl.clear_cache()
    clf = PretrainedImageClassifier(backbone=LoggedPixels, engine="torch", n_jobs=1, max_epochs=2, random_state=0)
    expected = cross_val_score(clf.set_params(cache=False), X, Y, cv=4, error_score="raise")
    log()
    for cache in ("auto", str(tmp_path / "cache")):
        scores = cross_val_score(clf.set_params(cache=cache), X, Y, cv=4, n_jobs=2, error_score="raise")
        assert log() == [1] * 40
        np.testing.assert_array_equal(scores, expected)


def test_what_another_process_computes_is_awaited_and_taken_over_when_that_ends(log, tmp_path, monkeypatch):
    fitted = encoder(tmp_path / "cache").fit(X)
    facts = fitted._fitted_extractor()._facts()
    keys = [content_key(x) for x in X]
    store = SQLiteStore(tmp_path / "cache", lambda: 1 << 20)
    somebody = new_owner()
    log()
    fitted.transform(X[:1])
    assert store.claim(facts.fingerprint, keys[1:], somebody) == keys[1:]
    row = np.full(64, 7, np.float32).tobytes()
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            store.write(facts.fingerprint, [(key, row) for key in keys[1:20]], somebody)
        if len(looks) == 6:
            store.release(somebody)

    monkeypatch.setattr(_pass.time, "sleep", sleep)
    features = fitted.transform(X)
    assert len(looks) >= 6
    assert (features[1:20] == 7).all()
    assert log() == [1] + [0] * 19 + [1] * 20


@pytest.mark.parametrize("claims", [False, True])
def test_contents_of_images_that_others_compute_are_not_held(log, tmp_path, monkeypatch, claims):
    """Others store rows, or claim them, after they were found missing."""
    fitted = encoder(tmp_path / "cache").fit(X[:1])
    store, somebody = SQLiteStore(tmp_path / "cache", lambda: 1 << 20), new_owner()
    row, held = np.full(64, 7, np.float32).tobytes(), []
    fill, sleep, close = Rows.fill, time.sleep, Budget.close

    def fill_and_store(self, keys, cache, space, shape):
        missing = fill(self, keys, cache, space, shape)
        write = [(key, row) for key in missing]
        if claims:
            store.claim(space, missing, somebody)
        else:
            store.write(space, write)
        return missing

    def release(seconds):
        store.release(somebody)
        sleep(seconds)

    def note(self):
        held.append(self._held)
        close(self)

    log()
    monkeypatch.setattr(Rows, "fill", fill_and_store)
    monkeypatch.setattr(Budget, "close", note)
    monkeypatch.setattr(_pass.time, "sleep", release)
    features = fitted.transform(X)
    assert held == [0]
    assert log() == [int(claims)] * 40
    assert claims or (features == 7).all()


def test_what_is_claimed_and_not_begun_is_kept_while_others_are_awaited(log, tmp_path, monkeypatch):
    """When all that ran is done and more is claimed than runs, another process must not take it over."""
    fitted = encoder(tmp_path / "cache").fit(X)
    facts = fitted._fitted_extractor()._facts()
    keys = [content_key(x) for x in X]
    store, somebody = SQLiteStore(tmp_path / "cache", lambda: 1 << 20), new_owner()
    assert store.claim(facts.fingerprint, keys[:10], somebody) == keys[:10]
    log()
    collect, release, looks, given_up = _pass.Pass._collect, SQLiteStore.release, [], []

    def collect_all(self):
        yield from collect(self)
        while self._running or self._decoding:
            yield from collect(self)

    def released(self, owner):
        query = "SELECT COUNT(*) FROM claims WHERE owner = ?"
        given_up.append(self._database.attempt(lambda connection: connection.execute(query, (owner,)).fetchone()[0], 0))
        release(self, owner)

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            release(store, somebody)

    monkeypatch.setattr(_pass.Pass, "_collect", collect_all)
    monkeypatch.setattr(SQLiteStore, "release", released)
    monkeypatch.setattr(_pass.time, "sleep", sleep)
    fitted.set_params(n_jobs=1).transform(X[:26])
    assert len(given_up) > 1
    assert set(given_up) == {0}
    assert log() == [1] * 26 + [0] * 14


def test_a_pass_that_fails_gives_up_its_claims_and_keeps_what_it_computed(log, tmp_path):
    images = list(X[:10])
    images[5] = b"not an image"
    fitted = encoder(tmp_path / "cache").fit(X[:1])
    with pytest.raises(InvalidImageError):
        fitted.transform(images)
    store = SQLiteStore(tmp_path / "cache", lambda: 1 << 20)
    assert store.contents("about ").entries == 9
    facts = fitted._fitted_extractor()._facts()
    bad = content_key(images[5])
    assert store.claim(facts.fingerprint, [bad], new_owner()) == [bad]
    fitted.transform(X)
    assert log() == [1] * 40


class Overflowing(torch.nn.Module):
    """Has no finite features of an image whose first pixel is white."""

    preprocessing = Preprocessing(8, (8, 8), mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, images):
        return torch.where(images[:, 0, :1, 0] == 1, torch.inf, images.mean((2, 3)))


@settings(max_examples=examples(20))
@given(white=st.sets(st.integers(0, 11), min_size=1), n_jobs=st.integers(1, 3))
def test_images_without_finite_features_are_named_not_kept_and_the_others_kept(white, n_jobs, tmp_path_factory):
    images = np.minimum(X[:12], 254)
    images[sorted(white), 0, 0] = 255
    cache = tmp_path_factory.mktemp("cache")
    params = {"backbone": Overflowing, "engine": "torch", "cache": cache, "n_jobs": n_jobs}
    clf = PretrainedImageClassifier(**params)
    with pytest.raises(InvalidImageError, match="features of it that are not finite") as caught:
        clf.fit(images, Y[:12])
    assert [failure.position for failure in caught.value.failures] == sorted(white)
    assert not hasattr(clf, "classes_")
    assert sktl.cache_info(cache).images == 12 - len(white)


def test_values_of_another_length_are_not_taken_for_rows(log, tmp_path):
    fitted = encoder(tmp_path / "cache").fit(X)
    facts = fitted._fitted_extractor()._facts()
    SQLiteStore(tmp_path / "cache", lambda: 1 << 20).write(facts.fingerprint, [(content_key(x), b"short") for x in X])
    np.testing.assert_array_equal(fitted.transform(X), encoder(False).fit(X).transform(X))


def test_passes_that_wait_for_images_which_the_other_found_damaged_go_on(tmp_path):
    """Each claims a damaged image that the other wants, too, and waits for the other's."""
    contents = [image.tobytes() if i in (0, 20) else X[i] for i, image in enumerate(X)]
    fitted = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=tmp_path / "cache", n_jobs=1).fit(contents)
    barrier = threading.Barrier(2, timeout=60)
    started = time.monotonic()

    def transform(_):
        barrier.wait()
        with pytest.raises(InvalidImageError) as caught:
            fitted.transform(contents)
        return [failure.position for failure in caught.value.failures]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(transform, range(2))) == [[0, 20], [0, 20]]
    assert time.monotonic() - started < 30  # half of a lease
