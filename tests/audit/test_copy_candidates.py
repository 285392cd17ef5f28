"""Descriptors of windows find which image may be a copy of which."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from photographs import COPIES, gray_of, photograph, random_features

from sktl._audit.copy_candidates import WINDOWS, Descriptors, nearest_directions, starts, turned
from sktl._audit.thumbnails import SIDE

POOL = ThreadPoolExecutor(2)
ORIGINALS = [photograph(seed) for seed in range(12)]


def pairs(candidates):
    return {tuple(sorted(pair)) for pair in zip(candidates.whole.tolist(), candidates.part.tolist(), strict=True)}


@pytest.mark.parametrize("turn", range(8))
def test_descriptors_of_turned_images_are_turned_descriptors(turn):
    gray = gray_of(*ORIGINALS[:3])
    of_turned = Descriptors(turned(torch.from_numpy(gray), turn).contiguous().numpy(), POOL).whole()
    torch.testing.assert_close(Descriptors(gray, POOL).whole(turn), of_turned, atol=1e-4, rtol=0)


@pytest.mark.parametrize("turn", range(8))
def test_each_turn_is_another_and_some_turn_undoes_it(turn):
    image = torch.arange(6.0).view(2, 3)
    assert sum(torch.equal(turned(turned(image, turn), other), image) for other in range(8)) == 1


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_candidates(copy):
    # What is both mirrored and cropped is only found with features; here, gray levels stand for them.
    gray = gray_of(*ORIGINALS, COPIES[copy](ORIGINALS[4]))
    features = random_features(len(gray))
    if copy == "mirrored and cropped":
        features[-1] = features[4]
    found = Descriptors(gray, POOL).candidates(features)
    assert (4, len(ORIGINALS)) in pairs(found)


def test_blank_images_are_no_candidates():
    gray = np.repeat(np.arange(5, dtype=np.uint8), SIDE * SIDE).reshape(5, SIDE, SIDE)
    assert not pairs(Descriptors(gray, POOL).candidates(np.zeros((5, 3), np.float32)))


def test_candidates_do_not_depend_on_the_order_of_the_images():
    gray = gray_of(*ORIGINALS, *(COPIES[copy](image) for copy, image in zip(COPIES, ORIGINALS, strict=False)))
    order, features = np.random.default_rng(0).permutation(len(gray)), random_features(len(gray))
    shuffled = pairs(Descriptors(gray[order], POOL).candidates(features[order]))
    renamed = {tuple(sorted((int(order[a]), int(order[b])))) for a, b in shuffled}
    assert renamed == pairs(Descriptors(gray, POOL).candidates(features))


def test_two_images_are_enough():
    assert pairs(Descriptors(gray_of(ORIGINALS[0], ORIGINALS[0]), POOL).candidates(np.eye(2, dtype=np.float32)))
    assert nearest_directions(np.eye(2, dtype=np.float32), 3, POOL).tolist() == [[1], [0]]


def test_starts_map_the_corners_of_a_window():
    maps = starts(torch.arange(len(WINDOWS)))
    corners = torch.tensor([[-1.0, -1, 1], [1, 1, 1]]).T
    found = (maps @ corners).numpy()
    width, height, left, top = WINDOWS.T
    np.testing.assert_allclose(found[:, :, 0], 2 * np.stack([left, top], axis=1) - 1, atol=1e-6)
    np.testing.assert_allclose(found[:, :, 1], 2 * np.stack([left + width, top + height], axis=1) - 1, atol=1e-6)
