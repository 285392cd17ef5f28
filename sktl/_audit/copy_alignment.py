"""Align possible copies, from coarse to fine: the affine map under which one image looks like a part of the other.

Gauss-Newton steps on standardized images, from coarse to fine (S. Baker and I. Matthews, "Lucas-Kanade 20 Years On: A
Unifying Framework", IJCV 2004, the inverse compositional algorithm). Coordinates run from -1 to 1 along each side.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

from .copy_candidates import Candidates, starts, turned
from .thumbnails import SIDE

# Which entries of a map may change, and how: shifts and a zoom, also a zoom of its own for each axis, or everything.
# A copy is hardly ever rotated or sheared, and with fewer degrees of freedom, steps from a rough start go astray less.
# Created at import, where no block isolates them from the program's default dtype and device.
AFFINE = torch.eye(6, dtype=torch.float32, device="cpu")
STRETCH = AFFINE[[0, 2, 4, 5]]
ZOOM = torch.stack([AFFINE[0] + AFFINE[4], AFFINE[2], AFFINE[5]])
# For each pair of slopes, along x or y, the position of its product among those of `_inverse_curvature`.
_OF_SLOPES = torch.tensor([[0, 1], [1, 2]], device="cpu")
# Longest step, in coordinates.
_LONGEST_STEP = 0.15
_DAMPING = 1e-3
_LEAST_DEVIATION = 1e-3
_STEPS_ENLARGED = 5
# Changes of brightness over longer distances than this, in pixels, do not count. Otherwise, what lies around a part of
# an image, and was cropped from its copy, would lead the alignment astray.
_LIGHT = 6.0
# Pixels of images of pairs per task, whose intermediate values then stay in the processor's cache.
_PIXELS_AT_ONCE = 64 * (SIDE // 2) ** 2


class _Level(NamedTuple):
    """How pairs are aligned: at which size, smoothness and places, by which motions, in how many steps, and how well.

    Smooth images are compared at every second pixel of each side, which takes a quarter of the time. Less smooth images
    would be aligned too roughly by so few pixels.
    """

    side: int
    blur: float
    stride: int
    motions: torch.Tensor
    n_steps: int
    least: float


_LEVELS = (
    _Level(SIDE // 2, 1.5, 2, ZOOM, 4, 0.45),
    _Level(SIDE // 2, 0.8, 1, STRETCH, 4, 0.55),
    _Level(SIDE // 2, 0.6, 1, AFFINE, 4, 0.55),
    _Level(SIDE, 1.2, 1, AFFINE, 2, 0.6),
)


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return square images of shape (n, side, side), smoothed by a Gaussian, with the border continued outside."""
    smooth = smoothing(images.shape[-1], sigma)
    return smooth @ images @ smooth.T


@functools.cache
def smoothing(side: int, sigma: float) -> torch.Tensor:
    """Return the matrix that smooths columns. For small images, matrix products are faster than convolutions."""
    radius = math.ceil(2.5 * sigma)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    sources = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    return torch.zeros(side, side).scatter_add_(1, sources, (kernel / kernel.sum()).expand(side, -1))


def grid(side: int, stride: int = 1) -> torch.Tensor:
    """Return the homogeneous coordinates of the centers of pixels, of shape (3, n_places).

    With a stride, only every `stride`-th pixel of each side is a place.
    """
    centers = (torch.arange(0, side, stride) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones(x.numel())])


