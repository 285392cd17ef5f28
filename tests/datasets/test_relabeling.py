"""Numbers that a person decided on take the place of others in any container."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sktl.datasets import apply_decisions
from sktl.exceptions import InvalidInputError, InvalidParameterError

NAMES = ["1.jpg", "2.jpg", "3.jpg"]
RELABELED = {"part": ["train"], "position": [1], "name": ["2.jpg"], "decision": ["relabel"]}
CONTAINERS = [list, np.array, lambda x: np.array(x, dtype=object), pd.Series, pl.Series, torch.tensor]


def applied(label, y, names=NAMES, **options):
    columns = ["part", "position", "name", "decision", "label"]
    rows = [("train", 1, NAMES[1], "relabel", label), ("train", 0, NAMES[0], "drop", "")]
    return apply_decisions(pd.DataFrame(rows, columns=columns), names[: len(y)], y, **options)[1]


def arrow(values):
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed").array(values)


@pytest.mark.parametrize("of", [*CONTAINERS, lambda x: np.array(x)[:, None], arrow])
@pytest.mark.parametrize(
    ("numbers", "label", "new", "options"),
    [
        ([1.5, 2.0, 4.0], "-3.25", -3.25, {}), ([1.5, 2.0, 4.0], 3.0, 3.0, {"classes": np.empty(0)}),
        ([1, 2, 4], "300", 300, {"kind": "numbers"}), ([1, 2, 4], 7.0, 7, {"kind": "numbers"}),
    ],
)  # fmt: skip
def test_a_number_is_changed_to_one_that_y_lacks(of, numbers, label, new, options):
    """A reader of CSV files may have turned the number to a float."""
    given = of(numbers)
    y = applied(label, given, **options)
    assert np.ravel(y).tolist() == [new, numbers[2]]
    assert type(y) is type(given)
    assert getattr(y, "dtype", None) == getattr(given, "dtype", None)
    assert np.ravel(given).tolist() == numbers


@pytest.mark.parametrize("values", [["cat", None, "dog"], [1.5, None, 4.0]])
@pytest.mark.parametrize("of", [pl.Series, arrow, list])
def test_an_image_without_a_label_gets_one(of, values):
    new = {"cat": "bird", 1.5: 3.0}[values[0]]
    options = {"classes": ["cat", "dog", "bird"]} if new == "bird" else {"kind": "numbers"}
    y = apply_decisions(pd.DataFrame(RELABELED | {"label": [str(new)]}), NAMES, of(values), **options)[1]
    assert (y.to_pylist() if hasattr(y, "to_pylist") else list(y)) == [values[0], new, values[2]]


FRAME = {"age": [40, 50, 60], "weight": [1.5, 2.5, 3.5]}


@pytest.mark.parametrize(
    "of", [np.array, torch.tensor, lambda x: x.tolist(), lambda x: pd.DataFrame(FRAME), lambda x: pl.DataFrame(FRAME)]
)
def test_several_numbers_are_changed_together(of):
    given = of(np.array([*FRAME.values()]).T)
    y = applied("41, 9.25", given)
    assert np.asarray(y).tolist() == [[41, 9.25], [60, 3.5]]
    assert [*getattr(y, "dtypes", [])] == [*getattr(given, "dtypes", [])]


@pytest.mark.parametrize("label", ["", None, "nan", "inf", "x", "1, 2"])
def test_other_text_is_not_a_number(label):
    with pytest.raises(InvalidInputError, match=r"Row 0 .* but needs one finite number\. Correct the row"):
        applied(label, [1.5, 2.0, 4.0])
    with pytest.raises(InvalidInputError, match="but needs 2 finite numbers, separated by a comma and a space"):
        applied("3", pd.DataFrame(FRAME))


@pytest.mark.parametrize("of", [*CONTAINERS, lambda x: pd.DataFrame({"age": x, "weight": np.array(x) / 2}), arrow])
def test_no_fraction_is_lost_in_integers(of):
    given = of([1, 2, 4])
    with pytest.raises(InvalidInputError, match=r"which y cannot hold\. Correct the row, or pass y as float64"):
        applied("2.5" if np.ndim(given) == 1 else "2.5, 1", given, kind="numbers")


def test_labels_that_y_lacks_remain_errors():
    for label, y in (("3", [1, 2, 4]), ("7", [0.0, None, 1.0])):
        with pytest.raises(InvalidInputError, match="If y holds numbers instead of classes, pass kind='numbers'"):
            applied(label, y)
    assert applied("1.0", [0.0, 0.0, 1.0]) == [1, 1]
    assert applied("-7", [*map(float, range(21))], names=[f"{i}.jpg" for i in range(1, 22)])[0] == -7
    for y, options in (([1.0, 2.0, 4.0], {"classes": [1.0]}), ([1.0, 2.0, 4.0], {"kind": "classes"})):
        with pytest.raises(InvalidInputError, match=r"relabels to '3\.0', but the labels are"):
            applied("3.0", y, **options)
    with pytest.raises(InvalidParameterError, match="kind='number' must be one of 'auto', 'classes'"):
        applied("3", [1, 2, 4], kind="number")
