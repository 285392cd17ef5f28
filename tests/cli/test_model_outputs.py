"""The names of outputs, as headings of tables and keys of JSON."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sktl._cli.predictions import Predictions, predict_images

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
