"""A short trial on the images themselves chooses whether they are changed while stages are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backbones import stochastic_net
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image
from torch import nn

from sktl import PretrainedImageClassifier
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._estimators import predictor as _predictor
from sktl._estimators.auto_parameters import TrainingSet, resolve_recipe
from sktl._features.extractor import FeatureExtractor
from sktl._fine_tuning import augmentation_trial as _trial
from sktl._images.augmentation import AUGMENTATIONS, CustomTransform
from sktl._images.samples import as_samples
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled
from sktl._training.training_run import Run

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
X = RNG.integers(0, 256, (60, 16, 16, 3), np.uint8)
X[np.arange(60), :, :, Y] //= 4


def blackened(image):
    return Image.new("RGB", image.size)


def labeled(n=60, **targets):
    codes = Y[:n]
    return Labeled(as_samples(list(X[:n]), None), ClassTargets(np.arange(3), codes, np.ones(n), **targets))


def choose(images, changes, backbone=stochastic_net):
    extractor = FeatureExtractor(resolve_backbone(backbone, "default", None, 0), torch.device("cpu"))
    clf = PretrainedImageClassifier(trainable_stages=2, max_epochs=2, batch_size=8)

    def recipe_of(change, targets):
        return resolve_recipe(
            clf, 2, TrainingSet.of(targets), extractor.n_features, extractor.device, augmentation=change
        )

    def as_given(features, recipe):
        return recipe, {}

    return _trial.choose_augmentation(extractor, images, changes, recipe_of, (Run(0), Run(0)), as_given)


@pytest.mark.parametrize("turned", [False, True])
def test_what_does_better_on_images_held_out_is_chosen(turned):
    changes = [CustomTransform(blackened), None][:: -1 if turned else 1]
    assert choose(labeled(), changes) is None


@given(st.integers(0, 99), st.integers(2, 40))
def test_another_change_must_be_clearly_better_than_the_first(seed, n):
    rng = np.random.default_rng(seed)
    weights, first, noise = rng.random(n) + 0.1, rng.random(n), rng.normal(size=n)
    noise -= weights @ noise / weights.sum()
    assert _trial._best([first, first + noise, first + 1], weights) == 0
    assert _trial._best([first, first + 1, first + 1e-3 * noise - 1], weights) == 2
    assert _trial._best([first], weights) == 0


def test_too_few_images_choose_nothing():
    change = CustomTransform(blackened)
    assert choose(labeled(_trial._LEAST_IMAGES - 1), [change, None]) is change


class OneStage(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return self.layer(images).mean(dim=(2, 3))


def test_a_network_that_is_not_cut_tries_nothing():
    with torch.random.fork_rng():
        network = OneStage()
    change = CustomTransform(blackened)
    with pytest.warns(UserWarning, match="preprocessing"):
        assert choose(labeled(), [change, None], lambda: network) is change


@given(
    codes=st.lists(st.integers(0, 4), min_size=_trial._LEAST_IMAGES, max_size=200),
    n_groups=st.none() | st.integers(2, 30),
    most=st.integers(_trial._LEAST_IMAGES, 200),
)
@settings(deadline=None)
def test_parts_share_no_image_and_no_group_and_what_is_held_out_could_be_learned(codes, n_groups, most):
    codes = np.unique(codes, return_inverse=True)[1]
    groups = None if n_groups is None else np.arange(len(codes)) % n_groups
    images = Labeled(range(len(codes)), ClassTargets(np.arange(codes.max() + 1), codes, np.ones(len(codes)), groups))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_trial, "_MOST_IMAGES", most)
        parts = _trial._parts(images, 0)
    if parts is None:
        return
    learned, held_out = parts
    assert not set(learned.samples) & set(held_out.samples)
    assert len(learned.samples) + len(held_out.samples) <= most
    if groups is not None:
        assert not set(learned.targets.groups) & set(held_out.targets.groups[held_out.targets.weights > 0]) or (
            len(np.unique(codes)) > 2  # images of a class that is nowhere else are learned
        )
    for part in parts:  # renamed, their classes are still those of the images
        assert_array_equal(part.targets.classes[part.targets.codes], codes[list(part.samples)])
    assert set(held_out.targets.codes) <= set(learned.targets.codes) == set(range(len(learned.targets.classes)))


@pytest.mark.parametrize(
    "params",
    [
        {"augmentation": None},
        {"augmentation": "light"},
        {"augmentation_views": 1},
        {"weights": None, "freeze_epochs": "auto"},
        {"trainable_stages": 0},
    ],
)
def test_nothing_is_tried_where_the_user_decides(params, monkeypatch):
    tried = []
    monkeypatch.setattr(_predictor, "choose_augmentation", lambda *arguments: tried.append(arguments))
    shared = {"backbone": stochastic_net, "trainable_stages": "all", "freeze_epochs": 2, "max_epochs": 1}
    PretrainedImageClassifier(**shared | params, random_state=0).fit(X, Y)
    assert not tried


@pytest.mark.parametrize("chosen", [None, AUGMENTATIONS["trivial"]])
def test_the_recipe_says_what_was_chosen_and_its_rate_suits_it(chosen, monkeypatch):
    monkeypatch.setattr(_predictor, "choose_augmentation", lambda *_: chosen)
    clf = PretrainedImageClassifier(backbone=stochastic_net, trainable_stages=1, max_epochs=1, random_state=0).fit(X, Y)
    given = clf.set_params(augmentation=None if chosen is None else "trivial").fit(X, Y)
    assert clf.recipe_.augmentation == chosen == given.recipe_.augmentation
    assert clf.recipe_ == given.recipe_


@pytest.mark.thorough
def test_a_fit_with_a_trial_repeats_whatever_the_cache_has():
    params = {"trainable_stages": 1, "max_epochs": 2, "random_state": 0}
    found = [
        PretrainedImageClassifier(backbone=stochastic_net, **params, cache=cache).fit(X, Y).decision_function(X[:5])
        for cache in (False, "auto", "auto")
    ]
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])
