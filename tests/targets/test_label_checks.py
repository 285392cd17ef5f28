"""Labels and numbers come in any container: one law for all of them, whatever NumPy would make of it."""

from __future__ import annotations

import datetime
import enum
import warnings
from collections import UserList, deque
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning

from sktl._short_text import first_shown, shown_value
from sktl._targets.label_checks import check_complete, check_labels
from sktl._targets.label_targets import zeros_and_ones
from sktl._targets.number_targets import number_columns
from sktl._targets.sample_groups import check_groups
from sktl._targets.target_cells import RowsOf, as_numbers
from sktl._targets.target_tables import Table
from sktl.exceptions import InvalidInputError

MISSING = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("nan")]
# What one type of labels may consist of, NumPy's scalars and subclasses among it.
OF_TYPE = {
    "str": st.text(min_size=1) | st.text(min_size=1).filter(lambda text: text[-1] != "\0").map(np.str_),
    "bool": st.booleans() | st.booleans().map(np.bool_),
    "int": st.integers(-(2**66), 2**66) | st.integers(-(2**63), 2**63 - 1).map(np.int64),
    "float": st.integers(-(2**53), 2**53).map(float),
}
LISTS = st.sampled_from(sorted(OF_TYPE)).flatmap(lambda kind: st.lists(OF_TYPE[kind], min_size=1, max_size=6))


def column(items):
    array = np.empty((len(items), 1), dtype=object)
    array[:, 0] = items
    return array


def of_objects(items):
    return column(items)[:, 0]


def masked(items):
    """Return an array in which what is missing is masked, some label of the others below."""
    missing = [is_missing(item) for item in items]
    there = [item for item in items if not is_missing(item)]
    return np.ma.array(
        of_objects([there[0] if m else item for m, item in zip(missing, items, strict=True)]), mask=missing
    )


def is_missing(item):
    return any(item is one for one in MISSING)


class Convertible:
    """Has a method that returns an array, and no length."""

    def __init__(self, items):
        self.items = items

    def __array__(self, dtype=None, copy=None):
        return of_objects(self.items)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "UserList": UserList,
    "dict_values": lambda items: dict(enumerate(items)).values(),
    "array": of_objects,
    "array without dimensions": lambda items: [np.array(item, dtype=object) for item in items],
    "masked array": masked,
    "Series": lambda items: pd.Series(items, index=range(7, 7 + len(items)), dtype=object),
    "Index": lambda items: pd.Index(items, dtype=object),
    "column": column,
    "what becomes an array": Convertible,
    "list of rows": lambda items: [[item] for item in items],
    "DataFrame": lambda items: pd.DataFrame({"label": pd.Series(items, dtype=object)}),
}
containers = pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
columns = pytest.mark.filterwarnings("ignore:A column-vector y")


@containers
@columns
@settings(max_examples=20)
@given(items=LISTS)
def test_labels_are_the_same_whatever_holds_them(container, items):
    found = check_labels(container(items))
    assert found.shape == (len(items),)
    assert found.tolist() == list(items)
    assert {type(label) for label in found.tolist()} == {
        type(label.item() if hasattr(label, "item") else label) for label in items
    }
    assert_array_equal(np.unique(found), np.unique(check_labels(list(items))))


@containers
@columns
@settings(max_examples=20)
@given(items=LISTS, missing=st.sampled_from(MISSING), data=st.data())
def test_a_missing_label_is_named_wherever_it_is(container, items, missing, data):
    position = data.draw(st.integers(0, len(items)))
    items = [*items[:position], missing, *items[position:]]
    with pytest.raises(InvalidInputError, match=rf"^y\[{position}\] is a missing value, .{{2,40}}\. Label this image"):
        check_labels(container(items))


@containers
@columns
@settings(max_examples=20)
@given(
    parts=st.lists(st.sampled_from(sorted(OF_TYPE)), min_size=2, max_size=2, unique=True).filter(
        lambda kinds: kinds not in (["int", "float"], ["float", "int"])
    ),
    data=st.data(),
)
def test_labels_of_two_types_are_refused(container, parts, data):
    items = [data.draw(OF_TYPE[kind]) for kind in parts for _ in range(2)]
    items = data.draw(st.permutations(items))
    with pytest.raises(InvalidInputError, match=f"^y mixes labels of types {' and '.join(sorted(parts))}: y\\["):
        check_labels(container(items))


class Breed(enum.Enum):
    PUG = "pug"


class Named(str, enum.Enum):  # noqa: UP042 (its str is not its value)
    PUG = "pug"
    HUSKY = "husky"


class Numbered(enum.IntEnum):
    PUG = 3
    HUSKY = 4


