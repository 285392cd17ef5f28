"""Laws of p-values: what they promise for exchangeable images, and what they do not depend on."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl._backbones.taps import StageLayout
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers
from sktl._typicality import typicality as _typicality
from sktl._typicality.typicality import Typicality
from sktl.exceptions import TypicalityError

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(4, 24))


def images(n, seed=0):
    """Return features and classes of images that are exchangeable."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, n)
    return (rng.normal(size=(n, 24)) + 2 * CENTERS[codes]).astype(np.float32), codes


def targets_of(kind, codes, weights=None, groups=None):
    if kind == "classes":
        return check_classes(codes, weights, None, len(codes), None, groups)
    if kind == "labels":
        table = np.stack([codes % 2, codes // 2, codes == 3], axis=1).astype(int)
        return check_indicator(table, weights, None, len(codes), None, groups)
    return check_numbers(codes + 0.5, weights, "squared_error", len(codes), None, groups)


def values(found, features):
    return found(found.reduction(features))


# 16 features of the network's own output, then those of two stages, of which the second describes textures.
LAYOUT = StageLayout((("", 16), ("b", 2), ("b_std", 2), ("a", 2), ("a_std", 2)), (16, 20, 24))
FEATURES, CODES = images(200)
KINDS = ("classes", "labels", "numbers")
FITTED = {kind: Typicality.of(FEATURES, LAYOUT, targets_of(kind, CODES), 0) for kind in KINDS}
NEW, _ = images(60, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_about_a_of_exchangeable_images_has_a_p_value_of_at_most_a(kind):
    p_values = []
    for seed in range(60):
        features, codes = images(140, 1000 + seed)
        found = Typicality.of(features[:60], LAYOUT, targets_of(kind, codes[:60]), seed)
        p_values.append(values(found, features[60:]))
    for level in (0.05, 0.1, 0.2, 0.5, 0.8):
        assert level - 0.05 < (np.concatenate(p_values) <= level).mean() < level + 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_images_from_elsewhere_have_the_lowest_p_values(kind):
    strange = values(FITTED[kind], -FEATURES[:20])
    assert np.median(strange) < 0.02 < np.median(values(FITTED[kind], NEW))


def test_an_image_between_two_classes_is_less_typical_than_images_of_the_classes():
    between = (2 * (CENTERS[CODES[:40]] + CENTERS[(CODES[:40] + 1) % 4]) / 2).astype(np.float32)
    assert np.median(values(FITTED["classes"], between)) < np.median(values(FITTED["classes"], NEW)) / 2


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(st.permutations(range(60)), st.integers(1, 60))
def test_p_values_lie_in_0_to_1_and_their_bits_do_not_depend_on_batch_and_order(kind, order, n):
    expected = values(FITTED[kind], NEW)
    assert expected.dtype == np.float64
    assert 0 < expected.min() <= expected.max() <= 1
    assert_array_equal(values(FITTED[kind], NEW[order[:n]]), expected[order[:n]])


def test_blocks_change_nothing(monkeypatch):
    expected = values(FITTED["classes"], NEW)
    monkeypatch.setattr(_typicality, "_BLOCK", 7)
    assert_array_equal(values(FITTED["classes"], NEW), expected)


def test_p_values_are_multiples_of_one_over_the_references_and_the_image():
    p_values = values(FITTED["classes"], NEW) * 201
    np.testing.assert_allclose(p_values, p_values.round())


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_gives_the_same_p_values_and_no_more_bytes(kind):
    found = FITTED[kind]
    values(found, NEW)
    text = pickle.dumps(found)
    assert len(text) < sum(array.nbytes for array in found.arrays().values()) + 1000
    assert_array_equal(values(pickle.loads(text), NEW), values(found, NEW))


def test_images_without_weight_do_not_count():
    weights = np.repeat([1.0, 0.0], [200, 50])
    features, codes = np.concatenate([FEATURES, -FEATURES[:50]]), np.concatenate([CODES, CODES[:50]])
    found = Typicality.of(features, LAYOUT, targets_of("classes", codes, weights), 0)
    assert_array_equal(values(found, NEW), values(FITTED["classes"], NEW))


def test_images_of_a_group_are_not_compared_with_each_other():
    """Every image occurs five times. Without groups, new images would seem less typical than near copies."""
    features, codes = np.repeat(FEATURES[:80], 5, axis=0), np.repeat(CODES[:80], 5)
    features = features + np.random.default_rng(0).normal(scale=1e-4, size=features.shape).astype(np.float32)
    alone = Typicality.of(features, LAYOUT, targets_of("classes", codes), 0)
    grouped = Typicality.of(features, LAYOUT, targets_of("classes", codes, groups=np.repeat(np.arange(80), 5)), 0)
    assert (values(alone, NEW) <= 0.05).mean() > 0.3
    assert (values(grouped, NEW) <= 0.05).mean() < 0.15


def test_copies_are_in_one_group():
    features, codes, groups = np.repeat(FEATURES[:80], 5, axis=0), np.repeat(CODES[:80], 5), np.repeat(np.arange(80), 5)
    alone = Typicality.of(features, LAYOUT, targets_of("classes", codes), 0)
    grouped = Typicality.of(features, LAYOUT, targets_of("classes", codes, groups=groups), 0)
    assert_array_equal(values(alone, NEW), values(grouped, NEW))


def test_references_are_limited_in_number_and_bytes(monkeypatch):
    monkeypatch.setattr(_typicality, "_MOST_REFERENCES", 50)
    found = Typicality.of(FEATURES, LAYOUT, targets_of("classes", CODES), 0)
    assert len(found.directions) == 50
    monkeypatch.setattr(_typicality, "_MOST_BYTES", 24 * 30)
    assert len(Typicality.of(FEATURES, LAYOUT, targets_of("classes", CODES), 0).directions) == 30


def test_the_default_limits_leave_a_saved_model_of_the_bundled_network_below_2_megabytes_more():
    for n_classes in (0, 2, 1000, 5000):
        n_bytes = 1280 + 160 + n_classes
        most = min(_typicality._MOST_REFERENCES, _typicality._MOST_BYTES // n_bytes)
        assert most * (n_bytes + 1) < 2_000_000


@pytest.mark.parametrize("groups", [None, np.zeros(4, int)])
def test_a_single_image_or_group_is_an_error(groups):
    n = 1 if groups is None else 4
    found = Typicality.of(FEATURES[:n], LAYOUT, targets_of("numbers", CODES[:n], groups=groups), 0)
    with pytest.raises(TypicalityError, match="single group"):
        values(found, NEW)


def test_images_of_other_textures_are_less_typical_and_old_references_have_none():
    other = NEW.copy()
    other[:, 20:] *= -1
    assert np.median(values(FITTED["numbers"], other)) < np.median(values(FITTED["numbers"], NEW)) / 2
    without = replace(FITTED["numbers"], textures=np.empty((200, 0), np.int8))
    assert_array_equal(values(without, other), values(without, NEW))
    few = Typicality.of(FEATURES[:, :20], LAYOUT, targets_of("numbers", CODES), 0)
    assert_array_equal(values(few, NEW[:, :16]), values(without, NEW))
    assert (FITTED["numbers"].n_stages, few.n_stages) == (3, 1)
    assert FITTED["numbers"].fits(LAYOUT)
    assert few.fits(LAYOUT)
    assert not FITTED["numbers"].fits(StageLayout.of_output(16))


def test_two_images_are_enough():
    found = Typicality.of(FEATURES[:2], LAYOUT, targets_of("numbers", CODES[:2]), 0)
    assert set(values(found, NEW)) <= {1 / 3, 2 / 3, 1.0}


@pytest.mark.parametrize("kind", KINDS)
@given(order=st.permutations(range(120)))
@settings(max_examples=10)
def test_training_images_are_recognized_among_others_and_with_rounding_errors(kind, order):
    errors = 1 + 1e-5 * RNG.normal(size=(60, 24)).astype(np.float32)
    mixed = np.concatenate([FEATURES[:60] * errors, NEW])[order]
    assert_array_equal(FITTED[kind].are_references(FITTED[kind].reduction(mixed)), np.array(order) < 60)


def test_an_image_that_is_only_alike_is_not_taken_for_a_training_image():
    errors = 1 + 0.1 * RNG.normal(size=FEATURES.shape).astype(np.float32)
    assert not FITTED["classes"].are_references(FITTED["classes"].reduction(FEATURES * errors)).any()
    own = np.concatenate([FEATURES[:, :16], NEW[[0] * 200, 16:]], axis=1)  # of the same shape, with another texture
    assert not FITTED["classes"].are_references(FITTED["classes"].reduction(own)).any()
