"""Candidates for copies: which images may show the same, by descriptors of windows of their thumbnails.

A copy that was cropped looks like a window of the original. Each image is therefore compared, turned and mirrored in
all ways, with the whole of every other image, and, as it is, with 62 windows of every other image.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .thumbnails import SIDE

# Scales of windows with the number of places along each side, and of windows that are cropped along one side only. The
# latter are what most crops to another aspect ratio leave, and one of their places is the center.
_GRID = ((1.0, 1), (0.9, 3), (0.8, 4), (0.7, 5))
_ONE_SIDED = ((0.75, 3), (0.67, 3))
_CELLS = 16
# Frequencies along each side; more would not survive strong compression.
_FREQUENCIES = 6
N_TURNS = 8
# The best images for each image as it is, for each way to turn it, and by features.
_N_BEST, _N_TURNED = 3, 1
# Copies are more similar than this; most other pairs are not.
_SIMILAR = 0.85
# Images per task and per selection of the best, and windows per product, which then stays in the processor's cache.
_ROWS, _COLUMNS, _IN_CACHE = 256, 4096, 2048
_BLANK = 0.25


def _windows() -> np.ndarray:
    """Return width, height, left and top of each window, as shares of the image. The first is the whole image."""
    found = []
    for scale, n_places in _GRID:
        places = np.linspace(0, 1 - scale, n_places)
        found += [(scale, scale, left, top) for left in places for top in places]
    for scale, n_places in _ONE_SIDED:
        for place in np.linspace(0, 1 - scale, n_places):
            found += [(scale, 1, place, 0), (1, scale, 0, place)]
    return np.array(found)


WINDOWS = _windows()


class Candidates(NamedTuple):
    """Pairs of images that may be copies: the second, turned, may look like a window of the first.

    Attributes
    ----------
    whole, part : int64 tensor of shape (n_pairs,)
    turn : int64 tensor of shape (n_pairs,)
        How `part` is turned, from 0 to 7; see `turned`.
    window : int64 tensor of shape (n_pairs,)
        Row of `WINDOWS`.
    """

    whole: torch.Tensor
    part: torch.Tensor
    turn: torch.Tensor
    window: torch.Tensor

    @classmethod
    def none(cls) -> Candidates:
        """Return no pairs."""
        return cls(*torch.empty((4, 0), dtype=torch.int64))

    def take(self, rows: np.ndarray | torch.Tensor) -> Candidates:
        """Return some of the pairs."""
        return Candidates(*(column[rows] for column in self))


def turned(images: torch.Tensor, turn: int) -> torch.Tensor:
    """Return images of shape (..., H, W), transposed if `turn` has bit 4, then flipped by bit 2, mirrored by bit 1."""
    if turn & 4:
        images = images.transpose(-1, -2)
    axes = [axis for axis, bit in ((-2, 2), (-1, 1)) if turn & bit]
    return images.flip(axes) if axes else images


def starts(window: torch.Tensor) -> torch.Tensor:
    """Return affine maps from the window to the image, in coordinates from -1 to 1, of shape (n, 2, 3)."""
    width, height, left, top = torch.from_numpy(WINDOWS.astype(np.float32))[window].T
    maps = torch.zeros(len(window), 2, 3)
    maps[:, 0, 0], maps[:, 1, 1] = width, height
    maps[:, 0, 2], maps[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    return maps


class Descriptors:
    """Low frequencies of all windows of thumbnails, of length 1.

    Parameters
    ----------
    gray : uint8 array of shape (n_images, 96, 96)
    pool : ThreadPoolExecutor
    """

    def __init__(self, gray: np.ndarray, pool: ThreadPoolExecutor):
        self.windows = torch.empty(len(gray), len(WINDOWS), _FREQUENCIES**2 - 1)
        self._pool = pool

        def describe(rows: slice) -> None:
            self.windows[rows] = _describe(torch.from_numpy(gray[rows]))

        deque(pool.map(describe, _slices(len(gray))), maxlen=0)

    def whole(self, turn: int = 0, images: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """Return the descriptors of whole images that were turned."""
        rows = self.windows[images, 0]
        coefficients = functional.pad(rows, (1, 0)).view(-1, _FREQUENCIES, _FREQUENCIES)
        odd = 1.0 - 2.0 * (torch.arange(_FREQUENCIES) % 2)
        if turn & 4:
            coefficients = coefficients.transpose(1, 2)
        if turn & 2:
            coefficients = coefficients * odd[:, None]
        if turn & 1:
            coefficients = coefficients * odd
        return coefficients.flatten(1)[:, 1:]

    def candidates(self, features: np.ndarray) -> Candidates:
        """Return the pairs that are similar.

        Parameters
        ----------
        features : float32 array of shape (n_images, n_features)
            Features of the network, whose nearest neighbors are also compared as mirror images with all windows.
        """
        turned = [self._of_turn(turn) for turn in range(1, N_TURNS)]
        neighbors = self._of_neighbors(nearest_directions(features, _N_BEST, self._pool))
        return _distinct(torch.cat([self._of_windows(), *turned, *neighbors]))

    def _of_windows(self) -> torch.Tensor:
        def of_rows(rows: slice) -> torch.Tensor:
            part, whole, _ = _best(self.whole(images=rows), self.windows, rows, _N_BEST)
            return self._with_windows(whole, part, (0,))

        return torch.cat([*self._pool.map(of_rows, _slices(len(self.windows)))])

    def _of_turn(self, turn: int) -> torch.Tensor:
        all_turned = self.whole(turn)

        def of_rows(rows: slice) -> torch.Tensor:
            part, whole, similar = _best(all_turned[rows], self.windows[:, :1], rows, _N_TURNED)
            return _rows_of(whole, part, turn, torch.zeros_like(whole), similar)

        return torch.cat([*self._pool.map(of_rows, _slices(len(self.windows)))])

    def _of_neighbors(self, neighbors: torch.Tensor) -> list[torch.Tensor]:
        """Return the pairs of each image and its neighbors by features, both ways, as they are and mirrored."""

        def of_rows(rows: slice) -> torch.Tensor:
            part = torch.arange(rows.start, rows.stop).repeat_interleave(neighbors.shape[1])
            other = neighbors[rows].flatten()
            return torch.cat([self._with_windows(other, part, (0, 1)), self._with_windows(part, other, (0, 1))])

        return [*self._pool.map(of_rows, _slices(len(neighbors)))]

    def _with_windows(self, whole: torch.Tensor, part: torch.Tensor, turns: tuple[int, ...]) -> torch.Tensor:
        """Return the similar pairs among those given, with the best window of each for each way to turn it."""
        turned_parts = torch.stack([self.whole(turn, part) for turn in turns], dim=2)
        similar, window = (self.windows[whole] @ turned_parts).max(dim=1)
        return torch.cat([_rows_of(whole, part, turn, window[:, i], similar[:, i]) for i, turn in enumerate(turns)])


def _describe(gray: torch.Tensor) -> torch.Tensor:
    """Return the descriptors of the windows of some images, of shape (n_images, n_windows, 35)."""
    sums = functional.pad(gray.float().cumsum(1).cumsum(2), (1, 0, 1, 0))[:, None]
    angles = torch.outer(torch.arange(_FREQUENCIES), (torch.arange(_CELLS) + 0.5) * torch.pi / _CELLS)
    basis = functional.normalize(torch.cos(angles), dim=1)
    edges = torch.linspace(0, 1, _CELLS + 1)
    found = []
    for width, height, left, top in WINDOWS:
        y, x = torch.meshgrid(2 * (top + height * edges) - 1, 2 * (left + width * edges) - 1, indexing="ij")
        places = torch.stack([x, y], dim=2).float().expand(len(gray), -1, -1, -1)
        corners = functional.grid_sample(sums, places, align_corners=True)[:, 0]
        cells = corners[:, 1:, 1:] - corners[:, :-1, 1:] - corners[:, 1:, :-1] + corners[:, :-1, :-1]
        found.append((basis @ cells @ basis.T).flatten(1)[:, 1:])  # without the mean
    rows = torch.stack(found, dim=1)
    # The floor, a deviation of a quarter of a gray level, keeps blank images from having a direction.
    areas = torch.from_numpy(WINDOWS[:, :2].prod(axis=1).astype(np.float32))
    floor = _BLANK * _CELLS * (SIDE / _CELLS) ** 2 * areas
    return rows / (rows.square().sum(dim=2, keepdim=True) + floor.square()[:, None]).sqrt()


def _slices(n: int) -> list[slice]:
    return [slice(start, min(n, start + _ROWS)) for start in range(0, n, _ROWS)]


def _best(
    images: torch.Tensor, windows: torch.Tensor, rows: slice, n_best: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the most similar images for each of some rows, except the image itself.

    Parameters
    ----------
    images : float32 tensor of shape (n_rows, n_frequencies)
    windows : float32 tensor of shape (n_images, n_windows, n_frequencies)
    rows : slice
        Positions of `images` among all images.
    n_best : int

    Returns
    -------
    part, whole : int64 tensor of shape (n_pairs,)
    similar : float32 tensor of shape (n_pairs,)
    """
    part = torch.arange(rows.start, rows.stop)
    best = torch.full((len(part), n_best), -1.0)
    whole = torch.zeros(len(part), n_best, dtype=torch.int64)
    for start in range(0, len(windows), _COLUMNS):
        some = windows[start : start + _COLUMNS].split(_IN_CACHE // windows.shape[1])
        similar = torch.cat([_most_similar(images, few) for few in some], dim=1)
        own = (part >= start) & (part < start + similar.shape[1])
        similar[own, part[own] - start] = -1.0
        values, columns = similar.topk(min(n_best, similar.shape[1]), dim=1)
        values, order = torch.cat([best, values], dim=1).sort(dim=1, descending=True, stable=True)
        whole = torch.cat([whole, columns + start], dim=1).gather(1, order)[:, :n_best]
        best = values[:, :n_best]
    return part.repeat_interleave(n_best), whole.flatten(), best.flatten()


def _most_similar(images: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return the similarity of images to the most similar window of others, of shape (n_rows, n_images).

    Which window it is matters for few pairs only, and costs as much again.
    """
    products = images @ windows.transpose(0, 1).flatten(0, 1).T
    return products.view(len(images), windows.shape[1], len(windows)).amax(dim=1)


def _rows_of(
    whole: torch.Tensor, part: torch.Tensor, turn: int, window: torch.Tensor, similar: torch.Tensor
) -> torch.Tensor:
    """Return the similar pairs as rows (whole, part, turn, window)."""
    kept = (similar > _SIMILAR) & (whole != part)
    return torch.stack([whole, part, torch.full_like(whole, turn), window], dim=1)[kept]


def _distinct(rows: torch.Tensor) -> Candidates:
    """Return each pair once, also if the search found it from both sides."""
    whole, part, turn, window = rows.T
    swapped = (window == 0) & (whole > part)
    back = torch.tensor([0, 1, 2, 3, 4, 6, 5, 7])[turn]  # a quarter turn to the left undoes a quarter turn to the right
    first, second = torch.where(swapped, part, whole), torch.where(swapped, whole, part)
    found = torch.unique(torch.stack([first, second, torch.where(swapped, back, turn), window], dim=1), dim=0)
    return Candidates(*found.T)


def nearest_directions(features: np.ndarray, n_nearest: int, pool: ThreadPoolExecutor) -> torch.Tensor:
    """Return the nearest images by the cosine of centered features, int64 of shape (n_images, at most n_nearest)."""
    centered = torch.from_numpy(features - features.mean(axis=0, keepdims=True))
    directions = functional.normalize(centered, dim=1)

    def of_rows(rows: slice) -> torch.Tensor:
        products = directions[rows] @ directions.T
        products[torch.arange(len(products)), torch.arange(rows.start, rows.stop)] = -2.0
        return products.topk(min(n_nearest, len(directions) - 1), dim=1).indices

    return torch.cat([*pool.map(of_rows, _slices(len(directions)))])
