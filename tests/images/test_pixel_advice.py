"""Advice on numbers that are not pixels, followed to the letter, gives pixels that are accepted and right."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.preprocessing import MinMaxScaler

from sktl import check_images
from sktl._images.samples import as_samples
from sktl.datasets import LazyImages
from sktl.exceptions import InvalidInputError

RNG = np.random.default_rng(0)
# Pixels as they are meant: in [0, 1], both reached over all images, and the first image dark.
MEANT = [RNG.integers(0, 16, (6, 7)) / 255, RNG.integers(0, 256, (5, 8)) / 255, np.linspace(0, 1, 36).reshape(6, 6)]
EXPRESSION = re.compile(r"(?:pass|255, or) (.+?)(?= if white| if black| with the val|, or the|, else|; | \(x = |\.?$)")


def followed(reason, x, **known):
    """What comes of the first thing that a reason advises, done with one image."""
    if " (x = " in reason:
        x = eval(reason.split(" (x = ")[1].removesuffix(".").removesuffix(")"), {"np": np, "x": x, "image": x})
    return eval(EXPRESSION.findall(reason)[-1], {"np": np, "torch": torch, "x": x, **known})


def rgb(X):
    return [sample.read()[..., 0] / 255 for sample in as_samples(X)]


# How images come, from pixels in [0, 1]: the function, and what the user knows of them.
ENCODINGS = {
    **{f"floats to {white}": (lambda p, w=white: p * w, {}) for white in (16, 255, 1023, 4095, 65535)},
    **{f"float32 to {white}": (lambda p, w=white: (p * w).astype(np.float32), {}) for white in (255, 4095, 65535)},
    "half precision": (lambda p: (p * 65504).astype(np.float16), {}),
    "percent": (lambda p: p * 100, {"white": 100}),
    "int64": (lambda p: np.rint(p * 255).astype(int), {}),
    "uint16 of 12 bits": (lambda p: np.rint(p * 4095).astype(np.uint16), {}),
    "uint16": (lambda p: np.rint(p * 65535).astype(np.uint16), {}),
    "int32 of 30 bits": (lambda p: np.rint(p * 10**9).astype(np.int32), {"white": 10**9}),
    "int8": (lambda p: (np.rint(p * 255) - 128).astype(np.int8), {"black": -128, "white": 127}),
    "Hounsfield units": (lambda p: np.rint(p * 4071 - 1000).astype(np.int16), {"black": -1000, "white": 3071}),
    "floats around zero": (lambda p: p * 2 - 1, {}),
    "standardized": (lambda p: ((p - 0.45) / 0.22).astype(np.float32), {"mean": 0.45, "std": 0.22}),
    "floats with gaps": (lambda p: np.where(p == 0, -9999, p).astype(np.float32), {}),
    "bytes with gaps": (lambda p: np.where(p == 0, -9999, np.rint(p * 255)).astype(np.int16), {"white": 255}),
    "floats with gaps of the lowest float": (lambda p: np.where(p == 0, np.finfo("f4").min, p).astype("f4"), {}),
    "reaching a bit too far": (lambda p: np.where(p == 1, 1.2, p), {}),
    "reaching a bit too low": (lambda p: np.where(p == 0, -0.2, p), {}),
}


def tiff(array):
    buffer = BytesIO()
    Image.fromarray(array.astype(np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy, lambda x: torch.from_numpy(x).bfloat16()])
def test_nan_is_black_after_the_advice(library):
    x = library(np.array([[np.nan, 0.25, 1]]))
    assert_allclose(rgb([followed(check_images([x])[0].reason, x)])[0], [[0, 0.25, 1]], atol=0.5 / 255)


@pytest.mark.parametrize(
    ("x", "is_ct"),
    [
        (np.array([[-1024.0, -900, 0, 1500]]), True),
        (np.array([[-1024, -900, 0, 1500]], np.int16), True),
        (np.array([[-9999, -900, 0, 1500]], np.int16), False),
        (np.array([[-9999, 0.1, 0.5]]), False),
    ],
)
def test_only_numbers_as_in_a_ct_get_the_window_of_a_ct(x, is_ct):
    for given_ in (x, torch.from_numpy(x), tiff(x)):
        assert ("for a CT" in check_images([given_])[0].reason) == is_ct


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_advice_followed_for_all_images_gives_the_pixels_that_were_meant(encoding, library):
    encode, known = ENCODINGS[encoding]
    encoded = [encode(image) for image in MEANT]
    X = encoded if library == "numpy" else [torch.from_numpy(image) for image in encoded]
    failures = check_images(X)
    assert failures
    right = [followed(failures[0].reason, image, **known) for image in X]
    assert check_images(right) == []
    for found, meant in zip(rgb(right), MEANT, strict=True):
        assert_allclose(found, meant, atol=0.75 / 255)
    for failure in failures:
        assert EXPRESSION.findall(failure.reason) == EXPRESSION.findall(failures[0].reason)


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_advice_for_an_array_is_advice_for_its_images(encoding, library):
    encode, known = ENCODINGS[encoding]
    X = library(np.stack([encode(image[:5, :6]) for image in MEANT]))
    with pytest.raises(InvalidInputError) as raised:
        as_samples(X)
    reason = str(raised.value).split(" The first such")[0].split("\n")[0]
    assert check_images(followed(reason.removesuffix("."), X, **known)) == []


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u2", "i4"])
def test_advice_does_not_depend_on_the_order_of_bytes(kind):
    for order in "<>":
        X = [np.rint(image * 65504).astype(order + kind) for image in MEANT]
        found = [EXPRESSION.findall(failure.reason) for failure in check_images(X)]
        assert found == [[f"{'x.astype(float)' if kind == 'f2' else 'x'} / 65535"]] * 3
        mixed = [X[0].astype(order + "f4"), *X[1:]]  # where one is of half precision, the advice is for that
        assert (
            not kind.startswith("f") or [EXPRESSION.findall(failure.reason) for failure in check_images(mixed)] == found
        )
        right = [followed(failure.reason, x) for failure, x in zip(check_images(X), X, strict=True)]
        for pixels, meant in zip(rgb(right), MEANT, strict=True):
            assert_allclose(pixels, meant, atol=1.5 / 255)


@pytest.mark.parametrize(
    ("convert", "conversion"),
    [
        (lambda x: x.to(torch.float8_e4m3fn), "x.float()"),
        (lambda x: x.to(torch.float8_e5m2), "x.float()"),
        (lambda x: x.bfloat16(), "x.float()"),
        (lambda x: x.to_sparse(), "x.to_dense()"),
        (lambda x: x.bfloat16().to_sparse(), "x.to_dense().float()"),
        (lambda x: torch.quantize_per_tensor(x, 1.0, 0, torch.quint8), "x.dequantize()"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of sparse and of quantized tensors
def test_advice_names_the_conversion_of_tensors_that_cannot_be_computed_with(convert, conversion):
    meant = torch.tensor([[0.0, 16, 64], [128, 192, 224]])
    (failure,) = check_images([convert(meant)])
    assert failure.reason.endswith(f" (x = {conversion})")
    (found,) = rgb([followed(failure.reason, convert(meant))])
    assert_allclose(found, meant / 255, atol=0.75 / 255)


@pytest.mark.parametrize(("dtype", "white"), [(int, 1), (int, 16), (np.uint16, 100), (np.int8, 3)])
def test_small_integers_have_a_white_that_only_the_user_knows(dtype, white):
    X = [np.rint(image * white).astype(dtype) for image in MEANT]
    reason = check_images(X)[0].reason
    assert "x.astype(np.uint8) if white is 255" in reason
    assert check_images([followed(reason.replace(" for another value of white", ""), x, white=white) for x in X]) == []


def test_black_and_white_as_bool_is_followed():
    for x in (np.eye(6, dtype=bool), torch.eye(6, dtype=torch.bool)):
        (failure,) = check_images([x])
        assert_allclose(rgb([followed(failure.reason, x)])[0], np.eye(6))


@settings(max_examples=60)
@given(
    X=st.lists(st.lists(st.floats(-400, 400, width=32), min_size=2, max_size=2), min_size=1, max_size=4),
    scale=st.sampled_from([0.004, 0.01, 1, 10, 200]),
)
def test_any_floats_are_accepted_after_the_advice(X, scale):
    images = [np.array([pair]) * scale for pair in X]
    failures = check_images(images)
    assume(failures)
    low, high = (function(images) for function in (np.min, np.max))
    known = {"white": max(high, 1), "black": low, "mean": 0.5, "std": 0.5 / max(high, -low)}
    right = [followed(failures[0].reason, image, **known) for image in images]
    assert check_images(right) == []


@pytest.mark.parametrize(("low", "high"), [(0, 1 + 2.3e-16), (-1e-17, 1), (-9e-7, 1 + 9e-7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_rounding_is_clipped(low, high, dtype):
    x = np.array([[low, high, 0.5]], dtype)
    assert rgb([x])[0].tolist() == rgb(x[None])[0].tolist() == [[0, 1, 128 / 255]]


def test_a_scaler_that_rounds_gives_images():
    X = RNG.integers(0, 120, (24, 1600)).astype(float)
    X[1::2] += 100
    Z = MinMaxScaler().fit_transform(X)
    assert Z.max() > 1
    assert check_images(Z, image_shape=(40, 40)) == []


@pytest.mark.parametrize("dark", [7.0, 12.0, 16.0, 1.3])
def test_a_dark_image_gets_no_advice_of_its_own(dark):
    X = [np.full((6, 6), dark), np.linspace(0, 200, 36).reshape(6, 6)]
    for given_ in (X, np.stack(X), torch.from_numpy(np.stack(X))):
        for failure in check_images(given_):
            assert "pass x / 255 if white is 255; scale all images alike" in failure.reason
    (alone,) = check_images(X[:1])
    assert ("x / 16" in alone.reason) == (dark == 16)
    for image in (Image.fromarray(X[0].astype(np.float32)), tiff(X[0])):
        (failure,) = check_images([image])  # of a file, the others are not known
        assert "x / " not in failure.reason.replace("x / white", "")
        assert "all images" in failure.reason


def test_an_item_that_is_read_alone_gets_no_advice_that_ignores_the_others():
    bright, dark = np.full((6, 6), 0.9), np.full((6, 6), -0.9)
    bright[0, 0] = -0.1
    assert "(x + 1) / 2" in check_images([bright, dark])[0].reason
    alone = [check_images(LazyImages([bright, dark])), check_images([b"1", b"2"], image_reader=lambda data: bright)]
    for failures in alone:
        expected = "pass np.clip(x, 0, 1) if black is 0 and white is 1, else undo the normalization of all images"
        assert expected in failures[0].reason
    assert "if black is -1 and white is 1" in alone[0][1].reason


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(float).max, reason="long double is double here")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_long_double_beyond_doubles_is_infinite(sign):
    (failure,) = check_images([np.array([[0, sign * np.longdouble("1e4000")]])])
    assert failure.reason == "contains infinity; every pixel must be a finite number"


def test_numbers_slightly_above_1_are_told_apart_from_1():
    (failure,) = check_images([np.array([[0, 1.000002]])])
    assert "has values up to 1.000002; floats must lie in [0, 1]: pass np.clip(x, 0, 1)" in failure.reason
