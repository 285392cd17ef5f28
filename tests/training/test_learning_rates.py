"""Laws of learning rates that are known before training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktl import PretrainedImageRegressor
from sktl._estimators.auto_parameters import Chosen, TrainingSet, resolve_recipe
from sktl._head.standardization import Standardization, standardized
from sktl._head.train_head import output_values, train_head
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.learning_rates import evenness, stable_lr
from sktl._training.recipe import SHRINKAGE
from sktl._training.training_run import Run

CPU = torch.device("cpu")
weights = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50).map(np.array)


@given(
    st.integers(0, 99), st.integers(2, 40), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.floats(0, 3),
    st.floats(0, 100),
)  # fmt: skip
def test_its_inverse_is_at_least_the_largest_second_derivative_of_the_squared_error(seed, n, sizes, spread, penalty):
    rng = np.random.default_rng(seed)
    of_images, scales = rng.normal(size=(n, 2)), np.exp(spread * rng.normal(size=sum(sizes)))
    features = ((of_images @ rng.normal(size=(2, sum(sizes))) + rng.normal(size=(n, sum(sizes)))) * scales).astype("f4")
    shares = rng.exponential(size=n)
    inputs = standardized(features, Standardization.of(features, shares, SHRINKAGE, sizes), torch.float64).numpy()
    inputs = np.column_stack([inputs, np.ones(n)])
    largest = np.linalg.eigvalsh(inputs.T * (shares / shares.sum()) @ inputs)[-1] + penalty
    assert largest <= 1 / stable_lr(sum(sizes), penalty) * (1 + 1e-5)


@given(weights, st.floats(1e-150, 1e150))
def test_even_weights_are_those_that_are_all_equal(weights, unit):
    assert 0 < evenness(weights) <= 1 + 1e-9
    assert evenness(weights * unit) == pytest.approx(evenness(weights))
    assert evenness(np.full(7, unit)) == pytest.approx(1)
    one = np.zeros(8)
    one[3] = unit
    assert evenness(one) == pytest.approx(1 / 8)


def error(loss="squared_error", weights=None, **params):
    """Return the error of images whose features all follow one value, which makes training the least stable."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=240)
    features = np.outer(value, rng.choice([-1, 1], 320)) + 0.3 * rng.normal(size=(240, 320))
    features, train, test = features.astype(np.float32), slice(120), slice(120, None)
    reg = PretrainedImageRegressor(loss=loss, optimizer="sgd", **params)
    targets = reg._check_targets(value[train], weights, 120)
    recipe = resolve_recipe(reg, 0, TrainingSet.of(targets), 320, CPU, Chosen(1, 0.003, {}))
    layer = train_head(Split(Labeled(features[train], targets)), recipe, Run(0), [320]).module_.output
    return np.square(targets.outputs.predict(output_values(layer, features[test])) - value[test]).mean()


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize(
    "params",
    [
        {}, {"batch_size": 1, "max_epochs": 5}, {"batch_size": 4, "max_epochs": 20}, {"batch_size": 120},
        {"dropout": 0.2}, {"dropout": 0.8}, {"lr_schedule": "constant"}, {"max_epochs": 5}, {"weight_decay": 30.0},
        {"weights": np.where(np.arange(120) % 10, 1.0, 50.0)},
    ],
    ids=str,
)  # fmt: skip
def test_the_default_rate_learns_numbers(loss, params):
    assert error(loss, **params) < (0.96 if "weight_decay" in params else 0.1)


def test_a_rate_of_the_user_is_used():
    assert error(lr=1e-9) > 0.5