def at_places(images: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the values of images of shape (..., side, side) at the places of `grid`, of shape (..., n_places)."""
    return images[..., ::stride, ::stride].flatten(-2)


def warped(images: torch.Tensor, maps: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values of images at mapped places, and 1 for places within the image, of shape (n, n_places)."""
    at = maps @ places
    values = functional.grid_sample(
        images[:, None], at.transpose(1, 2)[:, None], align_corners=False, padding_mode="border"
    )
    return values[:, 0, 0], (torch.maximum(at[:, 0].abs(), at[:, 1].abs()) <= 1).to(images.dtype)


def refined(
    whole: torch.Tensor, part: torch.Tensor, maps: torch.Tensor, motions: torch.Tensor, n_steps: int, stride: int = 1
) -> torch.Tensor:
    """Return better maps from `part` to `whole`, of shape (n, 2, 3), by Gauss-Newton steps.

    The images are compared at the places of `grid`. Slopes and curvatures are those of `part`, which stays as it is, so
    they are computed once.

    Parameters
    ----------
    whole, part : float32 tensor of shape (n, side, side)
    maps : float32 tensor of shape (n, 2, 3)
    motions : float32 tensor of shape (n_motions, 6)
        How maps may change: `ZOOM`, `STRETCH` or `AFFINE`.
    n_steps : int
    stride : int
        Only every `stride`-th pixel of each side is compared.
    """
    places, wanted = grid(part.shape[-1], stride), at_places(part, stride)
    slopes = _slopes(part, stride)
    inverse = None
    for _ in range(n_steps):
        values, inside = warped(whole, maps, places)
        shares = _shares(inside)
        if inverse is None:  # later steps change few of the places inside
            inverse = _inverse_curvature(slopes, shares, places, motions)
        centered = wanted - (wanted * shares).sum(dim=1, keepdim=True)
        deviation = (centered.square() * shares).sum(dim=1, keepdim=True).sqrt() + _LEAST_DEVIATION
        residual = (standardized(values, shares) * deviation - centered) * shares
        pull = ((slopes * residual[:, None]) @ places.T).flatten(1) @ motions.T
        step = ((inverse @ pull[:, :, None])[:, :, 0] @ motions).view(-1, 2, 3)
        step = step * (_LONGEST_STEP / step.abs().amax(dim=(1, 2), keepdim=True)).clamp_max(1)
        maps = _composed_with_inverse(maps, step)
    return maps


def _slopes(images: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the slopes of images along x and y, per unit of coordinates, of shape (n, 2, n_places)."""
    along_y, along_x = torch.gradient(images, dim=(1, 2))
    return at_places(torch.stack([along_x, along_y], dim=1), stride) * (images.shape[-1] / 2)


def _inverse_curvature(
    slopes: torch.Tensor, shares: torch.Tensor, places: torch.Tensor, motions: torch.Tensor
) -> torch.Tensor:
    """Return the inverse of the damped Gauss-Newton matrix, of shape (n, n_motions, n_motions)."""
    x, y = slopes.unbind(dim=1)
    # Sums over places of products of two slopes and two coordinates. One product of matrices for all images is faster
    # than a product for each image of the derivatives with respect to all six entries of its map.
    squares = torch.stack([x * x, x * y, y * y], dim=1) * shares[:, None]
    sums = squares @ (places[:, None] * places).flatten(0, 1).T
    curvature = sums[:, _OF_SLOPES].view(-1, 2, 2, 3, 3).transpose(2, 3).reshape(-1, 6, 6)
    curvature = motions @ curvature @ motions.T
    damping = _DAMPING * curvature.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-6
    return torch.linalg.inv(curvature + damping[:, None, None] * torch.eye(len(motions)))


def _shares(inside: torch.Tensor) -> torch.Tensor:
    """Return weights of places that sum to 1 for each image: equal ones inside."""
    return inside / inside.sum(dim=1, keepdim=True).clamp_min(1)


def standardized(values: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return values with mean 0 and standard deviation 1 under weights that sum to 1."""
    centered = values - (values * shares).sum(dim=1, keepdim=True)
    return centered / ((centered.square() * shares).sum(dim=1, keepdim=True).sqrt() + _LEAST_DEVIATION)


def agreement(whole: torch.Tensor, part: torch.Tensor, maps: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the correlation of `part` with the place in `whole` that it is mapped to, of shape (n,)."""
    values, inside = warped(whole, maps, grid(part.shape[-1], stride))
    shares = _shares(inside)
    return (standardized(values, shares) * standardized(at_places(part, stride), shares) * shares).sum(dim=1)


def _composed_with_inverse(maps: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    last = torch.tensor([0.0, 0.0, 1.0]).expand(len(maps), 1, 3)
    inverse = torch.linalg.inv(torch.cat([step, 0 * last], dim=1) + torch.eye(3))
    return (torch.cat([maps, last], dim=1) @ inverse)[:, :2]


def is_plausible(maps: torch.Tensor, aspects: torch.Tensor) -> torch.Tensor:
    """Return True for maps of a copy: a part of at least half of each side, hardly stretched, sheared or rotated.

    A copy was cropped, which stretches the square thumbnails but not the images, or resized to another aspect ratio,
    which does the opposite.

    Parameters
    ----------
    maps : float32 tensor of shape (n, 2, 3)
    aspects : float32 tensor of shape (n, 2)
        Width of both images, divided by their height: first of the whole, then of the part.
    """
    linear = maps[:, :, :2].double()
    wide, wide_part = aspects.double().T
    unsqueezed = linear.clone()
    unsqueezed[:, 0] *= wide[:, None]
    unsqueezed[:, :, 0] /= wide_part[:, None]
    sizes, even = torch.linalg.svdvals(linear), _is_even(linear) | _is_even(unsqueezed)
    rotation = torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1]).abs()
    large = (sizes[:, 0] < 1.12) & (sizes[:, 1] > 0.5)
    return large & even & (rotation < math.radians(7)) & (torch.linalg.det(linear) > 0)


def _is_even(linear: torch.Tensor) -> torch.Tensor:
    """Return True if one singular value is less than 1.2 times the other."""
    # The sum of their squares and their product are known without computing them.
    squares, area = linear.square().sum(dim=(1, 2)), torch.linalg.det(linear).abs()
    return squares < (1.2 + 1 / 1.2) * area


def aligned(
    thumbnails: torch.Tensor, aspects: torch.Tensor, candidates: Candidates, pool: ThreadPoolExecutor
) -> tuple[Candidates, torch.Tensor]:
    """Return the candidates that look alike at all levels, and their maps.

    Parameters
    ----------
    thumbnails : uint8 tensor of shape (n_images, 96, 96)
    aspects : float32 tensor of shape (n_images,)
        Width of the images, divided by their height.
    candidates : Candidates
    pool : ThreadPoolExecutor
    """
    maps = starts(candidates.window)
    for level in _LEVELS:
        candidates, maps = _aligned_at(level, thumbnails, aspects, candidates, maps, pool)
    return candidates, maps


def aligned_enlarged(whole: torch.Tensor, part: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return better maps of pairs, from images that are larger than thumbnails."""
    finest, enlarged = _LEVELS[-1], part.shape[-1] / SIDE
    first, second = (blurred(images, finest.blur) - blurred(images, enlarged * _LIGHT) for images in (whole, part))
    return refined(first, second, maps, finest.motions, _STEPS_ENLARGED, stride=2)


def in_blocks(
    side: int,
    compute: Callable[[Candidates, torch.Tensor], tuple[torch.Tensor, ...]],
    candidates: Candidates,
    maps: torch.Tensor,
    pool: ThreadPoolExecutor,
) -> Iterator[torch.Tensor]:
    """Return the columns that a function returns for the pairs and their maps, computed by threads block by block."""
    n_at_once = _PIXELS_AT_ONCE // side**2
    blocks = (Candidates(*block) for block in zip(*(column.split(n_at_once) for column in candidates), strict=True))
    found = [*pool.map(compute, blocks, maps.split(n_at_once))]
    return map(torch.cat, zip(*found, strict=True))


def _aligned_at(
    level: _Level,
    thumbnails: torch.Tensor,
    aspects: torch.Tensor,
    candidates: Candidates,
    maps: torch.Tensor,
    pool: ThreadPoolExecutor,
) -> tuple[Candidates, torch.Tensor]:
    """Refine the maps of pairs. Return the pairs that still look alike, and their maps."""
    numbers, places = torch.unique(torch.stack([candidates.whole, candidates.part]), return_inverse=True)
    blocks = thumbnails[numbers].split(_PIXELS_AT_ONCE // SIDE**2)
    images = torch.cat([*pool.map(partial(_at_level, level), blocks)])

    def align(block: Candidates, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole, part = images_of(images, block)
        maps = refined(whole, part, maps, level.motions, level.n_steps, level.stride)
        return maps, agreement(whole, part, maps, level.stride)

    maps, agreed = in_blocks(level.side, align, candidates._replace(whole=places[0], part=places[1]), maps, pool)
    alike = (agreed >= level.least) & is_plausible(maps, _aspects(aspects, candidates))
    return candidates.take(alike), maps[alike]


def _at_level(level: _Level, thumbnails: torch.Tensor) -> torch.Tensor:
    """Return thumbnails as a level compares them, in half precision, which is all that is kept of them."""
    rows, light = _filters(level.side, level.blur)
    images = thumbnails.float()
    return (rows @ images @ rows.T - light @ images @ light.T).half()


@functools.cache
def _filters(side: int, blur: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrices that make columns smaller and smooth them, and that leave their slow changes only."""
    n = SIDE // side
    rows = smoothing(side, blur) @ torch.eye(side).repeat_interleave(n, dim=1) / n
    return rows, rows @ smoothing(SIDE, _LIGHT)


def images_of(thumbnails: torch.Tensor, block: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images of some pairs, as floats; the second is turned."""
    return thumbnails[block.whole].float(), turned_each(thumbnails[block.part].float(), block.turn)


def turned_each(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    images = images.clone()
    for turn in turns.unique().tolist():
        rows = turns == turn
        images[rows] = turned(images[rows], turn)
    return images


def _aspects(aspects: torch.Tensor, block: Candidates) -> torch.Tensor:
    """Return the aspect ratios of both images of some pairs; the second is turned."""
    part = aspects[block.part]
    return torch.stack([aspects[block.whole], torch.where(block.turn >= 4, 1 / part, part)], dim=1)
