"""OpenVINO gives the features of torch, by itself where it can; their bits depend on nothing but the image."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import SmallConvNet, backbone_of, small_conv_net, stochastic_net, trunk_of
from families import TIMM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed, parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from opening import open_engine
from representatives import examples, slow_except, thorough_except

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features import engines as _engines
from sktl._features import openvino as _openvino
from sktl._features.engines import OpenVinoEngine, TorchEngine
from sktl._utils import devices as _devices
from sktl.exceptions import BackboneWarning, EngineError, EngineNotInstalledError, InvalidParameterError, SktlError

CPU = torch.device("cpu")
# Not importorskip: importing openvino starts its telemetry.
INSTALLED = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not INSTALLED, reason="openvino is not installed")


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Give each test a registry and a cache of its own."""
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
    sktl.clear_cache()
    return _engines.registry


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def small():
    return resolve_backbone(small_conv_net, "default", None, 0)


def pixels_for(backbone, n=4, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n, *backbone.preprocessing.crop, 3), np.uint8)


def assert_near(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    assert float(np.abs(found - expected).max()) <= 1e-4 * float(np.abs(expected).max())


# ------------------------------------------------------------------------------------------------------- equal to torch


def check_equal_to_torch(backbone, n_trainable=0):
    reference = trunk_of(backbone, n_trainable)
    engine = OpenVinoEngine(reference)
    pixels = pixels_for(backbone)  # not those of the probe
    pixels[0], pixels[1] = 0, 255
    expected = reference.run(pixels)
    for found, group in zip(
        engine.facts.layout.split(engine.run(pixels)), reference.layout.split(expected), strict=True
    ):
        assert_near(found, group)
    assert engine.facts.shape == expected.shape[1:]


NETWORKS = {
    "efficientnet_lite0": 64, "resnet18": 64, "shufflenet_v2_x0_5": 64, "timm/test_vit": None,
    "timm/test_convnext": None, "timm/test_byobnet": None,
}  # fmt: skip


@needs_openvino
@pytest.mark.parametrize("name", slow_except(NETWORKS, "efficientnet_lite0", "shufflenet_v2_x0_5", "timm/test_vit"))
def test_features_are_those_of_torch(name):
    check_equal_to_torch(resolve_backbone(name, None, NETWORKS[name], 0))


@needs_openvino
@pytest.mark.parametrize("make", [small_conv_net, stochastic_net])
def test_features_of_a_callables_network_are_those_of_torch(make):
    check_equal_to_torch(resolve_backbone(make, "default", None, 0))


@needs_openvino
@pytest.mark.parametrize(
    ("backbone", "image_size", "cuts"),
    [
        (stochastic_net, None, None),
        ("timm/test_vit", None, (2,)),
        ("timm/test_efficientnet", None, (3,)),
        pytest.param("efficientnet_lite0", 64, None, marks=pytest.mark.slow),
        pytest.param("timm/test_vit", None, None, marks=pytest.mark.slow),
        pytest.param("swin_t", None, None, marks=pytest.mark.slow),
    ],
)
def test_activations_at_cuts_are_those_of_torch(backbone, image_size, cuts):
    resolved = resolve_backbone(backbone, "default" if callable(backbone) else None, image_size, 0)
    for n_trainable in cuts or range(1, len(resolved.stages)):
        check_equal_to_torch(resolved, n_trainable)


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "convnext_tiny", *(f"timm/{name}" for name in TIMM)])
def test_features_of_a_network_of_each_family_are_those_of_torch(name):
    backbone = resolve_backbone(name, None, None, 0)
    engine = open_engine(backbone, CPU)
    pixels = pixels_for(backbone)
    assert_near(engine.run(pixels), trunk_of(backbone).run(pixels))


# ----------------------------------------------------------------------------------------------------------------- bits


