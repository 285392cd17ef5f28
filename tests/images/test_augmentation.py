"""Laws of the random changes: decided by a seed alone, of the network's size, and harmless to the process."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image
from torchvision.transforms import v2

from sktl import Preprocessing
from sktl._images.augmentation import AUGMENTATIONS, CustomTransform, RandomChange, resolve_augmentation
from sktl.exceptions import InvalidParameterError

SMALL = Preprocessing(24, (24, 20))
RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8))

USERS = {
    "v2": v2.Compose([v2.RandomResizedCrop((24, 20)), v2.ColorJitter(0.3), v2.RandomHorizontalFlip()]),
    "other size": v2.RandomCrop(16),
    "tensor": v2.Compose([v2.PILToTensor(), v2.RandomVerticalFlip()]),
    "floats": lambda image: np.asarray(image) / 255 * np.random.default_rng(np.random.randint(9)).uniform(),  # noqa: NPY002
    "grey": lambda image: image.convert("L").rotate(random.randrange(360)),
}


def changed(change, seed, image=PHOTO):
    return change.pixels(image, SMALL, np.random.SeedSequence(seed))


@pytest.mark.parametrize("change", [*AUGMENTATIONS.values(), *map(CustomTransform, USERS.values())])
def test_a_change_is_decided_by_its_seed_and_leaves_the_process_alone(change):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    found = [changed(change, seed) for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    for seed, pixels in enumerate(found):
        assert pixels.shape == (24, 20, 3)
        assert pixels.dtype == np.uint8
        assert_array_equal(changed(change, seed), pixels)
    assert len({pixels.tobytes() for pixels in found}) > 1


@settings(max_examples=60)
@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    least=st.floats(0.05, 1),
    seed=st.integers(0, 10_000),
)
def test_crops_lie_within_the_image_and_keep_the_area_and_aspect_that_they_promise(width, height, least, seed):
    left, top, w, h = RandomChange(least)._box((width, height), np.random.default_rng(seed))
    assert left >= 0 <= top
    assert w > 0 < h
    assert left + w <= width
    assert top + h <= height
    if w != h or w != min(width, height):  # not the square that stands in where no crop fits
        assert (w + 1) * (h + 1) >= least * width * height
        assert (w - 1) / (h + 1) <= 4 / 3
        assert (w + 1) / max(h - 1, 0.5) >= 3 / 4


def test_light_changes_keep_more_of_the_image_than_strong_ones():
    areas = {}
    for name in ("light", "strong"):
        boxes = [AUGMENTATIONS[name]._box((100, 100), np.random.default_rng(seed)) for seed in range(200)]
        areas[name] = np.mean([w * h for _, _, w, h in boxes]) / 1e4
    assert areas["strong"] < 0.7 < areas["light"]


def test_half_of_the_images_are_mirrored():
    ramp = Image.fromarray(np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None], (40, 60, 3)).copy())
    falls = [
        bool((np.diff(changed(AUGMENTATIONS["light"], seed, ramp)[5, :, 0].astype(int)) <= 0).all())
        for seed in range(200)
    ]
    assert 60 < sum(falls) < 140


FLOATS = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: 1 / 0, "augmentation failed on an image of 60 x 40 pixels: ZeroDivisionError"),
        (lambda image: "photo", "returned a str; it must return a PIL image"),
        (lambda image: None, "returned None; it must return a PIL image"),
        (lambda image: np.asarray(image) / 128 - 1, r"returned an ndarray that has values from -1 to 0.99\d+; it must"),
        (v2.Compose([FLOATS, v2.Normalize([0.5], [0.5])]), "returned an Image that has values from -1 to .*Normalize"),
        (FLOATS, "returned an Image that has values up to 255; it must return"),
        (
            lambda image: np.asarray(image).transpose(2, 0, 1),
            r"returned an ndarray that has shape \(3, 40, 60\); it must",
        ),
        (lambda image: torch.tensor(np.asarray(image)), r"returned a Tensor that has shape \(40, 60, 3\); it must"),
        (lambda image: np.asarray(image)[..., :2], r"returned an ndarray that has shape \(40, 60, 2\)"),
        (
            lambda image: v2.functional.to_image(image)[None],
            r"returned an? \w+ that has shape \(1, 3, 40, 60\); it must",
        ),
        (lambda image: np.asarray(image) > 9, "returned an ndarray that has dtype bool; it must"),
        (lambda image: np.full((4, 4), np.nan), "returned an ndarray that contains NaN; it must"),
    ],
)
def test_functions_that_fail_or_return_something_else_are_named(function, message):
    with pytest.raises(InvalidParameterError, match=message) as raised:
        changed(CustomTransform(function), 0)
    assert "X" not in str(raised.value)


def test_names_and_functions_resolve():
    assert resolve_augmentation(None) is None
    assert resolve_augmentation("light") == AUGMENTATIONS["light"]
    assert resolve_augmentation(USERS["v2"]).function is USERS["v2"]