@containers
@columns
@pytest.mark.parametrize(
    "label",
    [
        b"pug",
        Breed.PUG,
        Decimal("1"),
        1j,
        datetime.date(2026, 1, 1),
        np.datetime64("2026-01-01", "ns"),
        object(),
        np.timedelta64(1, "s"),
        np.timedelta64(1, "ns"),
        np.timedelta64(1),
    ],
)
def test_what_is_no_label_is_named_without_its_address(container, label):
    with pytest.raises(InvalidInputError, match=r"^Unknown label type: y\[1\] is an? ") as caught:
        check_labels(container(["a", label]))
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("container", [list, np.array, pd.Series])
def test_bytes_are_labels_once_they_are_decoded(container):
    y = container([b"cat", b"dog"])
    with pytest.raises(InvalidInputError, match=r"y\[0\] is .*b'cat'.*\. Decode the labels: ") as caught:
        check_labels(y)
    decoded = eval(str(caught.value).rpartition("labels: ")[2].removesuffix("."), {"y": y})
    assert check_labels(decoded).tolist() == ["cat", "dog"]


@containers
@columns
def test_members_that_are_strings_or_numbers_stand_for_their_values(container):
    assert check_labels(container([Named.PUG, Named.HUSKY])).tolist() == ["pug", "husky"]
    assert {type(label) for label in check_labels(container([Named.PUG, Named.HUSKY])).tolist()} == {str}
    assert check_labels(container([Numbered.PUG, Numbered.HUSKY])).tolist() == [3, 4]


@pytest.mark.parametrize("dtype", ["object", "string", "str", "category"])
def test_missing_strings_of_pandas(dtype):
    assert check_labels(pd.Series(["a", "b"], dtype=dtype)).tolist() == ["a", "b"]
    with pytest.raises(InvalidInputError, match=r"^y\[1\] is a missing value"):
        check_labels(pd.Series(["a", None, "b"], dtype=dtype, index=[5, 5, 5]))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1, None, 2], "Int64"), ([1, None, 2], "float"), ([1, None, 2], "category"), ([True, None, False], "boolean"),
     ([True, None, False], "category"), (pd.to_datetime(["2026-01-01", None, "2026-01-02"]), None)],
)  # fmt: skip
def test_missing_numbers_booleans_and_dates_of_pandas(values, dtype):
    with pytest.raises(InvalidInputError, match=r"^y\[1\] is a missing value, (NaN|<NA>|NaT|nan|np.datetime64\('NaT')"):
        check_labels(pd.Series(values, dtype=dtype))


def test_missing_labels_of_polars():
    pl = pytest.importorskip("polars")
    for values, kind in [(["a", None, "b"], pl.String), (["a", None, "b"], pl.Categorical), ([1, None, 2], pl.Int64),
                         ([True, None, False], pl.Boolean), (["a", None, "b"], pl.Enum(["a", "b"]))]:  # fmt: skip
        series = pl.Series(values, dtype=kind)
        assert check_labels(series.drop_nulls()).tolist() == series.drop_nulls().to_list()
        with pytest.raises(InvalidInputError, match=r"^y\[1\] is a missing value"):
            check_labels(series)


@pytest.mark.parametrize("na", [np.nan, None, "unknown", pd.NA])
def test_missing_strings_of_numpy(na):
    kind = np.dtypes.StringDType(na_object=na)
    assert check_labels(np.array(["a", "b"], dtype=kind)).tolist() == ["a", "b"]
    with pytest.raises(InvalidInputError, match=r"^y\[1\] is a missing value"):
        check_labels(np.array(["a", na, "b"], dtype=kind))


@pytest.mark.parametrize("kind", [int, float, bool, "U3", object])
def test_a_masked_label_is_missing_whatever_is_below(kind):
    y = np.ma.array(np.array([0, 1, 1], dtype=kind), mask=[False, False, True])
    with pytest.raises(InvalidInputError, match=r"^y\[2\] is a missing value, None"):
        check_labels(y)
    assert check_labels(np.ma.array(y.data)).tolist() == y.data.tolist()


MASKED = np.ma.array([0, 1, 0, 1], mask=[0, 0, 1, 0])


@columns
@pytest.mark.parametrize(
    "values",
    [list(MASKED), tuple(MASKED), deque(MASKED), of_objects(list(MASKED)), pd.Series(list(MASKED), dtype=object),
     [np.ma.array(1), 0, np.ma.array(5, mask=True), 1], [[label] for label in MASKED], list(MASKED[:, None]),
     list(MASKED.astype(float))],
)  # fmt: skip
def test_what_is_masked_is_missing_in_lists_too(values):
    for check in (check_labels, check_complete):
        with pytest.raises(InvalidInputError, match=r"^y\[2\] is a missing value, None"):
            check(values, "y")
    assert np.isnan(as_numbers(values, "w")).ravel().tolist() == [False, False, True, False]


