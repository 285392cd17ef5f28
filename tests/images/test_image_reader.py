"""`image_reader` reads files and bytes; its pixels are the content, so a changed function finds no old features."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from backbones import Pixels
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, check_images
from sktl.exceptions import InvalidImageError, InvalidParameterError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 8, 8), np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def paths(tmp_path):
    """Files in a format of their own, which no library reads."""
    for i, picture in enumerate(PICTURES):
        (tmp_path / f"{i}.raw").write_bytes(picture.tobytes())
    return [str(tmp_path / f"{i}.raw") for i in range(len(PICTURES))]


def read(path):
    return np.fromfile(path, np.uint8).reshape(8, 8)


def read_inverted(path):
    return 255 - read(path)


def features(X, image_reader=read, **parameters):
    return PretrainedImageEncoder(backbone=Pixels, image_reader=image_reader, **parameters).fit_transform(X)


EXPECTED = PICTURES.reshape(6, 64) / 255 * 2 - 1


def test_a_function_reads_paths(paths):
    np.testing.assert_allclose(features(paths), EXPECTED, atol=1e-6)
    with pytest.raises(InvalidImageError, match="6 images of X cannot be used"):
        features(paths, None)


def test_a_function_reads_bytes_and_neither_arrays_nor_images(paths):
    given = []

    def note(item):
        given.append(item)
        return PICTURES[0]

    mixed = [b"abc", paths[1], PICTURES[2], Image.fromarray(PICTURES[3])]
    np.testing.assert_allclose(features(mixed, note), EXPECTED[[0, 0, 2, 3]], atol=1e-6)
    assert set(given) == {b"abc", paths[1]}


@pytest.mark.parametrize(
    "convert",
    [
        lambda pixels: pixels,
        lambda pixels: pixels[:, :, None],
        lambda pixels: np.repeat(pixels[None], 3, 0),
        lambda pixels: pixels / 255,
        lambda pixels: Image.fromarray(pixels),
        lambda pixels: torch.from_numpy(pixels),
        lambda pixels: Image.open(io.BytesIO(png(pixels))),  # not loaded yet
    ],
    ids=["gray", "one channel", "channels first", "floats", "PIL", "tensor", "lazy PIL"],
)
def test_a_function_may_return_any_image(paths, convert):
    np.testing.assert_allclose(features(paths, lambda path: convert(read(path))), EXPECTED, atol=1e-6)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "returned None; it must return a PIL image, or an array"),
        (b"bytes", "returned a bytes; it must return"),
        ("path.png", "returned a str; it must return"),
        ([[0, 1]], "returned a list; it must return"),
        ((PICTURES[0], "label"), "returned a tuple; it must return"),
        (PICTURES[0].astype(np.int16), "returned an image that has dtype int16"),
        (PICTURES[0] * 1.0, r"returned an image that has values up to 248; floats must lie in \[0, 1\]"),
        (np.zeros((8, 8, 7), np.uint8), r"returned an image that .*shape \(8, 8, 7\)"),
        (np.zeros((0, 8), np.uint8), "returned an image that has no pixels"),
        (np.full((8, 8), np.nan), "returned an image that contains NaN"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_an_image_is_refused_with_the_name_of_the_file(paths, result, reason):
    with pytest.raises(InvalidImageError, match=reason) as caught:
        features(paths[:1], lambda path: result)
    assert caught.value.failures[0].name == paths[0]
    assert check_images(paths[:1], image_reader=lambda path: result) == list(caught.value.failures)


def test_what_a_function_raises_becomes_an_error_that_names_the_file(paths):
    def fail(path):
        if path.endswith(("1.raw", "4.raw")):
            raise KeyError("no such slice")
        return read(path)

    with pytest.raises(InvalidImageError, match="image_reader failed on it: KeyError: 'no such slice'") as caught:
        features(paths, fail)
    assert [failure.position for failure in caught.value.failures] == [1, 4]
    clf = PretrainedImageClassifier(backbone=Pixels, image_reader=fail, invalid_images="skip", max_epochs=1)
    with pytest.warns(sktl.exceptions.InvalidImageWarning, match="2 of 6"):
        clf.fit(paths, [0, 1] * 3)


def test_memory_that_runs_out_is_not_a_fault_of_the_image(paths):
    def fail(path):
        raise MemoryError

    with pytest.raises(MemoryError):
        features(paths, fail)


def test_a_function_is_called_once_for_each_image_so_features_are_those_of_one_result(paths):
    called = []

    def count(path):
        called.append(path)
        return np.full((8, 8), len(called) / 10)

    found = features(paths[:2], count)
    assert sorted(called) == sorted(paths[:2])
    expected = [features([np.full((8, 8), (called.index(path) + 1) / 10)], None)[0] for path in paths[:2]]
    np.testing.assert_array_equal(found, expected)


# The key


def test_a_changed_function_never_finds_old_features(paths, tmp_path):
    """Neither of another function of the same name and code, nor after a change of what it uses."""
    cache = tmp_path / "cache"
    level = [0]

    def shade(path):
        return np.full((8, 8), level[0], np.uint8)

    first = features(paths[:1], shade, cache=cache)
    level[0] = 255
    np.testing.assert_allclose(features(paths[:1], shade, cache=cache), -first, atol=1e-6)
    inverted = -features(paths, read_inverted, cache=cache)
    np.testing.assert_allclose(features(paths, read, cache=cache), inverted, atol=1e-6)


def test_features_are_cached_by_pixels_and_shared_with_arrays(paths, tmp_path):
    cache = tmp_path / "cache"
    expected = features(paths, cache=cache)
    for X, reader in ((list(PICTURES), None), (paths, lambda path: Image.fromarray(read(path)))):
        np.testing.assert_array_equal(features(X, reader, cache=cache), expected)
    info = sktl.cache_info(cache)
    assert (info.misses, info.hits) == (6, 12)


def test_no_reader_is_what_it_was(tmp_path):
    files = [png(picture) for picture in PICTURES]
    np.testing.assert_allclose(features(files, None), EXPECTED, atol=1e-6)


# The parameter


@pytest.mark.parametrize("estimator", [PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder])
def test_the_parameter_is_one_of_scikit_learn(estimator, paths):
    y = [0, 1, 0, 1, 0, 1]
    made = estimator(backbone=Pixels, image_reader=read)
    assert clone(made).get_params()["image_reader"] is read
    assert clone(made).set_params(image_reader=None).image_reader is None
    fitted = clone(made).fit(paths, y)
    np.testing.assert_array_equal(fitted.transform(paths), fitted.transform(PICTURES))
    for wrong in ("png", "", 3, [read], True):
        with pytest.raises(InvalidParameterError, match="image_reader"):
            clone(made).set_params(image_reader=wrong).fit(paths, y)
    with pytest.raises(
        InvalidParameterError, match="image_reader='png' must be None, 'dicom', 'heic', 'tiff', or a func"
    ):
        check_images(paths, image_reader="png")


def test_a_search_over_readers_finds_the_best(paths):
    """Only one of the two readers shows the classes."""
    y = np.array([0, 1] * 3)
    shown = {path: np.full((8, 8), 200 * label, np.uint8) for path, label in zip(paths, y, strict=True)}
    right, wrong = shown.get, lambda path: np.zeros((8, 8), np.uint8)
    search = GridSearchCV(PretrainedImageClassifier(backbone=Pixels), {"image_reader": [wrong, right]}, cv=3)
    assert search.fit(paths, y).best_params_["image_reader"] == right


def test_an_estimator_travels_with_its_function(paths):
    """Functions at the top of a module by pickle, and all others as joblib's workers get them."""
    clf = PretrainedImageClassifier(backbone=Pixels, image_reader=read, max_epochs=2, random_state=0)
    clf.fit(paths, [0, 1] * 3)
    expected = clf.predict_proba(paths)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(paths), expected)
    clf.image_reader = lambda path: read(path)
    cloudpickle = pytest.importorskip("cloudpickle", reason="newer versions of joblib bring it, older ones contain it")
    again = pickle.loads(cloudpickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(paths), expected)


