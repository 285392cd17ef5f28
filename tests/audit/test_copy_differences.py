"""Windows in which one image has detail that the other lacks make two aligned images different."""

import numpy as np
import pytest
import torch
from photographs import COPIES, gray_of, photograph
from PIL import Image

from sktl._audit.copy_differences import local_differences, within

IDENTITY = torch.eye(3)[None, :2]
ORIGINAL = photograph(0, (240, 240))


def between(one, other):
    first, second = torch.from_numpy(gray_of(one, other)).float().split(1)
    return local_differences(first, second, IDENTITY).item()


@pytest.mark.parametrize("copy", ["recompressed", "smaller", "larger", "brighter", "gray"])
def test_copies_agree_in_all_windows(copy):
    assert between(ORIGINAL, COPIES[copy](ORIGINAL)) < 5


def with_patch(image, side):
    image = image.copy()
    image.paste(photograph(9, (side, side)), (150, 60))
    return image


@pytest.mark.parametrize("side", [24, 48, 96])
def test_something_else_in_one_place_is_a_difference_from_either_side(side):
    other = with_patch(ORIGINAL, side)
    assert between(ORIGINAL, other) > 10
    assert between(ORIGINAL, other) == pytest.approx(between(other, ORIGINAL), rel=1e-3)


def test_what_is_missing_counts_as_much_as_what_is_different():
    plain = Image.new("RGB", (240, 240), "gray")
    assert between(plain, with_patch(plain, 30)) > 10


def test_noise_in_the_whole_image_is_no_local_difference():
    rng = np.random.default_rng(0)
    pixels = np.asarray(ORIGINAL, dtype=float)
    noisy = [Image.fromarray(np.clip(pixels + rng.normal(0, 40, pixels.shape), 0, 255).astype(np.uint8)) for _ in "ab"]
    assert between(*noisy) < 2
    assert between(noisy[0], with_patch(noisy[1], 60)) > 6


def test_blank_images_do_not_differ():
    assert between(Image.new("RGB", (96, 96)), Image.new("RGB", (96, 96), "white")) < 1e-6


def test_what_lies_outside_one_image_does_not_count():
    inside = torch.ones(1, 96, 96)
    inside[:, :, 90:] = 0
    assert within(torch.ones(1, 96, 96), 7).all()
    assert within(inside, 7).view(15, 15)[:, :12].all()
    assert not within(inside, 7).view(15, 15)[:, 13:].any()


@pytest.mark.parametrize("reach", [0, 2, 7])
def test_windows_and_their_surroundings_lie_within_both_images(reach):
    inside = (torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(reach)) > 0.002).float()
    for row, column in np.ndindex(7, 7):
        top, left = max(6 * row - reach, 0), max(6 * column - reach, 0)
        outside = 1 - inside[0, top : 6 * row + 12 + reach, left : 6 * column + 12 + reach]
        assert within(inside, reach).view(7, 7)[row, column] == (outside.sum() <= 1)
