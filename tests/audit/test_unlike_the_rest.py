"""Images that resemble none of the others are found, unless there are copies of them."""

import numpy as np
import pytest

from sktl._audit.unlike_the_rest import typicalities

RNG = np.random.default_rng(0)
N = 200
CENTERS = RNG.normal(size=(3, 20))
CODES = np.arange(N) % 3
FEATURES = (CENTERS[CODES] + 0.3 * RNG.normal(size=(N, 20))).astype(np.float32)
MEMBERSHIPS = CODES[:, None] == np.arange(3)
STRANGER = RNG.normal(size=(1, 20)).astype(np.float32) * 2


def scores(features, memberships, groups=None, others=STRANGER[:0]):
    groups = np.arange(len(features)) if groups is None else groups
    return typicalities(features, memberships, groups, others, 0)


@pytest.mark.parametrize("memberships", [MEMBERSHIPS, np.empty((N, 0))])
def test_a_stranger_is_far_below_the_others(memberships):
    found, _ = scores(np.concatenate([FEATURES, STRANGER]), np.concatenate([memberships, memberships[:1]]))
    assert found[-1] < -5
    assert np.mean(found[:-1] < -5) <= 0.03
    assert np.median(found) == 0


def test_copies_of_a_stranger_do_not_vouch_for_each_other():
    features = np.concatenate([FEATURES, STRANGER, STRANGER])
    memberships = np.concatenate([MEMBERSHIPS, MEMBERSHIPS[:2]])
    together, _ = scores(features, memberships, np.minimum(np.arange(N + 2), N))
    assert (together[-2:] < -5).all()


@pytest.mark.parametrize("n_copies", [50, 150])
def test_copies_of_an_ordinary_image_make_no_other_image_unlike_the_rest(n_copies):
    groups = np.r_[np.arange(N), np.zeros(n_copies, dtype=int)]
    features, memberships = FEATURES[np.minimum(groups, N)], np.empty((len(groups), 0))
    found, _ = scores(features, memberships, groups)
    assert np.mean(found[:N] < -5) <= 0.03


def test_images_that_are_almost_equal_are_ordinary():
    features = np.ones((30, 400), np.float32)
    for i in range(5):
        features[i, 10 * i : 10 * i + 10] = 0.97
    found, others = scores(features, np.empty((30, 0)), others=features[:1])
    assert (found > -5).all()
    assert others > -5


def test_test_images_are_compared_with_the_training_images():
    _, (ordinary, strange) = scores(FEATURES[1:], MEMBERSHIPS[1:], others=np.concatenate([FEATURES[:1], STRANGER]))
    assert ordinary > -5 > strange


def test_equal_images_are_ordinary():
    found, others = scores(np.ones((30, 4), np.float32), np.ones((30, 1)), others=np.ones((1, 4), np.float32))
    assert not found.any()
    assert not others.any()


def test_images_of_a_single_group_are_not_compared():
    found, others = scores(FEATURES, MEMBERSHIPS, np.zeros(N, dtype=int), STRANGER)
    assert not found.any()
    assert not others.any()
