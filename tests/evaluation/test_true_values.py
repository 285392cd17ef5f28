"""Images without a value are found in every container; labels are matched by value, or else by text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from sktl._evaluation.true_values import Truth, column_names, missing_counts
from sktl.exceptions import InvalidInputError


@pytest.mark.parametrize(
    "y",
    [
        ["a", None, "b"],
        ["a", "", "b"],
        ["a", float("nan"), "b"],
        np.array(["a", None, "b"], dtype=object),
        np.array(["a", "", "b"]),
        pd.Series(["a", None, "b"]),
        pd.Series(["a", pd.NA, "b"], dtype="string"),
        pd.Series(["a", None, "b"], dtype="category"),
        pl.Series(["a", None, "b"]),
        np.ma.array(["a", "c", "b"], mask=[0, 1, 0]),
        [1, None, 0],
        np.array([1, np.nan, 0]),
        pd.Series([1, pd.NA, 0], dtype="Int64"),
        [[1, 0], [0, np.nan], [1, 1]],
        pd.DataFrame({"p": [1, None, 0], "q": [1, 1, 0]}),
    ],
    ids=repr,
)
def test_missing_values_are_found(y):
    truth = Truth.of(y, 3)
    assert truth.present.tolist() == [0, 2]
    assert len(truth.array) == 2


@pytest.mark.parametrize("as_table", [list, np.array, pd.DataFrame, lambda rows: pl.DataFrame(rows, orient="row")])
def test_missing_values_of_each_column_are_known(as_table):
    truth = Truth.of(as_table([[1.0, None], [None, None], [0.0, 1.0]]), 3)
    assert truth.present.tolist() == [2]
    assert truth.missing.tolist() == [[False, True], [True, True], [False, False]]


def test_counts_of_missing_values_begin_with_the_largest_and_are_bounded():
    missing = np.arange(8)[:, None] < np.arange(8)
    assert missing_counts(missing, "abcdefgh") == "'h' (7), 'g' (6), 'f' (5), 'e' (4), 'd' (3), and 2 more"
    assert missing_counts(missing[:, :2], "ab") == "'b' (1)"


def test_if_each_image_lacks_a_value_the_columns_are_named():
    with pytest.raises(
        InvalidInputError, match=r"Of 3 images, values are missing in 'p' \(2\), 'q' \(1\)\. To evaluate"
    ):
        Truth.of(pd.DataFrame({"p": [1, None, None], "q": [None, 1, 0]}), 3)
    with pytest.raises(InvalidInputError, match="y has no value: all are missing"):
        Truth.of(np.full((3, 2), np.nan), 3)


def test_tables_keep_the_names_of_their_columns():
    assert Truth.of(pd.DataFrame({"p": [1, 0], "q": [1, 1]}), 2).names() == ["p", "q"]
    one = Truth.of(pd.DataFrame({"p": [1, 0]}), 2)
    assert (one.names(), one.is_table) == (["p"], False)
    assert Truth.of(csr_matrix(np.eye(2)), 2).array.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("y", [None, [], [None, None], ["a"], "ab", {"a": 1}])
def test_what_has_no_value_for_each_image_is_refused(y):
    with pytest.raises(InvalidInputError, match=r"\by\b"):
        Truth.of(y, 2)


def test_columns_without_names_are_counted():
    assert column_names(None, 2, "number") == ("number 0", "number 1")
    assert column_names([0, 1], 2, "label") == ("label 0", "label 1")
    assert column_names(["p", "q"], 2, "label") == ("p", "q")
