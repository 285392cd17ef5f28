"""The layout of figures, which the displays share: grids of axes, legends, and colors for color-blind readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._short_text import shown_value, type_of
from sktl._utils.arguments import check_count
from sktl.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

# M. Okabe and K. Ito, "Color Universal Design", 2008; yellow and black last. On dark backgrounds, white replaces black.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_COLORS_ON_DARK = (*_COLORS[:-1], "#FFFFFF")
# Okabe and Ito's vermilion, darkened so that small letters are readable on white, and lightened for dark backgrounds.
_WRONG, _WRONG_ON_DARK = "#B24700", "#FF8533"
# 13 markers and 8 colors have no common divisor, so that pairs repeat only after 104 classes.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d")

_ROWS_OF_LEGEND = 25
_INCHES_PER_LETTER = 0.075
_LETTERS_OF_A_CELL = 30


def styled(default: dict[str, Any], given: dict[str, Any] | None, artist: Any) -> dict[str, Any]:
    """Return style keywords for an artist of this class; keywords of the user override the default.

    Aliases become the names that matplotlib lists first, because two names of one keyword are an error in matplotlib:
    `"c"` of a line becomes `"color"`.
    """
    from matplotlib.cbook import normalize_kwargs

    return {**normalize_kwargs(default, artist), **normalize_kwargs(given or {}, artist)}


def style(number: int, ax: Axes) -> tuple[str, str]:
    """Return the color and marker of the class with this number; the first 104 classes have different pairs."""
    colors = _COLORS_ON_DARK if _is_dark(ax, ax.figure, _figure_of(ax)) else _COLORS
    return colors[number % len(colors)], MARKERS[number % len(MARKERS)]


def title_color(ax: Axes, is_wrong: bool) -> Any:
    """Return the color of a title: that of the style, or one that stands out. Titles are outside of the axes."""
    from matplotlib import rcParams

    if is_wrong:
        return _WRONG_ON_DARK if _is_dark(ax.figure, _figure_of(ax)) else _WRONG
    color = rcParams["axes.titlecolor"]
    return rcParams["text.color"] if color == "auto" else color


def _is_dark(*backgrounds: Axes | FigureBase) -> bool:
    """Return True if the first opaque background is dark or, if none is opaque, text is light."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgba

    colors = [to_rgba(background.get_facecolor()) for background in backgrounds]
    opaque = [_brightness(rgba) for rgba in colors if rgba[3] > 0.5]
    return opaque[0] < 0.5 if opaque else _brightness(to_rgba(rcParams["text.color"])) > 0.5


def _brightness(rgba: tuple[float, ...]) -> float:
    red, green, blue, _ = rgba
    return 0.299 * red + 0.587 * green + 0.114 * blue


def font_scale() -> float:
    """Return how much larger the fonts are than those of matplotlib's default style, for which sizes are chosen."""
    from matplotlib import rcParams

    return max(1.0, rcParams["font.size"] / 10)


def letters_across(ax: Any, axes: np.ndarray) -> int:
    """Return how many small letters fit into the width of axes, in a new figure (`ax` is None) or the user's.

    Call it after the images are drawn: ticks take room, and a layout engine moves axes when the figure is drawn.
    """
    if ax is None:
        return _LETTERS_OF_A_CELL
    first = axes.flat[0]
    figure = _figure_of(first)
    if first.get_axes_locator() is not None:  # as in an ImageGrid, where only drawing places axes
        figure.draw_without_rendering()
        pixels = first.bbox.width
    else:
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)  # without drawing, which resamples all images
        # The place of the axes in the layout, of which an image may fill a part only.
        pixels = first.get_position(original=True).width * first.figure.bbox.width
    return int(np.clip(pixels / figure.dpi / _INCHES_PER_LETTER / font_scale(), 10, 2 * _LETTERS_OF_A_CELL))


def check_task(task: Any) -> None:
    """Raise `InvalidParameterError` if a task is neither classification nor regression."""
    if not isinstance(task, str) or task not in ("classification", "regression"):
        raise InvalidParameterError(f'task={shown_value(task)} must be "classification" or "regression".')


