"""Each image is computed once, whoever wants it, and a file that did not change is not read again."""

from __future__ import annotations

import collections
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import LoggedPixels, Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from processes import Child, needs_fork, results
from sklearn.model_selection import cross_val_score

import sktl
from sktl import Preprocessing, PretrainedImageClassifier, PretrainedImageEncoder
from sktl._features import shared_pass as _pass
from sktl._features.shared_pass import read_keys
from sktl._images import samples as _images
from sktl._images.decoding import content_key
from sktl._storage.cache import Cache
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


def test_what_is_claimed_and_not_begun_is_kept_while_others_are_awaited(log, tmp_path, monkeypatch):
    """When all that ran is done and more is claimed than runs, another process must not take it over."""
    fitted = encoder(tmp_path / "cache").fit(X)
    facts = fitted._fitted_extractor()._facts()
    keys = [content_key(x) for x in X]
    store, somebody = SQLiteStore(tmp_path / "cache", lambda: 1 << 20), new_owner()
    assert store.claim(facts.fingerprint, keys[:10], somebody) == keys[:10]
    log()
    wait, release, looks, given_up = _pass.wait, SQLiteStore.release, [], []

    def released(self, owner):
        query = "SELECT COUNT(*) FROM claims WHERE owner = ?"
        given_up.append(self._database.attempt(lambda connection: connection.execute(query, (owner,)).fetchone()[0], 0))
        release(self, owner)

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            release(store, somebody)

    monkeypatch.setattr(_pass, "wait", lambda running, timeout, when: wait(running, None))
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


@settings(max_examples=20)
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


# ---------------------------------------------------------------------------------------------------------- read once


@pytest.fixture
def files(tmp_path):
    """Five image files that were written long ago."""
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for path, pixels in zip(paths, X, strict=False):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """Return the names of the files read since it was last asked."""
    names = []
    read = _images.FileSample.read

    def counted(self):
        names.append(os.path.basename(self.path))
        return read(self)

    monkeypatch.setattr(_images.FileSample, "read", counted)

    def asked():
        found = sorted(names)
        names.clear()
        return found

    return asked


@pytest.fixture
def later(monkeypatch):
    """Let it be ten seconds later for whoever asks whether a file is settled, or a time after a change."""
    now = time.time_ns

    def later(path, seconds):
        then = os.stat(path).st_mtime_ns + int(seconds * 1e9)
        monkeypatch.setattr(_images.time, "time_ns", lambda: then)

    monkeypatch.setattr(_images.time, "time_ns", lambda: now() + 10 * 10**9)
    return later


@pytest.fixture
def keys_of(tmp_path):
    cache = Cache(SQLiteStore(tmp_path / "cache", lambda: 1 << 20))

    def keys_of(paths):
        with ThreadPoolExecutor(2) as pool:
            return read_keys([_images.FileSample(path) for path in paths], pool, cache)

    return keys_of


@pytest.mark.usefixtures("later")
def test_a_file_whose_stamp_is_known_is_not_read_again(files, keys_of, reads):
    keys, problems = keys_of(files)
    assert len(reads()) == 5
    assert keys_of(files) == (keys, problems)
    assert reads() == []
    assert keys == [content_key(Path(path).read_bytes()) for path in files]
    assert problems == {}


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["size", "mtime", "content at the same size and mtime", "inode"])
def test_a_file_that_changed_is_read_again(files, keys_of, reads, change):
    keys, _ = keys_of(files)
    reads()
    status = os.stat(files[2])
    content = Path(files[2]).read_bytes()
    if change == "size":
        content += b"."
    elif change == "mtime":
        os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        content = content[:-1] + b"."
    if change == "inode":
        os.rename(files[2], files[2] + ".old")
    if change != "mtime":
        with open(files[2], "wb") as file:
            file.write(content)
        if change != "size":
            os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    again, _ = keys_of(files)
    assert reads() == ["2.png"]
    assert again[2] == content_key(content)
    assert again[:2] + again[3:] == keys[:2] + keys[3:]


def test_a_file_modified_within_two_seconds_before_it_was_hashed_is_read_again(files, keys_of, reads, later):
    later(files[0], 1.9)
    for _ in range(2):
        keys_of(files[:1])
        assert reads() == ["0.png"]
    later(files[0], 2.5)
    keys_of(files[:1])
    assert reads() == ["0.png"]
    keys_of(files[:1])
    assert reads() == []


@pytest.mark.usefixtures("later")
def test_nothing_is_kept_about_a_file_that_changes_while_it_is_read(files, keys_of, monkeypatch, tmp_path):
    read = _images.FileSample.read

    def slow(self):
        content = read(self)
        os.utime(self.path, (1, 1))
        return content

    monkeypatch.setattr(_images.FileSample, "read", slow)
    keys_of(files[:1])
    assert SQLiteStore(tmp_path / "cache", lambda: 1 << 20).contents("about ").bytes == 0


@pytest.mark.usefixtures("later")
def test_files_that_cannot_be_read_are_reported_each_time_and_nothing_about_them_is_kept(files, keys_of):
    os.unlink(files[1])
    for _ in range(2):
        keys, problems = keys_of(files)
        assert list(problems.values()) == ["no such file"]
        assert keys.index(next(iter(problems))) == 1
    Image.fromarray(X[1]).save(files[1])
    assert keys_of(files)[1] == {}


@pytest.mark.usefixtures("later")
def test_the_stamps_of_one_process_serve_another(files, tmp_path, reads):
    fitted = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=tmp_path / "cache", n_jobs=1).fit(files)
    expected = fitted.transform(files)
    reads()
    again = Cache(SQLiteStore(tmp_path / "cache", lambda: 1 << 20))
    with ThreadPoolExecutor(2) as pool:
        read_keys([_images.FileSample(path) for path in files], pool, again)
    np.testing.assert_array_equal(fitted.transform(files), expected)
    assert reads() == []


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
