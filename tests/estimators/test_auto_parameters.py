"""The values that "auto" stands for."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._backbones.taps import StageLayout
from sktl._estimators import auto_parameters as _resolved
from sktl._estimators.auto_parameters import (
    Chosen,
    TrainingSet,
    augmentations,
    candidates_of,
    resolve_recipe,
    with_choice,
)
from sktl._estimators.parameter_combinations import check_combinations
from sktl._images.augmentation import AUGMENTATIONS


def resolve(n_samples=1000, n_features=1280, n_trainable=0, **params):
    return resolved(PretrainedImageClassifier(**params), TrainingSet(n_samples), n_features, n_trainable)


def resolved(estimator, training, n_features, n_trainable=0):
    check_combinations(estimator)
    device, change = torch.device("cpu"), augmentations(estimator)[0] if n_trainable else None
    return resolve_recipe(estimator, n_trainable, training, n_features, device, augmentation=change)


@pytest.mark.parametrize(
    ("optimizer", "lr", "weight_decay", "max_epochs"),
    [
        ("auto", None, 0.03, 500),
        ("sgd", 0.03, 0.03, 50),
        ("adamw", 0.001, 1.0, 50),
        ("lbfgs", None, 0.03, 500),
        (torch.optim.AdamW, 0.001, 1.0, 50),
        (torch.optim.Adam, 0.001, 0.03, 50),
        (torch.optim.RMSprop, 0.001, 0.03, 50),
    ],
)
def test_auto_values_are_those_that_the_docstring_names(optimizer, lr, weight_decay, max_epochs):
    recipe = resolve(optimizer=optimizer)
    assert (recipe.lr, recipe.weight_decay, recipe.max_epochs) == (lr, weight_decay, max_epochs)


@given(n_samples=st.integers(1, 10**6), n_features=st.integers(1, 10**5))
def test_steps_are_at_most_twenty_of_at_least_sixteen_images_and_shorter_for_wide_features(n_samples, n_features):
    recipe = resolve(n_samples, n_features, optimizer="sgd")
    assert recipe.batch_size >= 16
    assert -(-n_samples // recipe.batch_size) <= 20
    assert recipe.lr == pytest.approx(0.03 * min(1, 1280 / n_features))


@given(own=st.integers(1, 10**4), blocks=st.integers(1, 10**4), optimizer=st.sampled_from(["auto", "sgd", "adamw"]))
def test_features_of_blocks_lower_the_rate_of_the_output_layer_and_not_those_of_the_stages(own, blocks, optimizer):
    layout = StageLayout((("", own), ("block", blocks)), (own, own + blocks))
    for params in ({}, {"lr": 0.02}, {"backbone_lr_ratio": 0.1}):
        estimator = PretrainedImageClassifier(trainable_stages=2, optimizer=optimizer, **params)
        before = resolve(100, own, 2, trainable_stages=2, optimizer=optimizer, **params)
        one, two = (with_choice(estimator, before, Chosen(n, 0.5, {}), TrainingSet(100), layout) for n in (1, 2))
        assert one.lr == before.lr
        assert one.backbone_lr_ratio == before.backbone_lr_ratio
        wide = resolve(100, own + blocks, 2, trainable_stages=2, optimizer=optimizer, **params)
        assert two.lr == wide.lr
        if params:
            assert two.backbone_lr_ratio == before.backbone_lr_ratio
        else:
            assert two.lr * two.backbone_lr_ratio == pytest.approx(before.lr * before.backbone_lr_ratio)


NUMBERS = TrainingSet(100, "squared_error")
LAYOUT = StageLayout((("", 1280), ("block", 4608)), (1280, 5888))


@pytest.mark.parametrize(("optimizer", "params"), [("auto", {}), ("auto", {"dropout": 0.1}), ("sgd", {})])
@pytest.mark.parametrize("n_stages", [1, 2])
def test_numbers_lower_the_rate_of_an_output_layer_alone_and_not_those_of_the_stages(optimizer, params, n_stages):
    shared = {"trainable_stages": 2, "optimizer": optimizer, "augmentation": None} | params
    found = []
    for kind, training in (PretrainedImageClassifier, TrainingSet(100)), (PretrainedImageRegressor, NUMBERS):
        recipe = resolved(kind(**shared), training, LAYOUT.length(2), 2)
        found.append(with_choice(kind(**shared), recipe, Chosen(n_stages, 0.03, {}), training, LAYOUT))
    classes, numbers = found
    assert (numbers.lr, numbers.backbone_lr_ratio) == (classes.lr, classes.backbone_lr_ratio)
    if optimizer == "auto":
        assert numbers.head_lr_ratio == classes.head_lr_ratio
    else:
        assert numbers.lr * numbers.head_lr_ratio == pytest.approx(numbers.probing.lr)
    if classes.probing.lr is not None:
        assert numbers.probing.lr < classes.probing.lr / 10


@pytest.mark.parametrize("params", [{"lr": 0.03}, {"optimizer": "adamw"}, {"optimizer": torch.optim.SGD}])
@pytest.mark.parametrize("n_trainable", [0, 2])
def test_numbers_change_neither_a_rate_of_the_user_nor_those_of_other_optimizers(params, n_trainable):
    shared = {"trainable_stages": n_trainable, "augmentation": None} | params
    classes = resolved(PretrainedImageClassifier(**shared), TrainingSet(100), 1280, n_trainable)
    numbers = resolved(PretrainedImageRegressor(**shared), NUMBERS, 1280, n_trainable)
    own = {"loss": "squared_error"} | ({"probing": numbers.probing} if n_trainable else {})
    assert vars(numbers) == vars(classes) | own


def test_random_stages_learn_numbers_at_the_rates_of_classes():
    shared = {"weights": None, "trainable_stages": "all"}
    found = resolved(PretrainedImageRegressor(**shared), NUMBERS, 1280, 6)
    assert (found.lr, found.head_lr_ratio, found.backbone_lr_ratio) == (0.03, 1, 1)


@given(n_features=st.integers(1, 10**4), batch_size=st.integers(1, 200), share=st.floats(0.01, 1))
def test_smaller_batches_more_dropout_and_uneven_weights_lower_the_rate_for_numbers(n_features, batch_size, share):
    def lr(training=NUMBERS, **params):
        return resolved(PretrainedImageRegressor(optimizer="sgd", **params), training, n_features).lr

    assert lr(batch_size=batch_size) <= lr(batch_size=100) <= 1 / (1 + n_features / 2)
    assert lr(dropout=1 - share) <= lr()
    assert lr(weight_decay=1 / share) < lr(weight_decay=0.0)
    uneven = NUMBERS._replace(evenness=share)
    assert lr(uneven) == pytest.approx(share * lr())
    assert lr(uneven, batch_size=100) == lr(batch_size=100)


@given(lengths=st.lists(st.integers(0, 3), max_size=4), n_trainable=st.integers(0, 3))
def test_cross_validation_compares_no_features_with_themselves(lengths, n_trainable):
    sizes = tuple(accumulate(lengths, initial=5))
    layout = StageLayout((("", 5), *((f"block{i}", n) for i, n in enumerate(lengths))), sizes)
    n_trainable = min(n_trainable, layout.n_stages)
    stages = candidates_of(PretrainedImageClassifier(), layout, "cross_entropy", n_trainable).stages
    compared = [layout.length(n) for n in stages]
    assert compared == sorted(set(compared))
    most = min(n_trainable, 2) if n_trainable else layout.n_stages
    assert set(compared) == {layout.length(n) for n in (1, min(2, most), most)}


@given(n_features=st.integers(1, 10**5))
def test_what_the_user_says_is_taken_as_it_is(n_features):
    recipe = resolve(100, n_features, lr=0.5, weight_decay=0.0, max_epochs=3, batch_size=7, lr_schedule="constant")
    assert (recipe.lr, recipe.weight_decay, recipe.max_epochs) == (0.5, 0.0, 3)
    assert (recipe.batch_size, recipe.lr_schedule) == (7, "constant")


@pytest.mark.parametrize(
    ("params", "max_epochs", "augmentation", "lr", "ratio", "decay", "probing", "interpolation"),
    [
        ({}, 12, "trivial", 0.03, 1 / 75, 0.8, ("lbfgs", 500), 0.75),
        ({"augmentation": None}, 12, None, 0.03, 1 / 300, 0.8, ("lbfgs", 500), 0.75),
        ({"freeze_epochs": 7}, 12, "trivial", 0.03, 1 / 75, 0.8, ("sgd", 7), 0.75),
        ({"dropout": 0.1}, 12, "trivial", 0.03, 1 / 75, 0.8, ("sgd", 50), 0.75),
        ({"net_params": {"optimizer__momentum": 0.5}}, 12, "trivial", 0.03, 1 / 75, 0.8, ("sgd", 50), 0.75),
        ({"optimizer": "sgd"}, 12, "trivial", 0.03, 1 / 30, 1, ("sgd", 50), 0.75),
        ({"optimizer": "adamw"}, 12, "trivial", 0.001, 0.5, 1, ("adamw", 50), 0.75),
        ({"optimizer": torch.optim.RMSprop}, 12, "trivial", 0.001, 0.1, 1, (torch.optim.RMSprop, 50), 0.75),
        ({"weights": None}, 40, "light", 0.03, 1.0, 1, None, 1.0),
    ],
)
def test_auto_values_of_stages_are_those_that_the_docstring_names(
    params, max_epochs, augmentation, lr, ratio, decay, probing, interpolation
):
    recipe = resolve(trainable_stages="all", n_trainable=6, **params)
    change = None if augmentation is None else AUGMENTATIONS[augmentation]
    assert (recipe.max_epochs, recipe.batch_size, recipe.augmentation) == (max_epochs, 16, change)
    assert recipe.head_lr_ratio == (0.1 if recipe.layer_decay == 0.8 else 1)
    assert recipe.backbone_lr_ratio == pytest.approx(ratio)
    assert (recipe.lr, recipe.layer_decay) == (lr, decay)
    found = recipe.probing and (recipe.probing.optimizer, recipe.probing.max_epochs)
    assert found == probing
    assert recipe.warmup == (0.1 if "weights" in params else 0.3)
    assert recipe.interpolation == interpolation
    assert recipe.keeps_statistics == ("weights" not in params)


@given(n_samples=st.integers(2, 10**6))
def test_stages_learn_more_slowly_from_few_images_unless_they_start_at_random(n_samples):
    few = min(1, n_samples / 200)
    found = resolve(n_samples, trainable_stages="all", n_trainable=6)
    assert found.backbone_lr_ratio == pytest.approx(few / 75)
    assert resolve(n_samples, trainable_stages=1, n_trainable=1, backbone_lr_ratio=0.2).backbone_lr_ratio == 0.2
    assert resolve(n_samples, trainable_stages="all", n_trainable=6, weights=None).backbone_lr_ratio == 1


def test_stages_are_trained_in_float32_on_processors_whatever_these_compute_in(monkeypatch):
    monkeypatch.setattr(_resolved, "computes_in_bfloat16", lambda device: True)
    assert not resolve(trainable_stages=1, n_trainable=1).amp


def test_what_the_user_says_of_stages_is_taken_as_it_is_and_the_probing_keeps_its_own_batches():
    recipe = resolve(
        1000, trainable_stages=2, n_trainable=2, max_epochs=3, freeze_epochs=0, backbone_lr_ratio=0.7, layer_decay=0.5,
        augmentation=None, mixup_alpha=0.3, batch_size=5,
    )  # fmt: skip
    assert (recipe.max_epochs, recipe.probing, recipe.backbone_lr_ratio, recipe.layer_decay) == (3, None, 0.7, 0.5)
    assert (recipe.augmentation, recipe.mixup_alpha, recipe.batch_size) == (None, 0.3, 5)
    probed = resolve(1000, trainable_stages=2, n_trainable=2, freeze_epochs=7, batch_size=5)
    assert (probed.probing.max_epochs, probed.probing.batch_size, probed.batch_size) == (7, 50, 5)
