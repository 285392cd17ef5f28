"""Confirm near copies in pixels: on thumbnails, and then on larger images, which show text and small parts.

Photos of one kind have similar outlines, but only copies share their fine detail everywhere. The score of a pair is
therefore the correlation of fine detail, averaged over the windows in which there is detail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample

from .copy_alignment import aligned, aligned_enlarged, grid, images_of, in_blocks, turned_each, warped
from .copy_candidates import Candidates, Descriptors
from .copy_differences import detail, local_differences, window_means, within
from .thumbnails import SIDE, WHOLE, Box, Thumbnail, squeezed

# Chosen on some planted copies and originals of six sets of images; docs/guide/clean_data.md has figures for others.
CONFIRMED = 0.9
# Largest local difference between copies. Chosen on planted copies of 60 random images of five sets, and on drawn
# parts, forms, receipts and scenes. The images overlap with those of the table.
_DIFFERENT = 8.0
# Side of the larger images, and how much smaller images may be that are enlarged to it.
_LARGER, _ENLARGED = 2 * SIDE, 1.3
_PREPROCESSING = Preprocessing(_LARGER, (_LARGER, _LARGER))
_PAIRS_AT_ONCE = 8

_LEAST_OVERLAP = 0.7
# Variances of detail in gray levels: of noise, and above which more contrast does not give a window more weight.
_NOISE, _DETAIL = 0.5, 4.0


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
    thumbnails = torch.from_numpy(gray)
    candidates, maps = aligned(thumbnails, torch.from_numpy(aspects), candidates, pool)
    (scores,) = in_blocks(SIDE, lambda *block: (_scores(thumbnails, *block),), candidates, maps, pool)
    kept = scores >= CONFIRMED
    return Confirmed(candidates.take(kept), maps[kept], scores[kept].double().numpy())


def _scores(thumbnails: torch.Tensor, block: Candidates, maps: torch.Tensor) -> torch.Tensor:
    """Return the score of each pair."""
    whole, part = images_of(thumbnails, block)
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
    whole, part, maps = whole.float(), turned_each(part.float(), confirmed.candidates.turn), confirmed.maps
    if part.shape[-1] > SIDE:
        maps = aligned_enlarged(whole, part, maps)
    return local_differences(whole, part, maps) <= _DIFFERENT


class View(NamedTuple):
    """An image, or the part of it that lies between two bars.

    Attributes
    ----------
    position : int
    gray : uint8 array of shape (96, 96)
    aspect : float
        Width divided by height.
    size : float
        Side in pixels of a square of the same area.
    box : (float, float, float, float)
        Left, top, right and bottom, as shares of the image.
    """

    position: int
    gray: np.ndarray
    aspect: float
    size: float
    box: Box = WHOLE

    def larger(self, sample: Sample) -> np.ndarray:
        """Read the image again, in gray levels.

        An image that has changed and cannot be used is black, which contradicts nothing: its thumbnail decides.
        """
        try:
            return squeezed(decode(sample.read(), _PREPROCESSING), _LARGER, self.box)
        except ImageProblem:
            return np.zeros((_LARGER, _LARGER), dtype=np.uint8)


def near_copies(
    thumbnails: dict[int, Thumbnail], samples: list[Sample], features: np.ndarray, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of positions, int64 of shape (n_pairs, 2), and their scores in [0, 1].

    Parameters
    ----------
    thumbnails : dict of int to Thumbnail
        Thumbnails by position, in order.
    samples : list of Sample
    features : float32 array of shape (n_thumbnails, n_features)
    pool : ThreadPoolExecutor
    """
    views = [*_views(thumbnails)]
    if len(thumbnails) < 2:
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    gray = np.stack([view.gray for view in views])
    positions = np.array([view.position for view in views])
    candidates = Descriptors(gray, pool).candidates(features[np.searchsorted([*thumbnails], positions)])
    apart = positions[candidates.whole.numpy()] != positions[candidates.part.numpy()]
    aspects = np.array([view.aspect for view in views], dtype=np.float32)
    found = confirm(gray, aspects, candidates.take(apart), pool)
    ends = np.stack([found.candidates.whole.numpy(), found.candidates.part.numpy()], axis=1)
    pairs = np.sort(positions[ends], axis=1)
    order = np.argsort(-found.scores, kind="stable")
    order = order[np.sort(np.unique(pairs[order], axis=0, return_index=True)[1])]
    pairs, found = pairs[order], found.take(order)
    kept = connected(pairs, lambda some: _agree(views, samples, found.take(some), pool))
    return pairs[kept], found.scores[kept]


def _views(thumbnails: dict[int, Thumbnail]) -> Iterator[View]:
    for position, kept in thumbnails.items():
        yield View(position, kept.gray, kept.aspect, float(np.sqrt(np.prod(kept.shape))))
    for position, kept in thumbnails.items():
        if (inner := kept.inner) is not None:
            left, top, right, bottom = inner.box
            size = float(np.sqrt(np.prod(kept.shape) * (right - left) * (bottom - top)))
            yield View(position, inner.gray, inner.aspect, size, inner.box)


def connected(pairs: np.ndarray, agreed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return True for pairs whose images are connected by pairs that agree, except for those that do not agree.

    Many pairs among few images need only as many comparisons as connect them: in each round, the first pair that
    connects a component with another one.

    Parameters
    ----------
    pairs : int64 array of shape (n_pairs, 2)
        The best first.
    agreed : callable
        Takes rows of `pairs`, and returns which of them agree.
    """
    refused, held = np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=bool)
    n = int(pairs.max(initial=-1)) + 1
    components = np.arange(n)
    while True:
        ends = components[pairs]
        joined = ends[:, 0] == ends[:, 1]
        unknown = np.flatnonzero(~joined & ~refused)
        if not len(unknown):
            return joined & ~refused
        _, first = np.unique(ends[unknown].ravel(), return_index=True)
        chosen = np.unique(unknown[first // 2])
        good = agreed(chosen)
        held[chosen[good]] = refused[chosen[~good]] = True
        edges = pairs[held]
        _, components = connected_components(coo_array((np.ones(len(edges)), edges.T), shape=(n, n)), directed=False)


def _agree(views: list[View], samples: list[Sample], found: Confirmed, pool: ThreadPoolExecutor) -> np.ndarray:
    """Return which pairs agree in all windows of the thumbnails, and of larger images where these show more."""
    whole, part = (ends.numpy() for ends in (found.candidates.whole, found.candidates.part))
    shares = torch.linalg.det(found.maps[:, :, :2]).clamp_min(0).sqrt().numpy()
    sizes = np.array([view.size for view in views])
    show_more = _ENLARGED * np.minimum(sizes[whole] * shares, sizes[part]) >= _LARGER

    def of(read: Callable[[View], np.ndarray], rows: np.ndarray) -> np.ndarray:
        images = {i: read(views[i]) for i in np.unique([whole[rows], part[rows]]).tolist()}
        first, second = (torch.from_numpy(np.stack([images[i] for i in end[rows].tolist()])) for end in (whole, part))
        return agree(first, second, found.take(rows)).numpy()

    agreed = np.ones(len(whole), dtype=bool)
    for read, of_interest in ((_thumbnail, True), (lambda view: view.larger(samples[view.position]), show_more)):
        rows = np.flatnonzero(agreed & of_interest)
        blocks = [rows[start : start + _PAIRS_AT_ONCE] for start in range(0, len(rows), _PAIRS_AT_ONCE)]
        for block, good in zip(blocks, pool.map(partial(of, read), blocks), strict=True):
            agreed[block] = good
    return agreed


def _thumbnail(view: View) -> np.ndarray:
    return view.gray