class Unreadable:
    def __len__(self):
        return 2

    def __iter__(self):
        raise KeyError("torn")


class Unshown:
    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "values", [Unreadable(), torch.zeros(2, device="meta"), [torch.zeros((), device="meta")], np.array([1, 2], "m8[s]"),
               np.array([1, 2], "m8[ns]"), [np.timedelta64(1, "D")], [Unshown()], ["a", Unshown()]]
)  # fmt: skip
@pytest.mark.parametrize("check", [check_labels, as_numbers])
def test_what_cannot_be_read_is_an_error_of_ours_in_one_line(check, values):
    with pytest.raises(InvalidInputError, match=r"^(Unknown label type: )?y(\[\d\])? .*\.$") as caught:
        check(values, "y")
    assert str(caught.value).isprintable()


def test_tensors_in_brain_floats_are_numbers():
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e5m2):
        assert check_labels(torch.tensor([0.0, 2.0]).to(dtype)).tolist() == [0, 2]
        assert as_numbers(torch.tensor([0.5, 2.0]).to(dtype), "w").tolist() == [0.5, 2]


def test_integers_too_long_for_python_to_print_are_shown_by_their_type():
    assert shown_value(10**5000) == "<int>"


def test_tensors_are_labels_with_gradients_too_and_in_lists():
    tensor = torch.tensor([0.0, 1, 2], requires_grad=True)
    for y in (tensor, torch.tensor([0, 1, 2]), list(tensor.detach()), list(torch.tensor([0, 1, 2]))):
        assert check_labels(y).tolist() == [0, 1, 2]
    with pytest.raises(InvalidInputError, match=r"y\[1\] is a missing value, NaN"):
        check_labels(torch.tensor([0, np.nan]))


@pytest.mark.parametrize("container", [list, tuple, np.array, of_objects, pd.Series])
def test_an_empty_string_is_no_label(container):
    with pytest.raises(InvalidInputError, match=r"^y\[2\] is an empty string\. Label"):
        check_labels(container(["a", "b", ""]))
    assert check_labels(container(["a", "b", " "])).tolist() == ["a", "b", " "]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ({"a", "b"}, "y is a set"),
        ({"a": 1}, "y is a dict"),
        ("ab", "y is a str"),
        ((label for label in "ab"), "y is a generator.*Pass a list"),
        (csr_array(np.eye(3)), "y is a csr_array"),
        (3, "y is an int"),
        (np.array("ab"), r"array of shape \(\)"),
        (np.eye(3, dtype=int), r"array of shape \(3, 3\).*y\.argmax\(axis=1\)"),
        (np.eye(3).tolist(), r"array of shape \(3, 3\).*y\.argmax\(axis=1\)"),
        ([("a", "b"), ("a", "c")], r"array of shape \(2, 2\)"),
        (pd.DataFrame({"a": [1, 2], "b": [1, 2]}), r"array of shape \(2, 2\)"),
        ([["a"], ["b", "c"]], "must hold one label for each image"),
        ([np.arange(2), np.arange(3)], "must hold one label for each image"),
        ([1.0, np.inf], r"continuous. y\[1\] is inf"),
        ([1.0, 0.5], r"continuous. y\[1\] is 0.5"),
        (of_objects([1.0, 0.5]), r"continuous. y\[1\] is 0.5"),
        (np.array([1, 2], "M8[ns]"), r"y\[0\] is a datetime64"),
        (np.zeros(2, [("a", int)]), r"y\[0\] is a void"),
        (None, "requires y to be passed, but the target y is None"),
    ],
)
def test_what_holds_no_labels_is_refused_with_what_it_is(y, words):
    with pytest.raises(InvalidInputError, match=words):
        check_labels(y)


@given(st.lists(st.integers(-(2**70), 2**70) | st.sampled_from([2**63, 2**63 + 1, 2**64, -1]), min_size=1, max_size=5))
def test_no_two_integers_become_one_class(labels):
    assert len(np.unique(check_labels(labels))) == len(set(labels))


def test_a_warning_about_a_column_points_at_the_line_that_passed_it():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_labels(np.array([["a"], ["b"]]), "y_val")
    assert [(w.category, w.filename) for w in caught] == [(DataConversionWarning, __file__)]
    assert "y_val was passed" in str(caught[0].message)


@pytest.mark.parametrize("value", ["x" * 10_000, ["x" * 10_000], np.arange(10_000), dict.fromkeys(range(10_000))])
def test_messages_stay_short(value):
    assert len(shown_value(value)) < 120
    assert len(first_shown([value] * 1000)) < 700
    for y in (["a", "b", value, 3], [1, value], [1, "a" * 9999], ["a" * 9999, 1], [b"a" * 9999, 1]):
        with pytest.raises(InvalidInputError) as caught:
            check_labels(y)
        assert len(str(caught.value)) < 600


