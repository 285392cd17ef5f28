"""One pass gives features of all stages; what is kept of an image serves any number of them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from backbones import Pixels, stochastic_net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from representatives import examples

from sktl._backbones.backbone import Backbone
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.taps import StageLayout
from sktl._features import engines as _engines
from sktl._features import reading_ahead
from sktl._features.engines import TorchEngine
from sktl._features.extractor import FeatureExtractor
from sktl._images.content_keys import content_key
from sktl._images.samples import BytesSample, UnusableSample, as_samples
from sktl._storage.cache import NO_CACHE, open_cache
from sktl._storage.value_store import BULKY
from sktl._utils import warnings as _warnings
from sktl.exceptions import BackboneWarning, InvalidParameterError

CPU = torch.device("cpu")
SAMPLES = as_samples(np.random.default_rng(0).integers(0, 256, (11, 20, 20, 3), np.uint8), None)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Give each test a registry of its own."""
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())


@pytest.fixture
def chunks(monkeypatch):
    """Count the chunks of images that pass through a network."""
    ran, run = [], TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda self, pixels: (ran.append(1), run(self, pixels))[1])
    return ran


def extractor(backbone=stochastic_net, cache=NO_CACHE, **parameters):
    resolved = resolve_backbone(backbone, "default", None, 0)
    return FeatureExtractor(resolved, CPU, 1, cache, engine="torch", **parameters)


@pytest.mark.parametrize("order", [(4, 3, 2, 1), (1, 2, 3, 4)])
def test_one_pass_serves_each_number_of_stages(tmp_path, chunks, order):
    kept = extractor(cache=open_cache(tmp_path / "cache"))
    kept.open()
    del chunks[:]
    rows = {k: replace(kept, feature_stages=k)(SAMPLES) for k in order}
    assert len(chunks) == 3  # of four images
    for k, sizes in enumerate(kept.layout.sizes, start=1):
        assert rows[k].shape == (11, sizes)
        assert_array_equal(rows[k], rows[4][:, :sizes])
        assert_array_equal(rows[k], extractor(feature_stages=k)(SAMPLES))
        assert replace(kept, feature_stages=k).n_features == sizes


def test_rows_of_few_stages_take_no_more_memory_than_they_have_numbers(tmp_path):
    kept = extractor(cache=open_cache(tmp_path / "cache"))
    for rows in (kept(SAMPLES), kept(SAMPLES)):  # computed, and taken from the cache
        assert rows.base is None
        assert rows.nbytes == 11 * 16 * 4
        assert rows.flags.c_contiguous
    assert kept.row_bytes == 4 * kept.layout.sizes[-1]


def test_what_was_kept_says_which_features_there_are_without_building_a_network(tmp_path, monkeypatch):
    kept = extractor(cache=open_cache(tmp_path / "cache"))
    expected, rows = kept.layout, replace(kept, feature_stages=3)(SAMPLES)

    def refuse(self):
        raise AssertionError("built")

    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
    monkeypatch.setattr(Backbone, "_build", refuse)
    again = extractor(cache=open_cache(tmp_path / "cache"), feature_stages=3)
    assert again.layout == expected == StageLayout(again.layout.groups, again.layout.sizes)
    assert again.count_feature_stages("all") == 4
    assert_array_equal(again(SAMPLES), rows)


def test_features_in_front_of_a_cut_are_activations_whatever_the_number_of_stages():
    activations = extractor(n_tail_stages=1)(SAMPLES)
    assert activations.ndim == 4
    assert_array_equal(extractor(n_tail_stages=1, feature_stages=2)(SAMPLES), activations)


