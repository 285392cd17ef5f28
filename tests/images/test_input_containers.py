"""Containers and arrays of any library read as the same NumPy array, or are refused by name with what to pass."""

from __future__ import annotations

import io
import os
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torchvision import tv_tensors

import sktl.datasets
from sktl import check_images
from sktl._images.samples import as_samples
from sktl.exceptions import InvalidImageError, InvalidInputError, InvalidParameterError

BATCH = np.random.default_rng(0).integers(0, 256, (3, 6, 7, 3), np.uint8)
FLOATS = torch.from_numpy(BATCH).permute(0, 3, 1, 2) / 255


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Foreign:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)


class Exchanged:
    """An array that is only exchanged by DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Subclass(np.ndarray):
    pass


TENSORS = {
    "sparse": torch.Tensor.to_sparse,
    "quantized": lambda X: torch.quantize_per_tensor(X, 1 / 255, 0, torch.quint8),
    "half": torch.Tensor.half,
    "bfloat16": torch.Tensor.bfloat16,
    "float8": lambda X: X.to(torch.float8_e4m3fn),
    "double": torch.Tensor.double,
    "negative view": lambda X: torch._neg_view(-X),
    "with gradient": lambda X: X.clone().requires_grad_(),
    "parameter": torch.nn.Parameter,
    "tv_tensors.Image": tv_tensors.Image,
}


@pytest.mark.filterwarnings("ignore:.*quantize:Warning")
@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_of_any_kind_reads_as_its_values(kind):
    X = TENSORS[kind](FLOATS)
    values = X.dequantize() if X.is_quantized else X.detach().to_dense().float().resolve_neg()
    expected = [sample.read() for sample in as_samples(np.asarray(values))]
    for given in (X, [TENSORS[kind](image) for image in FLOATS]):
        for sample, pixels in zip(as_samples(given), expected, strict=True):
            assert_array_equal(sample.read(), pixels)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_a_nested_tensor_is_a_list_of_images_of_different_sizes():
    images = [FLOATS[0], FLOATS[1, :, :5]]
    found = [sample.read() for sample in as_samples(torch.nested.nested_tensor(images))]
    for pixels, image in zip(found, as_samples(images), strict=True):
        assert_array_equal(pixels, image.read())


NO_TENSORS = {
    "int64": (torch.Tensor.long, "has dtype int64"),
    "bool": (torch.Tensor.bool, r"has dtype bool; .*pass x\.float\(\)"),
    "complex": (lambda X: X.to(torch.complex64).conj(), "has dtype complex64; pass uint8"),
    "half complex": (lambda X: X.to(torch.complex32), "is a Tensor that NumPy cannot convert.*pass an array"),
    "meta": (lambda X: X.to("meta"), "is a tensor on the device meta, which has no values"),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("kind", NO_TENSORS)
def test_a_tensor_that_holds_no_pixels_is_refused_with_what_to_pass(kind):
    make, reason = NO_TENSORS[kind]
    with pytest.raises(InvalidInputError, match=f"^X {reason}"):
        as_samples(make(FLOATS))
    with pytest.raises(InvalidImageError, match=rf"X\[1\] \(Tensor\): {reason}"):
        as_samples([BATCH[0], make(FLOATS[0])])


ARRAYS = {
    "of another library": Foreign,
    "by DLPack": Exchanged,
    "subclass": lambda X: X.view(Subclass),
    "masked nowhere": np.ma.array,
    "Fortran": np.asfortranarray,
    "reversed": lambda X: X[..., ::-1][..., ::-1],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_of_any_kind_reads_as_its_values(kind):
    for X in (ARRAYS[kind](BATCH), [ARRAYS[kind](image) for image in BATCH]):
        assert_array_equal([sample.read() for sample in as_samples(X)], BATCH)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_an_image_or_rows():
    grey = BATCH[0, ..., 0]
    (sample,) = as_samples([np.matrix(grey)])
    assert_array_equal(sample.read()[..., 0], grey)
    assert_array_equal(as_samples(np.matrix(grey.reshape(1, -1)), grey.shape)[0].read(), sample.read())


@pytest.fixture
def files(tmp_path):
    for number, image in enumerate(BATCH):
        (tmp_path / f"{number}.png").write_bytes(png(image))
    return sorted(map(str, tmp_path.glob("*.png")))


COLUMNS = {
    "Index": pd.Index,
    "Categorical": pd.Categorical,
    "array": pd.array,
    "string Series": lambda files: pd.Series(files, dtype="string"),
    "array of another library": lambda files: Foreign(np.array(files)),
    "list of 0-d arrays": lambda files: [np.array(file) for file in files],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_paths(kind, files):
    assert [sample.name for sample in as_samples(COLUMNS[kind](files))] == files


@pytest.mark.parametrize(
    "X",
    [
        pd.Series(["a.png", pd.NA], dtype="string"),
        pd.Series(["a.png", None], dtype="category"),
        np.array(["a.png", None], np.dtypes.StringDType(na_object=None)),
        ["a.png", pd.NaT],
        ["a.png", np.float32("nan")],
    ],
    ids=lambda X: type(X[1]).__name__,
)
def test_a_missing_value_is_named_as_such(X):
    with pytest.raises(InvalidImageError, match=r"X\[1\] \(\w+\): is not a path.* but a missing value: leave it out"):
        as_samples(X)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(BATCH)

    def __getitem__(self, number):
        if number >= len(BATCH):
            raise IndexError(number)
        return BATCH[number], number


class Table:
    """Like a dataset of the package datasets."""

    column_names = ("image", "label")

    def __getitem__(self, key):
        return list(BATCH) if key == "image" else [0, 1, 0]


class Batches:
    """Like a `tf.data.Dataset` of one batch."""

    def __iter__(self):
        return iter([(BATCH, [0, 1, 0])])

    def unbatch(self):
        return self

    def as_numpy_iterator(self):
        return zip(BATCH, [0, 1, 0], strict=True)


IMAGES = list(BATCH)
# Containers, and the code in the message that makes a list of them.
CONTAINERS = {
    "generator": (lambda: (image for image in IMAGES), "list(X)"),
    "iterator": (lambda: iter(IMAGES), "list(X)"),
    "values": (lambda: dict(enumerate(IMAGES)).values(), "list(X)"),
    "dict": (lambda: dict(enumerate(IMAGES)), "list(X.values())"),
    "DataLoader": (lambda: torch.utils.data.DataLoader(Pairs()), "sktl.datasets.from_dataset(X.dataset)"),
    "table": (Table, "X['image']"),
    "tf.data": (Batches, "[image for image, label in X.unbatch().as_numpy_iterator()]"),
    "BytesIO": (lambda: io.BytesIO(png(BATCH[0])), "[X.getvalue()]"),
    "sparse": (lambda: scipy.sparse.coo_array(BATCH[..., 0] / 255), "X.toarray()"),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_another_container_is_refused_and_the_remedy_works(kind):
    make, remedy = CONTAINERS[kind]
    with pytest.raises(InvalidInputError, match=f"X is a .*; it must be a list.*{re.escape(remedy)}") as raised:
        as_samples(make())
    assert " at 0x" not in str(raised.value)
    found = eval(remedy, {"X": make(), "sktl": sktl})
    assert check_images(found[0] if kind == "DataLoader" else found) == []


ITEMS = {
    "BytesIO": (lambda: io.BytesIO(png(BATCH[0])), "x.getvalue()"),
    "sparse": (lambda: scipy.sparse.csr_array(BATCH[0, ..., 0]), "x.toarray()"),
    "numbers": (lambda: BATCH[0].tolist(), "np.array(x, dtype=np.uint8)"),
    "dict": (lambda: {"image": BATCH[0], "label": 1}, "x['image']"),
    "dict of Hugging Face": (lambda: {"bytes": None, "path": None, "image": BATCH[0]}, "x['image']"),
    "masked": (lambda: np.ma.masked_greater(BATCH[0], 200), "x.filled(0)"),
    "objects": (lambda: BATCH[0].astype(object), "x.astype(np.uint8)"),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_another_item_is_refused_and_the_remedy_works(kind):
    make, remedy = ITEMS[kind]
    (failure,) = check_images([BATCH[0], make()])
    assert (failure.position, remedy in failure.reason) == (1, True)
    assert check_images([eval(remedy, {"x": make(), "np": np})]) == []


def test_what_a_zip_archive_holds_is_passed_as_bytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png(BATCH[0]))
    path = zipfile.Path(tmp_path / "x.zip") / "a.png"
    (failure,) = check_images([path])
    assert "pass x.read_bytes()" in failure.reason
    assert check_images([path.read_bytes()]) == []


def test_an_open_file_is_refused_with_the_remedy(files):
    with open(files[0], "rb") as file:
        (failure,) = check_images([file])
        assert "pass its path, or the bytes that read() returns in mode 'rb'" in failure.reason
        with pytest.raises(InvalidInputError, match="An open file is not a list"):
            check_images(file)
        assert check_images([file.read()]) == []


def test_nested_lists_are_refused_item_by_item(files):
    for X in ([files[:2], files[2:]], [(file, 1) for file in files], [[1, 2], [3]]):
        with pytest.raises(InvalidImageError, match=r"X\[0\] \(\w+\): is not a path.*pass one flat list"):
            as_samples(X)


class Path(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        if isinstance(self.path, Exception):
            raise self.path
        return self.path


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("x" * 9999)


@pytest.mark.parametrize("item", [Path(KeyError("no")), Path(3), Broken()], ids=["raises", "no text", "no array"])
def test_what_raises_of_itself_is_named(item):
    with pytest.raises(InvalidImageError, match=r"X\[1\] \(\w+\): is a \w+ (that gives no path|that NumPy)") as raised:
        as_samples([BATCH[0], item])
    assert len(str(raised.value)) < 500
    with pytest.raises(InvalidInputError, match=r"X is a"):
        as_samples(item)


@pytest.mark.parametrize(
    "image_shape",
    [(6, 7, 3), [6, 7, 3], np.array([6, 7, 3], np.int8), tuple(np.uint8([6, 7, 3])), torch.Size([6, 7, 3])],
    ids=repr,
)
def test_an_image_shape_may_be_any_sequence_of_integers(image_shape):
    samples = as_samples(BATCH.reshape(3, -1), image_shape)
    assert_array_equal([sample.read() for sample in samples], BATCH)


@pytest.mark.parametrize(
    "image_shape",
    [(6.0, 21.0), (-6, -21), (0, 126), (126,), (1, 6, 7, 3), np.array(126), 126, "67", {6: 1, 21: 2}, (True, 126),
     (6, 7, 2), range(10**6), [[6], [21]]],
    ids=repr,
)  # fmt: skip
def test_an_image_shape_that_is_none_is_refused(image_shape):
    with pytest.raises(InvalidParameterError, match=r"image_shape=.* must be two or three positive integers") as raised:
        check_images(BATCH.reshape(3, -1), image_shape=image_shape)
    assert len(str(raised.value)) < 250


ROWS = {
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "objects": lambda X: X.astype(object),
    "frame": pd.DataFrame,
    "nullable frame": lambda X: pd.DataFrame(X).astype("Float64"),
    "tensor": torch.from_numpy,
    "tensor with gradient": lambda X: torch.from_numpy(X).requires_grad_(),
    "another library": Foreign,
}


@pytest.mark.parametrize("kind", ROWS)
def test_flattened_rows_of_any_kind_are_checked_as_they_are_fitted(kind):
    X = BATCH.reshape(3, -1) / 255
    assert check_images(ROWS[kind](X), image_shape=(6, 7, 3)) == []
    assert_array_equal([sample.read() for sample in as_samples(ROWS[kind](X), (6, 7, 3))], BATCH)
    with pytest.raises(InvalidInputError, match=r"X has shape \(3, 126\): if each row is an image, pass its shape"):
        as_samples(ROWS[kind](X))


def test_no_message_holds_what_was_passed_whole():
    wide = pd.DataFrame({f"{i}" * 50: ["a"] for i in range(999)})
    for X in (
        wide, [BATCH.tolist()] * 3, [np.zeros((5, 5), [(f"f{i}", "u1") for i in range(2000)])], [object()], [wide],
        [{"x" * 9999: 1}], {"x" * 9999: 1}, [lambda: 0], [[["x" * 9999]]],
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as raised:
            as_samples(X)
        assert len(str(raised.value)) < 1500
        assert " at 0x" not in str(raised.value)


class DatasetOfHuggingFace:
    def __init__(self, columns):
        self.columns, self.column_names = columns, [*columns]

    def __getitem__(self, row):
        return {name: values[row] for name, values in self.columns.items()}


@pytest.mark.parametrize("table", [pd.DataFrame, DatasetOfHuggingFace])
@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"file": ["a.png"], "label": ["b"]}, "file"),
        ({"id": [1], "class": ["b"], "ok": [True], "note": [None], "file": ["a.png"]}, "file"),
        ({"width": [0.5], "image": [b"abc"]}, "image"),
        ({"width": [0.5], "id": ["abc"]}, "id"),
        ({"a": [None], "b": ["c"]}, "b"),
    ],
)
def test_several_columns_are_refused_with_the_name_of_the_one_that_may_have_images(table, columns, name):
    with pytest.raises(InvalidInputError, match=rf"Pass one column, such as X\['{name}'\]"):
        as_samples(table(columns).astype(object) if table is pd.DataFrame else table(columns))


def test_a_table_that_cannot_be_read_is_refused_with_the_name_of_a_column():
    with pytest.raises(InvalidInputError, match=r"Pass one column, such as X\['b'\]"):
        as_samples(DatasetOfHuggingFace({"b": [], "a": []}))


def test_a_column_of_numbers_is_called_that():
    with pytest.raises(InvalidInputError, match=r"X has shape \(3,\) and holds numbers \(int64\); it must be a list"):
        as_samples(pd.Series([1, 2, 3]))


def test_a_table_of_arrow_is_refused_with_the_name_of_a_column():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(InvalidInputError, match=r"Pass one column, such as X\['file'\]"):
        as_samples(pa.table({"file": ["a.png"], "label": ["b"]}))


@pytest.mark.parametrize("dtype", [str, object])
def test_masked_paths_are_left_out(dtype):
    paths = np.ma.array(np.array(["a.png", "b.png"], dtype), mask=[False, True])
    with pytest.raises(InvalidInputError, match="has masked items; leave them out, with their labels"):
        as_samples(paths)
