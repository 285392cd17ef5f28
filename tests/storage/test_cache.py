"""Which store an estimator uses, who shares it, who removes it, and what people ask of it."""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import os
import pickle
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from backbones import Pixels
from PIL import Image
from processes import ROOTS, in_child, needs_fork

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._storage import cache as _cache
from sktl._storage.cache import NO_CACHE, open_cache
from sktl._storage.sqlite_store import SQLiteStore
from sktl._storage.value_store import machine
from sktl._utils.devices import computes_in_bfloat16
from sktl._utils.warnings import told
from sktl.exceptions import CacheWarning, InvalidParameterError

X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
Y = np.arange(12) % 2
INSTALLED = importlib.util.find_spec("openvino") is not None  # importing openvino starts its telemetry
needs_users = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no owners of files")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Let the private store be in a folder of its own."""
    monkeypatch.setattr(_cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_cache, "_caches", {})
    told.clear()
    return tmp_path


def user_folder(temporary):
    return temporary / f"sktl-{os.getuid()}"


def private():
    return open_cache("auto").store.directory


def run(program, temporary, **variables):
    """Run a program whose private stores are in a folder, and return the JSON that it prints last."""
    roots = [*ROOTS, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots)), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=environment | variables
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------------- which store it is


def test_one_cache_for_each_directory_however_it_is_written(temporary, monkeypatch):
    monkeypatch.chdir(temporary)
    monkeypatch.setenv("HOME", str(temporary))
    assert open_cache("a") is open_cache(temporary / "a") is open_cache("~/a") is open_cache("./b/../a")
    assert open_cache("a") is not open_cache("b")
    assert open_cache("auto") is open_cache("auto")
    assert open_cache(False) is NO_CACHE


def test_opening_a_cache_writes_nothing(temporary):
    open_cache(temporary / "a")
    assert not (temporary / "a").exists()
    open_cache("auto")
    assert not private().exists()


@needs_users
def test_the_private_store_is_for_this_user_alone(temporary):
    open_cache("auto").put("a", [(b"key", b"value")])
    assert private() == user_folder(temporary) / f"{machine()}-{os.getpid()}"
    for folder in (private(), private().parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in private().iterdir())


def _world_writable(folder):
    folder.mkdir()
    folder.chmod(0o777)


def _of_somebody_else(folder):
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, 65534, -1)
    except PermissionError:
        pytest.skip("only root can give folders away")


def _link(folder):
    other = folder.with_name("other")
    other.mkdir(mode=0o700)
    folder.symlink_to(other)


UNSAFE = [_world_writable, _of_somebody_else, _link, Path.touch]


@needs_users
@pytest.mark.parametrize("make", UNSAFE)
def test_a_folder_that_others_can_use_is_refused_for_the_next_name(temporary, make):
    make(user_folder(temporary))
    open_cache("auto").put("a", [(b"key", b"value")])
    assert private().parent == Path(f"{user_folder(temporary)}-1")
    assert not list((temporary / "other").glob("*"))
    assert in_child(private) != private()
    assert in_child(private).parent == private().parent


@needs_users
def test_without_any_folder_there_is_no_cache_and_one_warning(temporary):
    user_folder(temporary).touch()
    for number in range(1, 20):
        Path(f"{user_folder(temporary)}-{number}").touch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_cache("auto") is open_cache("auto") is NO_CACHE
        assert sktl.cache_info() == (0, 0, 0, 0, 0)
        sktl.clear_cache()
        sktl.set_cache_limit(3)
    assert [w.category for w in caught] == [CacheWarning]


# ----------------------------------------------------------------------------------------------- who removes a store


@needs_users
def test_stores_of_dead_processes_are_removed_by_the_next_and_no_others(temporary):
    def leave_behind():
        open_cache("auto").put("a", [(b"key", b"value")])
        return private()

    left = in_child(leave_behind)
    others = [left.parent / name for name in (f"{machine()}-{os.getppid()}", f"elsewhere-{left.name}", "mine")]
    for folder in others:
        folder.mkdir()
    assert left.is_dir()
    open_cache("auto")
    assert not left.exists()
    assert all(folder.is_dir() for folder in others)


