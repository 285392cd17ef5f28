"""What a worker answers is complete: rows, unusable samples, and what another cache needs to find the rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from backbones import Pixels
from PIL import Image

from sktl import PretrainedImageEncoder
from sktl._features.worker_tasks import Recorder, RowsTask, check_versions, portable, size_of, versions
from sktl._images.samples import FileSample, as_samples
from sktl._storage.cache import NO_CACHE, open_cache
from sktl.datasets import LazyImages
from sktl.exceptions import EngineError

X = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), np.uint8)


def extractor(cache):
    fitted = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=cache, n_jobs=1).fit(X)
    return fitted._fitted_extractor()


def test_the_entries_of_a_worker_let_another_cache_find_its_rows(tmp_path):
    samples = as_samples(X)
    answer = RowsTask(extractor(tmp_path / "worker"), ("elsewhere",))(samples)
    here = extractor(tmp_path / "here")
    for space, entries in answer.entries.items():
        here.cache.put(space, [*entries.items()])
    assert here.find_cached(samples)[1] == [*range(20)]
    np.testing.assert_array_equal(here.attempt(samples)[0], answer.rows)


def test_entries_do_not_travel_to_where_they_are(tmp_path):
    function = extractor(tmp_path / "worker")
    assert RowsTask(function, function.cache.address)(as_samples(X)).entries == {}
    assert RowsTask(function, None)(as_samples(X)).entries == {}


@pytest.mark.parametrize("cache", ["folder", False])
def test_usable_samples_of_a_block_are_computed_once(tmp_path, cache):
    samples = as_samples([*X[:5], b"no image", *X[5:], FileSample("missing").path], lenient=True)
    answer = RowsTask(extractor(cache and tmp_path), None)(samples)
    assert answer.unusable == [5, 21]
    np.testing.assert_array_equal(answer.rows, extractor(False).attempt(as_samples(X))[0])


def test_a_recorder_serves_what_it_recorded():
    recorder = Recorder(NO_CACHE)
    recorder.put("space", [(b"key", b"value")])
    assert recorder.get("space", [b"key", b"other"]) == {b"key": b"value"}
    assert recorder.entries_for(("elsewhere",)) == {"space": {b"key": b"value"}}


def test_a_cache_in_another_process_is_what_its_parameter_means_there(tmp_path):
    for place in ("auto", tmp_path, False):
        cache = open_cache(place)
        copy = pickle.loads(pickle.dumps(cache))
        assert copy is cache


def test_portable_samples_have_the_same_content(tmp_path):
    Image.fromarray(X[0]).save(tmp_path / "image.png")
    forms = [
        X[0] / np.float32(255), X[0].tobytes(), tmp_path / "image.png", Image.open(tmp_path / "image.png"),
        (tmp_path / "image.png").read_bytes(), "https://127.0.0.1/image.png",
    ]  # fmt: skip
    samples = [*as_samples(forms), *as_samples(LazyImages([X[0]])), *as_samples([forms[2]], image_reader=Image.open)]
    for sample in samples[:5] + samples[6:]:
        sent = pickle.loads(pickle.dumps(portable(sample)))
        np.testing.assert_array_equal(np.frombuffer(sent.read(), np.uint8), np.frombuffer(sample.read(), np.uint8))
    assert [portable(sample) is sample for sample in samples] == [False, True, True, False, True, True, False, True]
    assert [size_of(portable(sample)) for sample in samples[:3]] == [192, 192, 0]


def test_a_sample_that_cannot_be_read_travels_with_its_reason():
    class Broken:
        def __len__(self):
            return 1

        def __getitem__(self, position):
            raise OSError("disk on fire")

    (sample,) = as_samples(LazyImages(Broken()))
    answer = RowsTask(extractor(False), None)([portable(sample)])
    assert answer.unusable == [0]
    assert len(answer.rows) == 0


def test_other_versions_are_named():
    check_versions(versions())
    with pytest.raises(EngineError, match=r"timm \S+ instead of 0\.1\. Install the same versions"):
        check_versions(versions() | {"timm": "0.1"})
