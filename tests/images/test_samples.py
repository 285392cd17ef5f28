"""Any legal form of `X` gives the same pixels; anything else is refused with the culprit and the remedy."""

from __future__ import annotations

import glob
import io
import os
import re
import threading
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sktl._images.decoding import ImageProblem, decode
from sktl._images.input_containers import is_flattened
from sktl._images.preprocessing import Preprocessing
from sktl._images.problems import as_argument
from sktl._images.samples import FileSample, as_samples
from sktl._short_text import type_of
from sktl.exceptions import InvalidImageError, InvalidInputError

PREPROCESSING = Preprocessing(8, (8, 8))
# Sides that cannot be mistaken for channels.
SIDES = st.integers(5, 12)
BATCHES = st.tuples(st.integers(1, 3), SIDES, SIDES, st.just(3)).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
GREY_BATCHES = st.tuples(st.integers(1, 3), SIDES, SIDES).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(X, **kwargs):
    """The RGB pixels of all samples, as the pass over the trunk gets them."""
    return [np.asarray(decode(sample.read(), PREPROCESSING)) for sample in as_samples(X, **kwargs)]


def objects(items):
    """A 1-d object array, whatever the items are."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def assert_same_pixels(found, expected):
    assert len(found) == len(expected)
    for image, want in zip(found, expected, strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, want)


# Every form takes the pixels of a batch, uint8 (n, H, W, 3), and the files that hold them.
FORMS = {
    "list of str": lambda batch, files: [str(file) for file in files],
    "list of Path": lambda batch, files: files,
    "tuple of str": lambda batch, files: tuple(str(file) for file in files),
    "array of str": lambda batch, files: np.array([str(file) for file in files]),
    "array of StringDType": lambda batch, files: np.array([str(file) for file in files], np.dtypes.StringDType()),
    "list of np.str_": lambda batch, files: list(np.array([str(file) for file in files])),
    "object array of Path": lambda batch, files: objects(files),
    "(n, 1) array of str": lambda batch, files: np.array([[str(file)] for file in files]),
    "(n, 1) array of Path": lambda batch, files: objects(files).reshape(-1, 1),
    "(n, 1) array of bytes": lambda batch, files: objects([file.read_bytes() for file in files]).reshape(-1, 1),
    "Series of str": lambda batch, files: pd.Series([str(file) for file in files]),
    "Series of Path": lambda batch, files: pd.Series(files),
    "Series of object str": lambda batch, files: pd.Series([str(file) for file in files], dtype=object),
    "Series of categories": lambda batch, files: pd.Series([str(file) for file in files], dtype="category"),
    "Series of bytes": lambda batch, files: pd.Series([file.read_bytes() for file in files]),
    "Series of PIL": lambda batch, files: pd.Series([Image.open(file) for file in files]),
    "Series of arrays": lambda batch, files: pd.Series(list(batch)),
    "sliced Series": lambda batch, files: pd.Series(["no.png", *map(str, files), "no.png"])[1:-1],
    "Series with repeated index": lambda batch, files: pd.Series(list(map(str, files)), index=[7] * len(files)),
    "reversed Series of a reversed list": lambda batch, files: pd.Series([str(file) for file in files[::-1]])[::-1],
    "one column of str": lambda batch, files: pd.DataFrame({"image": [str(file) for file in files]}),
    "one column of Path": lambda batch, files: pd.DataFrame({"image": files}),
    "one column of bytes": lambda batch, files: pd.DataFrame({"image": [file.read_bytes() for file in files]}),
    "sliced column": lambda batch, files: pd.DataFrame({"image": ["no.png", *map(str, files)]})[1:],
    "list of bytes": lambda batch, files: [file.read_bytes() for file in files],
    "list of bytearray": lambda batch, files: [bytearray(file.read_bytes()) for file in files],
    "list of memoryview": lambda batch, files: [memoryview(file.read_bytes()) for file in files],
    "list of lazy PIL": lambda batch, files: [Image.open(file) for file in files],
    "list of PIL": lambda batch, files: [Image.fromarray(image) for image in batch],
    "object array of PIL": lambda batch, files: objects([Image.fromarray(image) for image in batch]),
    "uint8 NHWC": lambda batch, files: batch,
    "uint8 NCHW": lambda batch, files: batch.transpose(0, 3, 1, 2),
    "read-only uint8": lambda batch, files: np.frombuffer(batch.tobytes(), np.uint8).reshape(batch.shape),
    "list of HWC": lambda batch, files: list(batch),
    "list of CHW": lambda batch, files: list(batch.transpose(0, 3, 1, 2)),
    "object array of HWC": lambda batch, files: objects(list(batch)),
    "strided views": lambda batch, files: np.repeat(np.repeat(batch, 2, 1), 2, 2)[:, ::2, ::2],
    "tensor NHWC": lambda batch, files: torch.tensor(batch),
    "tensor NCHW": lambda batch, files: torch.tensor(batch).permute(0, 3, 1, 2),
    "float tensor NCHW": lambda batch, files: torch.tensor(batch).permute(0, 3, 1, 2) / 255,
    "tensor with gradient": lambda batch, files: (torch.tensor(batch) / 255).requires_grad_(),
    "list of tensors": lambda batch, files: list(torch.tensor(batch).permute(0, 3, 1, 2)),
    "opaque RGBA": lambda batch, files: np.concatenate([batch, np.full_like(batch[..., :1], 255)], -1),
    "mixed list": lambda batch, files: [
        (str(file), file, file.read_bytes(), image, Image.fromarray(image))[i % 5]
        for i, (image, file) in enumerate(zip(batch, files, strict=True))
    ],
    **{f"{dtype.__name__} in [0, 1]": lambda batch, files, d=dtype: (batch / 255).astype(d) for dtype in FLOATS},
}
FLAT_FORMS = {
    "uint8 HWC": lambda batch: (batch.reshape(len(batch), -1), batch.shape[1:]),
    "uint8 CHW": lambda batch: (
        batch.transpose(0, 3, 1, 2).reshape(len(batch), -1),
        (3, *batch.shape[1:3]),
    ),
    "float": lambda batch: (batch.reshape(len(batch), -1) / 255, batch.shape[1:]),
    "frame": lambda batch: (pd.DataFrame(batch.reshape(len(batch), -1) / 255), list(batch.shape[1:])),
    "tensor": lambda batch: (torch.tensor(batch).flatten(1), batch.shape[1:]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


def written(batch, folder):
    files = [folder / f"{uuid.uuid4().hex}.png" for _ in batch]
    for image, file in zip(batch, files, strict=True):
        file.write_bytes(png(image))
    return files


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6)
@given(batch=BATCHES)
def test_every_form_of_the_same_pixels_reads_the_same(form, folder, batch):
    assert_same_pixels(pixels(FORMS[form](batch, written(batch, folder))), batch)


@pytest.mark.parametrize("form", FLAT_FORMS)
@settings(max_examples=10)
@given(batch=BATCHES)
def test_flattened_rows_with_image_shape_read_as_the_images(form, batch):
    X, image_shape = FLAT_FORMS[form](batch)
    assert is_flattened(X)
    assert_same_pixels(pixels(X, image_shape=image_shape), batch)


@settings(max_examples=20)
@given(batch=GREY_BATCHES)
def test_every_form_of_grey_pixels_is_three_equal_channels(batch):
    expected = np.repeat(batch[..., None], 3, -1)
    for X in (batch, batch[..., None], batch[:, None], list(batch), batch / 255, [png(image) for image in batch]):
        assert_same_pixels(pixels(X), expected)
    assert_same_pixels(pixels(batch.reshape(len(batch), -1), image_shape=batch.shape[1:]), expected)


@settings(max_examples=10)
@given(batches=st.lists(BATCHES, min_size=2, max_size=4))
def test_images_of_mixed_sizes_keep_their_order_and_size(batches):
    images = [image for batch in batches for image in batch]
    assert_same_pixels(pixels(images), images)
    assert_same_pixels(pixels(objects(images)), images)


@pytest.mark.parametrize("make", [torch.clone, list])
def test_a_bfloat16_tensor_reads_as_its_float32_values(make):
    X = torch.tensor(np.random.default_rng(0).random((2, 3, 8, 8))).to(torch.bfloat16)
    assert_same_pixels(pixels(make(X)), pixels(X.float()))


@pytest.mark.parametrize("X", [["a\0.png"], pd.Series(["é.png"]), [Path("é.png")]], ids=["null", "Series", "Path"])
def test_a_path_is_named_as_it_was_given_and_not_opened(X):
    (sample,) = as_samples(X)
    assert sample.name == str(next(iter(X)))


def test_polars_columns_read_by_position(folder):
    polars = pytest.importorskip("polars", reason="polars is optional")
    batch = np.random.default_rng(0).integers(0, 256, (3, 6, 7, 3), dtype=np.uint8)
    files = written(batch, folder)
    paths, data = [str(file) for file in files], [file.read_bytes() for file in files]
    for X in (polars.Series(paths), polars.DataFrame({"x": paths}), polars.Series(data), polars.DataFrame({"x": data})):
        assert_same_pixels(pixels(X), batch)


@settings(max_examples=20)
@given(batch=BATCHES, zeros=st.integers(1, 9))
def test_trailing_zero_bytes_survive(batch, zeros):
    data = [png(image) + bytes(zeros) for image in batch]
    for X in (data, objects(data), pd.Series(data), pd.DataFrame({"image": data}), [bytearray(item) for item in data]):
        assert [sample.read() for sample in as_samples(X)] == data


@settings(max_examples=30)
@given(
    batch=BATCHES,
    junk=st.one_of(st.none(), st.integers(), st.floats(), st.booleans(), st.dictionaries(st.text(), st.integers())),
    data=st.data(),
)
def test_an_element_that_is_no_image_is_named_by_its_position(batch, junk, data):
    items = list(batch)
    position = data.draw(st.integers(0, len(items)))
    items.insert(position, junk)
    reason = rf"X\[{position}\] \({type(junk).__name__}\): is not a path, bytes, array or PIL image"
    for X in (items, objects(items)):
        with pytest.raises(InvalidImageError, match=reason) as raised:
            as_samples(X)
        assert [failure.position for failure in raised.value.failures] == [position]


def test_all_bad_elements_are_named_at_once():
    with pytest.raises(InvalidImageError, match=r"2 images(.|\n)*X\[1\] \(NoneType\)(.|\n)*X\[3\] \(int\)") as raised:
        as_samples(["a.png", None, "b.png", 3])
    assert [failure.position for failure in raised.value.failures] == [1, 3]


def test_a_missing_path_in_a_series_is_named_by_its_position():
    with pytest.raises(InvalidImageError, match=r"X\[1\] \(\w+\): is not a path"):
        as_samples(pd.Series(["a.png", None, "b.png"]))


MISSING = {
    "array": lambda: np.full(2, np.nan),
    "one column": lambda: np.full((2, 1), np.nan, np.float32),
    "Series": lambda: pd.Series([np.nan] * 2),
    "Series of Float64": lambda: pd.Series([pd.NA] * 2, dtype="Float64"),
    "Series of times": lambda: pd.Series([pd.NaT] * 2),
    "frame": lambda: pd.DataFrame({"path": [np.nan] * 2}),
    "polars.Series": lambda: pytest.importorskip("polars", reason="polars is optional").Series([None] * 2),
    "polars.DataFrame": lambda: pytest.importorskip("polars", reason="polars is optional").DataFrame({"x": [None] * 2}),
    "pyarrow": lambda: pytest.importorskip("pyarrow", reason="pyarrow is not installed").array([None] * 2),
}


@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_a_column_without_values_holds_missing_images(make):
    with pytest.raises(InvalidImageError) as raised:
        as_samples(make())
    assert [failure.position for failure in raised.value.failures] == [0, 1]
    assert all("a missing value: leave it out" in failure.reason for failure in raised.value.failures)


SINGLES = {
    "path": "x.png",
    "Path": Path("x.png"),
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "PIL": Image.new("RGB", (8, 8)),
    "HWC array": np.zeros((8, 9, 3), np.uint8),
    "HWC float array": np.zeros((8, 9, 3)),
    "HWC tensor": torch.zeros(8, 9, 3),
    "grey array": np.zeros((8, 9), np.uint8),
    "grey tensor": torch.zeros(8, 9),
}


@pytest.mark.parametrize("single", SINGLES)
def test_a_single_image_is_refused_and_shown_in_a_list(single):
    with pytest.raises(InvalidInputError, match=r"[Pp]ass it in a list: \[x\]"):
        as_samples(SINGLES[single])
    assert len(as_samples([SINGLES[single]])) == 1


EMPTIES = [
    [],
    (),
    np.array([], object),
    np.zeros((0, 8, 8, 3), np.uint8),
    pd.Series([], dtype=object),
    torch.zeros(0, 8, 8),
]


@pytest.mark.parametrize("empty", EMPTIES, ids=lambda X: type(X).__name__)
def test_an_empty_x_is_refused_in_the_words_of_scikit_learn(empty):
    with pytest.raises(InvalidInputError, match=r"X is empty: Found array with 0 sample\(s\).*at least one image"):
        as_samples(empty)


@pytest.mark.parametrize("X", [*SINGLES.values(), *EMPTIES, None, 3, {"a": "b"}, scipy.sparse.eye(4), np.zeros((2, 5))])
def test_errors_about_a_whole_argument_name_it(X):
    with pytest.raises(InvalidInputError) as caught, as_argument("verify"):
        as_samples(X)
    with pytest.raises(InvalidInputError) as plain:
        as_samples(X)
    assert str(caught.value).startswith("verify ")
    assert str(caught.value).replace("verify", "X") == str(plain.value)


def test_names_in_errors_about_a_whole_argument_stay(tmp_path):
    (folder := tmp_path / "X").mkdir()
    with (
        pytest.raises(InvalidInputError, match=f"^verify is a folder, '{folder}'. .*list_images.verify"),
        as_argument("verify"),
    ):
        as_samples(folder)


def test_empty_flattened_rows_are_refused_as_empty():
    with pytest.raises(InvalidInputError, match=r"0 sample\(s\)"):
        as_samples(np.zeros((0, 64)), image_shape=(8, 8))


@pytest.mark.parametrize(
    "X",
    [None, 3, 2.5, {"a": "b"}, {"a.png"}, (path for path in ["a.png"]), map(str, [1]), object(), scipy.sparse.eye(4)],
    ids=lambda X: type(X).__name__,
)
def test_an_x_of_another_kind_is_named_beside_the_legal_forms(X):
    with pytest.raises(InvalidInputError, match=rf"X is {type_of(X)}; it must be a list, .* of paths, bytes"):
        as_samples(X)


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 8, 8, 3), (2, 8, 0, 3), (2, 0, 8)])
def test_an_array_of_another_shape_is_named_beside_the_legal_shapes(shape):
    with pytest.raises(InvalidInputError, match=rf"X has shape {re.escape(str(shape))}.*\(n, H"):
        as_samples(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(8, 8, 2), (5, 8, 8), (64,), (2, 5, 8, 8)])
def test_an_image_without_a_channel_axis_is_refused(shape):
    with pytest.raises(InvalidImageError, match=r"X\[1\].*no axis of 1, 3 or 4 channels.*pass shape \(H, W\)"):
        as_samples([np.zeros((8, 8), np.uint8), np.zeros(shape, np.uint8)])
    if len(shape) == 3:
        for many in (np.zeros((2, *shape), np.uint8), np.zeros((9, *shape)), torch.zeros(9, *shape)):
            with pytest.raises(InvalidImageError, match=r"X\[0\].*no axis of 1, 3 or 4 .* bands, or a slice of a vol"):
                as_samples(many)


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 1, 8, 8), (1, 8, 8, 3)])
def test_an_image_with_more_axes_of_length_one_is_refused_with_what_to_pass(shape):
    image = np.zeros(shape, np.uint8)
    with pytest.raises(InvalidImageError, match=r"X\[1\].* has shape .*; pass it without axes of length 1.*np.squeeze"):
        as_samples([np.zeros((8, 8), np.uint8), image])
    as_samples([np.squeeze(image)])


def test_an_image_without_pixels_is_named():
    with pytest.raises(InvalidImageError, match=r"X\[1\].*has no pixels: shape \(0, 8, 3\)"):
        as_samples([np.zeros((8, 8, 3)), np.zeros((0, 8, 3))])


def test_arrays_of_bytes_are_refused_because_they_cut_zeros():
    for X in (np.array([b"a\0", b"bb"]), np.array([[b"a\0"], [b"bb"]])):
        with pytest.raises(InvalidInputError, match=r"dtype \|S2.*cuts trailing zero bytes.*list of bytes"):
            as_samples(X)


@pytest.mark.parametrize("X", [pd.DataFrame({"a": ["x"], "b": ["y"]}), np.array([["x", "y"]])], ids=["frame", "array"])
def test_two_columns_of_paths_are_refused(X):
    with pytest.raises(InvalidInputError, match=r"\(1, 2\); paths and objects must have shape \(n,\) or \(n, 1\)"):
        as_samples(X)


def test_rows_without_image_shape_may_be_features():
    with pytest.raises(InvalidInputError, match="if the rows are features, pass the images instead"):
        as_samples(np.zeros((3, 1280)))


def test_flattened_rows_without_image_shape_are_told_the_likely_one():
    with pytest.raises(InvalidInputError, match=r"X has shape \(5, 64\).*image_shape=\(8, 8\)"):
        as_samples(np.zeros((5, 64)))


@settings(max_examples=20)
@given(n=st.integers(1, 4), values=st.integers(1, 80), shape=st.tuples(SIDES, SIDES))
def test_an_image_shape_is_accepted_iff_it_has_as_many_values_as_the_rows(n, values, shape):
    X = np.zeros((n, values))
    if values == np.prod(shape):
        assert len(as_samples(X, shape)) == n
    else:
        reason = f"has {shape[0] * shape[1]} values, but the rows of X have {values}:"
        with pytest.raises(InvalidInputError, match=reason):
            as_samples(X, shape)


@settings(max_examples=30)
@given(white=st.sampled_from([16, 255, 1023, 4095, 65535]), first=st.integers(0, 2), dtype=st.sampled_from(FLOATS[1:]))
def test_floats_out_of_range_name_the_first_sample_and_the_divisor(white, first, dtype):
    X = np.zeros((5, 6, 6, 3), dtype)
    X[first:, 2, 2] = white
    advice = f"values up to {white}; .*pass x / {white} if white is {white}"
    with pytest.raises(InvalidInputError, match=rf"{advice}.*X\[{first}\]|X\[{first}\].*{advice}"):
        as_samples(X)
    with pytest.raises(InvalidImageError, match=rf"X\[{first}\].*{advice}"):
        as_samples(list(X))
    assert len(as_samples(X / dtype(white))) == 5


def test_one_float_image_out_of_range_among_many_is_the_only_one_named():
    X = np.zeros((5, 6, 6))
    X[3, 0, 0] = -0.5
    with pytest.raises(InvalidImageError, match=r"X\[3\].*values from -0.5 to 0.*undo the normalization") as raised:
        as_samples(X)
    assert [failure.position for failure in raised.value.failures] == [3]


@settings(max_examples=30)
@given(
    bad=st.sets(st.integers(0, 4), min_size=1),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    dtype=st.sampled_from(FLOATS),
    as_list=st.booleans(),
)
def test_every_sample_that_is_not_finite_is_named(bad, value, dtype, as_list):
    X = np.zeros((5, 6, 6), dtype)
    X[sorted(bad), 1, 2] = value
    word = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(InvalidImageError, match=f"contains {word}; every pixel must be a finite number") as raised:
        as_samples(list(X) if as_list else X)
    assert [failure.position for failure in raised.value.failures] == sorted(bad)


@pytest.mark.parametrize(
    ("dtype", "top", "advice"),
    [
        (bool, 1, r"dtype bool; .*x\.astype\(float\)"),
        (np.int64, 255, r"dtype int64 with values from 0 to 255; pass x\.astype\(np\.uint8\)"),
        (np.uint16, 255, r"dtype uint16 with values from 0 to 255; pass x\.astype\(np\.uint8\)"),
        (np.uint16, 4095, r"dtype uint16.*pass x / 4095"),
        (np.uint16, 65535, r"dtype uint16.*pass x / 65535"),
        (np.int32, 10**9, r"dtype int32.*divide by the value of white"),
        (np.int16, -5, r"dtype int16.*values from -5 to 0"),
        (complex, 1, r"dtype complex128; pass uint8, or floats in \[0, 1\]"),
    ],
)
def test_other_dtypes_than_uint8_and_float_are_refused_with_advice(dtype, top, advice):
    X = np.zeros((2, 6, 6), dtype)
    X[1, 0, 0] = top
    with pytest.raises(InvalidInputError, match=advice):
        as_samples(X)
    with pytest.raises(InvalidImageError, match=r"X\[1\] \(ndarray\): has dtype"):
        as_samples([np.zeros((6, 6), np.uint8), X[1]])


VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=1), inner)),
    max_leaves=6,
)


@pytest.mark.thorough
@settings(max_examples=200)
@given(
    X=st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=4), hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes()))
)
def test_whatever_x_is_the_answer_is_one_sample_per_item_or_a_named_error(X):
    try:
        samples = as_samples(X)
    except InvalidInputError:
        return
    assert len(samples) == len(X)


@settings(max_examples=100)
@given(X=VALUES)
@example(X=[[1, [2, 3]], [4, [5, 6]]])
def test_is_flattened_answers_for_any_value(X):
    assert is_flattened(X) in (True, False)


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((2, 4)),
        np.zeros((2, 4), np.uint8),
        pd.DataFrame(np.zeros((2, 4))),
        [[0, 1], [2, 3]],
        [np.zeros(4)],
        torch.zeros(2, 4),
        scipy.sparse.csr_array((2, 4)),
    ],
    ids=lambda X: type(X).__name__,
)
def test_rows_of_numbers_are_flattened(X):
    assert is_flattened(X)


@pytest.mark.parametrize(
    "X",
    [
        [],
        None,
        "a.png",
        ["a.png"],
        [b"a"],
        [["a.png"]],
        np.array([["a.png"]]),
        np.array([[Path("a.png")]]),
        pd.Series(["a.png"]),
        pd.DataFrame({"a": ["a.png"]}),
        np.zeros((2, 8, 8)),
        [np.zeros((8, 8))],
        torch.zeros(2, 8, 8),
        [Image.new("L", (8, 8))],
    ],
    ids=lambda X: type(X).__name__,
)
def test_all_else_is_not_flattened(X):
    assert not is_flattened(X)


def test_a_file_is_read_anew_each_time(tmp_path):
    file = tmp_path / "x.png"
    (sample,) = as_samples([file])
    for content in (b"first", b"second"):
        file.write_bytes(content)
        assert sample.read() == content


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.png", tmp_path / "none" / "none.png", ""):
        with pytest.raises(ImageProblem, match="no such file"):
            as_samples([path])[0].read()


def test_a_bare_name_that_is_no_file_is_looked_for_in_the_working_folder():
    with pytest.raises(ImageProblem, match=r"^no such file in the working folder$"):
        as_samples(["none.png"])[0].read()


def test_a_file_url_is_the_path(tmp_path):
    file = tmp_path / "a b#%41.png"
    file.write_bytes(b"content")
    (sample,) = as_samples([file.as_uri()])
    assert (sample.read(), sample.name, sample.stamp()) == (b"content", str(file), as_samples([file])[0].stamp())


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (Path("https://me:secret@example.org/cat.jpg?sig=secret"), "pass the URL as a str"),
        ("photos/https://me:secret@example.org/cat.jpg?sig=secret", "is a path with a URL in it; pass the URL alone"),
        (Path("photos") / "s3://me:secret@bucket/cat.jpg", "is a path with a URL in it; pass the URL alone"),
    ],
)
def test_a_url_that_was_made_a_path_is_named_with_the_remedy_and_without_its_secrets(x, reason):
    (sample,) = as_samples([x])
    assert "secret" not in sample.name
    with pytest.raises(ImageProblem, match=reason) as caught:
        sample.read()
    assert "secret" not in str(caught.value)


def test_white_space_around_a_url_is_no_part_of_it():
    (sample,) = as_samples([" memory://photos/cat.jpg\r\n"])
    assert sample.name == "memory://photos/cat.jpg"


def remedied(x):
    """What comes of the code that the reason advises."""
    with pytest.raises(ImageProblem) as raised:
        as_samples([x])[0].read()
    names = {"os": os, "glob": glob, "urllib": urllib, "x": x}
    return eval(re.split(r"pass (?:the files that|the path:)? ?", str(raised.value))[1].removesuffix(" returns"), names)


def test_the_remedy_for_a_path_that_is_written_otherwise_works(tmp_path, monkeypatch):
    file = tmp_path / "a b.png"
    file.write_bytes(png(np.zeros((5, 5), np.uint8)))
    monkeypatch.setenv("HOME", str(tmp_path))
    for x in (f"{file}\n", f" {file}\r\n", Path(f"{file}\n")):
        assert remedied(x) == str(file)
    assert remedied(f"{tmp_path}/a*.png") == [str(file)]
    with pytest.raises(ImageProblem, match=r"^no such file: no file matches the pattern$"):
        as_samples([tmp_path / "b*.png"])[0].read()
    if os.sep == "/":
        assert remedied(str(file).replace("/", "\\")) == str(file)
    assert remedied(str(file.with_suffix(""))) == str(file)


def test_a_directory_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ImageProblem, match=r"is a directory.*load_image_folder"):
        as_samples([tmp_path])[0].read()


def test_a_path_that_no_file_can_have_is_named():
    for path in ("a\0b.png", "x" * 100_000):
        with pytest.raises(ImageProblem, match=r"cannot be read: .+"):
            as_samples([path])[0].read()


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    file = tmp_path / "secret.png"
    file.write_bytes(png(np.zeros((5, 5), np.uint8)))
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read every file (root, or Windows)")
    with pytest.raises(ImageProblem, match="cannot be read: Permission denied"):
        FileSample(str(file)).read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    problems = []

    def read():
        try:
            as_samples([fifo])[0].read()
        except ImageProblem as problem:
            problems.append(str(problem))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=5)
    if reader.is_alive():
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    assert problems == ["is not a regular file"]


def saved(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
FILES = {
    "JPEG": saved(NOISE, "JPEG"),
    "JPEG turned": saved(NOISE, "JPEG", exif=turned()),
    "JPEG CMYK": saved(NOISE.convert("CMYK"), "JPEG"),
    "PNG": saved(NOISE, "PNG"),
    "PNG turned": saved(NOISE, "PNG", exif=turned()),
    "PNG palette": saved(NOISE.quantize(64), "PNG", transparency=3),
    "PNG 1-bit": saved(NOISE.convert("1"), "PNG"),
    "PNG LA": saved(NOISE.convert("LA"), "PNG"),
    "PNG 16-bit": saved(Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) * 32), "PNG"),
    "GIF": saved(NOISE, "GIF", save_all=True, append_images=[Image.new("RGB", (50, 40), "red")]),
    "TIFF turned": saved(NOISE, "TIFF", exif=turned()),
    "WebP": saved(NOISE, "WEBP"),
}


@pytest.mark.parametrize("file", FILES)
def test_a_pil_image_is_not_changed_by_reading(file):
    twin, image = Image.open(io.BytesIO(FILES[file])), Image.open(io.BytesIO(FILES[file]))
    twin.load()
    for _ in range(2):
        as_samples([image])[0].read()
        assert (image.mode, image.size, image.format) == (twin.mode, twin.size, twin.format)
        assert image.info == twin.info
        assert image.tobytes() == twin.tobytes()
        assert dict(image.getexif()) == dict(twin.getexif())
        assert image.getpalette() == twin.getpalette()


@pytest.mark.parametrize("file", FILES)
def test_what_is_read_from_a_pil_image_is_no_view_of_it(file):
    image = Image.open(io.BytesIO(FILES[file]))
    before = as_samples([image])[0].read()
    kept = before.copy()
    image.paste(0, (0, 0, *image.size))
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize("file", FILES)
def test_a_lazy_pil_image_reads_the_same_from_many_threads_at_once(file):
    expected = as_samples([Image.open(io.BytesIO(FILES[file]))])[0].read()
    barrier = threading.Barrier(8)

    def read(sample):
        barrier.wait(timeout=30)
        return sample.read()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            samples = as_samples([Image.open(io.BytesIO(FILES[file]))] * 8)
            assert_same_pixels(list(pool.map(read, samples)), [expected] * 8)


def test_a_closed_or_damaged_pil_image_is_refused(tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(FILES["PNG"])
    with Image.open(file) as closed:
        pass
    for image in (closed, Image.open(io.BytesIO(FILES["JPEG"][:-500]))):
        with pytest.raises(ImageProblem, match=r"cannot be loaded: .+"):
            as_samples([image])[0].read()


@pytest.mark.parametrize("mode", ["La", "I", "F", "LAB", "HSV", "YCbCr", "RGBa", "PA"])
def test_a_pil_image_of_any_mode_gives_pixels_or_a_reason(mode):
    (sample,) = as_samples([Image.new(mode, (6, 5))])
    try:
        content = sample.read()
    except ImageProblem as problem:
        assert str(problem)  # noqa: PT017 - either answer is right
    else:
        assert content.shape == (5, 6, 3)
        assert content.dtype == np.uint8


def test_a_released_memoryview_is_refused():
    released = memoryview(FILES["PNG"])
    released.release()
    with pytest.raises(InvalidImageError, match=r"X\[1\] \(memoryview\): is a released memoryview; pass bytes"):
        as_samples([FILES["PNG"], released])