def test_the_owner_removes_its_store_at_exit_and_its_forks_do_not(temporary):
    program = f"""
import json, os, sys, types
sys.modules["sktl"] = package = types.ModuleType("sktl")  # without the networks, which take seconds to import
package.__path__ = [{str(Path(sktl.__file__).parent)!r}]
from sktl._storage.cache import open_cache
cache = open_cache("auto")
cache.put("a", [(b"key", b"value")])
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        cache.put("a", [(b"other", b"value")])
        open_cache("auto").put("a", [(b"key", b"value")])
        sys.exit()
    os.waitpid(child, 0)
print(json.dumps([str(cache.store.directory), cache.store.directory.is_dir()]))
"""
    directory, there = run(program, temporary)
    assert there
    assert not Path(directory).exists()
    assert os.listdir(Path(directory).parent) == []


def test_the_store_of_an_earlier_process_with_this_number_is_removed_at_exit_too(temporary, monkeypatch):
    private().mkdir()
    (private() / "left over").touch()
    _cache._remove_private()
    assert not private().exists()


WORKERS = """
import json, multiprocessing, sys, warnings
import joblib, numpy as np, sktl
from backbones import Pixels
from PIL import Image
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._storage.cache import open_cache

X = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def work(encoder):
    encoder.fit(X).transform(X)
    return str(open_cache("auto").store.directory)


if __name__ == "__main__":
    encoders = [PretrainedImageEncoder(backbone=Pixels, engine="torch", n_jobs=1) for _ in range(4)]
    if sys.argv[1:] == ["loky"]:
        directories = joblib.Parallel(2)(joblib.delayed(work)(encoder) for encoder in encoders)
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            directories = pool.map(work, encoders, chunksize=1)
    info = sktl.cache_info()
    kept = [sorted(set(directories)), str(open_cache("auto").store.directory), info.images, info.misses]
    clf = PretrainedImageClassifier(backbone=Pixels, engine="torch", max_epochs=1, random_state=0)
    hashes = [joblib.hash(clf)]
    PretrainedImageClassifier(backbone=Pixels, engine="torch", max_epochs=1, random_state=0).fit(X, [0, 1] * 3)
    print(json.dumps([kept, [*hashes, joblib.hash(clf)]]))
"""


def run_workers(method, folder):
    """Return what workers of a parent that does not fit say of the store, and hashes before and after a fit."""
    script = folder / "script.py"
    script.write_text(WORKERS)
    program = f"import runpy, sys; sys.argv[1:] = [{method!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    if method != "fork":  # workers import the script anew
        program = f"import subprocess, sys; subprocess.run([sys.executable, {str(script)!r}, {method!r}], check=True)"
    return run(program, folder)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    return run_workers("fork" if hasattr(os, "fork") else "spawn", tmp_path_factory.mktemp("ran"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=needs_fork),
        pytest.param("spawn", marks=pytest.mark.slow),
        pytest.param("loky", marks=pytest.mark.slow),
    ],
)
def test_workers_of_a_parent_that_never_fits_share_one_store_which_goes_with_it(request, tmp_path, method):
    found = request.getfixturevalue("ran") if method == "fork" else run_workers(method, tmp_path)
    directories, own, images, misses = found[0]
    assert directories == [own]
    assert (images, misses >= 6) == (6, True)
    assert not Path(own).exists()


# ------------------------------------------------------------------------------------------ statistics, limits, clear


def test_info_counts_images_asked_for_over_all_processes(temporary):
    sktl.clear_cache()
    encoder = PretrainedImageEncoder(backbone=Pixels, engine="torch", n_jobs=1).fit(X)
    encoder.transform(X[:8])
    encoder.transform(X)
    info = sktl.cache_info()
    assert info._fields == ("hits", "misses", "images", "bytes", "max_bytes")
    assert info.images == 12
    assert 12 * 4 * 64 <= info.bytes < 12 * 4 * 64 + 500  # with what is known of the engine
    assert info.hits + info.misses == 20 + 12 * (info.hits > 8)
    sktl.clear_cache()
    assert sktl.cache_info()[:4] == (0, 0, 0, 0)


