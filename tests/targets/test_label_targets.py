"""Indicators and their weights to targets: what fits together, what does not, and what is constant."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import MultiLabelBinarizer

from sktl._targets.label_targets import LabelTargets, check_indicator
from sktl._targets.labeled_samples import hold_out
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

Y = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
FRAME = pd.DataFrame(Y, columns=["cat", "dog", "owl"])
INDICATORS = arrays(np.int64, st.tuples(st.integers(2, 8), st.integers(2, 5)), elements=st.integers(0, 1))
constant = pytest.mark.filterwarnings("ignore:(Every|No) image has:UserWarning")


def check(y=Y, sample_weight=None, class_weight=None, **kwargs):
    return check_indicator(y, sample_weight, class_weight, len(y), **kwargs)


def weights_of(class_weight, y=Y, sample_weight=None):
    """Return the weight of each label of each sample."""
    targets = check(y, sample_weight, class_weight)
    return np.broadcast_to(targets.ranked_weights(np.arange(y.shape[1])), y.shape)


def test_labels_are_the_names_of_columns_or_their_positions():
    assert check().classes.tolist() == [0, 1, 2]
    assert check(FRAME).classes.tolist() == ["cat", "dog", "owl"]
    assert check(FRAME).counts().tolist() == [2, 1, 2]
    assert check(FRAME.set_axis([3, 1.5, 2], axis=1)).classes.tolist() == [3, 1.5, 2]


@pytest.mark.parametrize(
    "names", [pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]), ["a", 1, "b"], [None, "b", "c"]], ids=str
)
def test_names_that_scores_cannot_sort_are_refused(names):
    frame = FRAME.set_axis(names, axis=1)
    with pytest.raises(InvalidInputError, match=r"y has the columns .* must be all strings or all numbers"):
        check(frame)
    frame.columns = frame.columns.map(str)  # as the error says
    assert check(frame).classes.tolist() == frame.columns.tolist()


@pytest.mark.parametrize("name", ["", " "])
def test_a_label_without_a_name_is_refused(name):
    """`str.get_dummies` makes one for images without labels."""
    with pytest.raises(InvalidInputError, match=r"y has a label with an empty name, .*drop it if"):
        check(FRAME.rename(columns={"owl": name}))


@settings(max_examples=30)
@given(st.lists(st.text(" a", min_size=1).filter(str.strip), min_size=2, max_size=4, unique=True))
def test_names_that_differ_only_in_white_space_are_said_once(names):
    y = pd.DataFrame(np.eye(5, len(names)), columns=names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(y)
        check(y, rows=np.arange(4))  # as a fit that leaves out images checks again
    said = [warning for warning in caught if "differ only in white space" in str(warning.message)]
    assert len(said) == (len({" ".join(name.split()) for name in names}) < len(names))


def test_the_binarizer_of_scikit_learn_gives_indicators():
    tags = [["a", "b"], [], ["b"], ["c"]]
    for sparse in (False, True):
        y = MultiLabelBinarizer(sparse_output=sparse).fit_transform(tags)
        assert check_indicator(y, None, None, 4).counts().tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y * 2, r"y\[0, 0\] is 2, but a table of several labels has only 0 and 1.*use PretrainedImageRegressor"),
        (Y - 1, r"y\[0, 1\] is -1"),
        (Y / 2, r"y\[0, 0\] is 0\.5"),
        (FRAME * 2, r"y\[0, 'cat'\] is 2"),
        (np.array([["cat", "dog"], ["dog", "cat"]]), r"y has several columns of strings.*\(\)\.fit_transform\(y\);"),
        (FRAME.astype(str) + "a" + FRAME.columns, r"MultiLabelBinarizer\(\)\.fit_transform\(y\.to_numpy\(\)\);"),
        (FRAME.assign(file="a.png"), r"y has strings in 1 of its 4 columns: 'file'\. Leave out columns of strings"),
        (np.c_[Y.astype(object), ["a", "b", "a", "b", "a"]], "y has strings in 1 of its 4 columns: 3. Leave out"),
        (np.where(Y, np.nan, 0), r"y\[0, 0\] is a missing value"),
        (FRAME.astype("Int64").replace(1, pd.NA), r"y\[0, 'cat'\] is a missing value"),
        (np.where(Y, np.inf, 0), r"y\[0, 0\] is infinite"),
    ],
)
def test_what_is_no_indicator_is_refused_with_what_to_pass(y, words):
    with pytest.raises(InvalidInputError, match=words):
        check(y)


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (Y.astype(str), "np.array(y, dtype=float)"),
        (Y.astype(float).astype(str).tolist(), "np.array(y, dtype=float)"),
        (FRAME.astype(str), "y.astype(float)"),
        (FRAME.astype({"owl": str}), "y.astype(float)"),
    ],
)
def test_zeros_and_ones_as_strings_are_said_with_the_remedy(y, code):
    with pytest.raises(InvalidInputError, match=r"y has 0 and 1 as strings. Pass numbers: ") as caught:
        check(y)
    assert str(caught.value).endswith(f"{code}.")
    assert_array_equal(check(eval(code, {"np": np, "y": y})).indicator, Y)


@pytest.mark.parametrize(
    "y",
    [
        np.where(Y, "yes", "no"),
        np.where(Y, "yes", "no").tolist(),
        FRAME.replace({0: "no", 1: "yes"}),
        pl.DataFrame(FRAME.replace({0: "no", 1: "yes"}).to_dict("list")),
    ],
)
def test_a_table_of_two_answers_is_refused_with_a_remedy_that_works(y):
    with pytest.raises(
        InvalidInputError, match=r"y has the strings 'no', 'yes'\. .* true for the labels of an image, such"
    ) as caught:
        check(y)
    code = re.search(r"such as (.*?);", str(caught.value))[1]
    assert_array_equal(check(eval(code, {"np": np, "y": y})).indicator, Y)


def test_there_is_one_row_for_each_image():
    with pytest.raises(InvalidInputError, match="X has 9 images but y has 5 rows"):
        check_indicator(Y, None, None, 9)


# ------------------------------------------------------------------------------------------------------ class weights


@constant
@settings(max_examples=30)
@given(INDICATORS, st.data())
def test_weights_of_each_label_have_mean_1_and_no_unit(y, data):
    positive = st.floats(0.1, 10)
    class_weight = [{0: data.draw(positive), 1: data.draw(positive)} for _ in range(y.shape[1])]
    sample_weight = np.array(data.draw(st.lists(positive, min_size=len(y), max_size=len(y))))
    found = weights_of(class_weight, y, sample_weight)
    assert_allclose(found.sum(axis=0), sample_weight.sum())
    tenfold = [{side: 10 * weight for side, weight in of_label.items()} for of_label in class_weight]
    assert_allclose(weights_of(tenfold, y, sample_weight), found)
    for label, of_label in enumerate(class_weight):
        relative = np.where(y[:, label] > 0, of_label[1], of_label[0]) * sample_weight
        assert_allclose(found[:, label] / found[:, label].sum(), relative / relative.sum())


@constant
@settings(max_examples=30)
@given(INDICATORS)
def test_balanced_labels_have_the_same_weight_with_and_without(y):
    found = weights_of("balanced", y)
    counts = y.sum(axis=0)
    for label in np.flatnonzero((counts > 0) & (counts < len(y))):
        assert_allclose(found[y[:, label] > 0, label].sum(), len(y) / 2)
        n = counts[label]
        explicit = [{} for _ in counts]
        explicit[label] = {0: len(y) / (2 * (len(y) - n)), 1: len(y) / (2 * n)}
        assert_allclose(weights_of(explicit, y)[:, label], found[:, label])


def test_a_weight_by_label_is_the_weight_of_the_images_that_have_it():
    by_list = weights_of([{1: 3}, {}, {0: 1, 1: 0.5}])
    assert_array_equal(weights_of({0: 3, 2: 0.5}), by_list)
    assert_array_equal(weights_of({"cat": 3, "owl": 0.5}, FRAME), by_list)
    assert_allclose(by_list[0, 0] / by_list[1, 0], 3)
    assert_array_equal(weights_of({}), weights_of(None))


def test_weights_of_the_labels_0_and_1_may_be_meant_for_images_without_and_with_each_label():
    weights = {0: 1, 1: 5}
    with pytest.warns(InputWarning, match=r"pass \[\{0: 1, 1: 5\}\] \* 3\.") as caught:
        check(class_weight=weights)
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        check(class_weight=weights, rows=np.arange(4))  # as a fit that leaves out images checks again
        check(class_weight=[weights] * 3)
        check(class_weight=weights | {2: 1})
        check(Y[:4, :2], class_weight=weights)
        check(FRAME.set_axis([1, 0, 2], axis=1), class_weight=weights)


def test_the_weight_of_a_label_leaves_other_labels_alone():
    assert_array_equal(weights_of({0: 100.0})[:, 1:], weights_of(None)[:, 1:])


@pytest.mark.parametrize(
    ("class_weight", "words"),
    [
        ({"cat": 1}, "class_weight has labels that y does not have: 'cat'. y has 0, 1, 2"),
        ({7: 1}, "class_weight has labels that y does not have: 7"),
        ({0: None}, r"class_weight\[0\] is None; weights are numbers"),
        ({0: "2"}, r"class_weight\[0\] is '2'; weights"),
        ({0: 1j}, r"class_weight\[0\] is 1j; weights"),
        ([{}, {1: pd.NA}, {}], r"class_weight\[1\]\[1\] is <NA>; weights"),
        ({0: -1}, "must give weights that are finite, not negative"),
        ({0: np.nan}, "must give weights that are finite"),
        ({0: np.inf}, "must give weights that are finite"),
        ([{0: 0, 1: 0}, {}, {}], "not all zero for the images of any label"),
        ([{0: 1e-320, 1: 1e-320}, {}, {}], "gives weights as small as .*, beyond float64. Scale them to about 1"),
        ([], "must have one dict with the keys 0 and 1 for each of the 3 labels"),
        ([{}, {}], "must have one dict"),
        ([1, 2, 3], "must have one dict"),
        ([{"cat": 1}, {}, {}], "must have one dict"),
    ],
)
def test_class_weights_that_do_not_match_are_refused(class_weight, words):
    with pytest.raises(InvalidParameterError, match=words) as caught:
        check(class_weight=class_weight)
    assert len(str(caught.value)) < 300


def test_a_class_weight_whose_label_looks_like_a_label_is_named_with_both_spellings():
    with pytest.raises(InvalidParameterError, match=r"y has 'cat', 'dog', 'owl'\. 'Dog' looks like 'dog'"):
        check(FRAME, class_weight={"Dog": 2})


# ------------------------------------------------------------------------------------------------------------ constant


def test_constant_columns_are_named_and_trained_with_doubt():
    y = np.concatenate([Y, np.ones((5, 1)), np.zeros((5, 1))], axis=1)
    with pytest.warns(InputWarning, match="image has the label") as caught:
        targets = check(y)
    assert [str(warning.message).partition(".")[0] for warning in caught] == [
        "Every image has the label 3", "No image has the label 4",
    ]  # fmt: skip
    assert_allclose(targets.values()[:, 3:], np.tile([6 / 7, 1 / 7], (5, 1)))
    assert_array_equal(targets.values()[:, :3], Y)
    assert_array_equal(targets.memberships(), y)
    assert_array_equal(targets.outputs.observed(targets.values()), y)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_of_some_images_only_labels_that_have_become_constant_are_named(class_weight):
    y = np.concatenate([Y, np.ones((5, 1))], axis=1)
    with pytest.warns(InputWarning, match="Every image has the label 3"):
        check(y, None, class_weight)
    with pytest.warns(InputWarning, match=r"^No image has the label 1\. ") as caught:
        check(y, None, class_weight, rows=np.array([0, 2, 3, 4]))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("sample_weight", "class_weight", "n"), [([0, 1, 1, 0, 1], None, 3), (None, {0: 0}, 5), (None, [{1: 0}, {}, {}], 5)]
)
def test_images_of_weight_zero_make_no_label_less_constant(sample_weight, class_weight, n):
    with pytest.warns(InputWarning, match="No image has the label 0, apart from images of weight zero"):
        targets = check(Y, sample_weight, class_weight)
    assert_allclose(targets.doubt, [1 / (n + 2), 0, 0])


def test_labels_that_vary_cause_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(check(sample_weight=[2, 1, 1, 1, 1]).values(), Y)


@constant
@pytest.mark.parametrize("class_weight", [None, [{0: 0}, {}, {}]])
def test_a_label_is_learned_from_samples_with_and_without_it_and_otherwise_with_doubt(class_weight):
    targets = check(class_weight=class_weight)
    learned = [class_weight is None, True, True]
    assert targets.learnable(np.array([0, 1, 2, 3, 0])).tolist() == learned
    weights = np.array([0, 1, 0, 0, 0])
    found = targets.trained_with(weights)
    assert found.weights is weights
    assert_allclose(found.values()[1], [1 / 3, 2 / 3, 1 / 3])


def test_labels_that_other_samples_cannot_teach_are_left_out():
    targets = check(FRAME)
    assert targets.restricted(np.arange(5)).classes.tolist() == ["cat", "dog", "owl"]
    found = targets.restricted(np.array([0, 4]), np.array([0, 2, 3]))  # none of the latter is a dog
    assert found.classes.tolist() == ["cat", "owl"]
    assert_array_equal(found.indicator, Y[[0, 4]][:, [0, 2]])
    nothing = targets.restricted(np.array([0]))
    assert nothing.is_trivial
    assert nothing.classes.tolist() == ["cat", "dog", "owl"]
    assert not targets.is_trivial


def test_a_label_is_scored_if_samples_with_and_without_it_are():
    targets = check(Y)
    learned = np.ones((5, 3), dtype=bool)
    assert targets.scored(learned).all()
    learned[1, 1] = False  # the only dog is in a fold without which no dog is left
    learned[4, 0] = False
    assert_array_equal(targets.scored(learned), learned & [True, False, True])


# --------------------------------------------------------------------------------------------------- order of training


@constant
@settings(max_examples=30)
@given(INDICATORS, st.sampled_from([None, "balanced", "list"]), st.randoms())
def test_the_order_of_training_does_not_depend_on_the_order_of_columns(y, class_weight, random):
    if class_weight == "list":
        class_weight = [{1: 1.0 + i % 2} for i in range(y.shape[1])]
    columns = random.sample(range(y.shape[1]), y.shape[1])
    permuted = [class_weight[i] for i in columns] if isinstance(class_weight, list) else class_weight
    targets, others = check(y, None, class_weight), check(y[:, columns], None, permuted)
    assert_array_equal(targets.ordered().indicator, others.ordered().indicator)
    assert_array_equal(targets.ranked_values(targets.rank), others.ranked_values(others.rank))
    assert_array_equal(targets.ranked_weights(targets.rank), others.ranked_weights(others.rank))


def test_equal_columns_are_in_the_order_of_their_weights():
    y = Y[:, [0, 0, 1]]
    targets, others = check(y, None, {0: 5.0}), check(y, None, {1: 5.0})
    assert_array_equal(targets.ordered().label_weights, others.ordered().label_weights)
    assert targets.rank.tolist() == others.rank[[1, 0, 2]].tolist()


def test_targets_of_some_rows_are_those_of_the_rows():
    rows = np.array([3, 0, 1])
    groups = np.arange(5)
    found, expected = check(groups=groups, rows=rows), check(groups=groups).take(rows)
    for name in ("indicator", "weights", "groups"):
        assert_array_equal(getattr(found, name), getattr(expected, name))


# ---------------------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y[:2], r"y_val has shape \(2, 3\); pass 5 rows"),
        (Y[:, :2], r"y_val has shape \(5, 2\).* 3 columns, one for each label of y"),
        (Y[:, 0], r"y_val has shape \(5,\), but must be a table"),
        (Y * 2, r"y_val\[0, 0\] is 2"),
        (FRAME[["dog", "cat", "owl"]], "y_val has the columns 'dog', 'cat', 'owl', but y has 'cat', 'dog', 'owl'"),
        (None, "y_val"),
    ],
)
def test_labels_of_a_validation_set_are_checked_by_the_same_law(y, words):
    with pytest.raises(InvalidInputError, match=words):
        check(FRAME).of_validation(y, None, 5)


def test_a_validation_set_has_the_weights_of_the_labels():
    targets = check(class_weight={0: 3.0}, groups=np.arange(5))
    found = targets.of_validation(Y[:2], [1, 2], 2)
    assert_array_equal(found.label_weights, targets.label_weights)
    assert found.weights.tolist() == [1, 2]
    assert found.groups is None


@constant
def test_validation_images_need_a_label_of_nonzero_weight():
    targets = check(class_weight=[{0: 0}] * 3)
    with pytest.raises(InvalidInputError, match="X_val has only labels of weight zero"):
        targets.of_validation(np.zeros((2, 3)), None, 2)
    assert len(targets.of_validation(Y[:2], None, 2)) == 2


def test_a_label_of_one_image_is_trained_and_not_held_out():
    y = np.zeros((40, 3))
    y[::2, 0], y[::3, 1], y[7, 2] = 1, 1, 1
    for seed in range(10):
        train, held_out = hold_out(LabelTargets(np.arange(3), y, np.ones(40)), 0.1, seed)
        assert y[train, 2].sum() == 1
        assert len(held_out) == 4


def test_the_only_image_without_a_label_is_trained_and_not_held_out():
    y = np.ones((40, 2))
    y[::2, 0], y[7, 1] = 0, 0
    for seed in range(20):
        train, _ = hold_out(LabelTargets(np.arange(2), y, np.ones(40)), 0.2, seed)
        assert 7 in train


def test_too_few_images_to_hold_out_some_are_named():
    with pytest.raises(InvalidParameterError, match=r"cannot hold out .* of 2 images with 3 labels"):
        hold_out(LabelTargets(np.arange(3), Y[:2].astype(float), np.ones(2)), 0.1, 0)


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (pd.get_dummies(pd.Series(["cat", "dog", "owl", "cat"])), "y.idxmax(axis=1)"),
        (np.eye(3, dtype=int)[[0, 1, 2, 0]], "np.argmax(y, axis=1)"),
        (np.eye(3)[[0, 1, 2, 0]].tolist(), "np.argmax(y, axis=1)"),
    ],
)
def test_one_hot_classes_are_said_once_with_the_remedy(y, code):
    with pytest.warns(InputWarning, match="Every image has exactly one of the 3 labels") as caught:
        check(y)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(y, rows=np.arange(4))  # as a fit that leaves out images checks again
    assert f"one class for each image, {code}." in str(caught[0].message)
    assert [*eval(code, {"np": np, "y": y})] in (["cat", "dog", "owl", "cat"], [0, 1, 2, 0])


def test_one_hot_classes_of_two_are_said_if_no_chance():
    y = np.eye(2)[[0, 1] * 5]
    with pytest.warns(InputWarning, match="Every image has exactly one of the 2 labels"):
        check(y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(np.r_[y, [[1, 1]]])


@pytest.mark.parametrize(
    "y", [np.eye(2)[[0, 1, 0]], [[1, 0, 0], [0, 1, 0], [0, 1, 1]], [[1, 0, 0], [0, 1, 1], [0, 0, 0]]]
)
def test_other_labels_are_not_taken_for_one_hot(y):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Every image has exactly one")
        check(np.array(y))