@pytest.fixture(scope="module")
def bundled():
    """The engine of the bundled network, eight images, and the features of each beside black neighbours."""
    engine = OpenVinoEngine(trunk_of(resolve_backbone("efficientnet_lite0", "default", None, 0)))
    pixels = pixels_for(engine.backbone, 8)
    alone = []
    for image in pixels:
        chunk = engine.new_chunk()
        chunk[0] = image
        alone.append(engine.run(chunk)[0])
    return engine, pixels, np.stack(alone)


@needs_openvino
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)))
def test_the_features_of_an_image_depend_neither_on_its_place_nor_on_its_neighbours(bundled, order):
    engine, pixels, alone = bundled
    features = [engine.run(pixels[list(order[i : i + engine.chunk])]) for i in range(0, 8, engine.chunk)]
    assert_array_equal(np.concatenate(features), alone[list(order)])


@needs_openvino
@pytest.mark.parametrize("n_threads", thorough_except([1, 2, 5], 2))
def test_threads_that_run_at_once_get_the_bits_of_one(bundled, n_threads):
    engine, pixels, alone = bundled
    engine.reserve(n_threads)
    chunks = [pixels[i : i + 4] for i in (0, 4)] * 5
    with ThreadPoolExecutor(n_threads) as pool:
        features = list(pool.map(engine.run, chunks))
    assert_array_equal(np.concatenate(features), np.concatenate([alone] * 5))


@needs_openvino
@pytest.mark.parametrize(
    ("name", "n_trainable", "precision"),
    thorough_except(
        [("timm/test_vit", 0, "float32"), ("timm/test_vit", 1, "float32"), ("efficientnet_lite0", 0, "bfloat16")],
        ("timm/test_vit", 1, "float32"),
    ),
)
def test_bits_of_other_networks_depend_on_nothing_else_either(name, n_trainable, precision, monkeypatch):
    monkeypatch.setattr(_devices, "computes_in_bfloat16", lambda device: True)
    backbone = resolve_backbone(name, None, None if "/" in name else 64, 0)
    engine = open_engine(backbone, CPU, n_trainable, "openvino", precision)
    pixels = pixels_for(backbone)
    expected = engine.run(pixels)
    engine.reserve(3)
    assert_array_equal(engine.run(pixels[::-1])[::-1], expected)
    with ThreadPoolExecutor(3) as pool:
        for output in pool.map(engine.run, [pixels] * 9):
            assert_array_equal(output, expected)


@needs_openvino
@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_the_graph_of_a_network_is_logged_only_on_request(level, caplog):
    logger = logging.getLogger("openvino.frontend.pytorch.ts_decoder")
    with caplog.at_level(logging.DEBUG), caplog.at_level(level, logger.name):
        open_engine(small(), CPU, 0, "openvino")
        assert logger.level == level
    assert any(record.name == logger.name for record in caplog.records) == (level == logging.DEBUG)


@needs_openvino
def test_an_output_is_not_overwritten_by_the_next(bundled):
    engine, pixels, alone = bundled
    first = engine.run(pixels[:4])
    engine.run(pixels[4:])
    assert_array_equal(first, alone[:4])


@needs_openvino
def test_a_chunk_is_computed_in_float32_by_one_thread_that_may_run_on_any_core(bundled):
    compiled = bundled[0]._compiled
    for n_threads in (1, 2):
        compiled._compile(n_threads)
        found = {name: str(compiled._streams[0].get_property(name)) for name in _openvino.PROPERTIES}
        assert "float32" in found["INFERENCE_PRECISION_HINT"]
        assert (found["DYNAMIC_QUANTIZATION_GROUP_SIZE"], found["ENABLE_CPU_PINNING"]) == ("0", "False")
        streams = compiled._streams[0].get_property("NUM_STREAMS")
        assert streams == compiled._streams[0].get_property("INFERENCE_NUM_THREADS")
        assert streams <= n_threads