@needs_fork
def test_a_forked_child_needs_no_lock_that_a_thread_of_its_parent_held(tmp_path):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", [(b"key", b"value")])
    cache.store.clear()  # so that counting stores again what is in memory

    def read():
        signal.alarm(10)  # instead of waiting forever
        found = cache.get("a", [b"key"])
        cache.count(1, 0)
        return found, cache.store.read("a", [b"key"])

    with cache._lock:
        assert in_child(read) == ({b"key": b"value"}, {b"key": b"value"})


@needs_fork
def test_what_one_process_computed_another_finds(tmp_path):
    encoder = PretrainedImageEncoder(backbone=Pixels, engine="torch", n_jobs=1, cache=tmp_path / "cache").fit(X)
    expected = in_child(encoder.transform, X)
    before = sktl.cache_info(tmp_path / "cache")
    np.testing.assert_array_equal(encoder.transform(X), expected)
    after = sktl.cache_info(tmp_path / "cache")
    assert (after.misses, after.hits) == (before.misses, before.hits + 12)


def test_the_limit_is_that_of_the_store_else_of_the_environment_else_a_part_of_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    assert 0 < sktl.cache_info(path).max_bytes <= 4 << 30
    monkeypatch.setenv(_cache.LIMIT_VARIABLE, "12345")
    assert sktl.cache_info(path).max_bytes == 12345
    sktl.set_cache_limit(99, path)
    assert sktl.cache_info(path).max_bytes == 99
    sktl.set_cache_limit(None, path)
    assert sktl.cache_info(path).max_bytes == 12345


def test_half_of_what_is_free_bounds_the_default(tmp_path, monkeypatch):
    monkeypatch.delenv(_cache.LIMIT_VARIABLE, raising=False)
    usage = _cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(_cache.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert sktl.cache_info(tmp_path / "a").max_bytes == 500
    (tmp_path / "features-v1-0000.sqlite").write_bytes(b"x" * 600)
    (tmp_path / "photo.jpg").write_bytes(b"x" * 600)
    assert _cache._default_limit(tmp_path) == 800  # what the cache takes up is free for it
    (tmp_path / "features-v1-0000.sqlite-wal").symlink_to(tmp_path / "removed meanwhile")
    assert _cache._default_limit(tmp_path) == 800


@pytest.mark.parametrize("text", ["4 GiB", "-1", "²", "1e9", "9" * 5000])
def test_a_limit_of_the_environment_that_is_no_number_is_named_once_and_loses_nothing(tmp_path, monkeypatch, text):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", [(b"key", b"value")])
    monkeypatch.setenv(_cache.LIMIT_VARIABLE, text)
    told.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            cache.put("a", [(b"other", b"value")])
            assert sktl.cache_info(tmp_path / "cache").images == 2
    assert [w.category for w in caught] == [CacheWarning]
    assert _cache.LIMIT_VARIABLE in str(caught[0].message)


def test_a_smaller_limit_shrinks_the_cache_and_clear_empties_it(tmp_path):
    cache = open_cache(tmp_path / "cache")
    cache.put("a", [(b"%d" % i, b"x" * 100) for i in range(10)])
    sktl.set_cache_limit(500, tmp_path / "cache")
    assert sktl.cache_info(tmp_path / "cache").bytes == 500
    sktl.clear_cache(tmp_path / "cache")
    assert sktl.cache_info(tmp_path / "cache") == (0, 0, 0, 0, 500)
    assert cache.get("a", [b"%d" % i for i in range(10)]) == {}


@pytest.mark.parametrize("how", ["cleared", "removed"])
def test_a_cache_that_others_empty_is_filled_again_from_memory(tmp_path, how):
    path = tmp_path / "cache"
    encoder = PretrainedImageEncoder(backbone=Pixels, engine="torch", n_jobs=1, cache=path).fit(X)
    expected = encoder.transform(X)
    full = sktl.cache_info(path)
    if how == "cleared":
        SQLiteStore(path, lambda: 10**9).clear()  # as another process does it
    else:
        shutil.rmtree(path)
    for hits in (12, 24):
        np.testing.assert_array_equal(encoder.transform(X), expected)
        assert sktl.cache_info(path)[:4] == (hits, 0, full.images, full.bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteStore, "write", lambda *args: pytest.fail("written again"))
        encoder.transform(X)


@pytest.mark.parametrize("max_bytes", [-1, 1.5, "1", True])
def test_limits_that_cannot_be_are_refused(max_bytes):
    with pytest.raises(InvalidParameterError, match="max_bytes"):
        sktl.set_cache_limit(max_bytes)


def test_values_used_last_are_kept_in_memory_too_but_no_large_ones_and_not_without_bound(tmp_path, monkeypatch):
    cache = open_cache(tmp_path / "cache")
    monkeypatch.setattr(_cache, "_IN_MEMORY", 5000)
    cache.put("a", [(b"large", b"x" * (_cache._SMALL + 1)), *((b"%d" % i, b"x" * 1000) for i in range(9))])
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "read", lambda *args: {})
        assert set(cache.get("a", [b"large", *(b"%d" % i for i in range(9))])) == {b"0", b"1", b"2", b"3"}
        assert cache.get("b", [b"0"]) == {}
    assert len(cache.get("a", [b"large", *(b"%d" % i for i in range(9))])) == 10


