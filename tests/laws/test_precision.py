"""What holds for a network in bfloat16: it repeats, it never mixes with float32, and float32 is what it was before."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from backbones import Pixels, backbone_of, small_conv_net
from forging import forged, setting
from numpy.testing import assert_array_equal
from opening import open_engine
from representatives import thorough_except
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, rank_backbones
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._estimators.estimator_summary import facts_of
from sktl._features import engines as _engines
from sktl._features.engines import FrozenPart
from sktl._features.features_as_input import source_of
from sktl._features.openvino import installed_version, survived
from sktl._images.decoding import decoding_rule
from sktl._storage.model_file import open_model
from sktl._utils import devices as _devices
from sktl._utils.torch_kernels import describe_arithmetic
from sktl._version import __version__
from sktl.datasets import load_features, make_cats, write_features
from sktl.exceptions import DeviceError, EngineError, InvalidInputError, InvalidParameterError, ModelFileError

CPU = torch.device("cpu")
CATS = make_cats(24, random_state=0)
X, Y = list(CATS.data), CATS.target
SMALL = {"image_size": 64, "random_state": 0, "engine": "torch"}
ESTIMATORS = [PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder]


@pytest.fixture(autouse=True, scope="module")
def emulated():
    """Let bfloat16 be emulated on processors without it, where it is slow but computes the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_devices, "computes_in_bfloat16", lambda device: True)
        yield


@pytest.fixture
def without_bfloat16(monkeypatch):
    monkeypatch.setattr(_devices, "computes_in_bfloat16", lambda device: False)
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())


@pytest.fixture(scope="module")
def clf():
    return PretrainedImageClassifier(**SMALL, precision="bfloat16").fit(X, Y)


@pytest.fixture(scope="module")
def exact():
    return PretrainedImageClassifier(**SMALL).fit(X, Y)


# ---------------------------------------------------------------------------------------------------- float32 as it was


def test_float32_is_identified_as_before_it_had_a_name(exact):
    extractor = exact._fitted_extractor()
    part, identity = extractor._part, exact.backbone_.identity
    engine = _engines.registry.open(part)
    of_function = (identity, 0, decoding_rule(), "cpu", "torch", torch.__version__, engine.trunk.probe.shape)
    digest = hashlib.sha256(repr(of_function).encode())
    digest.update(engine.run(engine.trunk.probe).data)
    assert extractor.fingerprint == digest.hexdigest()
    versions = (__version__, installed_version(), survived(), decoding_rule())
    of_facts = (identity, 0, engine.chunk, "torch", *versions, *describe_arithmetic(CPU))
    assert _engines.registry.facts_key(part) == hashlib.sha256(repr(of_facts).encode()).digest()
    assert b"precision" not in engine.facts.format()


def test_files_in_float32_do_not_name_it(exact, tmp_path):
    exact.save(tmp_path / "m.sktl")
    assert b"precision" not in (tmp_path / "m.sktl").read_bytes()
    loaded = sktl.load(tmp_path / "m.sktl")
    assert (loaded.precision, loaded.precision_) == ("float32", "float32")
    layout = exact._fitted_extractor().layout
    assert "precision" not in source_of(exact.backbone_, layout, 1, "float32").format()


# ------------------------------------------------------------------------------------------------------ bfloat16 itself


def test_features_are_float32_near_those_in_float32(clf, exact):
    found, expected = clf.transform(X), exact.transform(X)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.25 * np.abs(expected).max()
    assert np.abs(clf.predict_proba(X) - exact.predict_proba(X)).max() < 0.1


def test_a_fit_repeats_bit_for_bit_whatever_the_threads_and_the_cache(clf):
    again = PretrainedImageClassifier(**SMALL, precision="bfloat16", cache=False, n_jobs=3).fit(X, Y)
    assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    order = np.random.default_rng(0).permutation(len(X))
    assert_array_equal(again.predict_proba([X[i] for i in order[:7]]), clf.predict_proba(X)[order[:7]])


@pytest.mark.parametrize("make", thorough_except([small_conv_net, "timm/test_vit", "resnet18"], small_conv_net))
def test_networks_of_other_kinds_compute_nearly_the_same(make):
    named = {} if callable(make) else {"weights": None, "image_size": None if "/" in make else 64}
    found, expected = (
        PretrainedImageEncoder(backbone=make, random_state=0, precision=precision, **named).fit_transform(X)
        for precision in ("bfloat16", "float32")
    )
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def branches(images):
    return images.mean((2, 3)) if images.mean() > -100 else images.amax((2, 3))


def test_a_network_that_openvino_cannot_convert_is_run_by_torch():
    assert open_engine(backbone_of(branches), CPU, precision="bfloat16").facts.engine == "torch"


def cancels(images):
    """Return small differences of large products, for which bfloat16 has too few bits."""
    rows = images[:, 0].flatten(1)
    ones = torch.ones(rows.shape[1], 1)
    return (1e3 + rows) @ ones - 1e3 * rows.shape[1]


def test_a_network_that_needs_float32_is_refused_by_name():
    for engine in ("auto", "torch"):
        with pytest.raises(EngineError, match=r"precision='bfloat16' changes the outputs.*Pass precision=\"float32\""):
            open_engine(backbone_of(cancels), CPU, engine=engine, precision="bfloat16")
    open_engine(backbone_of(cancels), CPU)


