"""Gauss-Newton steps find the map under which one image looks like a part of the other."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from photographs import photograph

from sktl._audit import copy_alignment
from sktl._audit.copy_alignment import AFFINE, STRETCH, ZOOM, agreement, blurred, grid, is_plausible, refined, warped

IMAGE = torch.from_numpy(np.array(photograph(0, (64, 64)).convert("L"), dtype=np.float32))[None]
SMOOTH = blurred(IMAGE, 1.5)
IDENTITY = torch.eye(3)[None, :2]


def moved(scale=1.0, x=0.0, y=0.0, stretch=1.0, angle=0.0):
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.tensor([[[scale * cosine, -scale * sine, x], [scale * stretch * sine, scale * stretch * cosine, y]]])


@pytest.mark.parametrize(
    ("motions", "target"),
    [
        (ZOOM, moved(0.9, 0.05, -0.03)),
        (STRETCH, moved(0.9, 0.05, -0.03, 1.05)),
        (AFFINE, moved(0.9, 0.05, -0.03, 1.03, 0.03)),
        (AFFINE, IDENTITY),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_map_is_recovered(motions, target, stride):
    part, _ = warped(SMOOTH, target, grid(64))
    start = moved(0.92, 0.03, 0.0)
    found = refined(SMOOTH, part.view(1, 64, 64), start, motions, 20, stride)
    torch.testing.assert_close(found, target, atol=2e-3, rtol=0)
    assert agreement(SMOOTH, part.view(1, 64, 64), found, stride) > 0.999


def test_a_step_is_the_least_squares_solution():
    part, places = warped(SMOOTH, moved(0.98, 0.01), grid(64))[0].view(1, 64, 64), grid(64)
    slopes_y, slopes_x = (slope.flatten() * 32 for slope in torch.gradient(part[0]))
    derivatives = torch.cat([slopes_x * places, slopes_y * places]).T
    shares = torch.full((1, 64 * 64), 1 / 64**2)
    values = copy_alignment.standardized(SMOOTH.flatten(1), shares) * part.std(correction=0) + part.mean()
    step = torch.linalg.lstsq(derivatives, (values - part.flatten(1))[0][:, None], driver="gels").solution.view(2, 3)
    expected = torch.linalg.inv(torch.eye(3) + torch.cat([step, torch.zeros(1, 3)]))[:2]
    torch.testing.assert_close(refined(SMOOTH, part, IDENTITY, AFFINE, 1)[0], expected, atol=1e-3, rtol=0)


def test_brightness_and_contrast_do_not_matter():
    part = 0.4 * warped(SMOOTH, moved(0.9), grid(64))[0].view(1, 64, 64) + 70
    found = refined(SMOOTH, part, moved(0.93), AFFINE, 20)
    torch.testing.assert_close(found, moved(0.9), atol=2e-3, rtol=0)


def test_blank_images_are_no_error():
    blank = torch.zeros(2, 64, 64)
    found = refined(blank, blank, IDENTITY.repeat(2, 1, 1), AFFINE, 3)
    assert found.isfinite().all()
    assert agreement(blank, blank, found, 1).tolist() == [0, 0]


def test_smoothing_keeps_means_and_flat_images():
    assert torch.allclose(blurred(torch.full((1, 32, 32), 7.0), 3.0), torch.tensor(7.0))
    assert blurred(IMAGE, 2.0).std() < IMAGE.std()


@pytest.mark.parametrize(
    ("maps", "plausible"),
    [
        (IDENTITY, True), (moved(0.7, 0.2, 0.1), True), (moved(0.9, stretch=1.1), True), (moved(angle=0.08), True),
        (moved(0.4), False), (moved(1.3), False), (moved(0.8, stretch=0.7), False), (moved(angle=0.3), False),
        (-IDENTITY, False), (IDENTITY * torch.tensor([-1.0, 1, 1]), False),
    ],
)  # fmt: skip
def test_copies_are_hardly_stretched_or_rotated(maps, plausible):
    assert is_plausible(maps, torch.ones(1, 2)).item() is plausible


@pytest.mark.parametrize(
    ("aspects", "plausible"), [((4 / 3, 1), True), ((3 / 4, 9 / 16), True), ((1, 1), False), ((1, 4 / 3), False)]
)
def test_crops_along_one_side_stretch_thumbnails_as_the_shapes_of_the_images_say(aspects, plausible):
    square = torch.tensor([[[0.75, 0, 0], [0, 1, 0]]])
    assert is_plausible(square, torch.tensor([aspects])).item() is plausible


@pytest.mark.parametrize("aspects", [(1, 1), (4 / 3, 1), (0.5, 1.5)])
def test_copies_may_be_resized_to_another_aspect_ratio(aspects):
    assert is_plausible(moved(0.8, 0.1), torch.tensor([aspects])).item()


@pytest.mark.parametrize("change", ["dtype", "device"])
def test_constants_do_not_depend_on_settings_at_import(change):
    default = torch.get_default_dtype()
    spec = importlib.util.spec_from_file_location("sktl._audit.imported_again", copy_alignment.__file__)
    again = importlib.util.module_from_spec(spec)
    torch.set_default_dtype(torch.float64 if change == "dtype" else default)
    try:
        with torch.device("meta" if change == "device" else "cpu"):
            spec.loader.exec_module(again)
    finally:
        torch.set_default_dtype(default)
    for name in ("ZOOM", "STRETCH", "AFFINE"):
        torch.testing.assert_close(getattr(again, name), getattr(copy_alignment, name))
