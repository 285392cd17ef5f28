"""A table becomes paths and classes, labels or numbers by stated rules; what breaks them is named by row and column."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import time
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sktl._datasets.label_tables import LabelTable
from sktl.datasets import load_image_folder, load_label_table
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with forty images."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(40):
        Image.new("L", (4, 4), i).save(folder / f"{i}.png")
    return folder


def write(folder, rows, name="table.csv", **form):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **form).writerows(rows)
    (folder / name).write_text(text.getvalue(), encoding="utf-8")
    return folder / name


def with_paths(header, *columns):
    """Return rows whose first cells are the names of images."""
    return [["file", *header], *([f"{i}.png", *cells] for i, cells in enumerate(zip(*columns, strict=True)))]


# ------------------------------------------------------------------------------------------------------------ the rules


@pytest.mark.parametrize(
    ("columns", "kind", "target"),
    [
        ([["cat", "dog", "cat"]], "classes", ["cat", "dog", "cat"]),
        ([["0", "1", "1"]], "classes", [0, 1, 1]),
        ([["3.0", "1.0", "2.0"]], "classes", [3, 1, 2]),
        ([["007", "7", "7"]], "classes", ["007", "7", "7"]),
        ([["NA", "None", "null"]], "classes", ["NA", "None", "null"]),
        ([["#1", "#wow!", "-"]], "classes", ["#1", "#wow!", "-"]),
        ([["#NY", "#NO", "#YES"]], "classes", ["#NY", "#NO", "#YES"]),
        ([["#OK!", "#WOW!", "#WHO?"]], "classes", ["#OK!", "#WOW!", "#WHO?"]),
        ([["1", "2", "unknown"]], "classes", ["1", "2", "unknown"]),
        ([["-3", "12345678901234567890", "2"]], "classes", ["-3", "12345678901234567890", "2"]),
        ([["0.5", "1", "-2e-3"]], "numbers", [0.5, 1, -0.002]),
        ([["0", "1", "1"], ["1.0", "0.0", "0"]], "labels", [[0, 1], [1, 0], [1, 0]]),
        ([["True", "FALSE", "true"], ["1", "0", "0"]], "labels", [[1, 1], [0, 0], [1, 0]]),
    ],
)
def test_what_the_columns_hold_is_decided_by_rules(folder, columns, kind, target):
    found = load_label_table(write(folder, with_paths([f"c{i}" for i in range(len(columns))], *columns)))
    assert found.kind == kind
    assert found.target.tolist() == target
    assert found.data.tolist() == [str(folder / f"{i}.png") for i in range(3)]
    assert found.target_names == (sorted(set(target)) if kind == "classes" else ["c0", "c1"][: len(columns)])


@pytest.mark.parametrize("n_columns", [1, 2])
def test_numbers_are_whatever_they_are_told_to_be(folder, n_columns):
    table = write(folder, with_paths(["a", "b"][:n_columns], *[["0", "1", "2"], ["30", "40", "-50.5"]][:n_columns]))
    found = load_label_table(table, kind="numbers")
    assert found.target.dtype == np.float64
    assert found.target.tolist() == ([0, 1, 2] if n_columns == 1 else [[0, 30], [1, 40], [2, -50.5]])
    assert found.target_names == ["a", "b"][:n_columns]


LABELS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(cells=LABELS, delimiter=st.sampled_from(",;\t"))
def test_classes_are_the_texts_of_the_cells(folder, cells, delimiter):
    cells = ["x" + cell for cell in cells]  # not numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageFolderWarning)  # names that look nearly the same
        try:
            found = load_label_table(write(folder, with_paths(["class"], cells), delimiter=delimiter))
        except InvalidInputError as error:
            assert "look the same" in str(error)  # noqa: PT017
            return
    assert found.target.tolist() == [cell.strip() for cell in cells]


@pytest.mark.parametrize("n", [20, 21])
def test_many_whole_numbers_are_a_question(folder, n):
    table = write(folder, with_paths(["age"], [str(i % n) for i in range(40)]))
    if n == 20:
        assert load_label_table(table).kind == "classes"
    else:
        message = (
            r"'age' of .* has 21 different whole numbers\. To learn numbers, pass kind=\"numbers\"; to learn each "
        )
        with pytest.raises(InvalidInputError, match=message):
            load_label_table(table)
    assert load_label_table(table, kind="classes").target_names == [*range(n)]
    assert load_label_table(table, kind="numbers").target.tolist() == [i % n for i in range(40)]


def test_a_column_of_names_of_images_is_no_class(folder):
    table = write(folder, with_paths(["id"], [f"ID{i}" for i in range(40)]))
    with pytest.raises(InvalidInputError, match="40 different values for 40 images, too many for classes"):
        load_label_table(table)
    assert len(load_label_table(table, kind="classes").target_names) == 40


@pytest.mark.parametrize("odd", ["nan", "n/a", "1,5", "inf", "1_000", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_text_among_fractions_is_a_question(folder, odd):
    table = write(folder, with_paths(["share"], ["0.5", odd, "0.25"]))
    with pytest.raises(InvalidInputError, match=f"has numbers such as 0.5, but row 3 has '{odd}'"):
        load_label_table(table)
    with pytest.raises(InvalidInputError, match=f"'{odd}' in row 3 of .*, column 'share', is not a finite number"):
        load_label_table(table, kind="numbers")


def test_columns_are_chosen_by_what_they_are_for(folder):
    rows = with_paths(["split", "cat", "dog"], ["train", "test", "train"], ["1", "0", "0"], ["0", "0", "1"])
    table = write(folder, rows)
    for how in (
        {"columns": ["cat", "dog"]},
        {"ignore": ["split"]},
        {"ignore": "split"},
    ):
        assert load_label_table(table, **how).target.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert load_label_table(table, columns=["dog", "cat"]).target.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert load_label_table(table, columns="dog").target.tolist() == [0, 0, 1]
    assert load_label_table(table, columns=["cat"]).unused == ["split", "dog"]
    assert load_label_table(table, ignore="split").unused == []
    found = load_label_table(table, where={"split": "train"})
    assert (found.target_names, found.unused) == (["cat", "dog"], [])
    assert [os.path.basename(path) for path in found.data] == ["0.png", "2.png"]
    assert load_label_table(table, where={"split": "train", "dog": 1}, columns=["cat"]).data.tolist() == [
        str(folder / "2.png")
    ]


def test_rows_are_chosen_by_one_value_or_several(folder):
    table = write(folder, [["file", "class", "fold"], *([f"{i}.png", "ab"[i % 2], str(i)] for i in range(3))])
    for one in (1, np.int64(1), np.array(1), "1", [1]):
        assert load_label_table(table, where={"fold": one}).target.tolist() == ["b"]
    for several in ([0, 1], np.arange(2), {0, 1}, range(2)):
        assert load_label_table(table, where={"fold": several}).target.tolist() == ["a", "b"]
    with pytest.raises(InvalidInputError, match=r"""No row of .* has "b'1'" in column 'fold'"""):
        load_label_table(table, where={"fold": b"1"})


@pytest.mark.parametrize("name", ["path", "File", "filename", "IMAGE"])
def test_the_column_of_paths_is_found_by_its_usual_names(folder, name):
    table = write(folder, [["breed", name], ["Siamese", "1.png"]])
    assert load_label_table(table).data.tolist() == [str(folder / "1.png")]


def test_paths_are_relative_to_the_table_or_the_folder_or_absolute(folder, tmp_path, monkeypatch):
    here = write(folder, [["path", "class"], ["1.png", "a"]])
    assert load_label_table(here).data.tolist() == [str(folder / "1.png")]
    there = write(tmp_path, [["path", "class"], ["1.png", "a"]])
    assert load_label_table(there, folder=folder).data.tolist() == [str(folder / "1.png")]
    absolute = write(tmp_path, [["path", "class"], [str(folder / "1.png"), "a"]])
    for of in (None, tmp_path):
        assert load_label_table(absolute, folder=of).data.tolist() == [str(folder / "1.png")]
    monkeypatch.chdir(folder)
    assert load_label_table("table.csv").data.tolist() == ["1.png"]
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert load_label_table("~/table.csv").data.tolist() == [str(folder / "1.png")]


def test_tables_as_programs_write_them(folder):
    """pandas writes an index without a name, and Excel a byte order mark, semicolons, CRLF and empty rows."""
    (folder / "pandas.csv").write_text(",file,class\n0,1.png,a\n1,2.png,b\n")
    (folder / "excel.csv").write_bytes(b"\xef\xbb\xbffile;class\r\n1.png;a\r\n;\r\n2.png;b\r\n\r\n")
    (folder / "sep.csv").write_bytes(b"\xef\xbb\xbfSEP=|\r\nfile|class\r\n1.png|a\r\n2.png|b\r\n")
    (folder / "spaces.csv").write_text('file, class\n1.png , "a"\n2.png, b\n')
    (folder / "quoted.csv").write_text('"sep=;"\nfile;class\n1.png;a\n2.png;b\n')
    for name in ("pandas.csv", "excel.csv", "sep.csv", "quoted.csv", "spaces.csv"):
        found = load_label_table(folder / name)
        assert (found.target.tolist(), len(found.data)) == (["a", "b"], 2)
    (folder / "sep.csv").write_bytes(b"sep=;\nfile;class\n1.png;\n")
    with pytest.raises(InvalidInputError, match="cell in row 2 of"):  # as Excel numbers it
        load_label_table(folder / "sep.csv")


def test_a_table_may_have_as_many_columns_as_there_are_genes(folder):
    names = [f"gene {i}" for i in range(20_000)]
    started = time.process_time()
    found = load_label_table(write(folder, [["file", "label", *names], ["1.png", "a", *names]]), columns="label")
    assert found.target.tolist() == ["a"]
    assert time.process_time() - started < 2  # comparing each column with those before it takes longer


# ----------------------------------------------------------------------------------------------------------- what fails


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["file", "a"], ["1.png", "x"], ["2.png", ""]], r"row 3 .* 'a', is empty\. .*where=\{'state': 'labeled'\}\.$"),
        ([["file", "a"], ["1.png", "x"], [" ", "y"]], r"row 3 .* 'file', is empty\. Fill it in, or remove the row\.$"),
        ([["file", "a"], ["1.png", "x"], ["z", "y"]], r"'z' in row 3 of .*, column 'file', is not a file \(looked in"),
        ([["file", "a"], ["1.png", "x"], [".", "y"]], r"'\.' in row 3 of .*, column 'file', is not a file"),
        ([["file", "a"], ["1.png", "x"], [], ["./1.png", "y"]], "Rows 2 and 4 of .* have different values for the"),
        ([["file", "a", "b"], ["1.png", "0", "2"]], "'2' in row 2 of .*, column 'b', is neither 0 nor 1"),
        ([["file", "a", "b"], ["1.png", "yes", "1"]], "'yes' in row 2 of .*, column 'a', is neither 0 nor 1"),
        ([["file", "a", "b"], ["1.png", "1"]], r"Row 2 of .* has 2 cells, but there are 3 columns"),
        ([["file", "a"], ["1.png", "x", "y"]], r"Row 2 of .* has 3 cells, but there are 2 columns"),
        ([["file", "a", "a"], ["1.png", "1", "1"]], "several columns named 'a'"),
        ([["file", "image", "a"], ["1.png", "1.png", "x"]], "several columns of paths, 'file', 'image'. Pass the col"),
        ([["1.png", "cat"], ["2.png", "dog"]], "no column named path, file, filename or image. Its columns are '1"),
        ([["file", "a"]], "no rows below row 1, which must hold the names"),
        ([["file"], ["1.png"]], "no column of labels or numbers"),
        ([], "is empty"),
        ([["file", "a"], ["1.png", "x"], ["2.png", "NaN"]], "'NaN' in row 3 of .*, column 'a', is a missing label"),
        ([["file", "a"], ["1.png", "<NA>"], ["2.png", "nan"], ["3.png", "NA"]], "row 2 of .* label. 1 more cells hold"),
        *[
            ([["file", "a"], ["1.png", cell], ["2.png", "x"]], f"'{re.escape(cell)}' in row 2 .* is a missing label")
            for cell in ("#N/A", "#REF!", "#NAME?", "#DIV/0!", "#NV", "#N/D", "#BEZUG!", "#\u00a1VALOR!",
                         "#N/D!", "#\u041d/\u0414")
        ],
        ([["file", "a"], ["1.png", "caf\u00e9"], ["2.png", "cafe\u0301"]], "has labels that look the same"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_row_and_column(folder, rows, message):
    with pytest.raises(InvalidInputError, match=message):
        load_label_table(write(folder, rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04...", r"is a workbook or an archive\. Save the table as CSV"), (b"\n \n", "is empty")],
)
def test_files_that_are_no_tables(folder, content, message):
    (folder / "table.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        load_label_table(folder / "table.csv")


def test_tables_that_are_not_there(folder, tmp_path):
    with pytest.raises(InvalidInputError, match=r"The table .*absent.csv' cannot be read: No such file"):
        load_label_table(tmp_path / "absent.csv")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_label_table(tmp_path)
    with pytest.raises(InvalidParameterError, match="path is 3"):
        load_label_table(3)
    with pytest.raises(InvalidInputError, match=r"is a table: use load_label_table\."):
        load_image_folder(write(folder, [["file", "a"], ["1.png", "x"]]))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"columns": ["c"]}, InvalidInputError, "no column named 'c'. Its columns are 'file', 'a', 'b'"),
        ({"ignore": ["c"]}, InvalidInputError, "no column named 'c'"),
        ({"where": {"c": "1"}}, InvalidInputError, "no column named 'c'"),
        ({"where": {"a": "2"}}, InvalidInputError, "No row of .* has '2' in column 'a'. The column has '0', '1'"),
        ({"path_column": "c"}, InvalidInputError, "no column named 'c'"),
        ({"ignore": ["a", "b"]}, InvalidInputError, "no column of labels or numbers"),
        ({"columns": ["a"], "ignore": ["b"]}, InvalidParameterError, "either `columns` or `ignore`"),
        ({"columns": []}, InvalidParameterError, "must name different columns of labels or numbers, not none"),
        ({"columns": ["a", "a"]}, InvalidParameterError, "must name different columns"),
        ({"columns": ["file"]}, InvalidParameterError, "must name different columns"),
        ({"kind": "classes"}, InvalidParameterError, "Classes are in one column, but .* has 2: 'a', 'b'"),
        ({"kind": "labels", "columns": ["a"]}, InvalidParameterError, "Several labels need several columns"),
        ({"kind": "words"}, InvalidParameterError, "kind='words' must be one of"),
        ({"where": ["a"]}, InvalidParameterError, "where is a list"),
        ({"where": {"a": ["1", "2"]}}, InvalidInputError, "No row of .* has '2' in column 'a'"),
        ({"where": {"a": []}}, InvalidInputError, r"No row of .* has a value of \[\] in column 'a'"),
        ({"suffix": None}, InvalidParameterError, "suffix=None must be text"),
        ({"where": {"a": object()}}, InvalidInputError, "No row of .* has '<object object>' in column 'a'"),
        ({"columns": 5}, InvalidParameterError, "columns=5 must be a list of names of columns"),
        ({"columns": [5]}, InvalidParameterError, r"columns=\[5\] must be a list of names of columns"),
        ({"ignore": 5}, InvalidParameterError, "ignore=5 must be a list of names of columns"),
        ({"path_column": ["file"]}, InvalidParameterError, r"path_column=\['file'\] must be the name of a column"),
        ({"folder": "absent"}, InvalidInputError, "folder='absent' does not exist"),
    ],
)
def test_choices_that_are_impossible(folder, how, error, message):
    table = write(folder, [["file", "a", "b"], ["1.png", "1", "0"], ["2.png", "0", "1"]])
    with pytest.raises(error, match=message):
        load_label_table(table, **how)


def test_no_column_to_ignore_may_be_none(folder):
    table = write(folder, [["file", "a", "b"], ["1.png", "1", "0"], ["2.png", "0", "1"]])
    assert load_label_table(table, ignore=None).target_names == ["a", "b"]


def test_rows_that_are_not_used_may_hold_anything(folder):
    table = write(folder, [["file", "a", "split"], ["1.png", "x", "train"], ["absent", "", "test"]])
    assert load_label_table(table, where={"split": "train"}).target.tolist() == ["x"]


@pytest.mark.parametrize("parts", [["train", "test", "val"], ["Training", "testing", "dev"]])
@pytest.mark.parametrize("kind", ["auto", "classes", "numbers"])
@pytest.mark.parametrize("cells", [["cat", "dog", "cat"], ["1", "0", "1"]])
def test_a_column_of_parts_is_for_choosing_rows_not_for_ignoring(folder, parts, kind, cells):
    table = write(folder, with_paths(["label", "split"], cells, parts))
    remedy = rf"Pass where={{'split': '{parts[0]}'}} to train, and where={{'split': '{parts[1]}'}} to evaluate\."
    with pytest.raises(InvalidInputError, match=rf"holds the parts of a dataset: .*\. {remedy} To use all rows, pass"):
        load_label_table(table, kind=kind)
    if kind != "numbers" or cells[0] == "1":
        assert len(load_label_table(table, kind=kind, where={"split": parts[0]}).data) == 1
        assert len(load_label_table(table, kind=kind, ignore="split").data) == 3


@pytest.mark.parametrize(
    ("name", "cells", "train", "evaluate"),
    [
        ("is_valid", ["True", "False", "False"], "False", "True"),
        ("Is_Test", ["1", "0", "0"], "0", "1"),
        ("isTrain", ["1", "1", "0"], "1", "0"),
        ("Usage", ["Training", "PublicTest", "PrivateTest"], "Training", "PublicTest"),
        ("set", ["x_train", "x_holdout", "x_train"], "x_train", "x_holdout"),
    ],
)
@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], ["1", "0", "1"]])
def test_a_column_of_parts_is_recognized_by_its_name_or_its_cells(folder, name, cells, train, evaluate, labels):
    table = write(folder, with_paths(["label", name], labels, cells))
    remedy = rf"Pass where={{'{name}': '{train}'}} to train, and where={{'{name}': '{evaluate}'}} to evaluate\."
    with pytest.raises(InvalidInputError, match=rf"{remedy} .* If it is a label, name all columns of labels"):
        load_label_table(table)
    alone = load_label_table(table, columns="label", where={name: train})
    assert load_label_table(table, where={name: train}).target.tolist() == alone.target.tolist()


@pytest.mark.parametrize(
    ("name", "last"),
    [("cv_fold", "0"), ("kfold", "0"), ("train_test_split", "0"), ("fold", "2"), ("split", "a"), ("partition", "2")],
)
@pytest.mark.parametrize("labels", [["1", "0", "1"], ["cat", "dog", "cat"]])
def test_a_split_whose_parts_are_unknown_is_for_choosing_rows(folder, name, last, labels):
    table = write(folder, with_paths(["label", name], labels, ["0", "1", last]))
    with pytest.raises(InvalidInputError, match=rf"Pass where={{'{name}': '0'}} for one part\."):
        load_label_table(table)
    assert load_label_table(table, columns="label").kind == "classes"


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["bus", "train"], "where={'train': '1'} to train, and where={'train': '0'} to evaluate"),
        (["label", "valid"], "where={'valid': '0'} to train, and where={'valid': '1'} to evaluate"),
        (["label", "set"], "where={'set': '0'} for one part"),
        (["blur", "fold"], "where={'fold': '0'} for one part"),
        (["knot", "split"], "where={'split': '0'} for one part"),
        (["wall", "partition"], "where={'partition': '0'} for one part"),
        (["one", "no_fold"], "where={'no_fold': '0'} for one part"),
        (["whole", "in_part"], "where={'in_part': '0'} for one part"),
        (["is_control", "is_test"], "where={'is_test': '0'} to train, and where={'is_test': '1'} to evaluate"),
        (["is_bus", "is_train"], "where={'is_train': '1'} to train, and where={'is_train': '0'} to evaluate"),
    ],
)
def test_labels_may_be_called_like_parts_and_that_is_said(folder, names, advice):
    table = write(folder, with_paths(names, ["1", "0", "1"], ["0", "1", "0"]))
    with pytest.warns(ImageFolderWarning, match=rf"learned like the others.* pass {re.escape(advice)}") as record:
        assert load_label_table(table).target_names == names
    assert len(record) == 1
    assert load_label_table(table, columns=names).target_names == names


def test_columns_that_may_be_splits_cause_one_warning(folder):
    names = ["train", "fold", "part"]
    table = write(folder, with_paths(names, ["1", "0"], ["0", "1"], ["0", "1"]))
    with pytest.warns(ImageFolderWarning, match=r"'train', 'fold', 'part' .* with where={'train': '0'}\.") as record:
        assert load_label_table(table).target_names == names
    assert len(record) == 1


@pytest.mark.parametrize("name", ["fold", "folds", "phase", "train", "test_1"])
def test_numbers_with_fractions_are_no_split(folder, name):
    table = write(folder, with_paths([name, "area"], ["2", "0.5", "1"], ["3", "4", "5"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_label_table(table, kind="numbers").target_names == [name, "area"]


@pytest.mark.parametrize("kind", ["auto", "numbers"])
@pytest.mark.parametrize(("name", "cells"), [("train", "01"), ("set", "01"), ("fold", "01"), ("set", "AB")])
def test_an_error_about_classes_beside_a_possible_split_says_how_to_choose_rows(folder, name, cells, kind):
    table = write(folder, with_paths(["label", name], ["cat", "dog"], cells))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is learned yet
        with pytest.raises(InvalidInputError, match=rf"If column '{name}' holds .* pass where={{'{name}': "):
            load_label_table(table, kind=kind)
    assert load_label_table(table, where={name: cells[1]}).target.tolist() == ["dog"]


@pytest.mark.parametrize("name", ["bullet_train", "training aid", "part_of_tree", "device", "unfolded", "dataset"])
def test_names_with_other_words_are_labels(folder, name):
    table = write(folder, with_paths(["label", name], ["1", "0", "1"], ["0", "1", "0"]))
    assert load_label_table(table).target_names == ["label", name]


def test_words_of_which_some_are_no_parts_are_labels(folder):
    with pytest.raises(InvalidInputError, match="is neither 0 nor 1"):
        load_label_table(write(folder, with_paths(["label", "vehicle"], ["1", "0"], ["train", "bus"])))


def test_a_repeated_row_counts_once_with_a_warning(folder):
    table = write(folder, [["file", "a"], ["1.png", "x"], ["2.png", "y"], [str(folder / "1.png"), "x"]])
    with pytest.warns(ImageFolderWarning, match=r"repeat an image .* were left out: row 4\.") as record:
        found = load_label_table(table)
    assert record[0].filename == __file__
    assert (found.data.tolist(), found.target.tolist()) == ([str(folder / f"{i}.png") for i in (1, 2)], ["x", "y"])


@pytest.mark.parametrize("separator", [";", "|", ", "])
def test_labels_that_are_joined_in_one_column_are_told_with_the_remedy(folder, separator):
    cells = ["cat", "dog", separator.join(["cat", "dog"])]
    rows = with_paths(["class"], cells)
    path = write(folder, [*rows, rows[1]], delimiter="\t")
    with pytest.warns(ImageFolderWarning, match="its parts are classes, too|were left out") as warned:
        assert load_label_table(path).target.tolist() == cells
    with pytest.raises(InvalidParameterError) as raised:
        load_label_table(path, kind="labels")
    for told in (warned[0].message, raised.value):
        remedy = re.search(r"pass y = (pandas.*) to fit", str(told))[1]
        table, how = re.search(r"with (\w+) = (load_label_table\(.*?\))", str(told)).groups()
        with pytest.warns(ImageFolderWarning):
            found = eval(how, {"load_label_table": lambda _, **options: load_label_table(path, **options)})
        y = eval(remedy, {"pandas": pd, table: found})
        assert (y.columns.tolist(), y.values.tolist()) == (["cat", "dog"], [[1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize("cells", [["polar bear", "brown bear"], ["3", "3/4", "4"]])
def test_names_of_one_thing_are_not_to_be_split(folder, cells):
    path = write(folder, with_paths(["class"], cells))
    assert load_label_table(path).target.tolist() == cells
    with pytest.raises(InvalidParameterError, match=r"Several labels need several columns") as raised:
        load_label_table(path, kind="labels")
    assert "get_dummies" not in str(raised.value)


@pytest.mark.parametrize("separator", ["|", " "])
def test_many_joined_labels_are_told_with_the_remedy(folder, separator):
    cells = [separator.join(some) for n in (2, 3) for some in combinations("abcdef", n)]
    path = write(folder, [["file", "tags"], *([str(folder / "0.png"), cell] for cell in cells)])
    with pytest.raises(InvalidInputError, match=rf"has 35 different .* labels, pass .*get_dummies\('\{separator}'\)"):
        load_label_table(path)


def test_an_empty_cell_among_joined_labels_may_be_an_image_without_labels(folder):
    advice = "give each label a column of 0 and 1"
    joined, combined, single = ["cat", "dog", "cat;dog"], ["a|b", "a|c", "b|c", "a|b|c"], ["cat", "dog", "cat dog bird"]
    for cells, has in ((["", *joined], True), (["", *combined], True), (["", *single], False)):
        with pytest.raises(InvalidInputError, match=r"row 2 .* is empty\. Fill it in") as raised:
            load_label_table(write(folder, with_paths(["tags"], cells), delimiter="\t"))
        assert (advice in str(raised.value)) == has


@pytest.mark.parametrize(
    "cells", [["1,6", "0,1", "3"], ["-0,5", "1,25", "2,5"], ["1,200", "950", "12,500"], ["1.000,5", "0,5"]]
)
def test_commas_in_numbers_are_a_question(folder, cells):
    table = write(folder, with_paths(["size"], cells), delimiter="\t")
    with pytest.raises(InvalidInputError, match=rf"numbers with commas, such as {cells[0]}\. .* thousands") as raised:
        load_label_table(table)
    assert "If a cell holds several labels, pass y = pandas" in str(raised.value)
    assert load_label_table(table, kind="classes").target_names == sorted(cells)


def test_numbers_of_labels_that_are_joined_by_commas_are_labels(folder):
    cells = ["1,2", "3", "2,3", "1", "2"]
    table = write(folder, with_paths(["tags"], cells), delimiter="\t")
    with pytest.warns(ImageFolderWarning, match=r"get_dummies\(','\) .* If these are numbers, write them") as record:
        assert load_label_table(table).target.tolist() == cells
    assert len(record) == 1


@pytest.mark.parametrize(
    "cells", [["cat", "dog", "cat; owl"], ["a", "b", "a or b"], ["red", "panda", "red panda"], ["1", "2", "1.2"]]
)
def test_classes_whose_names_are_not_joined_cause_no_warning(folder, cells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_label_table(write(folder, with_paths(["class"], cells)), kind="classes")


def test_the_file_that_a_path_with_other_separators_means_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").touch()
    with pytest.raises(InvalidInputError, match=r"is not a file .* There is a file '.*a/0.png'\. Correct"):
        load_label_table(write(tmp_path, [["file", "a"], ["a\\0.png", "x"]]))


def test_a_suffix_that_all_paths_lack_is_named_and_can_be_passed(folder):
    table = write(folder, [["file", "a"], ["0", "x"], ["1", "y"]])
    with pytest.raises(
        InvalidInputError, match=r"is a file '.*0\.png'\. If all paths lack '\.png', pass suffix"
    ) as caught:
        load_label_table(table)
    remedy = re.search(r"pass suffix=('.*?')\.", str(caught.value))[1]
    found = load_label_table(table, suffix=eval(remedy))
    assert found.data.tolist() == [str(folder / "0.png"), str(folder / "1.png")]
    with pytest.raises(InvalidInputError, match=r"'0\.png\.png' in row 2 .* is not a file"):
        load_label_table(table, suffix=".png.png")


@given(st.lists(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 5), min_size=1))
def test_rows_with_one_of_several_values_are_those_with_each(folds, wanted):
    table = LabelTable("t", {"fold": [*map(str, folds)]}, [*range(len(folds))])
    wanted &= {*folds}
    if wanted:
        assert table.where({"fold": wanted}).rows == [i for i, fold in enumerate(folds) if fold in wanted]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take such names for one")
@pytest.mark.parametrize("start", ["", "~/"])
def test_a_path_in_another_form_of_unicode_is_named_with_a_remedy(tmp_path, monkeypatch, start):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Ka\u0308se.png").touch()
    with pytest.raises(
        InvalidInputError, match=r"There is a file '.*'\. .*K.xe4se\.png' looks like .*Ka.u0308se\.png'.*\(\"NFD\", "
    ):
        load_label_table(write(tmp_path, [["file", "a"], [f"{start}K\u00e4se.png", "x"]]))


@pytest.mark.parametrize("cell", ["C:\\Users\\Ann\\x.jpg", "\\\\server\\photos\\x.jpg", "/absent/x.jpg"])
def test_a_folder_is_not_advised_for_an_absolute_path(tmp_path, cell):
    with pytest.raises(
        InvalidInputError, match=r"is not a file\. Correct the paths, or write them relative to a folder"
    ):
        load_label_table(write(tmp_path, [["file", "a"], [cell, "x"]]))


def test_up_to_ten_missing_files_are_named(tmp_path):
    (tmp_path / "0.png").touch()
    path = write(tmp_path, with_paths(["a"], "x" * 14))
    words = r"'1\.png' in row 3 .* 12 more of 14 files are missing: '2\.png', .*, '10\.png', and 3 more\."
    with pytest.raises(InvalidInputError, match=words):
        load_label_table(path)


def test_labels_that_look_nearly_the_same_are_named(folder):
    with pytest.warns(ImageFolderWarning, match=r"look nearly the same.*'Cat' and 'cat'.*correct the table"):
        load_label_table(write(folder, with_paths(["class"], ["Cat", "cat", "dog"])))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match=r"pipe' cannot be read: it is not a regular file\. Pass a CSV file"):
        load_label_table(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="it is a folder"):
        load_label_table(tmp_path)