# --------------------------------------------------------------------------------------------- what travels and stays


@pytest.mark.thorough
def test_the_hash_of_an_unfitted_estimator_is_the_same_in_all_processes_before_and_after_fits(ran):
    clf = PretrainedImageClassifier(backbone=Pixels, engine="torch", max_epochs=1, random_state=0)
    assert set(ran[1]) == {joblib.hash(clf)}


@pytest.mark.parametrize("cache", ["auto", "path", False])
def test_pickled_estimators_hold_nothing_of_a_cache(temporary, cache):
    cache = str(temporary / "store") if cache == "path" else cache
    clf = PretrainedImageClassifier(backbone=Pixels, engine="torch", cache=cache, max_epochs=1, random_state=0).fit(
        X, Y
    )
    state = pickle.dumps(clf)
    kept = state.replace(cache.encode(), b"") if cache else state
    for name in (str(temporary), "sktl-", "sqlite", "_cache", "_engines", "_thread", platform.node()):
        assert name.encode() not in kept, name
    np.testing.assert_array_equal(pickle.loads(state).predict_proba(X), clf.predict_proba(X))


def test_no_estimator_keeps_a_cache_alive(temporary):
    clf = PretrainedImageClassifier(
        backbone=Pixels, engine="torch", cache=temporary / "store", max_epochs=1, random_state=0
    ).fit(X, Y)
    seen, waiting = set(), [vars(clf)]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type) or callable(item) or isinstance(item, type(os)):
            continue
        seen.add(id(item))
        assert not isinstance(item, _cache.Cache | SQLiteStore), item
        waiting += gc.get_referents(item)


def test_the_cache_parameter_changes_no_bit(temporary):
    fits = [
        PretrainedImageClassifier(backbone=Pixels, engine="torch", cache=cache, max_epochs=3, random_state=0).fit(X, Y)
        for cache in (False, "auto", temporary / "store", "auto", temporary / "store")
    ]
    for clf in fits[1:]:
        np.testing.assert_array_equal(clf.predict_proba(X), fits[0].predict_proba(X))


def test_workers_name_the_store_by_their_parent(temporary, monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: type("Parent", (), {"pid": 77})())
    assert private().name == f"{machine()}-77"
    private().mkdir()
    of_its_own_workers = private().with_name(f"{machine()}-{os.getpid()}")
    of_its_own_workers.mkdir()
    _cache._remove_private()
    assert private().exists()
    assert not of_its_own_workers.exists()


