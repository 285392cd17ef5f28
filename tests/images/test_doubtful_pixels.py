"""Pixels that are valid in many images, but mean something else, cause a warning with a remedy that works."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from sktl._images.samples import as_samples
from sktl.exceptions import InputWarning

# Containers of one array of images, and the images themselves in the same form.
CONTAINERS = {
    "array": np.asarray,
    "tensor": torch.tensor,
    "list": list,
    "list of tensors": lambda X: list(torch.tensor(X)),
    "list of sizes": lambda X: [np.repeat(x, i + 1, X.shape.index(5) - 1) for i, x in enumerate(X)],
    "Series": lambda X: pd.Series(list(X)),
}
MASKS = np.arange(200, dtype=np.uint8).reshape(8, 5, 5) % 2


def warning(X, **kwargs):
    with pytest.warns(InputWarning) as warned:
        as_samples(X, **kwargs)
    (only,) = warned
    return str(only.message)


def assert_silent(X, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return as_samples(X, **kwargs)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("numbers", [MASKS, MASKS / 255, np.float32(MASKS / 255)])
def test_black_images_are_told_with_the_remedy(container, numbers):
    X = CONTAINERS[container](numbers)
    message = warning(X)
    assert "All numbers of X are" in message
    first = X[0]
    right = np.asarray(eval(re.search(r"pass (.+)\.$", message)[1], {"x": first}))
    np.testing.assert_allclose(right, np.asarray(first) * (1 if numbers.dtype == np.uint8 else 255), atol=1e-6)


@pytest.mark.parametrize("lenient", [True, False])
def test_an_opaque_fourth_channel_does_not_hide_black_colors(lenient):
    images = np.stack([MASKS, MASKS, MASKS, np.full_like(MASKS, 255)], 3)
    assert "All numbers of X are 0 or 1" in warning(images, lenient=lenient)
    assert "All numbers of X are at most 1 / 255" in warning(np.stack([MASKS / 255] * 3, 3), lenient=lenient)


def test_few_or_empty_images_and_one_that_is_not_black_cause_no_warning():
    few, empty, one = np.ones((7, 5, 5), np.uint8), np.zeros((9, 5, 5)), np.ones((9, 5, 5), np.uint8)
    one[-1, 0, 0] = 2
    for X in (few, few / 255, empty, one, one / 255):
        for container in CONTAINERS.values():
            assert_silent(container(X))


def test_samples_without_pixels_cause_no_warning(tmp_path):
    assert_silent([*MASKS, str(tmp_path / "x.png")])


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("shape", [(8, 5, 6, 4), (8, 4, 5, 6)])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_fourth_channel_that_is_not_transparency_is_told_with_the_remedy(container, shape, dtype):
    white = 255 if dtype == np.uint8 else 1
    values = (np.linspace(0.5, 0.98, np.prod(shape)) * white).astype(dtype).reshape(shape)
    X = CONTAINERS[container](values)
    message = warning(X)
    assert "fourth channel of X is taken as transparency" in message
    first_of_each = re.search(r"pass (x\[[^]]*\]) of each image x \((x\[:3\]) if channels come first", message)
    if first_of_each:
        right = [eval(first_of_each[1 if shape[3] == 4 else 2], {"x": x}) for x in X]
    else:
        right = eval(re.search(r"pass (x\[[^]]*\]), or", message)[1], {"x": X})
    assert len(assert_silent(right)) == 8
    assert all(3 in x.shape for x in right)
    values[(3, 1, 1, 3) if shape[3] == 4 else (3, 3, 1, 1)] = white  # one pixel is opaque
    assert_silent(CONTAINERS[container](values))
    assert_silent(X[:7])


@pytest.mark.parametrize("image_shape", [(5, 6, 4), (4, 5, 6)])
def test_the_remedy_for_a_fourth_channel_of_rows_works(image_shape):
    rows = pd.DataFrame(np.linspace(0.5, 0.98, 960).reshape(8, 120))
    message = warning(rows, image_shape=image_shape)
    remedy = re.search(r"pass (np.*\[.*?\]) without image_shape", message)[1]
    assert all(sample.read().shape == (5, 6, 3) for sample in assert_silent(eval(remedy, {"np": np, "x": rows})))


def test_a_mask_of_0_and_1_in_the_fourth_channel_is_told_with_the_remedy():
    masked = np.stack([np.full_like(MASKS, 99)] * 3 + [MASKS], 3)
    assert warning(masked).endswith("If it is a mask of 0 and 1, multiply it by 255.")
    masked[..., 3] *= 255
    assert_silent(masked)
    masked[..., 3] = 0
    assert "its largest value is 0, and 255 is opaque" in warning(masked)
