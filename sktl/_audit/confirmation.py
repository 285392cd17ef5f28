"""Confirm copies in pixels: candidates are aligned from coarse to fine, then compared window by window.

Photos of one kind have similar outlines, but only copies share their fine detail everywhere. The score of a pair is
therefore the correlation of fine detail, averaged over the windows in which there is detail.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .alignment import AFFINE, STRETCH, ZOOM, agreement, blurred, grid, is_plausible, refined, warped
from .thumbnails import SIDE
from .windows import Candidates, starts, turned

# Chosen on planted copies and different photos of six sets of images, half of each.
CONFIRMED = 0.9


class _Level(NamedTuple):
    """How pairs are aligned: at which size and smoothness, by which motions, in how many steps, and how well."""

    side: int
    blur: float
    motions: torch.Tensor
    n_steps: int
    least: float


_LEVELS = (
    _Level(SIDE // 2, 1.5, ZOOM, 6, 0.45),
    _Level(SIDE // 2, 0.8, STRETCH, 4, 0.55),
    _Level(SIDE // 2, 0.6, AFFINE, 4, 0.55),
    _Level(SIDE, 1.2, AFFINE, 3, 0.6),
)
# Changes of brightness over longer distances than this, in pixels, do not count. Otherwise, what lies around a part of
# an image, and was cropped from its copy, would lead the alignment astray.
_LIGHT = 6.0
_FINE, _COARSE = 1.1, 2.6  # the scales between which detail counts: below is noise of compression
_WINDOW = 12
_LEAST_OVERLAP = 0.7
# Variances of detail in gray levels: of noise, and above which more contrast does not give a window more weight.
_NOISE, _DETAIL = 0.5, 4.0
_PAIRS_AT_ONCE = 64


class Confirmed(NamedTuple):
    """Pairs of copies, the images in order, with scores in [0, 1].

    Attributes
    ----------
    pairs : int64 array of shape (n_pairs, 2)
    scores : float64 array of shape (n_pairs,)
    """

    pairs: np.ndarray
    scores: np.ndarray


def confirm(gray: np.ndarray, candidates: Candidates, pool: ThreadPoolExecutor, least: float = CONFIRMED) -> Confirmed:
    """Return the pairs of candidates that are copies.

    Parameters
    ----------
    gray : uint8 array of shape (n_images, 96, 96)
    candidates : Candidates
    pool : ThreadPoolExecutor
    least : float
        Lowest score of a copy.
    """
    blocks = [
        Candidates(*(column[start : start + _PAIRS_AT_ONCE] for column in candidates))
        for start in range(0, len(candidates.whole), _PAIRS_AT_ONCE)
    ]
    # The coarsest level refuses most pairs, so the others are regrouped after each level.
    maps = [starts(block.window) for block in blocks]
    evenly_lit = torch.cat([*pool.map(_evenly_lit, torch.from_numpy(gray).split(_PAIRS_AT_ONCE))])
    for level in _LEVELS:
        done = [*pool.map(partial(_aligned, evenly_lit, level), blocks, maps)]
        blocks, maps = _regrouped(done)
    found = [*pool.map(partial(_scores, torch.from_numpy(gray)), blocks, maps)]
    return _best_of_pairs(blocks, found, least)


def _aligned(
    thumbnails: torch.Tensor, level: _Level, block: Candidates, maps: torch.Tensor
) -> tuple[Candidates, torch.Tensor]:
    """Refine the maps of some pairs. Return the pairs that still look alike."""
    whole, part = (_at_level(images, level) for images in _images(thumbnails, block))
    maps = refined(whole, part, maps, level.motions, level.n_steps)
    alike = (agreement(whole, part, maps) >= level.least) & is_plausible(maps)
    return Candidates(*(column[alike] for column in block)), maps[alike]


def _regrouped(done: list[tuple[Candidates, torch.Tensor]]) -> tuple[list[Candidates], list[torch.Tensor]]:
    if not done:
        return [], []
    columns = [torch.cat(column).split(_PAIRS_AT_ONCE) for column in zip(*(block for block, _ in done), strict=True)]
    maps = torch.cat([maps for _, maps in done])
    if not len(maps):
        return [], []
    return [Candidates(*block) for block in zip(*columns, strict=True)], [*maps.split(_PAIRS_AT_ONCE)]


def _evenly_lit(thumbnails: torch.Tensor) -> torch.Tensor:
    """Return thumbnails without slow changes of brightness, in half precision, which is all that is kept of them."""
    images = thumbnails.float()
    return (images - blurred(images, _LIGHT)).half()


def _images(thumbnails: torch.Tensor, block: Candidates) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both images of some pairs, as floats; the second is turned."""
    whole, part = thumbnails[block.whole].float(), thumbnails[block.part].float()
    for turn in block.turn.unique().tolist():
        rows = block.turn == turn
        part[rows] = turned(part[rows], turn)
    return whole, part


def _at_level(images: torch.Tensor, level: _Level) -> torch.Tensor:
    return blurred(functional.avg_pool2d(images[:, None], SIDE // level.side)[:, 0], level.blur)


def _scores(thumbnails: torch.Tensor, block: Candidates, maps: torch.Tensor) -> torch.Tensor:
    """Return the score of each pair."""
    whole, part = _images(thumbnails, block)
    values, inside = warped(whole, maps, grid(SIDE))
    first, second = _detail(values.view_as(part)), _detail(part)
    # Windows that reach beyond the image, or into what smoothing mixes with the outside, do not count.
    inside = -functional.max_pool2d(-inside.view_as(part)[:, None], 5, 1, 2)[:, 0]
    full = (_window_means(inside) > 0.99).float()
    means = _window_means(first), _window_means(second)
    variances = [(_window_means(x * x) - mean**2).clamp_min(0) for x, mean in zip((first, second), means, strict=True)]
    common = _window_means(first * second) - means[0] * means[1]
    detail = (variances[0] * variances[1]).sqrt() * full
    overall = (common * full).sum(dim=1) / (detail.sum(dim=1) + _NOISE)
    weights = (detail / _DETAIL).clamp_max(1)
    reliable = weights / (detail + _NOISE)
    # The sum of a copy without noise, plus a window, so that almost blank images are no copies of each other.
    even = (reliable * common).sum(dim=1) / ((reliable * detail).sum(dim=1) + 1)
    return torch.where(full.mean(dim=1) >= _LEAST_OVERLAP, (overall + even) / 2, 0.0).clamp(0, 1)


def _detail(images: torch.Tensor) -> torch.Tensor:
    return blurred(images, _FINE) - blurred(images, _COARSE)


def _window_means(images: torch.Tensor) -> torch.Tensor:
    """Return the means of overlapping windows, of shape (n, n_windows)."""
    return functional.avg_pool2d(images[:, None], _WINDOW, _WINDOW // 2)[:, 0].flatten(1)


def _best_of_pairs(blocks: list[Candidates], scores: list[torch.Tensor], least: float) -> Confirmed:
    if not blocks:
        return Confirmed(np.empty((0, 2), dtype=np.int64), np.empty(0))
    ends = [torch.stack([block.whole, block.part], dim=1).sort(dim=1).values for block in blocks]
    pairs, inverse = np.unique(torch.cat(ends).numpy(), axis=0, return_inverse=True)
    best = np.zeros(len(pairs))
    np.maximum.at(best, inverse.ravel(), torch.cat(scores).double().numpy())
    return Confirmed(pairs[best >= least], best[best >= least])
