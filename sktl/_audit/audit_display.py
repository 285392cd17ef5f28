"""Draw the most important findings of an audit as a grid of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sktl._images.decoding import ImageProblem
from sktl._images.samples import Sample
from sktl._inspection.display_thumbnails import picture
from sktl._inspection.figure_layout import axes_grid, letters_across, picture_cell, show_picture
from sktl._short_text import fitted, shown_value
from sktl._utils.arguments import check_count
from sktl.exceptions import InvalidParameterError

from .issues import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Parts: TypeAlias = Mapping[str, Sequence[Sample]]

_SIDE = 256
_GAP = 8
_LINES = 3


@dataclass(frozen=True, eq=False, repr=False)
class AuditDisplay:
    """Findings of an audit, drawn as images.

    It is not the figure itself, which a notebook would show twice: as a new figure and as the result of the cell.

    Parameters
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes of shape (n_findings,)
        Axes of each finding.
    """

    figure_: Figure
    axes_: np.ndarray


def plot_issues(
    issues: np.ndarray, samples: _Parts, kind: str | None, n_images: int, n_columns: int, ax: Any
) -> AuditDisplay:
    """Draw the findings; see `ImageAudit.plot`."""
    if kind is not None and kind not in KINDS:
        raise InvalidParameterError(
            f"kind={shown_value(kind)} must be None or one of {', '.join(map(shown_value, KINDS))}."
        )
    check_count(n_images, "n_images")
    chosen = _in_turns(issues, kind)[:n_images]
    if not chosen:
        raise InvalidParameterError("The audit has no such finding with an image, so there is nothing to plot.")
    pictures = [_picture(samples, issue) for issue in chosen]
    figure, axes = axes_grid(ax, len(chosen), n_columns, picture_cell(pictures, _LINES))
    for cell, pixels in zip(axes, pictures, strict=True):
        show_picture(cell, pixels)
    width = letters_across(ax, axes)
    for cell, issue in zip(axes, chosen, strict=True):
        cell.set_title(_title(issue, width), fontsize="small", parse_math=False)
    return AuditDisplay(figure, axes)


def _in_turns(issues: np.ndarray, kind: str | None) -> list[np.void]:
    """Return findings about images, the most important of each kind first."""
    with_images = issues[issues["position"] >= 0]
    of_kinds = [with_images[with_images["kind"] == each] for each in KINDS[1:] if kind in (None, each)]
    return [issue for issue in chain.from_iterable(zip_longest(*of_kinds)) if issue is not None]


def _title(issue: np.void, width: int) -> str:
    is_suspicious = issue["kind"] == "suspicious_label"
    change = f" → {issue['suggested_label'] or 'no label'}" if is_suspicious else ""
    lines = [str(issue["kind"]).replace("_", " "), f"{issue['name']}", f"{issue['label']}{change}"]
    return "\n".join(fitted(line, width) for line in lines if line)


def _picture(samples: _Parts, issue: np.void) -> np.ndarray:
    """Return the image of a finding, or both images side by side."""
    places = [(issue["part"], issue["position"])]
    if issue["other_position"] >= 0:
        places.insert(0, (issue["other_part"], issue["other_position"]))
    found = [_read(samples, str(part), int(position)) for part, position in places]
    height = max(len(pixels) for pixels in found)
    padded = [np.pad(pixels, ((0, height - len(pixels)), (0, _GAP), (0, 0)), constant_values=255) for pixels in found]
    return np.concatenate(padded, axis=1)[:, :-_GAP]


def _read(samples: _Parts, part: str, position: int) -> np.ndarray:
    try:
        return picture(samples[part][position].read(), _SIDE)
    except ImageProblem:  # the file has changed since the audit, which must not hide the other findings
        return np.full((_SIDE, _SIDE, 3), 200, dtype=np.uint8)
