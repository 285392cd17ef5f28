"""Confirm copies in pixels: candidates are aligned from coarse to fine, then compared window by window.

Photos of one kind have similar outlines, but only copies share their fine detail everywhere. The score of a pair is
therefore the correlation of fine detail, averaged over the windows in which there is detail.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from .copy_alignment import AFFINE, STRETCH, ZOOM, agreement, blurred, grid, is_plausible, refined, smoothing, warped
from .copy_candidates import Candidates, starts, turned
from .copy_differences import detail, local_differences, window_means, within
from .thumbnails import SIDE

# Chosen on some planted copies and originals of six sets of images; docs/guide/clean_data.md has figures for others.
CONFIRMED = 0.9
# Largest local difference between copies. Chosen on planted copies of 60 random images of five sets, and on drawn
# parts, forms, receipts and scenes. The images overlap with those of the table.
_DIFFERENT = 8.0


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
_STEPS_ENLARGED = 5
# Changes of brightness over longer distances than this, in pixels, do not count. Otherwise, what lies around a part of
# an image, and was cropped from its copy, would lead the alignment astray.
_LIGHT = 6.0
_LEAST_OVERLAP = 0.7
# Variances of detail in gray levels: of noise, and above which more contrast does not give a window more weight.
_NOISE, _DETAIL = 0.5, 4.0
# Pixels of images of pairs per task, whose intermediate values then stay in the processor's cache.
_PIXELS_AT_ONCE = 64 * (SIDE // 2) ** 2


class Confirmed(NamedTuple):
    """Pairs of copies, which may name a pair of images more than once.

    Attributes
    ----------
    candidates : Candidates
    maps : float32 tensor of shape (n_pairs, 2, 3)
        Maps from the second image, turned, to the first.
    scores : float64 array of shape (n_pairs,)
        Scores in [0, 1].
    """

    candidates: Candidates
    maps: torch.Tensor
    scores: np.ndarray

    def take(self, rows: np.ndarray) -> Confirmed:
        """Return some of the pairs."""
        return Confirmed(self.candidates.take(rows), self.maps[rows], self.scores[rows])


def confirm(gray: np.ndarray, aspects: np.ndarray, candidates: Candidates, pool: ThreadPoolExecutor) -> Confirmed:
    """Return the pairs of candidates that are copies.

    Parameters
    ----------
    gray : uint8 array of shape (n_images, 96, 96)
    aspects : float32 array of shape (n_images,)
        Width of the images, divided by their height.
    candidates : Candidates
    pool : ThreadPoolExecutor
    """
    thumbnails, maps = torch.from_numpy(gray), starts(candidates.window)
    for level in _LEVELS:
        candidates, maps = _aligned(thumbnails, torch.from_numpy(aspects), level, candidates, maps, pool)
    (scores,) = _in_blocks(SIDE, lambda *block: (_scores(thumbnails, *block),), candidates, maps, pool)
    kept = scores >= CONFIRMED
    return Confirmed(candidates.take(kept), maps[kept], scores[kept].double().numpy())


def _in_blocks(
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


def _aligned(
    thumbnails: torch.Tensor,
    aspects: torch.Tensor,
    level: _Level,
    candidates: Candidates,
    maps: torch.Tensor,
    pool: ThreadPoolExecutor,
) -> tuple[Candidates, torch.Tensor]:
    """Refine the maps of pairs. Return the pairs that still look alike, and their maps."""
    numbers, places = torch.unique(torch.stack([candidates.whole, candidates.part]), return_inverse=True)
    blocks = thumbnails[numbers].split(_PIXELS_AT_ONCE // SIDE**2)
    images = torch.cat([*pool.map(partial(_at_level, level), blocks)])

    def align(block: Candidates, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole, part = _images(images, block)
        maps = refined(whole, part, maps, level.motions, level.n_steps, level.stride)
        return maps, agreement(whole, part, maps, level.stride)

    maps, agreed = _in_blocks(level.side, align, candidates._replace(whole=places[0], part=places[1]), maps, pool)
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


def _images(thumbnails: torch.Tensor, block: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images of some pairs, as floats; the second is turned."""
    return thumbnails[block.whole].float(), _turned(thumbnails[block.part].float(), block.turn)


def _turned(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    images = images.clone()
    for turn in turns.unique().tolist():
        rows = turns == turn
        images[rows] = turned(images[rows], turn)
    return images


def _aspects(aspects: torch.Tensor, block: Candidates) -> torch.Tensor:
    """Return the aspect ratios of both images of some pairs; the second is turned."""
    part = aspects[block.part]
    return torch.stack([aspects[block.whole], torch.where(block.turn >= 4, 1 / part, part)], dim=1)


def _scores(thumbnails: torch.Tensor, block: Candidates, maps: torch.Tensor) -> torch.Tensor:
    """Return the score of each pair."""
    whole, part = _images(thumbnails, block)
    values, inside = warped(whole, maps, grid(SIDE))
    first, second = detail(values.view_as(part)), detail(part)
    # Windows that reach beyond the image, or into what smoothing mixes with the outside, do not count.
    full = within(inside.view_as(part), 2).float()
    means = window_means(first), window_means(second)
    variances = [(window_means(x * x) - mean**2).clamp_min(0) for x, mean in zip((first, second), means, strict=True)]
    common = window_means(first * second) - means[0] * means[1]
    detailed = (variances[0] * variances[1]).sqrt() * full
    overall = (common * full).sum(dim=1) / (detailed.sum(dim=1) + _NOISE)
    weights = (detailed / _DETAIL).clamp_max(1)
    reliable = weights / (detailed + _NOISE)
    # The sum of a copy without noise, plus a window, so that almost blank images are no copies of each other.
    even = (reliable * common).sum(dim=1) / ((reliable * detailed).sum(dim=1) + 1)
    return torch.where(full.mean(dim=1) >= _LEAST_OVERLAP, (overall + even) / 2, 0.0).clamp(0, 1)


def agree(whole: torch.Tensor, part: torch.Tensor, confirmed: Confirmed) -> torch.Tensor:
    """Return which confirmed pairs agree in all windows.

    Parameters
    ----------
    whole, part : uint8 tensor of shape (n_pairs, side, side)
        Both images of the pairs: thumbnails, or larger images, with which the pairs are then aligned better.
    confirmed : Confirmed
    """
    whole, part, maps = whole.float(), _turned(part.float(), confirmed.candidates.turn), confirmed.maps
    if (enlarged := part.shape[-1] / SIDE) > 1:
        finest = _LEVELS[-1]
        first, second = (blurred(images, finest.blur) - blurred(images, enlarged * _LIGHT) for images in (whole, part))
        maps = refined(first, second, maps, finest.motions, _STEPS_ENLARGED, stride=2)
    return local_differences(whole, part, maps) <= _DIFFERENT
