"""Whatever workers of a cluster do, results and errors equal those without a cluster, and no image is sent twice."""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from backbones import LoggedPixels, Pixels, stochastic_net
from clusters import ThreadCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from representatives import examples

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, check_images
from sktl._features import checking_pass as _checks
from sktl._features import cluster_pass as _pass
from sktl._features import worker_tasks as _blocks
from sktl._images import samples as _samples
from sktl._images.samples import FileSample
from sktl._utils import devices as _devices
from sktl._utils.dask_and_ray import DaskCluster, active_cluster
from sktl.datasets import LazyImages
from sktl.exceptions import ClusterWarning, InvalidImageError

X = np.random.default_rng(1).integers(0, 256, (150, 8, 8, 3), np.uint8)
Y = np.arange(150) % 2


@pytest.fixture
def use(monkeypatch):
    """Return a function that makes a cluster the one of joblib's active backend."""

    def use(cluster):
        for module in (_pass, _checks):
            monkeypatch.setattr(module, "active_cluster", lambda: cluster)
        return cluster

    return use


def test_a_closed_client_is_the_reason_why_images_are_computed_here():
    cluster = DaskCluster(SimpleNamespace(client=SimpleNamespace(status="closed")), None)
    with pytest.warns(ClusterWarning, match="is available: its client is closed. The images are computed in this"):
        assert not _pass.is_ready(cluster)


@pytest.fixture
def paths(tmp_path):
    names = [str(tmp_path / f"{i}.png") for i in range(150)]
    for name, image in zip(names, X, strict=True):
        Image.fromarray(image).save(name)
    return names


def encoder(**parameters):
    parameters = {"backbone": Pixels, "engine": "torch", "cache": False, "n_jobs": 1} | parameters
    return PretrainedImageEncoder(**parameters).fit(X[:1])


# ------------------------------------------------------------------------------------ whatever happens to the blocks


FITTED = encoder()
FATES = st.lists(st.sampled_from(["answer", "answer", "fail", "never"]), max_size=30)


def outcome(call, *arguments):
    """Return what a call returns, or the failures of its error."""
    try:
        return call(*arguments).tolist()
    except InvalidImageError as error:
        return error.failures


@pytest.mark.thorough
@settings(max_examples=examples(25))
@given(FATES, st.sets(st.integers(0, 149), max_size=3), st.integers(0, 3))
def test_results_and_errors_do_not_depend_on_what_happens_to_blocks(fates, invalid, n_workers):
    images = [b"no image" if i in invalid else X[i % 120] for i in range(150)]
    expected = outcome(FITTED.transform, images), check_images(images)
    cluster = ThreadCluster(lambda n: fates[n] if n < len(fates) else "answer")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ClusterWarning)
        patch.setattr(_pass, "_PATIENCE", 0.1)
        patch.setattr(_pass, "_PATIENCE_WITHOUT_WORKERS", 0.1)
        patch.setattr(_pass, "is_ready", lambda cluster: True)
        for module in (_pass, _checks):
            patch.setattr(module, "active_cluster", lambda: cluster)
        cluster.n_workers = n_workers
        assert outcome(FITTED.transform, images) == expected[0]
        sktl.clear_cache()
        assert check_images(images) == expected[1]
    assert cluster.most_open <= 2 * max(1, n_workers)
    assert cluster.closed


EXPECTED = FITTED.transform(X)


def test_a_cluster_that_never_answers_costs_the_patience_and_no_more(use, monkeypatch):
    monkeypatch.setattr(_pass, "_PATIENCE", 0.2)
    use(ThreadCluster(lambda n: "never"))
    np.testing.assert_array_equal(encoder().transform(X), EXPECTED)


def test_blocks_that_fail_each_time_are_computed_here_with_one_warning(use):
    cluster = use(ThreadCluster(lambda n: "fail"))
    with pytest.warns(ClusterWarning, match="150 images came back from no worker.*OSError: the worker is gone") as seen:
        np.testing.assert_array_equal(encoder().transform(X), EXPECTED)
    assert len(seen) == 1
    assert set(collections.Counter(map(id, cluster.blocks)).values()) == {3}


class Unpicklable(Pixels):
    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("cannot pickle this network")


def test_what_cannot_be_pickled_is_computed_here(use):
    use(ThreadCluster())
    with pytest.warns(ClusterWarning, match="150 images came back from no worker.*cannot pickle this network"):
        np.testing.assert_array_equal(encoder(backbone=Unpicklable).transform(X), EXPECTED)


def test_functions_of_the_user_reach_the_workers(use, paths):
    def read(path):
        return np.asarray(Image.open(path).convert("RGB"))[::-1]

    fitted = encoder(backbone=lambda: Pixels(), image_reader=read)
    expected, cluster = fitted.transform(paths), use(ThreadCluster())
    np.testing.assert_array_equal(fitted.transform(paths), expected)
    assert sum(map(len, cluster.blocks)) == 150


