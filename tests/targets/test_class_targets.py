"""Labels and weights to targets: what fits together, what does not, and who says so."""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils import compute_class_weight

from sktl._targets.class_targets import ClassTargets, check_classes
from sktl._targets.labeled_samples import hold_out
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

Y = ["b", "a", "b"]


def _of(classes):
    """Return targets with one sample of each class."""
    return ClassTargets(classes, np.arange(len(classes)), np.ones(len(classes)))


@pytest.mark.parametrize("kind", [np.dtypes.StringDType(), np.dtypes.StringDType(na_object=np.nan)])
def test_strings_that_scikit_learn_cannot_score_are_refused_with_a_conversion_that_works(kind):
    y = np.array(Y, dtype=kind)
    with pytest.raises(InvalidInputError, match=r"Pass y\.astype\(object\)\.$"):
        check_classes(y, None, None, 3)
    assert check_classes(y.astype(object), None, None, 3).classes.tolist() == ["a", "b"]


def test_a_class_that_consists_of_other_classes_is_said_once_with_a_remedy_that_works():
    y = ["cat", "dog", "cat;dog"]
    with pytest.warns(InputWarning, match="y has the class 'cat;dog', and its parts are classes, too") as caught:
        check_classes(y, None, None, 3)
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        check_classes(y, None, None, 3, rows=np.arange(3))  # as a fit that leaves out images checks again
    remedy = str(caught[0].message).partition("pass ")[2].removesuffix(" as y.")
    assert eval(remedy, {"pandas": pd, "y": y}).to_numpy().tolist() == [[1, 0], [0, 1], [1, 1]]


def test_joined_labels_of_which_none_is_a_class_are_said_with_a_remedy_that_works():
    y = ["cat|dog", "cat|owl", "dog|owl", "cat|dog|owl"]
    with pytest.warns(InputWarning, match=r"class 'cat\|dog', and its parts are in other classes, too") as caught:
        check_classes(y, None, None, 4)
    remedy = str(caught[0].message).partition("pass ")[2].removesuffix(" as y.")
    assert eval(remedy, {"pandas": pd, "y": y}).columns.tolist() == ["cat", "dog", "owl"]


def test_classes_that_differ_only_in_white_space_are_said_once():
    y = ["a", "a ", "b"]
    with pytest.warns(InputWarning, match=r"The labels 'a' and 'a ' of y differ only in white space") as caught:
        check_classes(y, None, None, 3)
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        check_classes(y, None, None, 3, rows=np.arange(3))  # as a fit that leaves out images checks again
        check_classes(["a b", "ab", "a"], None, None, 3)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a", "b", "nan"], "y has the label 'nan'"),
        (np.arange(21), "y has 21 different numbers"),
        (np.array([["a"], ["b"]]), "A column-vector y was passed"),
    ],
)
def test_what_is_said_about_all_images_is_not_said_again_about_some(y, words):
    with pytest.warns(UserWarning, match=words) as caught:
        check_classes(y, None, None, len(y))
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        check_classes(y, None, None, len(y), rows=np.arange(len(y)))


def test_classes_that_look_the_same_are_said_with_the_form_that_makes_them_equal():
    with pytest.warns(
        InputWarning, match=r"look the same, .*: 'Ka.u0308se' looks like 'K.xe4se'.*\(\"NFC\", name\)\.$"
    ):
        check_classes(["K\u00e4se", "Ka\u0308se", "Tee"], None, None, 3)
    with pytest.warns(InputWarning, match=r"'.u212b' looks like '.xc5'.*\(\"NFC\", name\)\.$"):
        check_classes(["\u00c5", "\u212b", "Tee"], None, None, 3)
    with warnings.catch_warnings(action="error"):
        check_classes(["Tee", "tee", "K\u00e4se"], None, None, 3)  # may be different classes


@settings(max_examples=50)
@given(
    codes=st.lists(st.integers(0, 3), min_size=2, max_size=8).filter(lambda codes: len(set(codes)) > 1),
    weights=st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 10), min_size=1),
)
def test_class_weights_are_those_of_scikit_learn(codes, weights):
    y = np.array(list("abcd"))[codes]
    try:
        expected = compute_class_weight(weights, classes=np.unique(y), y=y)
    except ValueError:
        with pytest.raises(InvalidParameterError, match="class_weight has labels that y does not have: '"):
            check_classes(y, None, weights, len(y))
    else:
        targets = check_classes(y, None, weights, len(y))
        assert_allclose(targets.weights, expected[targets.codes])


@pytest.mark.parametrize("weights", [OrderedDict(a=2, b=3.0), {"a": np.float32(2), np.str_("b"): np.int64(3)}])
def test_class_weights_may_be_any_mapping_of_numbers(weights):
    assert check_classes(Y, None, weights, 3).weights.tolist() == [3, 2, 3]


def test_a_default_dict_is_neither_asked_nor_changed():
    weights = defaultdict(lambda: 7.0, a=2.0)
    assert check_classes(Y, None, weights, 3).weights.tolist() == [1, 2, 1]
    assert weights == {"a": 2.0}


