"""What all estimators that predict promise for the outputs and the typicality of images."""

from __future__ import annotations

import copy
import pickle
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from backbones import Pixels, small_conv_net
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._features import trunk_pass
from sktl._head.train_head import output_values
from sktl._typicality import typicality
from sktl.datasets import make_cats
from sktl.exceptions import BackboneError, InvalidImageError, InvalidInputError, TypicalityError

CATS = make_cats(60, random_state=0)
X, NEW = list(CATS.data[:40]), list(CATS.data[40:])
CODES = np.unique(CATS.target[:40], return_inverse=True)[1]
NOISE = list(np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), np.uint8))
TINY = {"image_size": 64, "random_state": 0}


TARGETS = {"classes": CODES, "labels": np.stack([CODES % 2, CODES > 2], axis=1).astype(int), "numbers": CODES + 0.5}


def fitted(kind, **params):
    estimator = PretrainedImageRegressor if kind == "numbers" else PretrainedImageClassifier
    return estimator(**TINY | params).fit(X, TARGETS[kind])


def test_a_network_with_other_blocks_than_where_the_estimator_was_fitted_is_an_error():
    clf = copy.copy(fitted("classes", feature_stages=2))
    name, size = clf._features.groups[-1]
    clf._features = replace(clf._features, groups=(*clf._features.groups[:-1], (name, size + 8)))
    clf.net_ = copy.deepcopy(clf.net_)
    clf.net_.module_.output.weight = torch.nn.Parameter(
        torch.zeros(len(clf.classes_), sum(size for _, size in clf._features.groups))
    )
    with pytest.raises(BackboneError, match="has other blocks here than where the estimator was fitted"):
        clf.predict(NEW[:3])


@pytest.fixture(scope="module", params=[*TARGETS])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def estimator(kind):
    return fitted(kind)


# ------------------------------------------------------------------------------------------------------------- outputs


def large_pixels():
    return Pixels(64)


def test_outputs_of_many_images_need_no_features_of_all_images(monkeypatch):
    monkeypatch.setattr(trunk_pass, "_BYTES_BETWEEN_WRITES", 1 << 16)  # features that wait for the cache
    images = list(np.random.default_rng(0).integers(0, 256, (400, 8, 8), np.uint8))
    clf = PretrainedImageClassifier(backbone=large_pixels, cache=False, n_jobs=1, engine="torch", random_state=0)
    clf.fit(images[:20], np.arange(20) % 3)
    clf.predict(images[:2])  # what is loaded once
    tracemalloc.start()
    clf.predict(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 64**2 * 4 / 2


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("stages", [0, 1])
def test_outputs_are_the_output_layers_of_the_features(stages, cache, tmp_path):
    cache = cache and str(tmp_path)
    clf = PretrainedImageClassifier(backbone=small_conv_net, trainable_stages=stages, max_epochs=2, cache=cache, **TINY)
    clf.fit(X[:12], CODES[:12] % 2)
    images = [*X[:12], *NEW, *X[:3], *NEW[:3]]  # some are cached, and some are copies
    outputs = clf._meaning.decision(output_values(clf.net_.module_.output, clf.transform(images)))
    assert_array_equal(clf.decision_function(images), outputs)
    assert_array_equal(np.concatenate([clf.decision_function([image]) for image in NEW]), outputs[12:32])
    with pytest.raises(InvalidImageError) as error:
        clf.predict([b"", *NEW[:2], b"none"])
    assert [failure.position for failure in error.value.failures] == [0, 3]


# ---------------------------------------------------------------------------------------------------------- typicality


def test_images_of_another_kind_are_less_typical_than_new_images_of_the_same_kind(estimator):
    p_values, strange = estimator.typicality(NEW), estimator.typicality(NOISE)
    assert p_values.dtype == np.float64
    assert p_values.shape == (20,)
    assert 0 < p_values.min() <= p_values.max() <= 1
    assert strange.max() < np.median(p_values)


def test_the_bits_depend_neither_on_the_batch_nor_on_the_order_nor_on_threads(estimator):
    expected = estimator.typicality(NEW)
    assert_array_equal(estimator.typicality(NEW[7:8]), expected[7:8])
    assert_array_equal(estimator.typicality(NEW[::-1]), expected[::-1])
    assert_array_equal(copy.copy(estimator).set_params(n_jobs=3).typicality(NEW), expected)


def test_another_fit_and_a_copy_give_the_same_bits(estimator, kind, tmp_path):
    expected = estimator.typicality(NEW)
    estimator.save(tmp_path / "model", include_backbone=False)
    estimator.save(tmp_path / "without", include_backbone=False, include_references=False)
    assert 0 < (tmp_path / "model").stat().st_size - (tmp_path / "without").stat().st_size < 100_000
    again = clone(estimator).set_params(n_jobs=3).fit(X, TARGETS[kind])
    loaded, unpickled = sktl.load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))
    for found in (again, loaded, unpickled, copy.deepcopy(estimator)):
        assert_array_equal(found.typicality(NEW), expected)


