"""Laws of coordinates in which L-BFGS trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktl._head import lbfgs_rotation as _rotation
from sktl._head.lbfgs_rotation import Rotation, rotation
from sktl._head.standardization import Standardization
from sktl._head.train_head import train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.recipe import Recipe
from sktl._training.training_run import Run

RNG = np.random.default_rng(0)
# Few samples, few features, and many of both: with more samples, and with more features.
SHAPES = [(40, 300), (300, 40), (330, 290), (300, 450)]
SIZES = {290: [200, 90], 450: [250, 200]}


def problem(n, d):
    """Return features as networks give them, of one block, or of two of other scales."""
    codes = RNG.permutation(np.arange(n) % 4)
    spread = np.concatenate([np.geomspace(3, 0.03, d // 2), np.geomspace(100, 1, d - d // 2)])
    features = np.maximum(RNG.normal(size=(n, d)) + 0.4 * RNG.normal(size=(4, d))[codes], 0) * spread
    return features.astype(np.float32), codes, RNG.uniform(0.5, 2, n)


def made(n, d, dtype=torch.float64):
    features, _, weights = problem(n, d)
    found = Rotation.of(features, weights, 1.0, SIZES.get(d, [d]), dtype)
    scaled = Standardization.of(features, weights, 1.0, SIZES.get(d, [d]))
    standardized = (features - scaled.mean.numpy()) / scaled.scale.numpy()
    return features, weights, found, standardized


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-4), (torch.float32, 0.03)], ids=str)
def test_inner_products_of_samples_stay_and_no_coordinate_is_needless(shape, dtype, atol):
    _, weights, found, standardized = made(*shape, dtype)
    inputs = found.inputs.numpy().astype(np.float64)
    assert inputs.shape[1] <= min(shape)
    assert_allclose(inputs @ inputs.T, standardized @ standardized.T, atol=atol)
    assert_allclose(found.squares, np.average(inputs**2, axis=0, weights=weights), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_go_there_and_back(shape):
    features, _, found, standardized = made(*shape)
    weight = torch.from_numpy(RNG.normal(size=(3, len(features)))) @ found.inputs  # as gradients are
    back = found.back(weight, features)
    assert_allclose(standardized @ back.numpy().T, found.inputs @ weight.T, rtol=1e-6, atol=1e-3)
    assert_allclose(back.square().sum(), weight.square().sum(), rtol=1e-4)  # the penalty is the same


@pytest.mark.parametrize("shape", SHAPES)
def test_coordinates_of_other_samples_are_those_of_the_same_basis(shape):
    features, _, found, _ = made(*shape)
    assert_allclose(found.of_others(features[:7], features), found.inputs[:7], atol=1e-3)


@pytest.mark.parametrize("shape", [(330, 290), (300, 450)])
def test_the_first_coordinates_are_the_main_axes(shape):
    _, _, found, standardized = made(*shape)
    largest = np.linalg.svd(standardized, compute_uv=False)[:5] ** 2
    assert_allclose(found.inputs.square().sum(dim=0).sort(descending=True).values[:5], largest, rtol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_finds_the_same_with_the_coordinates_of_a_search_and_with_its_own(shape):
    features, codes, weights = problem(*shape)
    targets = ClassTargets(np.arange(4), codes, weights)
    recipe = Recipe("lbfgs", None, 0.01, 500, None, None, 0.0, 0.0, 0)

    def train():
        split = Split(Labeled(features, targets))
        layer = train_head(split, recipe, Run(0), SIZES.get(shape[1], [shape[1]])).module_.output
        assert layer.in_features == shape[1]
        return layer.weight.detach().numpy().copy()

    _rotation.memo.clear()
    first, again = train(), train()
    assert_array_equal(first, again)
    for i in range(3):
        rotation(features + i + 1, weights, 1.0, [shape[1]], torch.float64)
    assert_array_equal(train(), first)


def test_what_is_kept_is_that_of_the_same_samples_alone_and_bounded(monkeypatch):
    features, _, weights = problem(300, 40)
    first = rotation(features, weights, 1.0, [40], torch.float64)
    assert rotation(features.copy(), weights.copy(), 1.0, [40], torch.float64) is first
    others = [
        (features + 1, weights, 1.0, [40], torch.float64),
        (features, weights + np.eye(300)[0], 1.0, [40], torch.float64),
        (features, weights, 0.5, [40], torch.float64),
        (features, weights, 1.0, [10, 30], torch.float64),
        (features, weights, 1.0, [40], torch.float32),
    ]
    assert all(rotation(*other) is not first for other in others)
    monkeypatch.setattr(_rotation.memo, "limit", 250_000)
    rotation(features + 2, weights, 1.0, [40], torch.float64)
    assert 0 < _rotation.memo.total_cost() <= 250_000


@pytest.mark.parametrize(("shape", "value"), [((5, 9), 7), ((300, 450), 0), ((300, 450), 7)])
def test_where_no_feature_varies_the_shares_of_the_classes_are_learned(shape, value):
    n, d = shape
    features, codes = np.full(shape, value, np.float32), np.resize([0, 1, 0, 1, 1], n)
    recipe = Recipe("lbfgs", None, 0.01, 500, None, None, 0.0, 0.0, 0)
    net = train_head(Split(Labeled(features, ClassTargets(np.arange(2), codes, np.ones(n)))), recipe, Run(0), [d])
    probabilities = torch.softmax(net.module_(torch.full((1, d), float(value))), dim=1)
    assert_allclose(probabilities.detach(), [[0.4, 0.6]], atol=1e-3)
