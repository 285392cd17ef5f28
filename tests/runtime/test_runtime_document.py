"""The document of an exported model: it returns as it was written, and nothing else is accepted."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sktl._images.preprocessing import Preprocessing
from sktl.exceptions import ModelFileError
from sktl.runtime import document as runtime_document
from sktl.runtime.document import ExportedDocumentError, ModelDocument, References, are_different

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)


def references(n_outputs: int = 2) -> References:
    return References.of(PIXELS, np.full((3, n_outputs), 1 / n_outputs, np.float32))


CLASSES = ModelDocument(
    kind="classes", names=("cat", "dog"), dtype="<U3", is_vector=False, precision="float32",
    preprocessing=Preprocessing(6, (4, 5), "bicubic"), image_reader=None, versions={"sktl": "0"},
    card={"n_images": 7, "of": [None]}, references=references(),
)  # fmt: skip
NUMBERS = replace(CLASSES, kind="numbers", names=None, dtype=None, is_vector=True, references=references(1))
DOCUMENTS = [
    CLASSES,
    NUMBERS,
    replace(NUMBERS, kind="features", is_vector=False, names=("a",), image_reader="dicom"),
    replace(CLASSES, kind="labels", names=(0, 1), dtype="<i8", precision="int8"),
    replace(CLASSES, names=(False, True), dtype="|b1", preprocessing=Preprocessing((4, 7), (4, 5))),
    replace(CLASSES, names=(1.5, 3), dtype="<f4"),
    replace(CLASSES, names=("a", 3), dtype="|O"),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_returns_as_it_was_written(document):
    found = ModelDocument.from_json(document.to_json())
    assert found == document
    np.testing.assert_array_equal(found.references.pixels((4, 5)), PIXELS)


def test_classes_have_the_dtype_of_the_estimator():
    assert CLASSES.classes.dtype == "<U3"
    assert CLASSES.classes.tolist() == ["cat", "dog"]


def forged(**changes: object) -> str:
    content = json.loads(CLASSES.to_json())
    return json.dumps(content | changes)


def preprocessed(**changes: object) -> str:
    return forged(preprocessing=json.loads(CLASSES.to_json())["preprocessing"] | changes)


def referenced(**changes: object) -> str:
    return forged(references=json.loads(CLASSES.to_json())["references"] | changes)


FORGERIES = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "deep": "[" * 100_000,
    "long number": '{"format": ' + "1" * 5_000 + "}",
    "NaN": '{"format": NaN}',
    "many values": '{"format": [' + "[]," * (1 << 21) + "1]}",
    "half a character": forged(names=["\ud800", "dog"]),
    "half a character in a fact": forged(card={"about": ["\udfff"]}),
    "a key twice": '{"format": 1, "format": 1}',
    "no key": '{"format": 1}',
    "format": forged(format=2),
    "format as bool": forged(format=True),
    "format as text": forged(format="1"),
    "unknown key": forged(code="import os"),
    "kind": forged(kind="segments"),
    "kind of a type that cannot be hashed": forged(kind=[]),
    "names": forged(names="ab"),
    "a name": forged(names=[["cat"], "dog"]),
    "null as a name": forged(names=[None, "dog"]),
    "no names": forged(names=[]),
    "too many names": forged(names=["a", "b", "c"]),
    "equal names": forged(names=["a", "a"]),
    "cut names": forged(names=["cats", "dogs"]),
    "a huge dtype": forged(dtype="<U99999999"),
    "a dtype that NumPy lacks": forged(dtype="<f1"),
    "a bool of two bytes": forged(dtype="|b2"),
    "dates": forged(dtype="<M8[s]"),
    "a structured dtype": forged(dtype="i4,i4"),
    "dtype as a number": forged(dtype=3),
    "numbers that overflow": forged(names=[1, 10**30], dtype="<i8"),
    "numbers that are cut": forged(names=[1, 1.5], dtype="<i8"),
    "text as numbers": forged(names=["1", "2"], dtype="<i8"),
    "dtype of numbers": forged(kind="numbers"),
    "is_vector": forged(is_vector=1),
    "classes as a vector": forged(is_vector=True),
    "precision": forged(precision="float64"),
    "image_reader": forged(image_reader="os.system"),
    "versions": forged(versions={"sktl": 3}),
    "card": forged(card=[]),
    "preprocessing": forged(preprocessing=None),
    "huge images": preprocessed(resize=10**9, crop=[10**9, 10**9]),
    "a crop beyond the image": preprocessed(crop=[7, 4]),
    "no pixels": preprocessed(crop=[0, 4]),
    "fractional size": preprocessed(resize=6.5),
    "bool as size": preprocessed(resize=True),
    "one side": preprocessed(crop=[4]),
    "interpolation": preprocessed(interpolation="__class__"),
    "mean": preprocessed(mean=[0, 0]),
    "infinite mean": preprocessed(mean=[0, 0, 10**400]),
    "std": preprocessed(std=[0, 1, 1]),
    "no references": referenced(images=[], outputs=[]),
    "references without outputs": referenced(outputs=[[], [], []]),
    "references of different lengths": referenced(outputs=[[0.5, 0.5], [0.5, 0.5], [1]]),
    "text as output": referenced(outputs=[["0", "1"]] * 3),
    "no base64": referenced(images=["ä"] * 3),
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
def test_a_document_that_was_not_written_by_the_export_is_an_error_of_ours(text):
    with pytest.raises(ModelFileError, match=r"^'cats.onnx' .*(Export|export)") as caught:
        ModelDocument.from_json(text, "'cats.onnx'")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


LABELS = st.lists(st.text(max_size=2) | st.booleans() | st.integers() | st.floats(allow_nan=False), max_size=6)


@given(LABELS)
def test_labels_are_different_if_a_set_of_them_is_as_long(labels):
    assert are_different(labels) == (len(set(labels)) == len(labels))


def test_integers_of_equal_hash_are_compared_in_no_more_time_than_others():
    """A set compares them each with each: this would take minutes."""
    labels = [k * (2**61 - 1) for k in range(1, 100_000)]
    assert len({*map(hash, labels)}) == 1
    assert are_different(labels)


@pytest.mark.thorough
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8), st.data())  # fmt: skip
@settings(max_examples=150)
def test_any_value_in_any_field_is_accepted_or_an_error_of_ours(value, data):
    content = json.loads(CLASSES.to_json())
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    if isinstance(content[key], dict) and content[key] and data.draw(st.booleans()):
        place = content[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = value
    try:
        document = ModelDocument.from_json(json.dumps(content))
    except ModelFileError:
        return
    assert ModelDocument.from_json(document.to_json()) == document
    assert len(document.classes) == document.n_outputs


@given(st.lists(st.text('a",[{\\\u00e9', max_size=9), min_size=1), st.integers(1, 50))
def test_values_are_counted_outside_of_strings(strings, limit):
    n_values = 2 * len(strings)  # each string, and the bracket or comma before it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime_document, "_MOST_VALUES", limit)
        assert runtime_document._has_many_values(json.dumps(strings)) == (n_values > limit)


@pytest.mark.parametrize("unit", ['"', '\\"', ',"\\', "\\", '",', '"\\"', "[" * 9 + '"'])
def test_counting_the_values_of_a_hostile_document_takes_no_longer_than_reading_it(unit):
    text = '"' + ",[{" * 800_000 + unit * (400_000 // len(unit))
    before = time.process_time()
    runtime_document._has_many_values(text)
    assert time.process_time() - before < 2  # of a second for a thousandth of the steps that backtracking would take


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": ("cat", "dog\udcff")}, "not Unicode"), ({"card": {"a": np.inf}}, "not JSON"),
        ({"names": ("cat", "dog", "eel")}, "3 names for 2 outputs"), ({"dtype": "<f16"}, "dtype is '<f16'"),
    ],
)  # fmt: skip
def test_a_document_that_could_not_be_read_is_not_written_and_the_reason_calls_no_file_damaged(changes, reason):
    with pytest.raises(ExportedDocumentError, match=reason) as caught:
        replace(CLASSES, **changes).to_json()
    assert "damaged" not in str(caught.value)


def png(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    "image",
    [
        "", png(Image.new("RGB", (4, 5))), png(Image.new("L", (5, 4))), png(Image.new("RGB", (5, 4)), "BMP"),
        png(Image.new("RGB", (5, 4)))[:60], png(Image.new("RGB", (3_000, 3_000))),
    ],
    ids=["empty", "turned", "gray", "BMP", "cut", "huge"],
)  # fmt: skip
def test_a_forged_reference_image_is_an_error_of_ours(image):
    with pytest.raises(ModelFileError, match="reference image"):
        ModelDocument.from_json(referenced(images=[image] * 3))