def test_activations_are_kept_apart_from_features_which_they_never_push_out(tmp_path):
    kept = extractor(cache=open_cache(tmp_path / "cache"))
    features, activations = kept, replace(kept, n_tail_stages=1)
    spaces = [each._space(each._facts())[1] for each in (features, activations)]
    assert [space.startswith(BULKY) for space in spaces] == [False, True]
    assert_array_equal(activations(SAMPLES), activations(SAMPLES))
    assert open_cache(tmp_path / "cache").store.read(spaces[1], [content_key(SAMPLES[0].read())])


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, 12), min_size=1, max_size=60), window=st.integers(1, 20), limit=st.integers(0, 5000),
    n_jobs=st.integers(1, 3), again=st.booleans(),
)  # fmt: skip
def test_rows_do_not_depend_on_windows_copies_or_failures_and_only_the_last_chunk_is_not_full(
    order, window, limit, n_jobs, again, chunks, tmp_path_factory
):
    """Number 11 is no image, and 12 cannot be read."""
    X = [SAMPLES[i] if i < 11 else BytesSample(b"none") if i == 11 else UnusableSample("none", "none") for i in order]
    expected = extractor()(SAMPLES)
    cache = open_cache(tmp_path_factory.mktemp("cache"))
    kept = replace(extractor(cache=cache), n_jobs=n_jobs)
    kept.open()
    del chunks[:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_ahead, "_WINDOW", window)
        patch.setattr(reading_ahead, "_FIRST_WINDOW", window)
        patch.setattr(reading_ahead, "_BYTES_AHEAD", limit)
        rows, failures = kept.usable(X)
        good = [i for i in order if i < 11]
        assert len(chunks) == -(-len(set(good)) // 4)
        assert_array_equal(rows, expected[good])
        assert [failure.position for failure in failures] == [place for place, i in enumerate(order) if i >= 11]
        unreadable, damaged = order.count(12), order.count(11)
        info = cache.store.contents("about ")
        assert (info.hits, info.misses) == (0, len(order) - unreadable)
        if again:
            assert_array_equal(kept.usable(X)[0], rows)
            info = cache.store.contents("about ")
            assert (info.hits, info.misses) == (len(good), len(order) - unreadable + damaged)


@pytest.mark.parametrize("wanted", [1, 2, 4, "all"])
def test_stages_are_counted(wanted):
    assert extractor().count_feature_stages(wanted) == (4 if wanted == "all" else wanted)


@pytest.mark.parametrize("wanted", [5, 99])
def test_more_stages_than_there_are_is_an_error_that_lists_them(wanted):
    listed = "stem, blocks.0, blocks.1, blocks.2"
    for attempt in (
        lambda: extractor().count_feature_stages(wanted),
        lambda: extractor(feature_stages=wanted)(SAMPLES),
        lambda: extractor(feature_stages=wanted).n_features,
    ):
        with pytest.raises(InvalidParameterError, match=rf"feature_stages={wanted} is more than the 4 .*: {listed}\."):
            attempt()


def test_a_network_of_one_stage_says_so():
    assert extractor(Pixels).count_feature_stages("all") == 1
    with pytest.raises(InvalidParameterError, match=r"has only its output layer's features; pass feature_stages=1"):
        extractor(Pixels).count_feature_stages(2)


class WithoutGradients(Pixels):
    """A network whose stages cannot be found, because it refuses to be differentiated."""

    def forward(self, images):
        if torch.is_grad_enabled():
            raise RuntimeError("no gradients here")
        return super().forward(images)


def test_the_error_for_which_stages_are_unknown_is_told_to_those_who_want_them(monkeypatch):
    monkeypatch.setattr(_warnings, "told", set())
    why = r"only its output layer's features, because its stages cannot be found \(RuntimeError: no gradients here\)"
    of_output = extractor(WithoutGradients)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of_output.count_feature_stages("auto") == 1
    with pytest.warns(BackboneWarning, match=rf"feature_stages='all' has no effect.*{why}"):
        assert of_output.count_feature_stages("all") == 1
    with pytest.raises(InvalidParameterError, match=rf"feature_stages=2 is not possible.*{why}; pass feature_stages=1"):
        of_output.count_feature_stages(2)