def axes_grid(
    ax: Any, n: int, n_columns: int, cell: tuple[float, float], beside: float = 0
) -> tuple[Figure, np.ndarray]:
    """Return a figure and n axes in it, or in the subfigure of the axes that `ax` contains.

    Parameters
    ----------
    ax : Axes, array-like of Axes, or None
        Single axes are divided into a grid, several axes are used as they are, and None creates a new figure.
    n, n_columns : int
        Number of axes, and the largest number of axes in a row.
    cell : (float, float)
        Width and height in inches of each axes in a new figure. In styles with large fonts, the figure is larger.
    beside : float, default=0
        Extra width of a new figure in inches, for instance for a legend.

    Raises
    ------
    InvalidParameterError
        If `ax` is something else, the axes are too few or cannot be divided, or `n_columns` is not an integer of at
        least 1.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    check_count(n_columns, "n_columns")
    n_columns = min(n, n_columns)
    n_rows = math.ceil(n / n_columns)
    if ax is None:
        size = font_scale() * np.array([cell[0] * n_columns + beside, cell[1] * n_rows])
        figure = plt.figure(figsize=tuple(size.tolist()), layout="constrained")
        grid = figure.add_gridspec(n_rows, n_columns)
        parent: FigureBase | None = figure
        places = [grid[divmod(i, n_columns)] for i in range(n)]
    elif isinstance(ax, Axes):
        if n == 1:
            return _figure_of(ax), np.array([ax], dtype=object)
        place = ax.get_subplotspec()
        if place is None:
            raise InvalidParameterError("ax was placed by hand and cannot be divided: pass an array of axes instead.")
        # Axes of a subfigure are divided within the subfigure.
        figure, parent = _figure_of(ax), ax.get_figure(root=False)
        ax.set_axis_off()
        inner = place.subgridspec(n_rows, n_columns)
        places = [inner[divmod(i, n_columns)] for i in range(n)]
    else:
        given = _axes_in(ax)
        if len(given) < n:
            raise InvalidParameterError(f"ax has {len(given)} axes, but {n} are needed.")
        for spare in given[n:]:
            spare.set_axis_off()
        return _figure_of(given[0]), given[:n]
    assert parent is not None
    axes = np.empty(n, dtype=object)
    for i, place in enumerate(places):
        axes[i] = parent.add_subplot(place)
    return figure, axes


def _axes_in(ax: Any) -> np.ndarray:
    """Return an array of axes as a vector."""
    from matplotlib.axes import Axes

    given = np.asarray(ax, dtype=object).ravel()
    if others := [one for one in given if not isinstance(one, Axes)]:
        what = f"{'is' if others[0] is ax else 'contains'} {type_of(others[0])}"
        raise InvalidParameterError(
            f"ax {what}. Pass Axes or an array of them, such as the second result of plt.subplots()."
        )
    return given


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def show_picture(ax: Axes, pixels: np.ndarray) -> None:
    """Draw an image without ticks; the pixels of tiny images are drawn as squares."""
    # Limits that are shared with other axes, whose images have other shapes, would crop the images.
    ax.set_autoscale_on(False)
    ax.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 64 else "antialiased")
    height, width = pixels.shape[:2]
    ax.set_xlim(-0.5, width - 0.5, emit=False)
    ax.set_ylim(height - 0.5, -0.5, emit=False)
    ax.set_xticks([])
    ax.set_yticks([])


def show_text(ax: Axes, text: str) -> None:
    """Write a text in the middle of empty axes."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


def picture_cell(pictures: Sequence[np.ndarray], lines: int, width: float = 2.1) -> tuple[float, float]:
    """Return the width and height in inches of a cell for images with titles of `lines` lines."""
    ratios = [np.clip(height / broad, 0.4, 2.0) for height, broad, _ in (image.shape for image in pictures)]
    return width, width * float(np.median(ratios) if ratios else 1) + 0.15 * lines + 0.15


def legend_size(labels: Sequence[str]) -> tuple[int, float]:
    """Return the number of columns of a legend with these labels, and its width in inches."""
    columns = max(1, math.ceil(len(labels) / _ROWS_OF_LEGEND))
    return columns, columns * (0.35 + _INCHES_PER_LETTER * max(map(len, labels), default=0))


def legend_beside(ax: Axes, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """Put a legend to the right of the axes."""
    columns, _ = legend_size(labels)
    legend = ax.legend(
        handles, ["x"] * len(labels), loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, ncols=columns,
        fontsize="small", frameon=False, columnspacing=1, handletextpad=0.3, **options,
    )  # fmt: skip
    # Set afterwards: matplotlib omits labels that begin with an underscore, and parses text between dollars as math.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False)