@pytest.mark.parametrize("cache", ["", "Auto", "none", "False", "off", "s3://x/y", "~nobody-of-this-name/x", None])
def test_what_is_probably_no_folder_is_refused_whenever_a_cache_is_opened(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=False).fit(X)
    fitted.set_params(cache=cache)
    for use in (fitted.transform, fitted.fit):
        with pytest.raises(InvalidParameterError, match=r"cache.* (is|must be) "):
            use(X)
    assert not os.listdir(tmp_path)


def test_a_folder_may_have_the_name_that_the_advice_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("none", "~nobody-of-this-name/cache"):
        with pytest.raises(InvalidParameterError) as caught:
            open_cache(name)
        place = re.search(r"'(\.[^']*)'", str(caught.value))[1]
        assert open_cache(place).place == tmp_path / name


WRONG = ["", "none", "https://x/y", "s3://x/y", "a\0b", 5, ["x"], b"x", False, object(), "x://" + "y" * 10**5]


@pytest.mark.parametrize("path", WRONG, ids=range(len(WRONG)))
def test_functions_refuse_what_is_no_cache_and_create_nothing(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (sktl.cache_info, sktl.clear_cache, lambda path: sktl.set_cache_limit(1000, path)):
        with pytest.raises(
            InvalidParameterError, match=r"^path=.* is not a folder: pass the path of a folder"
        ) as caught:
            use(path)
        assert " at 0x" not in str(caught.value)
        assert len(str(caught.value)) < 300
    assert not os.listdir(tmp_path)


# ------------------------------------------------------------------------------------------ bits of the default network

STATES = """
    import hashlib, json, sys
    from pathlib import Path
    import sktl
    from sktl import PretrainedImageClassifier
    from sktl._storage import cache as _cache

    folder, engine, precision = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    paths = sorted(map(str, folder.glob("*.jpg")))
    labels = [Path(path).name[0] for path in paths]

    def predictions(cache):
        _cache._caches.clear()  # and with them what is kept in memory
        clf = PretrainedImageClassifier(
            cache=cache, engine=engine, precision=precision, image_size=96, weight_decay=0.1, random_state=0
        )
        clf.fit(paths[:20], labels[:20])
        assert clf.engine_ == engine
        return hashlib.sha256(clf.predict_proba(paths).tobytes()).hexdigest()

    sktl.set_cache_limit(90_000, folder / "small")
    bits = {"shared": predictions(folder / "shared"), "off": predictions(False)}
    bits |= {state: predictions(folder / f"own {sys.argv[4]}") for state in ("cold", "warm")}
    bits |= {f"evicting {i}": predictions(folder / "small") for i in range(3)}
    print(json.dumps([bits, sktl.cache_info(folder / "small")]))
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("torch", "float32"),
        pytest.param(
            "openvino",
            "float32",
            marks=[pytest.mark.slow, pytest.mark.skipif(not INSTALLED, reason="openvino is not installed")],
        ),
        pytest.param(
            "torch",
            "bfloat16",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not computes_in_bfloat16(torch.device("cpu")), reason="bfloat16 would be emulated"),
            ],
        ),
    ],
)
def test_predictions_are_the_same_bits_off_cold_warm_evicting_and_shared_by_two_processes(tmp_path, engine, precision):
    for i in range(24):
        rng = np.random.default_rng(i)
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8) // np.array([1, 1 + i % 2, 1], np.uint8))
        size = tuple(map(int, rng.integers(200, 700, 2)))
        small.resize(size, Image.Resampling.BICUBIC).save(tmp_path / f"{'ab'[i % 2]}{i}.jpg")
    program = [sys.executable, "-c", textwrap.dedent(STATES), str(tmp_path), engine, precision]
    root = os.pathsep.join(filter(None, [str(Path(sktl.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    together = [
        subprocess.Popen([*program, str(i)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root})
        for i in range(2)
    ]
    found = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in together]
    assert len({digest for bits, _ in found for digest in bits.values()}) == 1
    for _, (hits, misses, images, n_bytes, max_bytes) in found:
        assert n_bytes <= max_bytes == 90_000
        assert images < 12  # of 24
        assert hits > 0
        assert misses > 2 * 24  # some were computed anew
    assert sktl.cache_info(tmp_path / "shared").images == 24
