"""Real schedulers of dask and ray with two local workers: same bits, each image once, and no hang."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
from backbones import LoggedPixels, Pixels
from clusters import SlowPixels, spreads
from joblib.pool import PicklingPool
from processes import ROOTS
from representatives import slow_except
from sklearn.model_selection import GridSearchCV

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, check_images
from sktl._utils.dask_and_ray import active_cluster, count_tasks_at_once
from sktl.exceptions import InvalidImageError

pytestmark = pytest.mark.thorough

X = np.random.default_rng(1).integers(0, 256, (150, 8, 8, 3), np.uint8)
Y = np.arange(150) % 2


def start_dask():
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    client = distributed.Client(cluster)
    yield "dask"
    client.close()
    cluster.close()


def start_ray():
    ray = pytest.importorskip("ray", reason="ray is not installed")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    pools = PicklingPool.__bases__
    yield "ray"
    ray.shutdown()
    PicklingPool.__bases__ = pools  # ray replaces them, so that joblib's own processes would be ray's


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The files to which networks write, in whatever process."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("logs")
        patch.setenv("SKTL_TEST_LOG", str(folder / "images"))
        patch.setenv("SKTL_TEST_WORKERS", str(folder / "workers"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(ROOTS))  # for the workers of ray
        yield folder


@pytest.fixture(scope="module", params=["dask", "ray"])
def backend(request, logs):
    yield from {"dask": start_dask, "ray": start_ray}[request.param]()


# Processes that joblib's ray backend starts for each call, or that replace killed ones, import sktl first.
ray_slow = pytest.mark.parametrize("backend", slow_except(["dask", "ray"], "dask"), indirect=True)


@pytest.fixture
def workers(logs):
    """Return a function that returns the processes in which SlowPixels has computed, newest last."""
    (logs / "workers").write_text("")
    return lambda: [int(line) for line in (logs / "workers").read_text().split()]


def encoder(backbone=Pixels, cache=False):
    return PretrainedImageEncoder(backbone=backbone, engine="torch", cache=cache, n_jobs=1).fit(X[:1])


EXPECTED = encoder().transform(X)


@ray_slow
def test_results_equal_those_of_one_process(backend, tmp_path):
    def fit():
        return PretrainedImageClassifier(backbone=Pixels, engine="torch", random_state=0, n_jobs=1).fit(X, Y)

    expected = fit().predict_proba(X)
    with joblib.parallel_config(backend):
        np.testing.assert_array_equal(encoder(cache=tmp_path / "cache").transform(X), EXPECTED)
        np.testing.assert_array_equal(fit().predict_proba(X), expected)
        np.testing.assert_array_equal(encoder(lambda: Pixels()).transform(X), EXPECTED)  # pickled by value


@ray_slow
def test_each_image_is_computed_once_by_the_workers(backend, logs, tmp_path):
    fitted = encoder(LoggedPixels, tmp_path / "cache")
    digests = [hashlib.md5(row.tobytes()).hexdigest() for row in EXPECTED]
    (logs / "images").write_text("")
    with joblib.parallel_config(backend):
        for _ in range(2):
            np.testing.assert_array_equal(fitted.transform(X), EXPECTED)
    seen = collections.Counter((logs / "images").read_text().split())
    assert [seen[digest] for digest in digests] == [1] * 150


@ray_slow
def test_workers_compute_and_this_process_does_not(backend, workers):
    fitted = encoder(SlowPixels)
    n_before = len(workers())  # probes of the engine in this process
    with joblib.parallel_config(backend):
        fitted.transform(X)
    assert len({*workers()[n_before:]} - {os.getpid()}) == 2
    assert os.getpid() not in workers()[n_before:]


@ray_slow
def test_unusable_images_are_named_by_position(backend):
    images = [*X[:40], b"<html>", *X[40:90], np.full((8, 8), np.nan), *X[90:]]
    expected = check_images(images)
    assert [failure.position for failure in expected] == [40, 91]
    images[91] = b"nothing"
    with joblib.parallel_config(backend):
        assert [failure.position for failure in check_images(images)] == [40, 91]
        with pytest.raises(InvalidImageError) as caught:
            encoder().transform(images)
    assert [failure.position for failure in caught.value.failures] == [40, 91]


@ray_slow
def test_tasks_of_a_cluster_spread_nothing(backend):
    with joblib.parallel_config(backend, n_jobs=2):
        assert active_cluster().count_slots() == 2
        assert joblib.Parallel()(joblib.delayed(spreads)() for _ in range(4)) == [False] * 4
        with active_cluster().tasks(lambda _: (spreads(), count_tasks_at_once())) as submit:
            assert submit(None).result(60) == (False, 1)
    with joblib.parallel_config(backend, n_jobs=1):
        assert active_cluster().count_slots() == 1


@ray_slow
def test_a_search_over_the_workers_equals_a_search_in_one_process(backend, tmp_path):
    clf = PretrainedImageClassifier(
        backbone=Pixels,
        engine="torch",
        cache=str(tmp_path / "cache"),
        random_state=0,
        n_jobs=1,
        optimizer="sgd",
        max_epochs=2,
    )
    search = GridSearchCV(clf, {"lr": [0.01, 0.1]}, cv=2, error_score="raise")
    expected = search.fit(X, Y).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend, n_jobs=2):
        np.testing.assert_array_equal(search.fit(X, Y).cv_results_["mean_test_score"], expected)


def kill_at_random(workers, n, images, transform):
    """Transform images while `n` workers are killed at random moments. Return the features and who was killed."""
    killed, chance, over = [], random.Random(0), threading.Event()

    def kill():
        while len(killed) < n and not over.is_set():
            alive = [pid for pid in workers()[-4:] if pid not in (os.getpid(), *killed)]
            if not alive:
                over.wait(0.01)
                continue
            over.wait(chance.uniform(0.01, 0.2))
            chosen = chance.choice(alive)
            killed.append(chosen)
            with contextlib.suppress(ProcessLookupError):
                os.kill(chosen, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return transform(images), killed
    finally:
        over.set()
        killer.join()


@ray_slow
@pytest.mark.parametrize(("n_kills", "n_images"), slow_except([(1, 300), (2, 600), (10, 12_000)], (1, 300)))
def test_killed_workers_cost_their_blocks_and_nothing_else(backend, workers, n_kills, n_images):
    images = np.concatenate([X] * (n_images // len(X)))
    images[:, 0, 0, 0] = np.arange(len(images)) % 256
    images[:, 0, 1, 0] = np.arange(len(images)) // 256
    expected = encoder().transform(images)
    fitted = encoder(SlowPixels)
    began = time.monotonic()
    with joblib.parallel_config(backend):
        features, killed = kill_at_random(workers, n_kills, images, fitted.transform)
    np.testing.assert_array_equal(features, expected)
    assert len(killed) == n_kills
    assert time.monotonic() - began < 60 + 15 * n_kills


@pytest.mark.slow  # every run looks at a fit on cached features in `test_architecture.py`
def test_neither_library_is_imported_without_its_backend():
    code = (
        "import sys, joblib, numpy as np, sktl\n"
        "with joblib.parallel_config('threading'): sktl.check_images(np.zeros((40, 8, 8), np.uint8))\n"
        "assert not {'dask', 'distributed', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
