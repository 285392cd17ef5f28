"""What a document says about a fit is read as it was written, and anything else is refused before it is used."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, from_dtype
from numpy.testing import assert_array_equal

from sktl._estimators import loading_checks as values
from sktl._estimators.saving import _encode_outputs
from sktl._storage.model_file import SavedDocumentError
from sktl.exceptions import InvalidParameterError

TYPES = ["?", "i1", ">i2", "u4", "i8", "u8", "f2", "f4", ">f8", "U3", ">U9", "U400", "O"]


def classifier(classes):
    counts = np.ones(len(classes), np.int64)
    return SimpleNamespace(classes_=classes, class_count_=counts, multilabel_=False)


@given(data=st.data(), dtype=st.sampled_from(TYPES).map(np.dtype))
def test_labels_of_every_type_are_read_as_they_were_written(data, dtype):
    numbers = st.integers(-(2**70), 2**70) if dtype == "O" else from_dtype(dtype, allow_nan=False)
    classes = np.unique(data.draw(arrays(dtype, st.integers(1, 4), elements=numbers)))
    described = _encode_outputs(classifier(classes))["classes"]
    found = values.classes_of(described)
    assert found.dtype == classes.dtype
    assert_array_equal(found, classes)
    assert [*map(type, found.tolist())] == [*map(type, classes.tolist())]
    assert_array_equal(values.counts_of(described), 1)


@pytest.mark.parametrize("dtype", ["O", "U9"])
def test_text_is_read_if_and_only_if_it_is_written(dtype):
    """Bytes of names of folders that are not UTF-8 become halves of characters, which can be written."""
    valid, invalid = np.array(["ciel \udce9", "\U0001f600"], dtype), np.array(["a", "\ud800"], dtype)
    assert_array_equal(values.classes_of(_encode_outputs(classifier(valid))["classes"]), valid)
    assert_array_equal(values.names_of(valid.tolist(), 2), valid)
    with pytest.raises(
        InvalidParameterError, match=r"'\\ud800' is a label of classes_, but not valid Unicode\. Rename"
    ):
        _encode_outputs(classifier(invalid))
    described = _encode_outputs(classifier(valid))["classes"]
    with pytest.raises(SavedDocumentError, match="a label is not valid Unicode"):
        values.classes_of(described | {"labels": invalid.tolist()})
    with pytest.raises(SavedDocumentError, match="a name of a column or a number is not valid Unicode"):
        values.names_of(invalid.tolist(), 2)


@pytest.mark.parametrize("n_bytes", [2**26 - 4, 2**26, 2**26 + 4])
def test_labels_are_read_if_and_only_if_they_are_written(n_bytes):
    classes = np.array(["a"]).astype(f"<U{n_bytes // 4}")
    described = {"labels": ["a"], "dtype": classes.dtype.str, "multilabel": False}
    if n_bytes <= 2**26:
        assert _encode_outputs(classifier(classes))["classes"]["dtype"] == classes.dtype.str
        assert values.classes_of(described).dtype == classes.dtype
        return
    for convert in (lambda: _encode_outputs(classifier(classes)), lambda: values.classes_of(described)):
        with pytest.raises(InvalidParameterError, match=r"Fit with y\.astype\(object\)"):
            convert()


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([0, 1], "|b1"), ([1.0, 2.0], "<i8"), ([1, 2], "<f8"), ([1, 300], "|u1"), (["1", "2"], "<i8"), ([1, 2], "<U1"),
        (["aa", "b"], "<U1"), (["b", "a"], "<U1"), (["a", "a"], "<U1"), ([1.0, 1e300], "<f2"), ([None, 1], "|O"),
        ([0.1, 0.2], "<f4"), (["a"], "<U4,(10000000)f8"), (["a"], 5), ([{"float": "nan"}, 1.0], "<f8"),
    ],
)  # fmt: skip
def test_labels_that_their_type_does_not_hold_are_refused(labels, dtype):
    with pytest.raises(SavedDocumentError):
        values.classes_of({"labels": labels, "dtype": dtype, "multilabel": False})


PREPROCESSING = {
    "resize": 40, "crop": {"tuple": [32, 32]}, "interpolation": "bicubic", "mean": {"tuple": [0.5, 0.5, 0.5]},
    "std": {"tuple": [1, 0.5, 0.5]},
}  # fmt: skip


def preprocessing(**changed):
    return values.preprocessing_of({"value": "Preprocessing", "of": PREPROCESSING | changed})


@pytest.mark.parametrize("resize", [32, {"tuple": [32, 50]}])
def test_a_preprocessing_is_read(resize):
    found = preprocessing(resize=resize)
    assert found.crop == (32, 32)
    assert found.std == (1, 0.5, 0.5)


def test_a_crop_may_be_longer_than_the_shorter_side():
    assert preprocessing(crop={"tuple": [32, 60]}).crop == (32, 60)


@pytest.mark.parametrize(
    "changed",
    [
        {"interpolation": "foo"}, {"interpolation": 3}, {"resize": 31}, {"resize": True}, {"resize": 2049},
        {"resize": {"tuple": [40]}}, {"resize": {"tuple": [40, 31]}}, {"resize": {"tuple": [40, 40, 40]}},
        {"resize": {"tuple": [2049, 40]}}, {"crop": {"tuple": [0, 32]}}, {"crop": [32, 32]}, {"crop": 32},
        {"std": {"tuple": [1, 1, 0]}}, {"std": {"tuple": [1, 1]}}, {"mean": {"tuple": [{"float": "inf"}, 0, 0]}},
        {"mean": {"tuple": ["0", 0, 0]}},
    ],
)  # fmt: skip
def test_a_preprocessing_that_no_image_can_have_is_refused(changed):
    with pytest.raises(SavedDocumentError):
        preprocessing(**changed)


def row(**row_values):
    return {"dict": [*map(list, row_values.items())]}


@pytest.mark.parametrize(
    ("read", "described"),
    [
        (values.preprocessing_of, 5),
        (values.recipe_of, {"recipe": {"dict": []}}),
        *[(values.history_of, {"history": [rows]}) for rows in (1, row(), row(epoch="1"), row(epoch=True))],
        *[(values.history_of, {"history": [row(epoch=1) | row(epoch=1, train_loss=x)]}) for x in ("x", 10**400, None)],
        *[(values.n_iter_of, {"n_iter": n}) for n in (-1, 1.0, True, "7" * 4000, 10**4000)],
        *[(values.failures_of, {"invalid_images": [one]}) for one in (1, {"dict": []})],
        *[
            (values.selection_of, {"selection": found})
            for found in ({"a": ["x"]}, {"a": [1], "b": []}, {"a": [True]}, {"refined": [1]})
        ],
        *[(values.columns_of, {"n_features": n, "names": None}) for n in (0, True, "7", 10**4000)],
        *[(values.columns_of, {"n_features": 1, "names": names}) for names in (5, "a", [], [1], ["a", "b"])],
        *[(values.count_outputs, {"numbers": {"n_outputs": n, "is_vector": False}}) for n in (0, True, 2.0, 10**4000)],
        (values.count_outputs, {}),
        (values.count_outputs, {"numbers": {"n_outputs": 2, "is_vector": True}}),
        (lambda value: values.name_of(value, "engine", ("torch",)), "x" * 10**6),
        (lambda value: values.name_of(value, "name"), 5),
    ],
)
def test_values_of_other_types_are_refused_in_a_short_line(read, described):
    with pytest.raises(SavedDocumentError) as caught:
        read(described)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_what_a_fit_writes_is_read():
    assert values.history_of({"history": [row(epoch=1, dur=0.5, train_loss=float("nan"), mine=[1])]})[0]["epoch"] == 1
    assert values.columns_of({"n_features": None, "names": None}) == (None, None)
    n_features, names = values.columns_of({"n_features": 2, "names": ["a", "b"]})
    assert n_features == 2
    assert names.tolist() == ["a", "b"]
    found = values.selection_of({"selection": {"n": [1, 2], "loss": [0.5, {"float": "nan"}]}})
    assert [column.dtype.kind for column in found.values()] == ["i", "f"]
    assert values.selection_of({}) == values.selection_of({"selection": {}}) == {}
