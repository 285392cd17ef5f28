"""Decisions about the findings of an audit, applied to images and labels in any container."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sktl._images.file_digests import file_digest
from sktl._images.samples import as_samples
from sktl.datasets import apply_decisions
from sktl.exceptions import InvalidInputError, InvalidParameterError

NAMES = ["cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"]
LABELS = ["cat", "cat", "dog", "dog"]
COLUMNS = ["part", "position", "name", "decision", "label"]
PAGE_COLUMNS = [*COLUMNS, "n_images", "content"]


def write(path, *rows, delimiter=",", encoding="utf-8", columns=COLUMNS):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five files of different content, which need not be images."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(5):
        (folder / f"{i}.jpg").write_bytes(b"%d" % i)
    return [str(folder / f"{i}.jpg") for i in range(5)]


def page_row(files, position, decision, label=""):
    """Return a row as the page writes it."""
    content = file_digest(as_samples([files[position]])[0])
    return ("train", position, files[position], decision, label, len(files), content)


@pytest.fixture
def table(tmp_path):
    return write(
        tmp_path / "decisions.csv",
        ("train", 0, NAMES[0], "drop", ""),
        ("train", 1, NAMES[1], "relabel", "dog"),
        ("train", 3, NAMES[3], "keep", ""),
        ("test", 2, "somewhere/else.jpg", "drop", ""),
    )


def test_images_are_dropped_and_relabeled(table):
    X, y = apply_decisions(table, NAMES, LABELS)
    assert list(X) == NAMES[1:]
    assert y == ["dog", "dog", "dog"]
    assert LABELS == ["cat", "cat", "dog", "dog"]  # not those that were passed


def test_further_arrays_lose_the_same_rows(table):
    _, _, groups, weights = apply_decisions(table, NAMES, LABELS, np.arange(4), [1.0, 2.0, 3.0, 4.0])
    assert groups.tolist() == [1, 2, 3]
    assert weights == [2.0, 3.0, 4.0]


def test_without_labels_images_are_dropped(tmp_path):
    table = write(tmp_path / "d.csv", ("train", 2, "X[2]", "drop", ""))
    X, y = apply_decisions(table, np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8))
    assert X[:, 0, 0].tolist() == [0, 64, 192]
    assert y is None


def test_the_other_part_has_decisions_of_its_own(tmp_path):
    table = write(tmp_path / "d.csv", ("test", 2, NAMES[2], "drop", ""))
    assert apply_decisions(table, NAMES, LABELS)[0] == NAMES
    assert apply_decisions(table, NAMES, LABELS, part="test")[0] == [*NAMES[:2], NAMES[3]]
    with pytest.raises(InvalidParameterError, match="part='valid'"):
        apply_decisions(table, NAMES, part="valid")


def test_other_sequences_become_lists(tmp_path):
    class Stripes:
        def __len__(self):
            return 3

        def __getitem__(self, position):
            return np.full((8, 8), {0: 0, 1: 1, 2: 2}[position])

    X, _ = apply_decisions(write(tmp_path / "d.csv", ("train", 1, "X[1]", "drop", "")), Stripes())
    assert [image[0, 0] for image in X] == [0, 2]


def _plain(values):
    return values.to_numpy().tolist() if hasattr(values, "to_numpy") else np.asarray(values).tolist()


@pytest.mark.parametrize(
    "of",
    [
        list, tuple, np.array, lambda x: np.array(x, dtype=object), pd.Series, pl.Series,
        lambda x: pd.DataFrame({"path": x}),
    ],
)  # fmt: skip
def test_containers_of_paths_and_labels_keep_their_type(table, of):
    given = of(NAMES)
    X, y = apply_decisions(table, given, of(LABELS))
    assert np.ravel(_plain(X)).tolist() == NAMES[1:]
    assert np.ravel(_plain(y)).tolist() == ["dog"] * 3
    assert type(X) is (list if of is tuple else type(given))
    assert getattr(X, "dtype", None) == getattr(given, "dtype", None)


@pytest.mark.parametrize("kind", ["array", "chunked_array", "table"])
def test_containers_of_pyarrow_keep_their_type(table, kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    make = {"array": lambda x: x, "chunked_array": lambda x: [x], "table": lambda x: {"path": x}}[kind]
    given = [getattr(pa, kind)(make(values)) for values in (NAMES, LABELS, [1, 2, 3, 4])]
    found = apply_decisions(table, *given)
    assert [np.ravel(values).tolist() for values in found] == [NAMES[1:], ["dog"] * 3, [2, 3, 4]]
    assert [type(values) for values in found] == [type(values) for values in given]


def test_paths_in_a_column_have_names(table):
    X, _ = apply_decisions(table, np.array(NAMES)[:, None], LABELS)
    assert X.tolist() == [[name] for name in NAMES[1:]]
    with pytest.raises(InvalidInputError, match=r"position 0 is 'cat/2\.jpg'"):
        apply_decisions(table, np.array(NAMES)[[1, 0, 2, 3], None], LABELS)


def test_rows_of_numbers_have_positions(tmp_path):
    X, _ = apply_decisions(write(tmp_path / "d.csv", ("train", 1, "X[1]", "drop", "")), np.arange(8).reshape(4, 2))
    assert X.tolist() == [[0, 1], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "X is None; it must be"),
        (((name for name in NAMES),), r"X is a generator.*Pass list\(X\)"),
        ((NAMES[0],), "X is a single path"),
        (({"a": 1},), "X is a dict"),
        ((NAMES, iter(LABELS)), "y is a list_iterator. Pass a list, an array or a data frame"),
        ((NAMES, 5), "y is an int. Pass"),
        ((NAMES, np.array(5)), "y is an ndarray. Pass"),
        ((NAMES, "abcd"), "y is a str. Pass"),
        ((NAMES, {*LABELS}), "y is a set. Pass"),
        ((NAMES, pl.DataFrame({"y": LABELS}).lazy()), "y is a LazyFrame. Pass"),
        ((NAMES, LABELS, 5), r"arrays\[0\] is an int. Pass"),
    ],
)
def test_values_that_are_no_rows_are_named(table, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        apply_decisions(table, *arguments)


@pytest.mark.parametrize(
    ("labels", "new"),
    [([7, 7, 3, 3], "3"), ([True, True, False, False], "False"), (["-1", "-1", "=x", "=x"], "=x")],
)
def test_labels_keep_their_type(tmp_path, labels, new):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", new))
    for of in (list, np.array, pd.Series, torch.tensor if not isinstance(labels[0], str) else np.array):
        _, y = apply_decisions(table, NAMES, of(labels))
        assert _plain(y) == [labels[0], labels[2], *labels[2:]]


def test_new_labels_are_never_cut(tmp_path):
    """An array of text has a fixed width."""
    table = write(tmp_path / "d.csv", ("train", 0, NAMES[0], "relabel", "a long name"))
    _, y = apply_decisions(table, NAMES, np.array(["x", "y", "y", "a long name"]))
    assert y.tolist() == ["a long name", "y", "y", "a long name"]


INDICATOR = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    "of",
    [
        lambda t: t, lambda t: t.astype(bool), lambda t: t.tolist(), torch.tensor, scipy.sparse.csr_matrix,
        scipy.sparse.coo_array,
    ],
)  # fmt: skip
@pytest.mark.parametrize(("label", "row"), [("0, 2", [1, 0, 1]), ("", [0, 0, 0]), ("1", [0, 1, 0])])
def test_several_labels_without_names_are_numbers(tmp_path, of, label, row):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", label), ("train", 0, NAMES[0], "drop", ""))
    given = of(INDICATOR)
    _, y = apply_decisions(table, NAMES, given)
    dense = y.toarray() if scipy.sparse.issparse(y) else np.asarray(y)
    assert dense.tolist() == [row, *INDICATOR[2:].tolist()]
    assert dense.dtype == np.asarray(given.toarray() if scipy.sparse.issparse(given) else given).dtype
    original = given.toarray() if scipy.sparse.issparse(given) else np.asarray(given)
    assert original.tolist() == INDICATOR.tolist()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("dtype", [int, bool, float])
def test_several_labels_are_named_by_columns(tmp_path, frame, dtype):
    columns = ["red, dark", "red", "dark"]
    given = frame({name: INDICATOR[:, k].astype(dtype) for k, name in enumerate(columns)})
    table = write(tmp_path / "d.csv", ("train", 2, NAMES[2], "relabel", "red, dark, dark"))
    _, y = apply_decisions(table, NAMES, given)
    assert [*y.columns] == columns
    assert _plain(y) == [[1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert [*y.dtypes] == [*given.dtypes]
    assert _plain(given) == INDICATOR.tolist()


@pytest.mark.parametrize("dtype", [int, bool, float])
def test_several_labels_may_be_categories(tmp_path, dtype):
    """A new value may be one that the column did not have."""
    given = pd.DataFrame(np.array([[1, 0], [0, 0], [1, 0], [0, 0]]), columns=["red", "dark"]).astype(dtype)
    given = given.astype("category")
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "red, dark"))
    _, y = apply_decisions(table, NAMES, given)
    assert _plain(y) == [[1, 0], [1, 1], [1, 0], [0, 0]]
    assert [type(value) for value in y.iloc[1]] == [dtype] * 2
    assert all(column.dtype == "category" for _, column in y.items())
    assert given["dark"].cat.categories.tolist() == [0]


@pytest.mark.parametrize("dtype", [int, bool, float])
def test_several_labels_may_be_a_table_of_pyarrow(tmp_path, dtype):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    given = pa.table({name: INDICATOR[:, k].astype(dtype) for k, name in enumerate("abc")})
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "a, c"), ("train", 0, NAMES[0], "drop", ""))
    _, y = apply_decisions(table, NAMES, given)
    assert y.schema == given.schema
    assert np.asarray(y).tolist() == [[1, 0, 1], *INDICATOR[2:].tolist()]


def test_several_labels_without_a_number_are_named(tmp_path):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "p"))
    for frame in (pd.DataFrame, pl.DataFrame):
        with pytest.raises(InvalidInputError, match=r"y\[1, 'p'\] is a missing value \(NaN\)"):
            apply_decisions(table, NAMES, frame({"p": [0, None, 1, 1], "q": [1, 1, 0, 0]}))


def test_a_spreadsheet_may_have_saved_the_table(tmp_path):
    row = ("train", 0, NAMES[0], "drop", "")
    for delimiter, encoding in ((";", "utf-8-sig"), ("\t", "utf-8")):
        table = write(tmp_path / "d.csv", row, delimiter=delimiter, encoding=encoding)
        assert apply_decisions(str(table), NAMES)[0] == NAMES[1:]
    table.write_text(f"sep=;\n{';'.join(COLUMNS)}\ntrain;0;{NAMES[0]};drop;\n", encoding="utf-8")
    assert apply_decisions(table, NAMES)[0] == NAMES[1:]
    table.write_bytes(b"PK\x03\x04...")
    with pytest.raises(InvalidInputError, match=r"is a workbook or an archive\. Save the decisions as CSV"):
        apply_decisions(table, NAMES)


@pytest.mark.parametrize("read", [pd.read_csv, pl.read_csv])
def test_tables_may_be_data_frames(table, read):
    frame = read(table)
    assert apply_decisions(frame, NAMES, LABELS) == apply_decisions(table, NAMES, LABELS)


def test_a_data_frame_may_have_missing_values_and_spaces_in_names(table):
    frame = pd.read_csv(table, dtype="string").rename(columns={"label": " label"})
    assert frame[" label"].isna().any()
    for other in (frame, frame.astype(object), frame.astype({"position": "Int64"})):
        assert apply_decisions(other, NAMES, LABELS) == apply_decisions(table, NAMES, LABELS)


@pytest.mark.parametrize("n_rows", [1, 2])
@pytest.mark.parametrize(
    "labels",
    [
        [True, True, False, False], [7, 7, 10**18, 10**18], np.array([0.0, 0.0, 1.0, 1.0]), ["007", "8", "8", "x"],
        ["1e3", "x", "x", "x"], ["true", "no", "no", "no"],
    ],
)  # fmt: skip
def test_labels_that_a_reader_of_csv_files_has_changed_are_recognized(tmp_path, labels, n_rows):
    """A column of numbers with an empty cell becomes floats."""
    for new in {str(label) for label in labels}:
        rows = ("train", 1, NAMES[1], "relabel", new), ("train", 0, NAMES[0], "keep", "")
        table = write(tmp_path / "d.csv", *rows[:n_rows])
        _, expected = apply_decisions(table, NAMES, labels)
        for frame in (pd.read_csv(table), pd.read_csv(table, dtype=str, keep_default_na=False)):
            assert _plain(apply_decisions(frame, NAMES, labels)[1]) == _plain(expected)


@pytest.mark.parametrize(
    ("labels", "new"),
    [
        (["007", "7", "7", "x"], "007"), (["1", "1.0", "2", "2"], "1"), (["true", "True", "no", "no"], "true"),
        (["NA", "NA", "b", "b"], "NA"),
    ],
)  # fmt: skip
def test_labels_that_a_reader_of_csv_files_has_made_ambiguous_are_errors(tmp_path, labels, new):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", new))
    with pytest.raises(InvalidInputError, match=r"Row 0 of decisions relabels .* dtype=str, keep_default_na=False"):
        apply_decisions(pd.read_csv(table), NAMES, labels)
    assert apply_decisions(pd.read_csv(table, dtype=str, keep_default_na=False), NAMES, labels)[1][1] == new


@pytest.mark.parametrize("label", ["", "NA", "0"])
def test_a_reader_of_csv_files_changes_no_label_of_several_unnoticed(tmp_path, label):
    y = pd.DataFrame(INDICATOR, columns=["NA", "b", "0"])
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", label), ("train", 0, NAMES[0], "keep", ""))
    _, expected = apply_decisions(table, NAMES, y)
    if label == "0":
        assert apply_decisions(pd.read_csv(table), NAMES, y.rename(columns={"NA": "a"}))[1].equals(
            expected.rename(columns={"NA": "a"})
        )
        assert apply_decisions(pd.read_csv(table), NAMES, y)[1].equals(expected)
    else:
        with pytest.raises(InvalidInputError, match=r"Row 0 of decisions relabels .* keep_default_na=False"):
            apply_decisions(pd.read_csv(table), NAMES, y)


def test_a_missing_label_means_none_of_several_if_no_label_is_read_as_missing(tmp_path):
    y = pd.DataFrame(INDICATOR, columns=["a", "b", "c"])
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", ""))
    assert apply_decisions(pd.read_csv(table), NAMES, y)[1].iloc[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("labels", [[None, "a", "a", "a"], ["a", None, "a", "a"]])
def test_the_types_of_further_classes_are_compared_with_labels_that_are_there(labels):
    for classes in (["c", 1], [1, "c"]):
        with pytest.raises(InvalidParameterError, match="classes has labels such as 1, but y has labels such as 'a'"):
            relabeled_with(labels, classes)


def relabeled_with(labels, classes):
    columns = ["part", "position", "name", "decision", "label"]
    decisions = pd.DataFrame([("train", 1, NAMES[1], "relabel", "c")], columns=columns)
    return apply_decisions(decisions, NAMES, labels, classes=classes)


@pytest.mark.parametrize("of", [pd.Series, lambda x, index: pd.DataFrame({"label": x}, index=index)])
def test_rows_of_pandas_keep_their_names(table, of):
    index = [10, 11, 12, 13]
    X, y = apply_decisions(table, pd.Series(NAMES, index=index), of(LABELS, index=index))
    assert [*X.index] == [*y.index] == index[1:]
    assert np.ravel(y).tolist() == ["dog"] * 3


CONTAINERS = [
    list, np.array, lambda x: np.array(x, dtype=object), lambda x: np.array(x)[:, None], lambda x: [[one] for one in x],
    pd.Series, lambda x: pd.Series(x, dtype="category", name="y"), lambda x: pd.DataFrame({"y": x}),
    pl.Series, lambda x: pl.DataFrame({"y": x}),
]  # fmt: skip


@pytest.mark.parametrize("of", CONTAINERS)
@pytest.mark.parametrize(("labels", "new"), [(LABELS, "a new class"), ([1, 1, 2, 2], 3)])
def test_labels_that_y_lacks_are_given_if_they_are_classes(tmp_path, of, labels, new):
    rows = ("test", 1, NAMES[1], "relabel", new), ("test", 0, NAMES[0], "relabel", labels[2])
    table = write(tmp_path / "d.csv", *rows)
    given = of(labels)
    _, y = apply_decisions(table, NAMES, given, part="test", classes=np.array([*labels, new]))
    assert np.ravel(_plain(y)).tolist() == [labels[2], new, *labels[2:]]
    assert np.shape(y) == np.shape(given)
    assert type(y) is type(given)
    assert getattr(y, "name", None) == getattr(given, "name", None)
    assert np.ravel(_plain(given)).tolist() == labels
    with pytest.raises(InvalidInputError, match=r"but the labels are .*, or pass further labels as classes\."):
        apply_decisions(table, NAMES, given, part="test")


@pytest.mark.parametrize("kind", ["array", "chunked_array", "table"])
def test_labels_of_pyarrow_that_y_lacks_are_given_if_they_are_classes(tmp_path, kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    make = {"array": lambda x: x, "chunked_array": lambda x: [x], "table": lambda x: {"y": x}}[kind]
    given = getattr(pa, kind)(make(LABELS))
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "cow"))
    _, y = apply_decisions(table, NAMES, given, classes=["cow"])
    assert np.ravel(y).tolist() == ["cat", "cow", "dog", "dog"]
    assert type(y) is type(given)


def test_classes_of_another_type_are_an_error(tmp_path):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "dog"))
    for classes, message in [
        ([1], "classes has labels such as 1, but y has labels such as 'cat'"), ("dog", "classes='dog' must be a list"),
    ]:  # fmt: skip
        with pytest.raises(InvalidParameterError, match=message):
            apply_decisions(table, NAMES, LABELS, classes=classes)


def test_the_audit_may_have_run_in_another_folder(tmp_path):
    table = write(tmp_path / "d.csv", ("train", 0, "train/cat/1.jpg", "drop", ""), ("train", 1, "2.jpg", "keep", ""))
    assert len(apply_decisions(table, [Path("/data/train/cat/1.jpg"), "2.jpg"])[0]) == 1
    assert len(apply_decisions(table, ["./train/cat/1.jpg", "/data/2.jpg"])[0]) == 1
    with pytest.raises(InvalidInputError, match="changed since the audit"):
        apply_decisions(table, ["/data/xtrain/cat/1.jpg", "2.jpg"])


@pytest.mark.parametrize(
    "name", ["=cmd|'/c calc'!A0", "-1.png", "@eaDir", "'quoted'", "'=both", "\ttab", "it's=x", "a\nb"]
)
def test_the_apostrophe_of_formulas_is_removed(tmp_path, name):
    cell = f"'{name}" if name[0] in "=-@'\t" else name
    for written in (cell, name):  # by the page, and by a person
        table = write(tmp_path / "d.csv", ("train", 0, written, "relabel", cell))
        assert apply_decisions(table, [name, "b"], ["x", name])[1] == [name, name]


def test_names_that_are_not_utf8_match(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    table = write(tmp_path / "d.csv", ("train", 0, r"caf\udce9.jpg", "drop", ""))
    assert apply_decisions(table, [name, "b.jpg"])[0] == ["b.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("train", 1, NAMES[2], "drop", ""), r"Row 2 of '.*d\.csv' is about 'dog/3\.jpg', but .* 1 is 'cat/2\.jpg'"),
        (("train", 9, NAMES[1], "drop", ""), r"Row 2 .* position 9, but there are 4 images.*run the audit again"),
        (("train", 1, "X[1]", "drop", ""), r"Row 2 .* is about 'X\[1\]'"),
        (("train", 1, "", "drop", ""), r"Row 2 .* is about ''"),
        (("valid", 1, NAMES[1], "drop", ""), r"Row 2 .* has 'valid' in column part, which must be train or test"),
        (("train", 1, NAMES[1], "remove", ""), r"Row 2 .* has 'remove' in column decision"),
        (("train", -1, NAMES[1], "drop", ""), r"Row 2 .* has '-1' in column position"),
        (("train", "1.5", NAMES[1], "drop", ""), r"Row 2 .* has '1.5' in column position"),
        (("train", 1, NAMES[1], "relabel", "dgo"), r"Row 2 .* relabels to 'dgo', but the labels are 'cat', 'dog'"),
        (("train", 1, NAMES[1], "relabel", ""), r"Row 2 .* relabels to ''"),
        (("train", 1, NAMES[1], "drop"), r"Row 2 .* has 4 cells, but there are 5 columns"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_applied_is_named(tmp_path, row, message):
    with pytest.raises(InvalidInputError, match=message):
        apply_decisions(write(tmp_path / "d.csv", row), NAMES, LABELS)


def test_tables_that_cannot_be_applied_are_errors(tmp_path):
    drop, keep = ("train", 1, NAMES[1], "drop", ""), ("train", 1, NAMES[1], "keep", "")
    assert len(apply_decisions(write(tmp_path / "d.csv", drop, drop), NAMES)[0]) == 3
    for path, message in [
        (write(tmp_path / "two.csv", drop, keep), "Row 2 .* and Row 3 .* differently"),
        (tmp_path / "absent.csv", r"absent\.csv' cannot be read: No such file"),
        (write(tmp_path / "all.csv", *(("train", i, name, "drop", "") for i, name in enumerate(NAMES))), "drop all"),
        (write(tmp_path / "new.csv", ("train", 1, NAMES[1], "relabel", "cat")), "but there are no labels"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            apply_decisions(path, NAMES)
    (tmp_path / "other.csv").write_text("file,label\na,b\n")
    with pytest.raises(InvalidInputError, match="needs one column of each of the names"):
        apply_decisions(tmp_path / "other.csv", NAMES)
    (tmp_path / "other.csv").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="missing"):
        apply_decisions(tmp_path / "other.csv", NAMES)
    (tmp_path / "other.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        apply_decisions(tmp_path / "other.csv", NAMES)
    with pytest.raises(InvalidParameterError, match="decisions is None"):
        apply_decisions(None, NAMES)
    with pytest.raises(InvalidInputError, match="y has 3 rows, but X has 4"):
        apply_decisions(tmp_path / "d.csv", NAMES, LABELS[:3])


@settings(max_examples=20)
@given(
    order=st.permutations(range(5)),
    kept=st.sets(st.integers(0, 4), min_size=2),
    choices=st.dictionaries(st.integers(0, 4), st.sampled_from(["keep", "drop", "relabel"]), max_size=3),
    read=st.sampled_from([lambda path: path, pd.read_csv, pl.read_csv]),
)
def test_decisions_are_about_files_wherever_they_are(tmp_path_factory, files, order, kept, choices, read):
    """Images may be added, sorted and, if nothing was decided about them, removed since the audit."""
    X = [files[i] for i in order if i in kept | choices.keys()]
    X.insert(1, files[0] + ".new")
    rows = [page_row(files, i, decision, "b" if decision == "relabel" else "") for i, decision in choices.items()]
    table = write(tmp_path_factory.mktemp("d") / "d.csv", *rows, columns=PAGE_COLUMNS)
    decided = {files[i]: decision for i, decision in choices.items()}
    expected = [path for path in X if decided.get(path) != "drop"]
    found, y = apply_decisions(read(table), X, ["a"] * (len(X) - 1) + ["b"])
    assert found == expected
    assert y[:-1] == ["b" if decided.get(path) == "relabel" else "a" for path in expected][:-1]


def test_decisions_of_a_later_audit_join_those_of_an_earlier_one(tmp_path, files):
    """The later audit had fewer images, so their positions differ."""
    first = write(tmp_path / "1.csv", page_row(files, 0, "drop"), columns=PAGE_COLUMNS)
    left = apply_decisions(first, files)[0]
    second = write(tmp_path / "2.csv", page_row(left, 0, "drop"), page_row(left, 2, "keep"), columns=PAGE_COLUMNS)
    assert apply_decisions([first, second], files)[0] == apply_decisions(second, left)[0] == files[2:]


def test_a_file_that_has_changed_or_gone_is_not_decided_on(tmp_path, files):
    table = write(tmp_path / "d.csv", page_row(files, 2, "drop"), columns=PAGE_COLUMNS)
    moved = [files[2], *files[:2], *files[3:]]
    assert apply_decisions(table, moved)[0] == moved[1:]
    for X, what in [
        (files[:2], "is not among the images"), ([*files[:2], *files[3:]], "is not among the images"),
        ([*moved, files[2]], "is the name of 2 images"),
    ]:  # fmt: skip
        with pytest.raises(InvalidInputError, match=rf"Row 2 of .* '.*2\.jpg', which {what}\. Remove the row, or run"):
            apply_decisions(table, X)
    with pytest.raises(InvalidInputError, match=r"position 2 is 'X\[2\]'"):
        apply_decisions(table, np.zeros((5, 8, 8), np.uint8))
    other = write(tmp_path / "d.csv", (*page_row(files, 2, "drop")[:-1], "sha256-0"), columns=PAGE_COLUMNS)
    for X in (files, moved):
        with pytest.raises(InvalidInputError, match=r"Row 2 of .* is about '.*2\.jpg', which is another file now"):
            apply_decisions(other, X)
    with pytest.raises(InvalidInputError, match="position 2 is"):  # there is nothing to recognize the file by
        apply_decisions(write(tmp_path / "d.csv", page_row(files, 2, "drop")[:5]), moved)


def test_a_file_of_the_whole_name_comes_before_one_whose_name_ends_alike(tmp_path, monkeypatch):
    """A copy of the folder is inside the folder, and has taken the position."""
    monkeypatch.chdir(tmp_path)
    X = ["cat/a.jpg", "old/cat/a.jpg"]
    for name in X:
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(b"the same")
    table = write("d.csv", ("train", 1, *page_row(X, 0, "drop")[2:]), columns=PAGE_COLUMNS)
    assert apply_decisions(table, X)[0] == X[1:]
    with pytest.raises(InvalidInputError, match=r"position 1 is 'old/cat/a\.jpg'"):  # no digest confirms the other one
        apply_decisions(write("d.csv", ("train", 1, X[0], "drop", "")), X)


def test_decisions_are_not_applied_twice_to_arrays(tmp_path):
    """The next image would be dropped. Arrays have no names, but there are fewer of them."""
    table = write(tmp_path / "d.csv", ("train", 1, "X[1]", "drop", "", 4, ""), columns=PAGE_COLUMNS)
    for X in (np.zeros((4, 8, 8), np.uint8), np.arange(8).reshape(4, 2), [np.zeros((8, 8), np.uint8)] * 4):
        left = apply_decisions(table, X)[0]
        assert len(left) == 3
        with pytest.raises(InvalidInputError, match=r"Row 2 .* is about one of 4 images, but there are 3"):
            apply_decisions(table, left)
    wrong = write(tmp_path / "d.csv", ("train", 1, "X[1]", "drop", "", "many", ""), columns=PAGE_COLUMNS)
    with pytest.raises(InvalidInputError, match="'many' in column n_images, which must be the number of images"):
        apply_decisions(wrong, np.zeros((4, 8, 8), np.uint8))


CHOICES = st.sampled_from([("keep", ""), ("drop", ""), ("relabel", "cat"), ("relabel", "dog")])


@given(st.lists(CHOICES, min_size=2, max_size=4))
def test_to_keep_an_image_later_confirms_what_was_decided_before(choices):
    """The order of the tables is that of the audits."""
    tables = [pd.DataFrame([("train", 0, NAMES[0], *choice)], columns=COLUMNS) for choice in choices]
    if {choice for choice in choices[1:] if choice[0] != "keep"} <= {choices[0]}:
        assert apply_decisions(tables, NAMES, LABELS) == apply_decisions(tables[0], NAMES, LABELS)
    else:
        with pytest.raises(InvalidInputError, match="decide differently about the same image"):
            apply_decisions(tables, NAMES, LABELS)


@pytest.mark.parametrize(("labels", "new"), [([1, 1, 2, 2], "2"), (LABELS, "dog"), (["007", "a", "b", "c"], "007")])
def test_decisions_are_the_same_from_a_file_and_a_data_frame(tmp_path, labels, new):
    rows = (
        ("train", 0, NAMES[0], "keep", ""),
        ("train", 1, NAMES[1], "relabel", new),
        ("train", 2, NAMES[2], "drop", ""),
    )
    for several in (rows, rows[1:2]):  # the empty cells make the other cells floats
        table = write(tmp_path / "d.csv", *several)
        for tables in ([table, pd.read_csv(table)], [pd.read_csv(table), table]):
            assert apply_decisions(tables, NAMES, labels) == apply_decisions(table, NAMES, labels)


def test_a_file_does_not_hide_that_a_label_of_a_data_frame_is_ambiguous(tmp_path):
    table = write(tmp_path / "d.csv", ("train", 1, NAMES[1], "relabel", "007"))
    other = write(tmp_path / "e.csv", ("train", 1, NAMES[1], "relabel", "7"))
    for tables in ([table, pd.read_csv(other)], [pd.read_csv(other), table]):
        with pytest.raises(InvalidInputError, match=r"Row 0 of .* relabels to 7, which may mean any of"):
            apply_decisions(tables, NAMES, ["007", "7", "7", "x"])


@pytest.mark.parametrize("read", [lambda path: path, lambda path: pd.read_csv(path, dtype=str, keep_default_na=False)])
def test_several_people_may_decide(tmp_path, read):
    anna = write(tmp_path / "anna.csv", ("train", 0, NAMES[0], "drop", ""), ("train", 1, NAMES[1], "keep", ""))
    bert = write(tmp_path / "bert.csv", ("train", 1, NAMES[1], "keep", ""), ("train", 2, NAMES[2], "relabel", "cat"))
    for several in ([read(anna), read(bert)], (read(bert), read(anna))):
        assert apply_decisions(several, NAMES, LABELS) == (NAMES[1:], ["cat", "cat", "dog"])
    with pytest.raises(InvalidInputError, match=r"Row .* of .* and Row .* of .* decide differently about the same im"):
        apply_decisions([read(write(tmp_path / "c.csv", ("train", 0, NAMES[0], "keep", ""))), read(anna)], NAMES)
    with pytest.raises(InvalidParameterError, match="decisions is an empty list"):
        apply_decisions([], NAMES)
    with pytest.raises(InvalidParameterError, match=r"decisions\[1\] is None. Pass a path or a data frame"):
        apply_decisions([read(anna), None], NAMES)


def test_no_decisions_change_nothing(tmp_path):
    X, y = apply_decisions(write(tmp_path / "d.csv"), NAMES, LABELS)
    assert (X, y) == (NAMES, LABELS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_pipe_holds_no_decisions(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match=r"pipe' cannot be read: it is not a regular file"):
        apply_decisions(tmp_path / "pipe", NAMES)