def test_an_interrupted_pass_cancels_its_blocks(use, monkeypatch):
    class Interrupted(ThreadCluster):
        def _count_all(self):
            if len(self.blocks) > 2:
                raise KeyboardInterrupt
            return 2

    cluster = use(Interrupted())
    monkeypatch.setattr(_pass, "_SECONDS_BETWEEN_COUNTS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        encoder().transform(X)
    assert cluster.closed


# -------------------------------------------------------------------------------------------------- what is computed


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Return how often networks saw each image of X since it was last asked."""
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))
    digests = [hashlib.md5(row.tobytes()).hexdigest() for row in EXPECTED]

    def counts():
        seen = collections.Counter((tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else [])
        (tmp_path / "log").write_text("")
        return [seen[digest] for digest in digests]

    return counts


@pytest.mark.parametrize("form", ["array", "paths", "bytes"])
def test_each_image_is_computed_once_copies_included(use, counts, paths, form, tmp_path):
    use(ThreadCluster())
    images = {"array": X, "paths": paths, "bytes": [Path(path).read_bytes() for path in paths]}[form]
    twice = np.concatenate([images, images]) if form == "array" else [*images, *images]
    fitted = encoder(backbone=LoggedPixels, cache=tmp_path / "cache")
    counts()
    np.testing.assert_array_equal(fitted.transform(twice), np.concatenate([EXPECTED, EXPECTED]))
    assert counts() == [1] * 150


def test_only_images_without_cached_features_are_sent(use, tmp_path):
    cluster = use(ThreadCluster())
    fitted = encoder(cache=tmp_path / "cache")
    fitted.transform(X[:100])
    assert sum(map(len, cluster.blocks)) == 100
    for _ in range(2):
        np.testing.assert_array_equal(fitted.transform(X), EXPECTED)
    assert sum(map(len, cluster.blocks)) == 150


def test_a_cached_image_that_is_lost_while_workers_start_is_an_error(use, paths, tmp_path, monkeypatch):
    now = time.time_ns
    monkeypatch.setattr(_samples.time, "time_ns", lambda: now() + 10 * 10**9)  # no file was just modified
    monkeypatch.setattr(_pass, "_BLOCK_HERE", 40)
    fitted = encoder(cache=tmp_path / "cache")
    fitted.transform(paths[50:])
    cluster = use(ThreadCluster())
    np.testing.assert_array_equal(fitted.transform(paths), EXPECTED)
    assert sum(map(len, cluster.blocks)) == 50
    sktl.clear_cache(tmp_path / "cache")
    fitted.transform(paths[50:])
    monkeypatch.setattr(cluster, "wait_for_workers", lambda: [os.remove(paths[i]) for i in (3, 60, 97)])
    with pytest.raises(InvalidImageError) as error:
        fitted.transform(paths)
    assert [(failure.position, failure.name) for failure in error.value.failures] == [
        (i, paths[i]) for i in (3, 60, 97)
    ]


def test_few_images_are_computed_here(use):
    cluster = use(ThreadCluster())
    np.testing.assert_array_equal(encoder().transform(X[:16]), EXPECTED[:16])
    cluster.n_workers = 1
    np.testing.assert_array_equal(encoder().transform(X), EXPECTED)
    assert not cluster.blocks


def test_blocks_are_bounded_in_images_and_bytes(use, monkeypatch):
    cluster = use(ThreadCluster())
    monkeypatch.setattr(_pass, "_BYTES_PER_BLOCK", 8 * 8 * 3 * 20)
    encoder().transform(np.concatenate([X, X[:, ::-1]]))
    assert max(map(len, cluster.blocks)) == 20
    assert cluster.most_open <= 4
    monkeypatch.undo()
    use(cluster).blocks.clear()
    encoder().transform(np.concatenate([X, X[:, ::-1]]))
    sizes = [*map(len, cluster.blocks)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 64
    assert sizes[-2] == 16


def test_items_of_sequences_are_sent_as_their_content_and_known_the_next_time(use, tmp_path):
    class Images(list):
        n_read = 0

        def __getitem__(self, i):
            self.n_read += 1
            return super().__getitem__(i)

    use(ThreadCluster())
    images, fitted = Images([*X]), encoder(cache=tmp_path / "cache")
    lazy = LazyImages(images)
    np.testing.assert_array_equal(fitted.transform(lazy), EXPECTED)
    n_read = images.n_read
    assert n_read == 150
    np.testing.assert_array_equal(fitted.transform(lazy), EXPECTED)
    assert images.n_read == n_read


def test_files_that_workers_do_not_have_are_computed_here(use, paths):
    def elsewhere(samples):
        return [FileSample("/nowhere" + sample.path) if i % 2 else sample for i, sample in enumerate(samples)]

    use(ThreadCluster(alter=elsewhere))
    for call, expected in ((encoder().transform, EXPECTED), (check_images, [])):
        with pytest.warns(ClusterWarning, match="could not use 75 images.*paths that exist on each worker"):
            np.testing.assert_array_equal(call(paths), expected)


def test_workers_with_other_versions_compute_nothing(use, monkeypatch):
    use(ThreadCluster())
    older = _blocks.versions() | {"torch": "1.0"}
    monkeypatch.setattr(_pass, "RowsTask", functools.partial(_blocks.RowsTask, versions=older))
    with pytest.warns(ClusterWarning, match=r"The worker has torch .* instead of 1\.0"):
        np.testing.assert_array_equal(encoder().transform(X), EXPECTED)


def test_predictions_of_trained_stages_are_spread(use):
    clf = PretrainedImageClassifier(
        backbone=stochastic_net,
        trainable_stages=1,
        max_epochs=1,
        freeze_epochs=1,
        augmentation=None,
        n_jobs=1,
        random_state=0,
    ).fit(X, Y)
    expected = clf.predict_proba(X)
    cluster = use(ThreadCluster())
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert sum(map(len, cluster.blocks)) == 150


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fit_equals_a_fit_without_a_cluster(use, precision, monkeypatch):
    monkeypatch.setattr(_devices, "computes_in_bfloat16", lambda device: True)

    def fit():
        return PretrainedImageClassifier(
            backbone=stochastic_net, engine="torch", precision=precision, cache=False, random_state=0, n_jobs=1
        ).fit(X, Y)

    expected, cluster = fit(), use(ThreadCluster())
    fitted = fit()
    assert sum(map(len, cluster.blocks)) == 150
    np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing", "sequential"])
def test_other_backends_of_joblib_have_no_cluster(backend):
    with joblib.parallel_config(backend):
        assert active_cluster() is None
    assert active_cluster() is None
