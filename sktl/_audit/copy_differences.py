"""Local differences between aligned images: windows in which one image has detail that the other lacks.

Photos of one camera, of one kind of part or of one form agree in most windows, and so on average. What makes them
different photos, such as an animal, a missing screw or another name, is in few windows. In a copy, no window differs
much more from the original than the other windows do.
"""

from __future__ import annotations

import functools
import math

import torch

from .copy_alignment import blurred, grid, warped

FINE, COARSE = 1.1, 2.6  # the scales between which detail counts: below is noise of compression
WINDOW = 12
# Pixels that detail near the border of an image depends on.
_REACH = 7
# Share of a window's variance that may differ, as it does if the alignment is off by a fraction of a pixel.
_UNALIGNED = 0.3
# Variance of detail in gray levels that may differ in any image.
_FLOOR = 2.0
_WHITE, _BLACK = 250, 5
# Sum of the entries of a map that shear, above which an image is rotated, and pixels of its border that are mixed.
_ROTATED, _WEDGE = 0.01, 2


def detail(images: torch.Tensor) -> torch.Tensor:
    """Return images without what is finer or coarser than detail."""
    return blurred(images, FINE) - blurred(images, COARSE)


def window_means(images: torch.Tensor) -> torch.Tensor:
    """Return the means of overlapping windows, of shape (n, n_windows)."""
    return _window_sums(images, 0) / WINDOW**2


def within(inside: torch.Tensor, reach: int) -> torch.Tensor:
    """Return True for windows all of whose pixels, and those at most so far away, lie within both images.

    A single pixel may lie outside.
    """
    return _window_sums(1 - inside, reach) < 1.5


def _window_sums(images: torch.Tensor, reach: int) -> torch.Tensor:
    rows = _window_rows(images.shape[-1], reach)
    return (rows @ images @ rows.T).flatten(1)


@functools.cache
def _window_rows(side: int, reach: int) -> torch.Tensor:
    """Return 1 for the rows of each window, and those at most so far away, of shape (n_windows, side)."""
    offsets = torch.arange(side) - torch.arange(0, side - WINDOW + 1, WINDOW // 2)[:, None]
    return ((offsets >= -reach) & (offsets < WINDOW + reach)).float()


def local_differences(whole: torch.Tensor, part: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return how much the most different windows differ, as a multiple of what the others differ, of shape (n,).

    Parameters
    ----------
    whole, part : float32 tensor of shape (n, side, side)
    maps : float32 tensor of shape (n, 2, 3)
        Maps from `part` to `whole`.
    """
    places = grid(part.shape[-1])
    values = warped(whole, maps, places)[0].view_as(part)
    inside = _inside(maps, places).view_as(part)
    first, second = (detail(_as_clipped(*ends, inside)) for ends in ((values, part), (part, values)))
    counts = within(inside, _REACH)
    variances = window_means(first * first), window_means(second * second)
    common = window_means(first * second).clamp_min(0)
    largest = torch.maximum(*variances)
    # Shares of variance that one image explains of the other, whatever the contrast of each.
    explained = common.square() / (variances[0] * variances[1] + 1e-9)
    differing = torch.where(counts, largest * (1 - explained), torch.nan).nanmedian(dim=1, keepdim=True).values
    excess = largest * (1 - _UNALIGNED - explained) / (differing + _FLOOR)
    return torch.where(counts, excess, 0.0).amax(dim=1)


def _inside(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return 1 for places that are mapped into the image, of shape (n, n_places).

    A rotation leaves wedges without content, whose thin ends are mixed with content in the outermost pixels.
    """
    rotated = (maps[:, 0, 1].abs() + maps[:, 1, 0].abs()) > _ROTATED
    margin = rotated * _WEDGE * 2 / math.sqrt(places.shape[1])
    return ((maps @ places).abs() <= 1 - margin[:, None, None]).all(dim=1).to(maps.dtype)


def _as_clipped(images: torch.Tensor, others: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Return images without the detail that is lost in others because it became white or black there.

    The limits are the ranks at which the others are white or black, so content that differs hardly affects them. Only
    what lies inside both images has a rank, because corners that a rotation leaves empty are black, too.
    """
    values, others, inside = images.flatten(1), others.flatten(1), inside.flatten(1)
    levels = values.clamp(0, 255).long()
    up_to = torch.zeros(len(values), 256).scatter_add_(1, levels, inside).cumsum(dim=1)
    darker, lighter = ((inside * there).sum(dim=1, keepdim=True) for there in (others <= _BLACK, others >= _WHITE))
    darkest, brightest = ((up_to < rank).sum(dim=1, keepdim=True) for rank in (darker, up_to[:, -1:] - lighter))
    return values.clamp(darkest, brightest).view_as(images)
