"""Exported models predict as the estimator did: same pixels, any form of images, any batch, any thread."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_models as exported
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sktl._features.decoding_ahead import Decoder
from sktl._images.content_keys import content_key
from sktl._images.samples import as_samples
from sktl.datasets import LazyImages
from sktl.exceptions import (
    InvalidImageError,
    InvalidInputError,
    InvalidParameterError,
    ModelFileError,
    TypicalityError,
)
from sktl.runtime import OnnxClassifier, open_model
from sktl.runtime.batches import _map_ahead
from sktl.runtime.records import records

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (25, 50, 40, 3), np.uint8)
CLASSIFIER = OnnxClassifier(exported.content(typicality=True), n_threads=2)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PHOTO = Image.fromarray(RNG.integers(0, 256, (90, 70, 3), np.uint8)).resize((700, 900), Image.Resampling.BICUBIC)
RAMP = np.linspace(0, 65535, 70 * 50).astype(np.uint16).reshape(50, 70)
FILES = {
    "JPEG": saved(PHOTO, "JPEG"),
    "JPEG that EXIF turns": saved(PHOTO, "JPEG", exif=turned()),
    "CMYK": saved(PHOTO.convert("CMYK"), "JPEG"),
    "PNG with alpha": saved(Image.merge("RGBA", [*PHOTO.split(), PHOTO.getchannel(0)]), "PNG"),
    "16 bits": saved(Image.fromarray(RAMP), "PNG"),
    "palette": saved(PHOTO.quantize(8), "PNG", transparency=0),
    "gray": saved(PHOTO.convert("L"), "WEBP"),
    "elongated": saved(Image.new("RGB", (900, 3), "red"), "BMP"),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_pixels_are_those_of_a_fit(content):
    decoder, key = Decoder(as_samples([content]), CLASSIFIER.document.preprocessing), content_key(content)
    decoder.add(key, 0, key, None)
    pixels = CLASSIFIER.preprocess([content])
    np.testing.assert_array_equal(pixels, decoder(key)[None])
    expected = exported.outputs_for("classes", pixels)
    np.testing.assert_allclose(CLASSIFIER.predict_proba([content]), expected, atol=1e-5)


def test_every_form_of_images_gives_the_same(tmp_path):
    expected = CLASSIFIER.predict_proba(X)
    paths = []
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    pictures = [Image.fromarray(image) for image in X]
    forms = [paths, np.array(list(map(str, paths))), [path.read_bytes() for path in paths], pictures, [*X], X / 255,
             X.transpose(0, 3, 1, 2), LazyImages(pictures)]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(CLASSIFIER.predict_proba(form), expected)


@given(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=30))
@settings(max_examples=25)
def test_a_prediction_depends_neither_on_its_neighbors_nor_on_the_order(rows):
    np.testing.assert_allclose(CLASSIFIER.predict_proba(X[rows]), ALL[rows], atol=1e-6)


ALL = CLASSIFIER.predict_proba(X)


@pytest.mark.parametrize("n_threads", [1, 3, None])
def test_a_prediction_does_not_depend_on_the_threads(n_threads):
    model = OnnxClassifier(exported.content(typicality=True), n_threads=n_threads)
    np.testing.assert_allclose(model.predict_proba(X), ALL, atol=1e-6)
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(model.predict_proba, [X] * 12):
            np.testing.assert_allclose(found, ALL, atol=1e-6)


def test_a_classifier_predicts_classes():
    probabilities = CLASSIFIER.predict_proba(X)
    assert probabilities.dtype == np.float64
    assert CLASSIFIER.predict(X).dtype == CLASSIFIER.classes_.dtype == "<U5"
    np.testing.assert_array_equal(CLASSIFIER.predict(X), CLASSIFIER.classes_[probabilities.argmax(1)])
    assert not CLASSIFIER.multilabel_
    np.testing.assert_allclose(
        CLASSIFIER.typicality(X[:3]), CLASSIFIER.preprocess(X[:3]).mean((1, 2)).max(1) / 255, 1e-5
    )


def test_several_labels_are_a_table():
    model = open_model(exported.content("labels"))
    assert model.multilabel_
    probabilities = model.predict_proba(X // 200 * 255)
    table = model.predict(X // 200 * 255)
    assert table.dtype == np.int64
    np.testing.assert_array_equal(table, probabilities > 0.5)


def test_numbers_have_the_shape_of_y():
    model = open_model(exported.content("numbers"))
    assert (model.predict(X).shape, model.predict(X).dtype, model.output_names_) == ((25, 3), "float64", None)
    named = open_model(exported.content("numbers", names=("r", "g", "b")))
    assert named.output_names_.tolist() == ["r", "g", "b"]


def test_features_stay_in_single_precision():
    features = open_model(exported.content("features")).transform(X)
    assert (features.shape, features.dtype) == ((25, 3), np.float32)


def test_typicality_that_was_not_exported_is_said():
    with pytest.raises(TypicalityError, match="exported without references"):
        open_model(exported.content()).typicality(X)


def test_all_images_that_cannot_be_used_are_listed():
    X = [FILES["gray"], b"text", *[FILES["gray"]] * 40, "absent.jpg", FILES["JPEG"][:400]]
    with pytest.raises(InvalidImageError) as caught:
        CLASSIFIER.predict(X)
    assert [failure.position for failure in caught.value.failures] == [1, 42, 43]
    with pytest.raises(InvalidImageError, match=r"X\[0\] \(NoneType\)"):
        CLASSIFIER.predict([None])


@pytest.mark.parametrize("images", [[], np.zeros((0, 8, 8)), "cat.jpg", FILES["gray"], 3, None])
def test_what_is_no_list_of_images_is_an_invalid_input(images):
    with pytest.raises(InvalidInputError):
        CLASSIFIER.predict(images)


def test_pixels_of_another_shape_are_refused():
    pixels = CLASSIFIER.preprocess(X[:2])
    assert [output.shape for output in CLASSIFIER.run(pixels)] == [(2, 3), (2,)]
    for wrong in (pixels[0], pixels[:0], pixels.astype(float), pixels[:, 1:], pixels.tolist()):
        with pytest.raises(InvalidInputError, match="pixels must be a uint8 array"):
            CLASSIFIER.run(wrong)


@pytest.mark.parametrize("n_threads", [0, -1, True, 1.5, "2", 10**6])
def test_a_number_of_threads_is_checked(n_threads):
    with pytest.raises(InvalidParameterError, match="n_threads="):
        open_model(exported.content(), n_threads=n_threads)


def test_a_reader_is_used_and_its_name_is_in_the_file():
    with pytest.raises(InvalidParameterError, match="image_reader='bmp'"):
        open_model(exported.content(), image_reader="bmp")
    model = open_model(exported.content(), image_reader=lambda given: Image.new("RGB", (9, 9), "blue"))
    assert model.predict([b"anything"]).tolist() == ["blue"]
    medical = open_model(exported.content(image_reader="dicom"))
    with pytest.raises(InvalidImageError, match="dcm"):
        medical.predict([FILES["gray"]])


def test_a_pickle_names_the_file_or_contains_the_bytes(tmp_path):
    path = tmp_path / "colors.onnx"
    path.write_bytes(exported.content())
    by_path, by_bytes = OnnxClassifier(path, n_threads=1), OnnxClassifier(exported.content())
    with open(path, "rb") as file:
        by_file = OnnxClassifier(file)
    pickles = [pickle.dumps(model) for model in (by_path, by_bytes, by_file)]
    assert [len(content) > 9_000 for content in pickles] == [False, True, True]
    for content in pickles:
        np.testing.assert_allclose(pickle.loads(content).predict_proba(X), ALL, atol=1e-6)
    assert pickle.loads(pickles[0]).n_threads == 1
    np.testing.assert_allclose(copy.deepcopy(by_path).predict_proba(X), ALL, atol=1e-6)
    path.write_bytes(exported.content("classes", typicality=True))
    with pytest.raises(ModelFileError, match="has changed since it was opened"):
        pickle.loads(pickles[0])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_images_are_decoded_a_bounded_number_ahead(n_threads):
    computed = []
    mapped = _map_ahead(lambda i: computed.append(i) or i * 2, range(1_000), n_threads, 5)
    for i, value in enumerate(mapped):
        assert value == 2 * i
        assert len(computed) <= i + 6
    assert len(computed) == 1_000


@pytest.mark.parametrize(
    ("kind", "names", "expected"),
    [
        (
            "classes",
            (3, 5, 7),
            {"prediction": 5, "probability": 0.75, "probabilities": {"3": 0.25, "5": 0.75, "7": 0.0}},
        ),
        (
            "classes",
            (1, "1", "a"),
            {"prediction": "1", "probability": 0.75, "probabilities": {"1": 0.25, "'1'": 0.75, "'a'": 0.0}},
        ),
        ("labels", (1, "1", "a"), {"prediction": ["1"], "probabilities": {"1": 0.25, "'1'": 0.75, "'a'": 0.0}}),
        ("labels", ("a", "b", "c"), {"prediction": ["b"], "probabilities": {"a": 0.25, "b": 0.75, "c": 0.0}}),
        ("numbers", None, {"prediction": {"number 0": 0.25, "number 1": 0.75, "number 2": 0.0}}),
        ("features", None, {"features": [0.25, 0.75, 0.0]}),
    ],
)  # fmt: skip
def test_records_say_what_is_predicted(kind, names, expected):
    outputs = np.float32([[0.25, 0.75, 0]])
    document = exported.document(kind, names=names)
    assert records(document, [outputs]) == [expected]
    assert records(document, [outputs, np.float32([0.5])]) == [expected | {"typicality": 0.5}]