@pytest.mark.thorough
@needs_openvino
def test_more_threads_make_more_streams_and_fewer_none_less(bundled, monkeypatch):
    monkeypatch.setattr(_openvino.joblib, "cpu_count", lambda: 2)
    compiled, counts = bundled[0]._compiled, []
    compiled._compile(1)
    for n_threads in (1, 2, 1, 8, 3):
        compiled.reserve(n_threads)
        counts.append((compiled.n_threads, compiled._streams[0].get_property("INFERENCE_NUM_THREADS") <= 2))
    assert counts == [(1, True), (2, True), (2, True), (8, True), (8, True)]


@pytest.mark.thorough
@needs_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("leave", [sys.exit, pytest.param(os._exit, marks=pytest.mark.slow)])
def test_a_forked_process_goes_on_with_torch_and_ends(leave):
    """OpenVINO has no threads there: it hangs or crashes, at the latest when it is cleared up."""
    program = """
import os, sys, warnings
import numpy as np
from sktl import PretrainedImageEncoder

warnings.simplefilter("ignore")
images = np.random.default_rng(0).integers(0, 256, (9, 40, 40, 3), np.uint8)
encoders = [
    PretrainedImageEncoder(backbone=name, weights=None, image_size=64, cache=False, random_state=0).fit(images)
    for name in ("shufflenet_v2_x0_5", "squeezenet1_1")
]
expected = [encoder.transform(images) for encoder in encoders]
assert encoders[0].engine_ == "openvino"
if not (child := os.fork()):
    for encoder, features in zip(encoders, expected):
        difference = abs(encoder.transform(images) - features).max()
        assert 0 < difference < 1e-4 * abs(features).max(), difference
    assert encoders[0].fit(images).engine_ == "torch"
    LEAVE(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (encoders[0].fit(images).transform(images) == expected[0]).all()
"""
    name = {sys.exit: "sys.exit", os._exit: "os._exit"}[leave]
    subprocess.run([sys.executable, "-c", program.replace("LEAVE", name)], check=True, timeout=120)


def _share_of_cores(images):
    PretrainedImageEncoder(engine="openvino", cache=False).fit_transform(images[:4])
    started, busy = time.perf_counter(), time.process_time()
    engine = open_engine(PretrainedImageEncoder(engine="openvino").fit(images).backbone_, CPU)
    features = PretrainedImageEncoder(engine="openvino", cache=False).fit_transform(images)
    share = (time.process_time() - busy) / (time.perf_counter() - started)
    return share, engine._compiled._streams[0].get_property("INFERENCE_NUM_THREADS"), features


@needs_openvino
@pytest.mark.slow
def test_worker_processes_of_one_thread_use_one_core_each():
    images = pixels_for(resolve_backbone("efficientnet_lite0", "default", None, 0), 40)
    with parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        results = Parallel()(delayed(_share_of_cores)(images) for _ in range(2))
    for share, n_threads, features in results:
        assert n_threads == 1
        assert share < 1.2
        assert_array_equal(features, PretrainedImageEncoder(engine="openvino").fit_transform(images))


# ------------------------------------------------------------------------------------- another process, without network

