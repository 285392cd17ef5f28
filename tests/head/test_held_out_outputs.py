"""Laws of outputs by layers that were trained without the sample's fold."""

import numpy as np
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktl import PretrainedImageClassifier
from sktl._estimators.auto_parameters import Chosen, TrainingSet, resolve_recipe
from sktl._head.held_out_outputs import held_out_outputs
from sktl._head.train_head import output_values, train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.folds import Folds
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.training_run import Run

RNG = np.random.default_rng(0)
N, SIZES = 120, [8, 6]
CODES = RNG.permutation(np.arange(N) % 3)
FEATURES = (RNG.normal(size=(N, 14)) + RNG.normal(size=(3, 14))[CODES]).astype(np.float32)
FOLDS = Folds(np.arange(N) % 4, np.ones(N, dtype=bool))
ALL = np.ones(N, dtype=bool)


def targets_of(codes=CODES, weights=None):
    return ClassTargets(np.arange(3), codes, np.ones(len(codes)) if weights is None else weights, None)


def recipe_of(penalty=0.03):
    chosen = Chosen(2, penalty, {})
    return resolve_recipe(PretrainedImageClassifier(), 0, TrainingSet(N), 14, torch.device("cpu"), chosen)


def outputs(targets=None, trusted=ALL, n_threads=1):
    labeled = Labeled(FEATURES, targets or targets_of())
    return held_out_outputs(labeled, SIZES, recipe_of(), FOLDS, trusted, n_threads)


def probabilities(values):
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_they_are_those_of_a_layer_trained_on_the_other_folds():
    # The features are standardized over all folds here, which changes probabilities by a few hundredths.
    found = probabilities(outputs())
    for fold in range(4):
        held_out = FOLDS.of_sample == fold
        training = Labeled(FEATURES[~held_out], targets_of(CODES[~held_out]))
        net = train_head(Split(training), recipe_of(), Run(0), SIZES)
        expected = probabilities(output_values(net.module_.output, FEATURES[held_out]))
        assert_allclose(found[held_out], expected, atol=0.06)


def test_the_own_label_does_not_matter():
    changed = CODES.copy()
    changed[7] = (changed[7] + 1) % 3
    assert_allclose(outputs(targets_of(changed))[7], outputs()[7], atol=1e-3)


def test_labels_that_are_not_trusted_do_not_matter():
    trusted = RNG.random(N) > 0.2
    changed = np.where(trusted, CODES, (CODES + 1) % 3)
    assert_array_equal(outputs(targets_of(changed), trusted), outputs(trusted=trusted))


def test_the_number_of_threads_does_not_matter():
    assert_array_equal(outputs(n_threads=2), outputs())
