"""What outputs mean: predictions, probabilities and decisions agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from sktl._targets.outputs import ClassOutputs, LabelOutputs, NumberOutputs
from sktl.exceptions import InvalidInputError

LOGITS = arrays(np.float64, (5, 3), elements=st.floats(-800, 800))
CLASSES = ClassOutputs(np.array(["a", "b", "c"]))
LABELS = LabelOutputs(np.array(["x", "y", "z"], dtype=object))


def numbers(is_vector, n=3):
    return NumberOutputs(np.linspace(-2, 5, n), np.linspace(0.5, 30, n), is_vector)


@pytest.mark.parametrize("outputs", [CLASSES, LABELS])
@settings(max_examples=30)
@given(logits=LOGITS)
def test_logarithms_are_those_of_the_probabilities_and_finite_where_these_are_zero(outputs, logits):
    found, logarithms = outputs.probabilities(logits), outputs.log_probabilities(logits)
    assert np.isfinite(logarithms).all()
    assert_allclose(np.exp(logarithms), found, atol=1e-300)


@settings(max_examples=30)
@given(LOGITS)
def test_the_class_with_the_largest_logit_wins_and_probabilities_sum_to_1(logits):
    assert_allclose(CLASSES.probabilities(logits).sum(axis=1), 1)
    assert_array_equal(CLASSES.predict(logits), CLASSES.classes[logits.argmax(axis=1)])


@settings(max_examples=30)
@given(LOGITS)
def test_two_classes_have_one_decision_of_the_same_probability(logits):
    two, pair = ClassOutputs(np.array([0, 1])), logits[:, :2]
    decision = two.decision(pair)
    assert decision.shape == (5,)
    assert_allclose(LABELS.probabilities(decision), two.probabilities(pair)[:, 1], atol=1e-12)


@settings(max_examples=30)
@given(LOGITS)
def test_a_label_is_predicted_where_its_logit_is_above_zero(logits):
    predicted = LABELS.predict(logits)
    assert predicted.dtype == np.int64
    assert_array_equal(predicted, logits > 0)
    # A logit may be above 0 by less than probabilities resolve.
    assert not (predicted.astype(bool) & (LABELS.probabilities(logits) < 0.5)).any()
    assert_array_equal(LABELS.decision(logits), logits)


def test_targets_of_labels_that_cannot_be_learned_are_observed_as_they_were():
    assert LABELS.observed(np.array([[0.02, 0.98, 1], [0.02, 0.98, 0]])).tolist() == [[0, 1, 1], [0, 1, 0]]


@settings(max_examples=30)
@given(arrays(np.float64, (4, 3), elements=st.floats(-1e6, 1e6)))
def test_numbers_return_to_the_unit_of_y(values):
    units = numbers(is_vector=False)
    assert_allclose(units.predict(values), values * units.scale + units.center)
    assert_array_equal(units.observed(values), units.predict(values))


def test_numbers_have_the_shape_of_y():
    values = np.ones((4, 1))
    assert numbers(is_vector=True, n=1).predict(values).shape == (4,)
    assert numbers(is_vector=False, n=1).predict(values).shape == (4, 1)


@pytest.mark.parametrize("outputs", [CLASSES, LABELS, numbers(is_vector=False)])
def test_an_example_has_the_form_of_predictions(outputs):
    example = outputs.example()
    predicted = outputs.predict(np.zeros((len(example), len(outputs))))
    assert example.shape == predicted.shape
    assert example.dtype.kind == predicted.dtype.kind
    assert len(outputs) == 3


def test_classes_and_labels_have_names():
    assert CLASSES.names() == ["a", "b", "c"]
    assert LABELS.names() == ["x", "y", "z"]
    assert numbers(is_vector=False).names() == []


@given(st.permutations(["x", "y", "z"]))
def test_named_columns_are_the_same_in_the_same_order(names):
    if names == LABELS.names():
        LABELS.check_columns(3, names, "y", "the model")
        return
    with pytest.raises(InvalidInputError, match=r"the columns .* but the model has 'x', 'y', 'z'\. Pass the"):
        LABELS.check_columns(3, names, "y", "the model")


def test_columns_without_names_are_compared_by_their_number():
    numbered = LabelOutputs(np.arange(3))
    for outputs, names in ((LABELS, None), (numbered, None), (numbered, ["x", "y", "z"]), (numbers(False), ["x"] * 3)):
        outputs.check_columns(3, names, "y", "the model")
        with pytest.raises(InvalidInputError, match=r"y has 2 columns, but the model has 3\. Pass the same columns"):
            outputs.check_columns(2, names and names[:2], "y", "the model")
    with pytest.raises(InvalidInputError, match="y has the columns 1, 0, 2, but the model has 0, 1, 2"):
        numbered.check_columns(3, [1, 0, 2], "y", "the model")
    LABELS.check_columns(3, [0, 1, 2], "y", "the model")  # as pandas names columns by default
