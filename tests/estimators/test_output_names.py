"""Numbers keep the names of the columns of a data frame, in the estimator and in a saved file."""

from __future__ import annotations

import io

import numpy as np
import pytest

import sktl
from sktl import PretrainedImageRegressor
from sktl.exceptions import InvalidInputError

pd = pytest.importorskip("pandas", reason="the extra `test` installs pandas")
X = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
Y = pd.DataFrame({"weight": np.arange(12.0), "age": np.arange(12.0)[::-1] ** 2})


def regressor(**parameters):
    return PretrainedImageRegressor(image_size=32, random_state=0, n_jobs=1, **parameters)


def test_names_are_those_of_the_columns_and_are_saved():
    reg, file = regressor().fit(X, Y), io.BytesIO()
    reg.save(file)
    file.seek(0)
    for fitted in (reg, sktl.load(file)):
        assert fitted.output_names_.tolist() == ["weight", "age"]
    np.testing.assert_array_equal(reg.predict(X), regressor().fit(X, Y.to_numpy()).predict(X))


@pytest.mark.parametrize("y", [Y.to_numpy(), Y["age"], Y.set_axis([0, 1], axis=1)], ids=["array", "series", "numbers"])
def test_without_names_there_is_no_attribute(y):
    reg = regressor().fit(X, Y).fit(X, y)
    assert not hasattr(reg, "output_names_")
    file = io.BytesIO()
    reg.save(file)
    file.seek(0)
    assert not hasattr(sktl.load(file), "output_names_")


def test_tables_of_pyarrow_have_names():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    reg = regressor(weight_decay=1.0, feature_stages=1).fit(X, pa.Table.from_pandas(Y))
    assert reg.output_names_.tolist() == ["weight", "age"]


def test_validation_numbers_have_the_same_columns_in_the_same_order():
    reg = regressor(early_stopping=True, optimizer="adamw", max_epochs=2)
    reg.fit(X, Y, X_val=X, y_val=Y)
    with pytest.raises(InvalidInputError, match="y_val has the columns 'age', 'weight', but y has 'weight', 'age'"):
        reg.fit(X, Y, X_val=X, y_val=Y[["age", "weight"]])
