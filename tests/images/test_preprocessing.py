"""Preprocessing gives the pixels that torchvision and timm give, at the cost of the part that is kept."""

from __future__ import annotations

import numpy as np
import pytest
import timm.data
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from sktl._images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

INTERPOLATIONS = ["bilinear", "bicubic"]
SEEDS = st.integers(0, 2**32 - 1)
HALF = (0.5, 0.5, 0.5)


@st.composite
def images(draw, low=0, high=255, largest=3):
    """An image of noise or of a few soft colors, its sides up to `largest` times 32 to 64 pixels, and that target."""
    target = draw(st.integers(32, 64))
    width, height = draw(st.tuples(*[st.integers(1, largest * target)] * 2))
    rng = np.random.default_rng(draw(SEEDS))
    if draw(st.booleans()):
        pixels = rng.integers(low, high, (height, width, 3), dtype=np.uint8, endpoint=True)
        return Image.fromarray(pixels), target
    few = rng.integers(low, high, (3, 3, 3), dtype=np.uint8, endpoint=True)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BILINEAR), target


def torchvision_pixels(image, resize, crop, interpolation):
    transform = ImageClassification(
        crop_size=crop,
        resize_size=resize,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        interpolation=InterpolationMode(interpolation),
    )
    return transform(image).permute(1, 2, 0).numpy() * 255


def assert_within_two_levels(found, expected):
    assert found.dtype == np.uint8
    difference = np.abs(found - expected)
    assert difference.max() <= 2.01
    assert (difference <= 1.01).mean() > 0.95


@settings(max_examples=60)
@given(image_target=images(), crop=st.integers(8, 32))
def test_bilinear_agrees_with_torchvision_on_any_image(image_target, crop):
    image, target = image_target
    expected = torchvision_pixels(image, target, crop, "bilinear")
    assert_within_two_levels(Preprocessing(target, (crop, crop)).pixels(image), expected)


# Bicubic overshoots, Pillow rounds and clips between its two passes, and passes first over the axis that is cheaper,
# which depends on the part that is kept: only where an overshoot is clipped can the two orders differ.
@settings(max_examples=60)
@given(image_target=images(low=64, high=191), crop=st.integers(8, 32))
def test_bicubic_agrees_with_torchvision_where_nothing_is_clipped(image_target, crop):
    image, target = image_target
    expected = torchvision_pixels(image, target, crop, "bicubic")
    assert_within_two_levels(Preprocessing(target, (crop, crop), "bicubic").pixels(image), expected)


@settings(max_examples=60)
@given(image_target=images(), crop=st.integers(24, 32))
def test_bicubic_agrees_with_torchvision_on_average_where_it_clips(image_target, crop):
    image, target = image_target
    expected = torchvision_pixels(image, target, crop, "bicubic")
    assert np.abs(Preprocessing(target, (crop, crop), "bicubic").pixels(image) - expected).mean() < 1


@settings(max_examples=40)
@given(
    image_target=images(low=64, high=191, largest=2),
    crop_mode=st.sampled_from(["center", "squash"]),
    crop_pct=st.sampled_from([0.85, 0.875, 0.9, 0.95, 1.0]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_the_input_agrees_with_timm(image_target, crop_mode, crop_pct, interpolation):
    image, size = image_target
    transform = timm.data.create_transform(
        (3, size, size), crop_mode=crop_mode, crop_pct=crop_pct, interpolation=interpolation, mean=HALF, std=HALF
    )
    scaled = int(size / crop_pct)
    resize = (scaled, scaled) if crop_mode == "squash" else scaled
    found = Preprocessing(resize, (size, size), interpolation, HALF, HALF)(image)
    difference = (found - transform(image)).abs() * 255 / 2
    assert difference.max() <= 2.01
    assert (difference <= 1.01).double().mean() > 0.95


@settings(max_examples=40)
@given(width=st.integers(1, 5000), height=st.integers(1, 5000), resize=st.integers(1, 500))
def test_the_resized_shape_is_torchvisions(width, height, resize):
    from torchvision.transforms.functional import _compute_resized_output_size

    found = Preprocessing(resize, (1, 1)).resized_shape(width, height)
    assert list(found[::-1]) == _compute_resized_output_size((height, width), [resize])
    assert min(found) == resize


@settings(max_examples=20)
@given(width=st.integers(1, 24), height=st.integers(1, 24), pair=st.tuples(st.integers(8, 40), st.integers(8, 40)))
def test_a_pair_squashes_to_height_and_width(width, height, pair):
    assert Preprocessing(pair, (8, 8)).resized_shape(width, height) == pair[::-1]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = image.resize(pair[::-1], Image.Resampling.BILINEAR)
    assert_within_two_levels(Preprocessing(pair, pair).pixels(image), np.asarray(expected, dtype=float))


@settings(max_examples=30)
@given(
    crop=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    margin=st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
def test_an_image_that_has_the_size_already_is_only_cropped_to_its_centre(crop, margin):
    height, width = crop[0] + margin[0], crop[1] + margin[1]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = round(margin[0] / 2), round(margin[1] / 2)
    found = Preprocessing((height, width), crop).pixels(Image.fromarray(pixels))
    np.testing.assert_array_equal(found, pixels[top : top + crop[0], left : left + crop[1]])


@settings(max_examples=30)
@given(
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
    color=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_a_tiny_image_of_one_color_is_enlarged_to_that_color(width, height, interpolation, color):
    found = Preprocessing(40, (32, 32), interpolation).pixels(Image.new("RGB", (width, height), color))
    np.testing.assert_array_equal(found, np.broadcast_to(color, (32, 32, 3)))


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 300_000)])
def test_a_very_long_image_costs_no_more_than_its_centre(size):
    # Resized as a whole, with a shorter side of 256, it would be of 20 to 65 gigapixels, which no memory holds.
    image = Image.new("RGB", size, "red")
    width, height = size
    image.paste("blue", (width // 2 - 100, height // 2 - 100, width // 2 + 100, height // 2 + 100))
    found = Preprocessing(256, (224, 224)).pixels(image)
    np.testing.assert_array_equal(found, np.broadcast_to((0, 0, 255), (224, 224, 3)))


@settings(max_examples=30)
@given(factor=st.integers(4, 12), seed=SEEDS, interpolation=st.sampled_from(INTERPOLATIONS))
def test_shrinking_a_lot_stays_near_the_exact_filter(factor, seed, interpolation):
    colors = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colors).resize((32 * factor + 5, 32 * factor + 2), Image.Resampling.BICUBIC)
    exact = torchvision_pixels(image, 32, 28, interpolation)
    assert np.abs(Preprocessing(32, (28, 28), interpolation).pixels(image) - exact).mean() < 1


@settings(max_examples=30)
@given(
    seed=SEEDS,
    crop=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.1, 1)] * 3),
)
def test_the_input_is_the_normalised_pixels_in_float32(seed, crop, mean, std):
    preprocessing = Preprocessing(24, crop, mean=mean, std=std)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    found = preprocessing(image)
    assert found.shape == (3, *crop)
    assert found.dtype == torch.float32
    expected = (preprocessing.pixels(image) / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-5)


