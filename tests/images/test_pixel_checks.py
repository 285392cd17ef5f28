"""Numbers that are pixels are accepted, others are refused, and doubtful ones cause a warning: each with a remedy."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sktl._images.pixel_checks import check_pixels
from sktl._images.problems import ImageProblem
from sktl._images.samples import as_samples
from sktl.exceptions import InputWarning

FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
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


@settings(max_examples=50)
@given(low=st.floats(0, 1), high=st.floats(0, 1), dtype=st.sampled_from(FLOATS))
def test_floats_between_0_and_1_are_legal(low, high, dtype):
    check_pixels(np.array([[low, high]], dtype))


@settings(max_examples=50)
@given(value=st.one_of(st.floats(1.001, 65504), st.floats(-65504, -0.001)), dtype=st.sampled_from(FLOATS))
def test_floats_outside_0_and_1_are_refused(value, dtype):
    with pytest.raises(ImageProblem, match=r"floats must lie in \[0, 1\]: \w+"):
        check_pixels(np.array([[0.5, value]], dtype))


@settings(max_examples=50)
@given(value=st.floats(1.5, 1e6))
@example(value=16.0)
@example(value=200.0)
def test_a_divisor_is_suggested_where_it_explains_the_largest_value(value):
    with pytest.raises(ImageProblem) as raised:
        check_pixels(np.array([[0, value]]))
    explaining = [white for white in (255, 1023, 4095, 65535) if white / 2 < value <= white] + [16] * (value == 16)
    if explaining:
        assert f"pass x / {explaining[0]} if white is {explaining[0]}" in str(raised.value)
    else:
        assert "divide by the value of white" in str(raised.value)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 4, 3)), r"has no pixels: shape \(0, 4, 3\)"),
        (np.full((2, 2), np.nan), "contains NaN; every pixel must be a finite number"),
        (np.array([[np.inf, -np.inf]]), "contains infinity; every pixel must be a finite number"),
        (np.ones((2, 2), bool), r"bool; .*pass x\.astype\(float\)"),
        (np.array([[0, 255]]), r"int64 with values from 0 to 255; pass x\.astype\(np\.uint8\)"),
        (np.array([[0, 4095]], np.uint16), "uint16, whose white is unknown.*x / 4095"),
        (np.array([["a"]]), r"dtype <U1; pass uint8, or floats"),
        (np.array([[None]]), r"dtype object; pass uint8, or floats"),
        (np.array([[1j]]), r"dtype complex128; pass uint8, or floats"),
    ],
    ids=lambda value: str(getattr(value, "dtype", ""))[:10] or "reason",
)
def test_illegal_pixels_are_refused_with_the_remedy(array, reason):
    with pytest.raises(ImageProblem, match=reason):
        check_pixels(array)


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
    values[(3, 1, 1, 3) if shape[3] == 4 else (3, 3, 1, 1)] = white
    assert re.search(r"transparency, but only \d of \d+ pixels are opaque", warning(CONTAINERS[container](values)))
    values[(3, 1, slice(None), 3) if shape[3] == 4 else (3, 3, 1)] = white
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