@pytest.mark.parametrize("weight", ["2", None, pd.NA, [1], np.ones(2), 1j])
def test_class_weights_that_are_no_numbers_are_named(weight):
    with pytest.raises(InvalidParameterError, match=r"class_weight\['b'\] is .*weights are numbers"):
        check_classes(Y, None, {"a": 1.0, "b": weight}, 3)


def test_a_class_weight_whose_label_looks_like_a_class_is_named_with_both_spellings():
    with pytest.raises(InvalidParameterError, match=r"y has 'K.se', 'b'\. 'Ka.u0308se' looks like 'K.xe4se'"):
        check_classes(["K\u00e4se", "b"], None, {"Ka\u0308se": 2}, 2)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1])
def test_class_weights_out_of_range_are_refused_in_few_words(weight):
    many = {f"{'x' * 50}{i}": 1.0 for i in range(500)} | {"a": 1.0, "b": weight}
    with pytest.raises(InvalidParameterError, match="must give weights that are finite, not negative") as caught:
        check_classes(Y, None, many, 3)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a", None, "b"], r"y_val\[1\] is a missing value, None"),
        (["a", 1, "b"], "y_val mixes labels of types int and str"),
        (["a", "c", "z"], "y_val has labels that y does not have: 'c', 'z'.*y has 'a', 'b'"),
        ([1, 2, 1], "y_val has labels that y does not have: 1, 2.*y has 'a', 'b'"),
        (["a", "B", "b"], "y has 'a', 'b'. 'B' looks like 'b'"),
        (["a" * 9999] * 3, r"y does not have: 'aaa.*aaa' \(10001 characters\)"),
        (["a"], "X_val has 3 images but y_val has 1 labels"),
        (None, "the target y_val is None"),
    ],
)
def test_labels_of_a_validation_set_are_checked_by_the_same_law(y, words):
    with pytest.raises(InvalidInputError, match=words) as caught:
        _of(np.array(["a", "b"])).of_validation(y, None, 3)
    assert len(str(caught.value)) < 300


def test_booleans_of_a_validation_set_are_not_the_numbers_that_they_equal():
    for classes, y in ((np.array([0, 1]), [True, False]), (np.array([False, True]), [1, 0])):
        with pytest.raises(InvalidInputError, match="y_val has labels that y does not have"):
            _of(classes).of_validation(y, None, 2)
    assert _of(np.array([0, 1])).of_validation([1.0, 0.0], None, 2).codes.tolist() == [1, 0]


def test_many_numbers_for_few_images_are_a_warning_at_the_line_that_passed_them():
    ages = np.arange(30) // 1.5
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_classes(ages, None, None, 30)
        check_classes([f"of age {age}" for age in ages], None, None, 30)
    assert [(w.category, w.filename) for w in caught] == [(InputWarning, __file__)]
    assert "20 different numbers for 30 images" in str(caught[0].message)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, "N/A", "#N/A", "null", "NULL"])
def test_a_class_that_may_be_missing_values_as_strings_is_a_warning(missing):
    labels = np.array(["cat", "dog", missing, missing, "cat"], dtype=object)
    for y in (labels.astype(str), [*map(str, labels)]):
        with pytest.warns(
            InputWarning, match=f"y has the label '{missing}' for 2 images. Programs write this text"
        ) as caught:
            assert str(missing) in check_classes(y, None, None, 5).classes
        assert [warning.filename for warning in caught] == [__file__]


def test_long_labels_make_no_long_messages():
    name = "x" * 10_000
    with pytest.raises(InvalidInputError, match="only one class") as caught:
        check_classes([name] * 3, None, None, 3)
    assert len(str(caught.value)) < 300
    with pytest.raises(InvalidParameterError, match="cannot hold out") as refused:
        hold_out(check_classes([name, "a", "b"], None, None, 3), 0.5, 0)
    assert len(str(refused.value)) < 700


def test_classes_that_early_stopping_cannot_divide_are_named_up_to_a_bound():
    with pytest.raises(InvalidParameterError, match="cannot hold out") as refused:
        hold_out(check_classes([f"c{i:03}" for i in range(150)], None, None, 150), 0.1, 0)
    assert "these have one: 'c000', 'c001', 'c002', 'c003', 'c004', and 145 more. Pass X_val" in str(refused.value)
    with pytest.raises(InvalidParameterError, match="parts would have 8 and 2 images, and each needs one of each cl"):
        hold_out(check_classes(["a", "b", "c", "d", "e"] * 2, None, None, 10), 0.2, 0)


def test_names_of_files_are_no_labels_and_names_like_files_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "cat"):
        (tmp_path / name).touch()
    for first in ("b.jpg", "cat", str(tmp_path)):
        assert len(check_classes([first, "dog"], None, None, 2)) == 2
    assert len(check_classes(["a.jpg", "dog", "a.jpg"], None, None, 3)) == 3  # a class named by one of its images
    with pytest.raises(
        InvalidInputError, match=r"^y has names of files, such as 'a.jpg', .* parts of a split .* Pass the images as X"
    ):
        check_classes(np.array(["a.jpg", "dog"]), None, None, 2)