@pytest.mark.slow
def test_worker_processes_call_the_function(paths):
    grid = {"image_reader": [lambda path: read(path)], "weight_decay": [0.1, 1]}
    search = GridSearchCV(PretrainedImageClassifier(random_state=0), grid, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(paths, [0, 1] * 3).best_score_ >= 0


@pytest.mark.thorough
def test_a_function_is_refused_by_save_and_a_name_is_kept(tmp_path):
    X = [png(picture) for picture in PICTURES]
    clf = PretrainedImageClassifier(max_epochs=1, random_state=0, image_reader=lambda content: PICTURES[0])
    clf.fit(X, [0, 1] * 3)
    with pytest.raises(InvalidParameterError, match=r"image_reader=.*is a function or class, which cannot be saved"):
        clf.save(tmp_path / "model.sktl")
    clf.set_params(image_reader="dicom").save(tmp_path / "model.sktl")
    assert sktl.load(tmp_path / "model.sktl").image_reader == "dicom"
    clf.set_params(image_reader=None).save(tmp_path / "model.sktl")
    assert sktl.load(tmp_path / "model.sktl").image_reader is None


def test_a_name_reads_all_files_by_that_reader():
    with pytest.raises(InvalidImageError, match=r"is (not a valid|a) \.dcm file"):
        features([png(PICTURES[0])], "dicom")
    with pytest.raises(InvalidImageError, match=r"is (not a valid|a) \.tiff file"):
        features([png(PICTURES[0])], "tiff")


@pytest.mark.thorough
def test_displays_and_rankings_read_as_the_estimator_does(paths):
    pytest.importorskip("matplotlib", reason="displays need matplotlib, an optional package")
    clf = PretrainedImageClassifier(backbone=Pixels, image_reader=read, max_epochs=2, random_state=0)
    clf.fit(paths, [0, 1] * 3)
    display = sktl.PredictionsDisplay.from_estimator(clf, paths, [0, 1] * 3, random_state=0)
    assert len(display.figure_.axes) >= 6
    proba = clf.predict_proba(paths)
    sktl.PredictionsDisplay.from_predictions(paths, [0, 1] * 3, proba, image_reader=read, random_state=0)
    ranking = sktl.rank_backbones(paths, [0, 1] * 3, [Pixels], image_reader=read, cv=2, random_state=0)
    assert [row.status for row in ranking] == ["ok"]


def test_an_error_without_a_text_is_named_by_its_type(paths):
    class FaultError(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fail(path):
        raise FaultError

    (failure,) = check_images(paths[:1], image_reader=fail)
    assert failure.reason == "image_reader failed on it: FaultError: unprintable message"
