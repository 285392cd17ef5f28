"""The names of outputs, as headings of tables and keys of JSON."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktl._cli.predictions import Predictions, predict_images
from sktl._cli.text_formats import as_csv

ESTIMATORS = {
    "classes": SimpleNamespace(multilabel_=False, classes_=np.array([1, "1"], object)),
    "labels": SimpleNamespace(multilabel_=True, classes_=np.array([1, "1"], object)),
    "numbers": SimpleNamespace(n_outputs_=2, output_names_=["a", "a"]),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_names_with_equal_texts_lose_no_output(kind):
    estimator = ESTIMATORS[kind]
    estimator.predict = estimator.predict_proba = lambda X: np.tile([0.25, 0.75], (len(X), 1))
    found, _ = predict_images(estimator, ["a.png"])
    assert isinstance(found, Predictions)
    (record,) = found.json()
    values = record["prediction" if kind == "numbers" else "probabilities"]
    assert list(values.values()) == [0.25, 0.75]


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_rows_for_programs_are_made_one_at_a_time(kind):
    estimator = SimpleNamespace(multilabel_=kind == "labels", classes_=np.arange(1_000).astype(object))
    estimator.predict_proba = lambda X: np.full((len(X), 1_000), 0.001)
    found, _ = predict_images(estimator, ["a.png"] * 50)
    tracemalloc.start()
    n_rows = sum(1 for _ in as_csv(found.csv()))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 51
    assert most < 50 * 1_000 * 20  # bytes; a string takes 55


FRACTIONS = st.floats(0, 1)


@settings(max_examples=50)
@given(st.sampled_from([*ESTIMATORS]), st.tuples(FRACTIONS, FRACTIONS), FRACTIONS)
def test_rows_for_programs_contain_the_digits_of_the_records(kind, row, p):
    estimator = SimpleNamespace(**vars(ESTIMATORS[kind]), typicality=lambda X: np.array([p]))
    estimator.predict = estimator.predict_proba = lambda X: np.array([row])
    found, _ = predict_images(estimator, ["a.png"], typicality=True)
    _, cells = found.csv()
    assert tuple(map(float, cells[-3:])) == (*row, p)
    if kind == "classes":
        assert float(cells[2]) == max(row)


OUTPUTS = ["image", "prediction", "probability", "typicality", "label_prediction", "number_image", "class_image", "cat"]
OWN = {"classes": ["image", "prediction", "probability"], "labels": ["image", "prediction"], "numbers": ["image"]}
WORDS = {"classes": "class", "labels": "label", "numbers": "number"}


@settings(max_examples=50)
@given(st.sampled_from([*OWN]), st.lists(st.sampled_from(OUTPUTS), min_size=2, unique=True), st.booleans())
def test_columns_have_different_headings_and_names_stay_if_no_other_column_has_them(kind, names, typicality):
    attributes = {"n_outputs_": len(names), "output_names_": names} if kind == "numbers" else {}
    estimator = SimpleNamespace(multilabel_=kind == "labels", classes_=np.array(names, object), **attributes)
    estimator.predict = estimator.predict_proba = lambda X: np.zeros((len(X), len(names)))
    estimator.typicality = lambda X: np.ones(len(X))
    found, _ = predict_images(estimator, ["a.png"], typicality)
    headings = next(found.csv())
    own = OWN[kind]
    assert len({*headings}) == len(headings)
    taken = {*own, *(["typicality"] if typicality else [])}
    for name, heading in zip(names, headings[len(own) :], strict=False):
        assert heading == name or (name in taken and heading.endswith(f"{WORDS[kind]}_{name}"))


def test_a_label_that_is_named_as_another_column_gets_a_word_in_front():
    estimator = SimpleNamespace(multilabel_=True, classes_=np.array(["cat", "prediction"], object))
    estimator.predict_proba = lambda X: np.zeros((len(X), 2))
    assert next(predict_images(estimator, ["a.png"])[0].csv()) == ["image", "prediction", "cat", "label_prediction"]