@pytest.mark.parametrize("given", [{"sample_weight": [0, 1, 0]}, {"class_weight": {"b": 0}}])
def test_one_class_that_has_a_weight_is_one_class(given):
    weights = {"sample_weight": None, "class_weight": None} | given
    with pytest.raises(InvalidInputError, match="y has only one class whose images have a weight above zero, 'a'"):
        check_classes(Y, **weights, n_samples=3)


@pytest.mark.parametrize("class_weight", [{"a": 5.0}, "balanced"])
def test_validation_images_have_the_weights_that_they_would_have_as_held_out_images(class_weight):
    targets = check_classes(["b", "a", "b", "c"], None, class_weight, 4)
    for some in (targets, targets.ordered()):
        validation = some.of_validation(["a", "c", "b"], [1, 2, 3], 3)
        assert_allclose(validation.weights, targets.weights[[1, 3, 0]] * [1, 2, 3])


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=30),
    n_classes=st.integers(1, 4),
    fraction=st.sampled_from([0.05, 0.1, 0.25, 0.4, 0.5, 0.75, 0.9]),
    seed=st.integers(0, 99),
)
def test_groups_that_are_held_out_leave_every_class_and_come_near_the_fraction(sizes, n_classes, fraction, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    codes = np.arange(len(groups)) % n_classes
    targets = ClassTargets(np.arange(n_classes), codes, np.ones(len(groups)), groups)
    if any(len(set(groups[codes == code])) < 2 for code in set(codes)):
        codes[:] = 0
    train, held_out = hold_out(targets, fraction, seed)
    assert not {*groups[train]} & {*groups[held_out]}
    assert {*codes[train]} == {*codes}
    if n_classes == 1:  # not more than a group away
        assert abs(len(held_out) - fraction * len(groups)) <= max(sizes) + len(groups) / 20


def test_a_class_with_a_single_group_stays_in_training():
    codes = np.repeat([0, 1, 2], [10, 10, 4])
    groups = np.repeat(np.arange(11), [2] * 10 + [4])
    targets = ClassTargets(np.arange(3), codes, np.ones(24), groups)
    for seed in range(20):
        train, held_out = hold_out(targets, 0.2, seed)
        assert {*codes[train]} == {0, 1, 2}
        assert len(held_out)


# --------------------------------------------------------------------------------------------------------- weight zero


def test_samples_of_weight_zero_change_neither_the_order_of_training_nor_the_classes_drawn():
    codes = np.r_[[4, 3, 5], np.arange(40) % 3]
    targets = ClassTargets(np.arange(6), codes, np.r_[np.zeros(3), np.ones(40)])
    counted = targets.restricted(np.arange(3, 43))
    assert targets.rank[:3].tolist() == counted.rank.tolist()
    assert sorted(targets.rank) == [*range(6)]
    for seed in range(10):
        drawn, expected = (some.ordered().narrowed(2, np.random.RandomState(seed))[0] for some in (targets, counted))
        assert_array_equal(drawn - 3, expected)


def test_only_classes_of_nonzero_weight_are_learned_and_scored():
    targets = ClassTargets(np.arange(3), np.array([0, 1, 2, 0]), np.ones(4))
    learned = np.stack([targets.learnable(np.array(weights)) for weights in ([1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1])])
    assert learned.tolist() == [[True, True, False], [True, False, True], [True] * 3]
    assert targets.scored(learned[[0, 1, 0, 2]]).tolist() == [True, False, False, True]


@pytest.mark.parametrize("class_weight", [{"a": 1e308, "b": 1}, {"a": 1e308, "b": 1e308}, {"a": 1e-320, "b": 1e-320}])
def test_class_weights_without_a_mean_are_refused(class_weight):
    with pytest.raises(InvalidParameterError, match=r"class_weight=.* gives weights up to .*, beyond float64\. Scale"):
        check_classes(["a", "b"] * 3, None, class_weight, 6)


@pytest.mark.filterwarnings("ignore:All images of 'a' in y have weight zero:UserWarning")  # the reason for the error
def test_validation_images_need_a_weight():
    targets = check_classes(["a", "b", "c"] * 2, None, {"a": 0}, 6)
    with pytest.raises(InvalidInputError, match="X_val has only images of weight zero"):
        targets.of_validation(["a", "a"], None, 2)
    assert targets.of_validation(["a", "b"], None, 2).weights.tolist() == [0, 1]


def test_classes_that_a_part_lacks_are_counted_too():
    targets = check_classes(list("abcab"), None, None, 5)
    assert targets.counts().tolist() == [2, 2, 1]
    assert targets.take(np.array([0, 1, 3])).counts().tolist() == [2, 1, 0]
