"""A table means the same in any container, and errors name its cells."""

from __future__ import annotations

from collections import UserList, deque

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse

from sktl._targets.target_tables import Table, columns_of, has_rows, is_table
from sktl.exceptions import InvalidInputError

VALUES = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]])
NAMES = ["a", "b", "c"]


class Convertible:
    """Has a method that returns an array, and neither a shape nor a length."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


CONTAINERS = {
    "array": np.array,
    "array of objects": lambda values: values.astype(object),
    "array in Fortran's order": np.asfortranarray,
    "masked array": np.ma.array,
    "list of lists": lambda values: values.tolist(),
    "tuple of tuples": lambda values: tuple(map(tuple, values.tolist())),
    "list of arrays": list,
    "list of tensors": lambda values: list(torch.from_numpy(values)),
    "list of masked arrays": lambda values: list(np.ma.array(values)),
    "deque": lambda values: deque(values.tolist()),
    "UserList": lambda values: UserList(values.tolist()),
    "tensor": torch.from_numpy,
    "what becomes an array": Convertible,
    "csr_array": sparse.csr_array,
    "csc_matrix": sparse.csc_matrix,
    "coo_array": sparse.coo_array,
    "pandas": lambda values: pd.DataFrame(values, columns=NAMES),
    "pandas, nullable": lambda values: pd.DataFrame(values, columns=NAMES).astype("Int64"),
    "polars": lambda values: pl.DataFrame(values, schema=NAMES),
}
containers = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)


@containers
def test_values_and_their_layout_are_the_same_whatever_holds_them(container):
    y = container(VALUES)
    assert is_table(y)
    numbers = Table.of(y, "y").numbers("y", "rule")
    assert numbers.dtype == np.float64
    assert numbers.flags.c_contiguous
    assert_array_equal(numbers, VALUES)


@pytest.mark.parametrize("container", [container for name, container in CONTAINERS.items() if not name.startswith("p")])
def test_one_column_has_rows_but_is_no_table(container):
    y = container(VALUES[:, :1])
    assert has_rows(y)
    assert not is_table(y)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_data_frame_of_one_column_has_rows_but_is_no_table(frame):
    assert has_rows(frame({"a": [0, 1]}))
    assert not is_table(frame({"a": [0, 1]}))


def test_a_lazy_data_frame_is_named_with_what_to_do():
    for of in (has_rows, is_table):
        with pytest.raises(InvalidInputError, match=r"y is a LazyFrame; .*Pass y\.collect\(\)"):
            of(pl.DataFrame({"p": [0, 1], "q": [1, 0]}).lazy())


@pytest.mark.parametrize("y", [None, [0, 1], np.arange(3), pd.Series([0, 1]), pl.Series([0, 1]), [["a"], ["a", "b"]]])
def test_one_value_for_each_image_has_no_rows(y):
    assert not has_rows(y)
    assert not is_table(y)


def test_only_data_frames_have_names():
    for container in CONTAINERS.values():
        y = container(VALUES)
        assert Table.of(y, "y").names == (NAMES if isinstance(y, pd.DataFrame | pl.DataFrame) else None)


@pytest.mark.parametrize("kind", ["table", "record_batch"])
def test_a_table_of_pyarrow_is_a_data_frame(kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    y = getattr(pa, kind)(dict(zip(NAMES, VALUES.T, strict=True)))
    assert is_table(y)
    assert columns_of(y) == Table.of(y, "y").names == NAMES
    assert_array_equal(Table.of(y, "y").numbers("y", "rule"), VALUES)
    lacking = getattr(pa, kind)({"cat": [0, 1], "dog": [1, None]})
    with pytest.raises(InvalidInputError, match=r"y\[1, 'dog'\] is a missing value"):
        Table.of(lacking, "y").numbers("y", "rule")
    twice = getattr(pa, kind)([pa.array([0, 1]), pa.array([1, 0])], names=["a", "a"])
    with pytest.raises(InvalidInputError, match="y has columns with the same name"):
        Table.of(twice, "y")


def test_a_column_is_not_taken_for_the_names():
    assert columns_of(pd.DataFrame({"column_names": [0, 1], "b": [1, 0]})) == ["column_names", "b"]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([[0, 1], [np.nan, 0]], r"y\[1, 0\] is a missing value \(NaN\), but RULE\. Fill it in, or drop the image"),
        ([[0, 1], [None, 0]], r"y\[1, 0\] is a missing value"),
        (np.ma.array([[0, 1]], mask=[[0, 1]]), r"y\[0, 1\] is a missing value"),
        ([np.ma.array([0, 1], mask=[0, 1])], r"y\[0, 1\] is a missing value"),
        (pd.DataFrame({"cat": [0, 1], "dog": [1, None]}), r"y\[1, 'dog'\] is a missing value"),
        (pl.DataFrame({"cat": [0, 1], "dog": [1, None]}), r"y\[1, 'dog'\] is a missing value"),
        ([[0, np.inf]], r"y\[0, 1\] is infinite, but RULE\. Correct it"),
        ([[0, "1"]], r"y must hold numbers, .*y\[0, 1\] is a str, '1'"),
        ([[0, 1j]], r"y\[0, 1\] is a complex"),
        ([[0, 10**400]], "y has numbers beyond float64"),
        (pd.DataFrame([[0, 1]], columns=["a", "a"]), "y has columns with the same name"),
        (np.zeros((3, 0)), "y has no columns"),
        (sparse.csr_array((3, 0)), "y has no columns"),
        (np.zeros((3, 1, 1)), r"y has shape \(3, 1, 1\), but must be a table"),
    ],
)
def test_cells_that_are_no_numbers_are_named(y, words):
    with pytest.raises(InvalidInputError, match=words) as caught:
        Table.of(y, "y").numbers("y", "RULE")
    assert len(str(caught.value)) < 300