@settings(max_examples=20)
@given(seed=SEEDS, n=st.integers(1, 5))
def test_a_batch_is_normalised_as_its_images(seed, n):
    preprocessing = Preprocessing(8, (6, 7))
    pixels = torch.tensor(np.random.default_rng(seed).integers(0, 256, (n, 6, 7, 3), dtype=np.uint8))
    before = pixels.clone()
    batch = preprocessing.normalize(pixels)
    assert batch.shape == (n, 3, 6, 7)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, torch.cat([preprocessing.normalize(image[None]) for image in pixels]))
    assert torch.equal(pixels, before)


def test_the_default_mean_and_std_are_those_of_imagenet():
    preset = ImageClassification(crop_size=8)
    assert (list(IMAGENET_MEAN), list(IMAGENET_STD)) == (preset.mean, preset.std)
    assert Preprocessing(8, (8, 8)) == Preprocessing(8, (8, 8), "bilinear", IMAGENET_MEAN, IMAGENET_STD)


RESIZES = st.one_of(st.integers(64, 96), st.tuples(st.integers(64, 96), st.integers(64, 96)))
CROPS = st.tuples(st.integers(32, 64), st.integers(32, 64))


@settings(max_examples=50)
@given(resize=RESIZES, crop=CROPS, size=st.integers(1, 300))
def test_another_image_size_sees_the_same_part_and_never_more_than_there_is(resize, crop, size):
    before = Preprocessing(resize, crop, "bicubic", HALF, HALF)
    after = before.with_image_size(size)
    assert after.crop == (size, size)
    assert (after.interpolation, after.mean, after.std) == ("bicubic", HALF, HALF)
    if isinstance(resize, int):
        assert after.resize >= size
        assert abs(after.resize - resize * size / min(crop)) <= 0.5 or after.resize == size
    else:
        assert min(after.resize) >= size
        np.testing.assert_allclose(after.resize, [resize[0] * size / crop[0], resize[1] * size / crop[1]], atol=0.5)


@settings(max_examples=30)
@given(resize=RESIZES, side=st.integers(32, 64))
def test_the_same_image_size_changes_nothing(resize, side):
    preprocessing = Preprocessing(resize, (side, side))
    assert preprocessing.with_image_size(side) == preprocessing


@settings(max_examples=20)
@given(image_target=images(largest=2), size=st.integers(16, 100))
def test_another_image_size_agrees_with_torchvision(image_target, size):
    image, target = image_target
    preprocessing = Preprocessing(target, (32, 32)).with_image_size(size)
    assume(preprocessing.resize <= 120)
    expected = torchvision_pixels(image, preprocessing.resize, size, "bilinear")
    assert_within_two_levels(preprocessing.pixels(image), expected)


@settings(max_examples=20)
@given(image_target=images(), crop=st.integers(8, 32))
def test_the_image_stays_as_it_is_and_the_pixels_are_repeatable(image_target, crop):
    image, target = image_target
    preprocessing, before = Preprocessing(target, (crop, crop)), image.tobytes()
    np.testing.assert_array_equal(preprocessing.pixels(image), preprocessing.pixels(image.copy()))
    assert image.tobytes() == before
