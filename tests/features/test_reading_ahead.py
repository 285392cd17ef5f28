"""Each sample is read once, in windows that hold a bounded number of bytes, and not at all if its stamp is known."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from representatives import examples

import sktl
from sktl import PretrainedImageEncoder
from sktl._features import reading_ahead
from sktl._features.reading_ahead import read_ahead, read_keys
from sktl._features.sample_windows import Budget
from sktl._images import samples as _images
from sktl._images.content_keys import content_key
from sktl._images.samples import as_samples
from sktl._storage.cache import NO_CACHE, Cache
from sktl._storage.sqlite_store import SQLiteStore

X = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8)


# ------------------------------------------------------------------------------------------------------- known stamps


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


# ------------------------------------------------------------------------------------------------------------ windows


def drawn(sizes):
    """Return samples of these sizes, in kilobytes: bytes, and items of a sequence, whose size is not known before."""
    contents = [bytes([i % 256]) * (1024 * size + i) for i, size in enumerate(sizes)]
    lazy = as_samples(sktl.datasets.LazyImages(contents))
    return contents, [
        item if i % 3 else sample for i, (item, sample) in enumerate(zip(lazy, as_samples(contents), strict=True))
    ]


@settings(max_examples=examples(40), deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60), limit=st.integers(1, 100), window=st.integers(1, 20)
)
def test_windows_contain_all_samples_in_order_and_hold_a_bounded_number_of_bytes(sizes, limit, window):
    contents, samples = drawn(sizes)
    keys = []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(reading_ahead, "_BYTES_AHEAD", 1024 * limit)
        patch.setattr(reading_ahead, "_FIRST_GUESS", 1024 * 40)
        patch.setattr(reading_ahead, "_WINDOW", window)
        patch.setattr(reading_ahead, "_FIRST_WINDOW", max(1, window // 2))
        with read_ahead(samples, pool, NO_CACHE) as windows:
            while not windows.exhausted:
                # A guess may be too low, by what the other samples of the budget turn out to have.
                assert windows.budget._held <= 1024 * (limit + 40 * reading_ahead._READERS)
                window = windows.take()
                assert window.start == len(keys)
                assert {key: content_key(content) for key, content in window.contents.items()} == {
                    key: key for key in window.keys
                }
                keys += window.keys
                for content in window.contents.values():
                    windows.budget.release(len(content))
            assert windows.budget._held == 0
    assert keys == [content_key(content) for content in contents]


def test_what_does_not_fit_is_not_read_before_others_are_released(monkeypatch):
    monkeypatch.setattr(reading_ahead, "_BYTES_AHEAD", 1000)
    contents = [bytes([i]) * 400 for i in range(20)]
    samples = as_samples(contents)
    read = []
    monkeypatch.setattr(_images.BytesSample, "read", lambda self: (read.append(self), self.data)[1])
    monkeypatch.setattr(reading_ahead, "_SAMPLES_PER_TASK", 1)
    with ThreadPoolExecutor(2) as pool, read_ahead(samples, pool, NO_CACHE) as windows:
        window = windows.take()
        assert len(window.keys) == 2
        windows.wait(0.1)
        assert not windows.is_ready()
        assert len(read) == 2
        for content in window.contents.values():
            windows.budget.release(len(content))
        assert len(windows.take().keys) == 2


def test_a_content_larger_than_the_budget_is_read_when_no_other_is_held():
    budget = Budget(10)
    assert budget.reserve(20, wait=False)
    assert not budget.reserve(1, wait=False)
    budget.release(20)
    assert budget.reserve(1, wait=False)
    assert not budget.reserve(20, wait=False)


def test_a_thread_that_waits_for_a_budget_ends_when_it_is_closed():
    budget = Budget(10)
    budget.reserve(10, wait=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, 1, True)
        budget.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=60)


def test_a_pass_that_fails_does_not_wait_for_the_rest(monkeypatch):
    """Its windows are full, and nobody takes them."""
    monkeypatch.setattr(reading_ahead, "_BYTES_AHEAD", 1000)
    samples = as_samples([bytes([i]) * 400 for i in range(200)])

    def fail():
        with ThreadPoolExecutor(2) as pool, read_ahead(samples, pool, NO_CACHE) as windows:
            windows.take()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()


# ---------------------------------------------------------------------------------------------------- opened once


PROGRAM = """
import json, os, sys
import numpy as np
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from sktl import PretrainedImageClassifier
from sktl._images import samples
now = samples.time.time_ns
samples.time.time_ns = lambda: now() + 10**10  # the files were written long ago
folder, tries = sys.argv[1], json.loads(sys.argv[2])
paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))
y = np.arange(len(paths)) % 2

def counted(use):
    del opened[:]
    use(paths)
    return [opened.count(path) for path in paths]

found = []
for parameters in tries:
    clf = PretrainedImageClassifier(**parameters, weight_decay=0.1, random_state=0, engine="torch", n_jobs=2)
    found.append([counted(lambda X: clf.fit(X, y)), *(counted(clf.predict) for _ in range(2))])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty JPEG files."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(20):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.jpg", quality=85)
    return folder


def counts(folder, *tries, before=()):
    """Return how often each file is opened by a fit with each of these parameters, and by two predictions after it."""
    command = [*before, sys.executable, "-c", PROGRAM, str(folder), json.dumps(tries)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.thorough
def test_a_cold_fit_opens_each_file_once_and_a_known_file_is_not_opened(folder):
    cold, uncached, skipping = counts(
        folder, {"cache": "auto"}, {"cache": False}, {"cache": False, "invalid_images": "skip"}
    )
    assert cold == [[1] * 20, [0] * 20, [0] * 20]
    assert uncached == [[1] * 20] * 3
    assert skipping == [[1] * 20] * 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls_show_that_a_cold_fit_opens_each_file_once(folder, tmp_path):
    log = tmp_path / "log"
    trace = ("strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2", "-o", str(log))
    counts(folder, {"cache": "auto"}, before=trace)
    lines = log.read_text(errors="replace").splitlines()
    opened = collections.Counter(name for name in os.listdir(folder) for line in lines if str(folder / name) in line)
    assert opened == dict.fromkeys(os.listdir(folder), 1)


def test_windows_that_nobody_has_started_become_ready_while_they_are_waited_for():
    with ThreadPoolExecutor(1) as pool, read_ahead(as_samples([b"a", b"b"]), pool, NO_CACHE) as windows:
        assert not windows.is_ready()
        windows.wait(60)
        assert windows.is_ready()
        assert len(windows.take().keys) == 2
        assert windows.exhausted
