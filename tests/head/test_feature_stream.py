"""The output layer on features that pass through memory in blocks: the same layer as on features in memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback, EpochScoring

from sktl._head import feature_stream, train_head
from sktl._head.lbfgs_rotation import Rotation
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.net_callbacks import count_epochs
from sktl._training.recipe import Recipe
from sktl._training.training_run import Run

RNG = np.random.default_rng(0)
CODES = np.arange(700) % 3
SGD = Recipe("sgd", 0.05, 0.01, 10, 64, "cosine", 0.0, 0.0, 0)
ADAMW = Recipe("adamw", 1e-3, 1.0, 5, 64, "cosine", 0.1, 0.0, 0)
LBFGS = Recipe("lbfgs", None, 0.03, 500, None, None, 0.0, 0.0, 0)


def features_of(n_features):
    rows = RNG.normal(size=(700, n_features)) * RNG.uniform(0.1, 10, n_features) + RNG.normal(size=n_features)
    rows[:, 0] += CODES
    return np.maximum(rows, 0).astype(np.float32)


def labeled(features, rows=slice(None)):
    weights = RNG.uniform(0.5, 1.5, 700)
    return Labeled(features, ClassTargets(np.arange(3), CODES, weights)).take(rows)


def trained(split, recipe, monkeypatch, limit, rows=1024, n_threads=1, **net_params):
    monkeypatch.setattr(train_head, "IN_MEMORY", limit)
    monkeypatch.setattr(feature_stream, "_ROWS", rows)
    net = train_head.train_head(split, recipe, Run(0, net_params or None), [split.training.samples.shape[1]], n_threads)
    return net, net.module_.output.weight.detach().numpy(), net.module_.output.bias.detach().numpy()


@pytest.mark.parametrize("n_features", [20, 300])
@pytest.mark.parametrize("recipe", [SGD, ADAMW])
def test_steps_over_blocks_lead_to_the_layer_of_features_in_memory(recipe, n_features, monkeypatch):
    split = Split(labeled(features_of(n_features)))
    _, weight, bias = trained(split, recipe, monkeypatch, 1 << 40)
    for rows in (1024, 50):
        _, by_blocks, its_bias = trained(split, recipe, monkeypatch, 0, rows)
        assert_allclose(by_blocks, weight, rtol=1e-9, atol=1e-12)
        assert_allclose(its_bias, bias, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_features", [20, 300])
def test_lbfgs_over_blocks_reaches_the_optimum_in_as_many_steps(n_features, monkeypatch):
    split = Split(labeled(features_of(n_features)))
    exact, weight, _ = trained(split, LBFGS, monkeypatch, 1 << 40)
    monkeypatch.setattr(train_head, "_MOST_IN_FLOAT64", 0)
    in_memory, _, _ = trained(split, LBFGS, monkeypatch, 1 << 40)
    for rows in (1024, 50):
        net, by_blocks, _ = trained(split, LBFGS, monkeypatch, 0, rows)
        assert_allclose(net.history[-1, "train_loss"], exact.history[-1, "train_loss"], rtol=1e-4)
        assert np.corrcoef(by_blocks.ravel(), weight.ravel())[0, 1] > 0.999
        assert count_epochs(net.history) <= count_epochs(in_memory.history) + 5
    assert isinstance(pickle.loads(pickle.dumps(net)), feature_stream.StreamedHeadNet)
    assert net.basis is None


def test_early_stopping_and_scores_of_callbacks_are_the_same(monkeypatch):
    features = features_of(20)
    split = Split(labeled(features, np.arange(0, 500)), labeled(features, np.arange(500, 700)))
    recipe = Recipe(**vars(SGD) | {"patience": 3, "lr_schedule": "constant"})
    told = []

    class Telling(Callback):
        def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
            told.append((len(batch[0]), training, y_pred is None))

    found = []
    for limit in (1 << 40, 0):
        callbacks = [("train_acc", EpochScoring("accuracy", on_train=True, lower_is_better=False)), Telling()]
        net, weight, _ = trained(split, recipe, monkeypatch, limit, callbacks=callbacks)
        found.append((weight, net.history[:, ("train_loss", "valid_loss", "accuracy")]))
    assert_allclose(found[0][0], found[1][0], rtol=1e-9, atol=1e-12)
    assert_allclose(found[0][1], found[1][1], rtol=1e-9)
    assert {n for n, training, _ in told if training} == {64, 500 % 64}


def test_dropout_changes_the_layer_and_repeats_with_the_seed(monkeypatch):
    split = Split(labeled(features_of(20)))
    recipe = Recipe(**vars(SGD) | {"dropout": 0.5})
    (_, first, _), (_, second, _) = (trained(split, recipe, monkeypatch, 0) for _ in range(2))
    assert_array_equal(first, second)
    assert np.abs(first - trained(split, SGD, monkeypatch, 0)[1]).max() > 1e-3


@pytest.mark.parametrize("recipe", [LBFGS, Recipe(**vars(SGD) | {"dropout": 0.5})])
def test_the_bits_do_not_depend_on_the_number_of_threads(recipe, monkeypatch):
    monkeypatch.setattr(feature_stream, "_BLOCKS_PER_SPAN", 2)
    split = Split(labeled(features_of(20)))
    layers = [trained(split, recipe, monkeypatch, 0, 30, n_threads)[1] for n_threads in (1, 2, 5)]
    assert_array_equal(layers[1], layers[0])
    assert_array_equal(layers[2], layers[0])


def test_axes_of_some_samples_are_an_orthonormal_basis_of_the_whole_space():
    features, weights = features_of(300), np.ones(700)
    rotation = Rotation.of_many(features, weights, 1.0, [features.shape[1]])
    exact = Rotation.of(features, weights, 1.0, [features.shape[1]], rotation.inputs.dtype)
    rows = rotation.of_others(features, features)
    assert_allclose(rows.norm(dim=1), exact.inputs.norm(dim=1), rtol=1e-4)
    assert_allclose(rotation.squares, rows.square().mean(dim=0), rtol=1e-3)
    assert rotation.triangle is None
    assert len(rotation.inputs) == 0
