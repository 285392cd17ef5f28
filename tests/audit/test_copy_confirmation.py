"""Copies are confirmed in their pixels; images that only look alike are not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from photographs import COPIES, photograph, random_features, thumbnails_of
from PIL import Image

from sktl._audit.copy_candidates import Descriptors
from sktl._audit.copy_confirmation import CONFIRMED, confirm

POOL = ThreadPoolExecutor(2)
ORIGINALS = [photograph(seed) for seed in range(8)]


def confirmed(images, features=None):
    """Return the pairs of images that are confirmed, each once, with the best score of each."""
    thumbnails = thumbnails_of(*images)
    gray, aspects = np.stack([kept.gray for kept in thumbnails]), np.float32([kept.aspect for kept in thumbnails])
    features = random_features(len(images)) if features is None else features
    found = confirm(gray, aspects, Descriptors(gray, POOL).candidates(features), POOL)
    best = {}
    for whole, part, score in zip(*(end.tolist() for end in found.candidates[:2]), found.scores, strict=True):
        pair = min(whole, part), max(whole, part)
        best[pair] = max(score, best.get(pair, 0))
    return best


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_confirmed_from_either_side(copy):
    other = COPIES[copy](ORIGINALS[2])
    near = np.eye(2, 3, dtype=np.float32)
    for pair in ((ORIGINALS[2], other), (other, ORIGINALS[2])):
        found = confirmed(pair, near)
        assert [*found] == [(0, 1)]
        assert CONFIRMED <= found[0, 1] <= 1


def test_originals_are_no_copies_of_each_other():
    assert not confirmed(ORIGINALS)


def with_foreground(seed, background):
    """Return a photo with another thing in front of the same background, on a quarter of its area."""
    image = background.copy()
    image.paste(photograph(seed, (60, 45)), (30, 25))
    return image


def test_the_same_background_is_not_enough():
    images = [with_foreground(seed, ORIGINALS[0]) for seed in (20, 21)]
    assert not confirmed(images)


def test_the_same_outline_is_not_enough():
    rng = np.random.default_rng(0)
    base = np.asarray(ORIGINALS[1].resize((12, 9)).resize((120, 90)), dtype=float)
    images = [np.clip(base + rng.normal(0, 25, base.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    assert not confirmed([*map(Image.fromarray, images)])


def test_scores_do_not_depend_on_the_other_images():
    copy = COPIES["cropped to 75 %"](ORIGINALS[0])
    few, many = confirmed([ORIGINALS[0], copy]), confirmed([ORIGINALS[0], copy, *ORIGINALS[1:]])
    assert few == pytest.approx(many, abs=1e-4)
    assert [*few] == [(0, 1)]