_PROGRAM = """
import json, os, pathlib, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("network")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.create_connection = refuse
socket.getaddrinfo = socket.gethostbyname = refuse
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

import numpy as np
from sktl import PretrainedImageClassifier

assert "openvino" not in sys.modules
images = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3), np.uint8)
clf = PretrainedImageClassifier(max_epochs=2, random_state=0).fit(images, list("ababa"))
import openvino
print(json.dumps({
    "engine": clf.engine_,
    "features": clf.transform(images).tobytes().hex(),
    "telemetry": [name for name in sys.modules if name.startswith("openvino_telemetry")],
    "converts": callable(openvino.convert_model),
    "home": [str(path) for path in pathlib.Path.home().rglob("*")],
}))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What a fit found in a fresh process with one core, an empty home and no network."""
    home = str(tmp_path_factory.mktemp("home"))
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    root = os.pathsep.join(filter(None, [str(Path(sktl.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**kept, "HOME": home, "USERPROFILE": home, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True, timeout=300, env=environment
    )
    return json.loads(done.stdout)


@pytest.mark.thorough
@needs_openvino
def test_a_fit_sends_nothing_and_writes_nothing_into_the_home(elsewhere):
    assert elsewhere["engine"] == "openvino"
    assert elsewhere["telemetry"] == []
    assert elsewhere["home"] == []


@pytest.mark.thorough
@needs_openvino
def test_the_rest_of_openvino_is_left_as_it_is(elsewhere):
    assert elsewhere["converts"]


@pytest.mark.thorough
@needs_openvino
def test_another_process_with_one_core_gets_the_same_bits(elsewhere):
    images = pixels_for(resolve_backbone("efficientnet_lite0", "default", None, 0), 5)
    here = PretrainedImageEncoder(engine="openvino", n_jobs=2).fit_transform(images)
    assert here.tobytes().hex() == elsewhere["features"]


def test_a_hidden_package_comes_back(monkeypatch):
    for before in (None, sys):
        monkeypatch.delitem(sys.modules, "some_package", raising=False)
        if before is not None:
            monkeypatch.setitem(sys.modules, "some_package", before)
        with _openvino._hidden("some_package"), pytest.raises(ImportError):
            importlib.import_module("some_package")
        assert sys.modules.get("some_package") is before


# ---------------------------------------------------------------------------------------------------- which engine runs


@needs_openvino
def test_it_is_taken_by_itself_and_shared_with_those_who_ask_for_it(monkeypatch):
    made = []
    init = _openvino.CompiledFunction.__init__
    monkeypatch.setattr(_openvino.CompiledFunction, "__init__", lambda self, *args: made.append(1) or init(self, *args))
    engine = open_engine(small(), CPU)
    assert isinstance(engine, OpenVinoEngine)
    assert open_engine(small(), CPU, engine="openvino") is engine
    assert isinstance(open_engine(small(), CPU, engine="torch"), TorchEngine)
    assert len(made) == 1


@needs_openvino
def test_each_engine_has_its_own_facts():
    facts = {name: open_engine(small(), CPU, engine=name).facts for name in ("auto", "torch", "openvino")}
    assert {name: fact.engine for name, fact in facts.items()} == {
        "auto": "openvino",
        "torch": "torch",
        "openvino": "openvino",
    }
    assert facts["auto"] == facts["openvino"]
    assert facts["torch"].fingerprint != facts["openvino"].fingerprint
    again = OpenVinoEngine(trunk_of(small())).facts
    assert again == facts["openvino"]


@needs_openvino
def test_another_version_has_another_fingerprint(monkeypatch):
    before = OpenVinoEngine(trunk_of(small())).facts
    monkeypatch.setattr(_openvino.library(), "get_version", lambda: "0.0")
    after = OpenVinoEngine(trunk_of(small())).facts
    assert before.fingerprint != after.fingerprint


def test_where_it_is_not_installed_torch_runs_or_an_error_says_how_to_install_it(not_installed):
    assert isinstance(open_engine(small(), CPU), TorchEngine)
    assert open_engine(small(), CPU).facts.engine == "torch"
    with pytest.raises(
        EngineNotInstalledError, match=r"engine='openvino'.*not installed.*pip install 'sktl\[openvino\]'"
    ):
        open_engine(small(), CPU, engine="openvino")
    assert issubclass(EngineNotInstalledError, ImportError)
    assert issubclass(EngineError, RuntimeError)
    assert issubclass(EngineError, SktlError)


def test_a_package_that_cannot_be_imported_is_as_good_as_none(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    def fail():
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(_openvino, "library", fail)
    assert isinstance(open_engine(small(), CPU), TorchEngine)
    with pytest.raises(EngineError, match=r"libopenvino.*engine=\"torch\""):
        open_engine(small(), CPU, engine="openvino")


def test_other_devices_run_torch():
    with pytest.raises(EngineError, match=r"CPU only.*'cuda:0'.*device=\"cpu\""):
        open_engine(small(), torch.device("cuda:0"), engine="openvino")


def branches(images):
    return images.mean((2, 3)) if images.mean() > -100 else images.amax((2, 3))


def compares(images):
    return images.mean((2, 3)) if not torch.equal(images, images + 1) else images.amax((2, 3))


def leaves_torch(images):
    return torch.from_numpy(images.numpy().mean((2, 3)))


def lists(images):
    return torch.tensor(images.mean((2, 3)).tolist())


@needs_openvino
@pytest.mark.parametrize("function", [branches, compares, leaves_torch, lists])
def test_a_network_that_reads_values_of_its_images_is_left_to_torch(function):
    backbone = backbone_of(function)
    assert isinstance(open_engine(backbone, CPU), TorchEngine)
    with pytest.raises(EngineError, match=r"engine='openvino' cannot run backbone='.*': .*Pass engine=\"torch\""):
        open_engine(backbone, CPU, engine="openvino")


@needs_openvino
def test_a_network_whose_conversion_fails_is_left_to_torch_and_not_tried_again(monkeypatch):
    tried = []

    def fail(*arguments):
        tried.append(1)
        raise RuntimeError("no such operation")

    monkeypatch.setattr(_openvino, "_convert", fail)
    engine = open_engine(small(), CPU)
    assert isinstance(engine, TorchEngine)
    assert open_engine(small(), CPU) is engine
    assert open_engine(small(), CPU, engine="torch") is engine
    assert len(tried) == 1
    with pytest.raises(EngineError, match="no such operation"):
        open_engine(small(), CPU, engine="openvino")


@needs_openvino
@pytest.mark.parametrize(
    "change",
    [
        lambda output: output + 2e-4 * np.abs(output).max(),
        lambda output: output * np.nan,
        lambda output: output[:, :-1],
    ],
    ids=["too far", "not a number", "other shape"],
)
def test_outputs_that_are_not_those_of_torch_are_not_used(monkeypatch, change):
    run = _openvino.CompiledFunction.run
    monkeypatch.setattr(_openvino.CompiledFunction, "run", lambda self, pixels: change(run(self, pixels)))
    assert isinstance(open_engine(small(), CPU), TorchEngine)
    with pytest.raises(EngineError, match="differ from torch's"):
        open_engine(small(), CPU, engine="openvino")


@needs_openvino
@pytest.mark.parametrize("scale", [1.0, 1e-6])  # the second is within what OpenVINO may differ by
def test_a_network_that_does_not_repeat_is_left_to_torch_and_not_kept(scale):
    backbone = backbone_of(lambda x: x.mean((2, 3)) + scale * torch.rand(len(x), 3))
    with pytest.warns(BackboneWarning, match="different features for the same images"):
        facts = open_engine(backbone, CPU).facts
    assert (facts.fingerprint, facts.engine) == (None, "torch")
    with pytest.raises(EngineError, match="engine='openvino' cannot run"):
        open_engine(backbone, CPU, engine="openvino")


# ----------------------------------------------------------------------------------------------------------- estimators

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
LABELS = list("ababababa")


def classifier(**params):
    return PretrainedImageClassifier(
        **dict(backbone=stochastic_net, max_epochs=1, freeze_epochs=1, random_state=0) | params
    )


@pytest.mark.parametrize("estimator", [PretrainedImageClassifier, PretrainedImageEncoder])
def test_an_unknown_engine_is_an_error(estimator):
    with pytest.raises(InvalidParameterError, match=r"'engine'.*'openvino'"):
        estimator(engine="onnx").fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    "engine", ["torch", pytest.param("auto", marks=needs_openvino), pytest.param("openvino", marks=needs_openvino)]
)
@pytest.mark.parametrize("trainable_stages", [0, 2])
def test_engine_says_what_ran(engine, trainable_stages, registry):
    clf = classifier(engine=engine, trainable_stages=trainable_stages, augmentation=None).fit(IMAGES, LABELS)
    clf.predict(IMAGES[::-1])
    expected = "torch" if engine == "torch" else "openvino"
    assert clf.engine_ == expected
    assert PretrainedImageEncoder(backbone=small_conv_net, engine=engine).fit(IMAGES).engine_ == expected
    assert {kind for _, kind in registry._engines} == {expected}


def test_explicit_openvino_is_an_error_of_fit_where_it_is_missing(not_installed):
    for estimator in (
        classifier(engine="openvino"),
        PretrainedImageEncoder(backbone=small_conv_net, engine="openvino"),
    ):
        with pytest.raises(ImportError, match="sktl\\[openvino\\]"):
            estimator.fit(IMAGES, LABELS)
        assert not hasattr(estimator, "engine_")
    assert classifier().fit(IMAGES, LABELS).engine_ == "torch"


@needs_openvino
@pytest.mark.parametrize("trainable_stages", slow_except([0, 2, "all"], 0, 2))
def test_a_pickle_predicts_the_same_without_openvino(trainable_stages, registry, monkeypatch):
    clf = classifier(engine="openvino", trainable_stages=trainable_stages, augmentation=None).fit(IMAGES, LABELS)
    scores, features = clf.decision_function(IMAGES), clf.transform(IMAGES)
    dumped = pickle.dumps(clf)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
    sktl.clear_cache()
    loaded = pickle.loads(dumped)
    assert_near(loaded.transform(IMAGES), features)
    assert_allclose(loaded.decision_function(IMAGES), scores, rtol=1e-3, atol=1e-4)
    assert {kind for _, kind in _engines.registry._engines} == {"torch"}


@needs_openvino
def test_what_was_fitted_with_torch_stays_with_it(registry, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        clf = classifier().fit(IMAGES, LABELS)
        encoder = PretrainedImageEncoder(backbone=small_conv_net).fit(IMAGES)
        before = clf.decision_function(IMAGES), encoder.transform(IMAGES)
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
    sktl.clear_cache()
    assert_array_equal(clf.decision_function(IMAGES), before[0])
    assert_array_equal(encoder.transform(IMAGES), before[1])
    assert {kind for _, kind in _engines.registry._engines} == {"torch"}


@needs_openvino
def test_a_trunk_that_cannot_be_converted_falls_back_where_the_network_can(monkeypatch):
    init = OpenVinoEngine.__init__

    def whole_networks_only(self, trunk, n_threads):
        if trunk.n_tail_stages:
            raise EngineError("no trunks")
        init(self, trunk, n_threads)

    monkeypatch.setattr(OpenVinoEngine, "__init__", whole_networks_only)
    clf = classifier(trainable_stages=1, augmentation=None).fit(IMAGES, LABELS)
    assert clf.engine_ == "torch"
    with pytest.raises(EngineError, match="no trunks"):
        classifier(trainable_stages=1, augmentation=None, engine="openvino").fit(IMAGES, LABELS)


@needs_openvino
@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_jobs=st.integers(1, 4), order=st.permutations(range(9)))
def test_features_do_not_depend_on_threads_or_order(n_jobs, order):
    few = dict(backbone=SmallConvNet, engine="openvino", random_state=0)
    expected = PretrainedImageEncoder(**few).fit_transform(IMAGES)
    found = PretrainedImageEncoder(**few, cache=False, n_jobs=n_jobs).fit_transform(IMAGES[list(order)])
    assert_array_equal(found, expected[list(order)])


@pytest.mark.parametrize("exists", [False, True])
def test_a_forked_process_does_not_create_the_core(exists, monkeypatch):
    created, kept = [], []
    core = functools.cache(lambda: created.append("core"))
    monkeypatch.setattr(_openvino, "core", core)
    monkeypatch.setattr(_openvino, "_functions", set())
    monkeypatch.setattr(_openvino, "_never_release", kept.append)
    if exists:
        core()
    _openvino._after_fork_in_child()
    assert len(created) == len(kept) == exists