def test_it_does_not_depend_on_the_features_and_the_penalty_of_the_output_layer():
    found = [fitted("classes", feature_stages=n, weight_decay=w).typicality(NEW) for n, w in ((1, 0.1), (2, 0.001))]
    assert_array_equal(*found)


def test_typicality_of_many_images_needs_no_features_of_all_images(monkeypatch):
    monkeypatch.setattr(typicality, "_BLOCK", 16)
    monkeypatch.setattr(trunk_pass, "_BYTES_BETWEEN_WRITES", 1 << 16)  # features that wait for the cache
    images = list(np.random.default_rng(0).integers(0, 256, (400, 8, 8), np.uint8))
    clf = PretrainedImageClassifier(backbone=large_pixels, cache=False, n_jobs=1, engine="torch", random_state=0)
    clf.fit(images[:20], np.arange(20) % 3)
    clf.typicality(images[:2])  # what is loaded once
    tracemalloc.start()
    clf.typicality(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 64**2 * 3  # each feature has 4 bytes, and its direction has 1


def test_images_without_weight_and_images_held_out_do_not_count():
    weights = np.repeat([1.0, 0.0], [30, 10])
    clf = PretrainedImageClassifier(**TINY).fit(X, CODES, sample_weight=weights)
    assert len(clf._typicality.directions) == 30
    clf = PretrainedImageClassifier(**TINY, early_stopping=True, validation_fraction=0.25).fit(X, CODES)
    assert len(clf._typicality.directions) == 30


UNTRAINED = {"backbone": "timm/test_vit", "weights": None, "trainable_stages": 1, "max_epochs": 1}


@pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
def test_trained_stages_are_an_error_that_says_what_to_do(tmp_path):
    clf = fitted("classes", **UNTRAINED)
    clf.save(tmp_path / "model")
    for found in (clf, sktl.load(tmp_path / "model")):
        with pytest.raises(TypicalityError, match="Fit another estimator with trainable_stages=0 on the same images"):
            found.typicality(NEW)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
def test_stages_that_early_stopping_left_as_they_were_are_no_error(tmp_path):
    """With a learning rate that destroys the network, the start has the lowest loss."""
    stopped = {"early_stopping": True, "validation_fraction": 0.25, "backbone_lr_ratio": 1e6}
    with pytest.warns(ConvergenceWarning):
        clf = fitted("classes", **UNTRAINED | stopped)
    clf.save(tmp_path / "model")
    assert_array_equal(sktl.load(tmp_path / "model").typicality(NEW), clf.typicality(NEW))


def test_it_needs_a_fit():
    with pytest.raises(NotFittedError):
        PretrainedImageClassifier().typicality(NEW)


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
WRONG = {
    "no images": [],
    "one path": "image.png",
    "one image": PIXELS[0],
    "floats": PIXELS.astype(float),
    "shorter rows": PIXELS.reshape(12, 64)[:, :60],
    "a number": 3,
    "an image that is none": [b"none"] * 12,
}


@pytest.mark.parametrize("X_val", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("estimator", [PretrainedImageClassifier, PretrainedImageRegressor])
def test_errors_about_validation_images_name_them(estimator, X_val):
    own = estimator(backbone=Pixels, image_shape=(8, 8), early_stopping=True, n_jobs=1)
    with pytest.raises(InvalidInputError, match="X_val") as error:
        own.fit(PIXELS.reshape(12, 64), np.arange(12) % 2, X_val=X_val, y_val=np.arange(12) % 2)
    assert not re.search(r"\bX\b", str(error.value))