def test_a_missing_label_that_numpy_has_converted_to_a_string_is_named():
    """NumPy leaves nothing but the width of the strings to tell it by; a class of that name has another way in."""
    converted = np.array(["cat", np.nan, "dog"])
    with pytest.raises(InvalidInputError, match=r"^y\[1\] is 'nan', to which NumPy converts .* pass y.tolist\(\)"):
        check_labels(converted)
    with pytest.raises(InvalidInputError, match=r"^y\[1\] is 'nan'"):
        check_labels(np.array(["Coelogyne cristata var. hololeuca", np.nan]))  # wider than any float
    for breads in (converted.tolist(), np.array(["cat", "nan", "dog"])):
        assert check_labels(breads).tolist() == ["cat", "nan", "dog"]


def _check_table(values, name):
    zeros_and_ones(Table.of(values, name), name)


@pytest.mark.parametrize(
    ("check", "good", "wrong"),
    [
        (check_labels, "a", 3),
        (check_labels, "a", b"x"),
        (check_labels, 1.0, 0.5),
        (check_labels, "a", None),
        (check_labels, "a", ""),
        (check_labels, "a" * 40, "nan"),
        (check_complete, "a", 1),
        (as_numbers, 1.0, "x"),
        (number_columns, 1.0, np.inf),
        (number_columns, [1.0, 2.0], [1.0, np.nan]),
        (number_columns, [1.0, 2.0], [1.0, "x"]),
        (_check_table, [0, 1], [0, 2]),
    ],
)
@settings(max_examples=10)
@given(st.data())
def test_errors_about_some_rows_name_their_positions_in_the_argument(check, good, wrong, data):
    n = data.draw(st.integers(2, 9))
    rows = np.sort(data.draw(st.permutations(range(n)))[: data.draw(st.integers(2, n))])
    values = [good] * n
    values[data.draw(st.sampled_from(rows[1:].tolist()))] = wrong
    values = np.array(values) if wrong == "nan" else values  # what NumPy makes of a missing value
    errors = []
    for some, name in ((values, "y"), ([values[i] for i in rows], RowsOf("y", rows))):
        with pytest.raises(InvalidInputError) as caught:
            check(np.array(some) if wrong == "nan" else some, name)
        errors.append(str(caught.value).replace(f"y[{rows[0]}", "y[0"))  # the first of two types
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (pd.DataFrame({"breed": ["a", "b"]}), "y['breed']"),
        (pd.DataFrame({0: ["a", "b"]}), "y[0]"),
        (np.array([["a"], ["b"]]), "y.ravel()"),
        (torch.tensor([[1], [2]]), "y.ravel()"),
        ([["a"], ["b"]], "np.ravel(y)"),
    ],
)
def test_the_remedy_for_a_column_works_in_its_container(y, code):
    with pytest.warns(DataConversionWarning) as caught:
        labels = check_labels(y)
    assert str(caught[0].message).endswith(f"Pass shape (n_samples,), for instance {code}.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(check_labels(eval(code, {"np": np, "y": y})), labels)


def test_the_remedy_for_a_table_of_pyarrow_names_its_column():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.warns(DataConversionWarning, match=r"for instance y\['kind'\]\.$"):
        check_labels(pa.table({"kind": ["a", "b"]}))


HOT = [[0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("y", [pd.Series(HOT), pl.Series(HOT), pd.Series([*np.array(HOT, dtype=bool)])], ids=str)
def test_the_remedy_for_rows_of_zeros_and_ones_in_a_column_works(y):
    with pytest.raises(InvalidInputError, match=r"For several labels per image, pass np\.stack\(y\)\.$"):
        check_labels(y)
    assert_array_equal(zeros_and_ones(Table.of(np.stack(y), "y"), "y"), HOT)


@pytest.mark.parametrize("y", [[["a", "b"], ["a"]], [[0], [0, 1]], [[0, 2], [1, 0]], [["0", "1"]], [{0, 1}, {1, 0}]])
def test_names_and_numbers_of_labels_are_binarized(y):
    with pytest.raises(InvalidInputError, match=r"pass MultiLabelBinarizer\(\)\.fit_transform\(y\)\.$"):
        check_labels(pd.Series(y))


def test_remedies_for_groups_are_not_those_for_labels():
    pairs = [("p1", "left"), ("p1", "right")]
    with pytest.raises(InvalidInputError, match="Pass one group for each image; join several columns"):
        check_groups(pairs, 2)
    with pytest.raises(
        InvalidInputError, match=r"groups\[1\] is a missing value, None\. Give this image a group of its own"
    ):
        check_groups(["p1", None], 2)
