"""One estimator in many threads, many processes and many cycles: the same answers, no deadlock, no growth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest
from backbones import StochasticNet, small_conv_net
from numpy.testing import assert_array_equal
from processes import ROOTS, in_child, needs_fork
from representatives import slow_except
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier

X = np.random.default_rng(7).integers(0, 256, (40, 16, 16, 3), np.uint8)
Y = np.arange(40) % 3
MODELS = {
    "output layer": {"backbone": small_conv_net, "max_epochs": 3},
    "openvino": {"backbone": "timm/test_vit", "weights": None, "image_size": 64, "max_epochs": 3},
    "stages": {"backbone": StochasticNet, "trainable_stages": 2, "max_epochs": 1, "freeze_epochs": 2},
}
pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")


def classifier(name, **parameters):
    return PretrainedImageClassifier(**{"random_state": 0, "n_jobs": 2} | MODELS[name] | parameters)


@pytest.mark.parametrize(
    ("name", "cache"),
    slow_except(
        [(name, cache) for name in MODELS for cache in ("auto", False)],
        ("output layer", "auto"), ("openvino", False), ("stages", "auto"), thorough=[("stages", "auto")],
    ),
)  # fmt: skip
def test_eight_threads_that_ask_one_estimator_get_the_answers_of_one(name, cache):
    clf = classifier(name, cache=cache).fit(X, Y)
    rows = [np.random.default_rng(i).permutation(40)[: 5 + 3 * i] for i in range(8)]
    expected = [(clf.predict_proba(X[some]), clf.transform(X[some])) for some in rows]
    sktl.clear_cache()
    together = threading.Barrier(8, timeout=60)

    def ask(some):
        together.wait()
        return clf.predict_proba(X[some]), clf.transform(X[some])

    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(ask, rows), expected, strict=True):
            assert_array_equal(found[0], wanted[0])
            assert_array_equal(found[1], wanted[1])


@pytest.mark.thorough
def test_fits_in_threads_at_once_neither_mix_nor_wait_for_each_other_for_ever():
    kinds = [(name, seed) for name in MODELS for seed in range(2)]
    expected = [classifier(name, random_state=seed).fit(X, Y).decision_function(X) for name, seed in kinds]
    together = threading.Barrier(len(kinds), timeout=60)

    def fit(kind):
        together.wait()
        return classifier(kind[0], random_state=kind[1]).fit(X, Y).decision_function(X)

    with ThreadPoolExecutor(len(kinds)) as pool:
        for found, wanted in zip(pool.map(fit, kinds), expected, strict=True):
            assert_array_equal(found, wanted)


@needs_fork
def test_a_fork_after_import_fit_and_predict_predicts_the_same():
    for name in ("output layer", "stages"):
        clf = classifier(name, engine="torch", n_jobs=1).fit(X, Y)
        assert_array_equal(in_child(clf.decision_function, X), clf.decision_function(X))
        assert_array_equal(in_child(clf.decision_function, X[::-1].copy()), clf.decision_function(X[::-1].copy()))


@pytest.mark.thorough
def test_a_spawned_process_predicts_the_same():
    clf = classifier("stages").fit(X, Y)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert_array_equal(pool.submit(clf.decision_function, X).result(timeout=120), clf.decision_function(X))


def cycles(n):
    """Fit, predict, copy and search so often; return bytes of memory, threads and open files after each cycle."""
    process, found = psutil.Process(), []
    for i in range(n):
        for name in ("output layer", "stages"):
            # OpenVINO keeps two thirds of a megabyte of each network that it ever compiled.
            clf = clone(classifier(name, random_state=i, engine="torch")).fit(X, Y)
            clf.predict(X)
        GridSearchCV(classifier("output layer"), {"lr": [0.01, 0.1]}, cv=2).fit(X, Y)
        sktl.clear_cache()
        found.append((process.memory_info().rss, process.num_threads(), process.num_fds()))
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="open files are counted by num_fds")
def test_fifty_cycles_leave_memory_threads_and_files_as_they_were():
    """In a process of its own, whose memory is that of these cycles alone."""
    program = "import json, test_endurance as t; print(json.dumps(t.cycles(50)))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=Path(__file__).parent, check=True, capture_output=True,
        timeout=500, env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
    )  # fmt: skip
    found = np.array(json.loads(done.stdout))
    # The first cycles fill what is kept once; half of the rest against the other shows what grows for ever.
    early, late = np.median(found[10:25], axis=0), np.median(found[-15:], axis=0)
    assert late[0] - early[0] < 16 << 20
    assert late[1] <= early[1] + 1
    assert late[2] <= early[2] + 1