# ----------------------------------------------------------------------------------------------------- nothing is mixed


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_engines_and_facts_of_both_precisions_are_apart(engine):
    backbone = resolve_backbone(small_conv_net, "default", None, 0)
    parts = [FrozenPart(backbone, CPU, 0, engine, name) for name in ("float32", "bfloat16")]
    exact, rough = (_engines.registry.open(part) for part in parts)
    assert exact is not rough
    assert exact.facts.fingerprint != rough.facts.fingerprint
    assert len({_engines.registry.facts_key(part) for part in parts}) == 2


def test_a_network_that_computes_the_same_in_both_is_cached_apart(tmp_path):
    for n, precision in enumerate(("float32", "bfloat16"), 1):
        PretrainedImageEncoder(backbone=Pixels, precision=precision, cache=tmp_path, engine="torch").fit_transform(X)
        assert sktl.cache_info(tmp_path).images == n * len(X)


@pytest.mark.thorough
def test_a_search_over_both_computes_each_image_once_in_each(tmp_path, clf, exact):
    search = GridSearchCV(
        PretrainedImageClassifier(**SMALL, cache=tmp_path), {"precision": ["float32", "bfloat16"]}, cv=2
    ).fit(X, Y)
    assert sktl.cache_info(tmp_path).images == 2 * len(X)
    for fresh in (clf, exact):
        found = search.estimator.set_params(precision=fresh.precision).fit(X, Y)
        assert_array_equal(found.predict_proba(X), fresh.predict_proba(X))


def test_features_in_files_are_for_estimators_in_their_precision(tmp_path, clf, exact):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for fitted in (clf, exact):
        write_features(X, tmp_path / f"{fitted.precision}.parquet", estimator=fitted)
    for own, other in ((clf, exact), (exact, clf)):
        features = load_features(tmp_path / f"{own.precision}.parquet").data
        assert_array_equal(own.predict_proba(features), own.predict_proba(X))
        for call in (
            other.predict,
            lambda rows, other=other: PretrainedImageClassifier(**other.get_params()).fit(rows, Y),
        ):
            with pytest.raises(
                InvalidInputError, match=f"precision differs: '{own.precision}' and '{other.precision}'"
            ):
                call(features)
    with pytest.raises(InvalidParameterError, match=r"in float32 .*instead of .* in bfloat16"):
        write_features(X, tmp_path / "float32.parquet", estimator=clf)


def test_a_fitted_estimator_keeps_its_precision(clf, tmp_path):
    expected = clf.predict_proba(X), clf.typicality(X)
    changed = pickle.loads(pickle.dumps(clf)).set_params(precision="float32")
    changed.save(tmp_path / "m.sktl")
    loaded = sktl.load(tmp_path / "m.sktl")
    assert (loaded.precision, loaded.precision_) == ("float32", "bfloat16")
    for fitted in (changed, loaded):
        assert_array_equal(fitted.predict_proba(X), expected[0])
        assert_array_equal(fitted.typicality(X), expected[1])


def test_a_saved_file_names_it_and_no_other(clf, tmp_path):
    clf.save(tmp_path / "m.sktl")
    with open_model(tmp_path / "m.sktl") as file:
        assert file.document["precision"] == file.document["parameters"]["precision"] == "bfloat16"
    loaded = sktl.load(tmp_path / "m.sktl")
    assert loaded.get_params()["precision"] == loaded.precision_ == "bfloat16"
    for value in ("float16", None, ["bfloat16"]):
        forged(tmp_path / "m.sktl", setting("precision", value=value))
        with pytest.raises(ModelFileError):
            sktl.load(tmp_path / "m.sktl")


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_device_without_bfloat16_is_an_error_of_fit_before_any_image_is_read(kind, without_bfloat16):
    with pytest.raises(DeviceError, match=r"precision='bfloat16'.*device='cpu'.*precision=\"float32\""):
        kind(precision="bfloat16").fit(["no such file.png"] * 4, [0, 1, 0, 1])
    with pytest.raises(InvalidParameterError, match=r"'precision'.*'bfloat16'"):
        kind(precision="float16").fit(X, np.arange(len(X)))


def test_functions_refuse_such_a_device_too(without_bfloat16, clf, tmp_path):
    elsewhere = pickle.loads(pickle.dumps(clf)).set_params(cache=False)  # where no features are cached
    calls = [
        lambda: elsewhere.predict(X),
        lambda: rank_backbones(X, Y, ["efficientnet_lite0"], precision="bfloat16"),
        lambda: write_features(X, tmp_path / "f", estimator=PretrainedImageEncoder(precision="bfloat16")),
        lambda: sktl.audit_images(X, Y, estimator=PretrainedImageClassifier(precision="bfloat16")),
    ]
    for call in calls:
        with pytest.raises(DeviceError, match="precision='bfloat16'"):
            call()


def test_stages_are_not_trained_behind_a_trunk_in_bfloat16():
    for kind in ESTIMATORS[:2]:
        with pytest.raises(InvalidParameterError, match=r"trainable_stages=1.*amp=\"auto\""):
            kind(precision="bfloat16", trainable_stages=1).fit(X, np.arange(len(X)))


# ----------------------------------------------------------------------------------------- what is done in float32 only


@pytest.mark.thorough
def test_an_export_is_compared_with_answers_in_float32(clf, tmp_path, without_bfloat16):
    report = sktl.export(clf, tmp_path / "m.pt2", verify=X, include_references=True)
    assert (report.n_changed, report.precision) == (0, "float32")
    assert report.difference < 1e-4
    assert "computes features in bfloat16" in report.summary()


def test_summaries_name_it(clf, exact):
    devices = [next(fact for fact in facts_of(fitted) if fact.name == "Device") for fitted in (clf, exact)]
    assert [fact.value for fact in devices] == ["cpu, by torch in bfloat16", "cpu, by torch"]
