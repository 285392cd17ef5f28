"""What the displays share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import ImageGrid

from sktl._inspection.figure_layout import (
    MARKERS,
    axes_grid,
    legend_beside,
    letters_across,
    picture_cell,
    show_picture,
    style,
    title_color,
)
from sktl.exceptions import InvalidParameterError

mpl.use("Agg")  # of the tests; the package leaves the backend alone


@pytest.mark.parametrize("background", ["white", "black"])
def test_the_first_104_classes_look_different_and_can_be_seen(background):
    ax = Figure().add_subplot(facecolor=background)
    assert len({style(number, ax) for number in range(104)}) == 104
    assert len({style(number, ax)[0] for number in range(8)}) == 8
    assert len(set(MARKERS)) == 13
    assert all(contrast(style(number, ax)[0], background) > 1.25 for number in range(8))


def contrast(color, background):
    """Return the contrast ratio of two colors that the Web Content Accessibility Guidelines define."""
    rgb = np.array([to_rgb(color), to_rgb(background)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("settings", "paper"),
    [
        ({}, "white"),
        ("dark_background", "black"),
        ({"figure.facecolor": "#1e1e1e", "text.color": "w"}, "#1e1e1e"),
        ({"figure.facecolor": "none", "text.color": "#eeeeee"}, "black"),
        ({"figure.facecolor": "none"}, "white"),
    ],
)
def test_titles_that_stand_out_are_readable(settings, paper):
    with plt.style.context(settings):
        figure = plt.figure()
        for parent in (figure, figure.subfigures()):
            assert contrast(title_color(parent.add_subplot(), is_wrong=True), paper) > 4.5
        plt.close(figure)


@pytest.mark.parametrize("size", [6, 10, 15, 24])
def test_a_new_figure_has_room_for_its_letters_and_axes_get_as_many_as_fit(size):
    with plt.rc_context({"font.size": size}):
        figure, axes = axes_grid(None, 4, 4, picture_cell([np.zeros((9, 9, 3))] * 4, 3))
        for ax in axes:
            show_picture(ax, np.zeros((9, 9, 3), np.uint8))
            ax.set_title("a line of thirty letters, true\nand another line", fontsize="small")
        figure.draw_without_rendering()
        assert letters_across(None, axes) == 30
        boxes = [ax.title.get_window_extent() for ax in axes]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
        assert max(box.x1 for box in boxes) < figure.bbox.x1
        assert max(box.y1 for box in boxes) < figure.bbox.y1
        plt.close(figure)
        ax = Figure(figsize=(8, 4)).add_axes((0, 0, 1, 1))
        (text,) = [ax.text(0, 0, "n" * letters_across(ax, np.array([ax])), fontsize="small")]
        assert text.get_window_extent().width < ax.bbox.width


def test_titles_in_the_figure_of_a_user_use_the_room_that_its_layout_leaves():
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subfigures(1, 2)[0].subplots(1, 2)
    for ax in axes:
        show_picture(ax, np.zeros((9, 3, 3), np.uint8))
    assert 15 <= letters_across(axes, axes) <= 1.5 / 0.075


@pytest.mark.parametrize("is_drawn", [False, True])
def test_titles_fit_into_the_cells_of_a_grid_whose_axes_only_drawing_places(is_drawn):
    figure = Figure(figsize=(8, 5))
    axes = np.array([*ImageGrid(figure, 111, (2, 2))])
    for ax in axes:
        show_picture(ax, np.zeros((9, 12, 3), np.uint8))
    if is_drawn:
        figure.draw_without_rendering()
    letters = letters_across(axes, axes)
    figure.draw_without_rendering()
    assert 20 <= letters <= axes[0].bbox.width / figure.dpi / 0.075


@pytest.mark.parametrize("layout", ["constrained", "compressed", "tight"])
def test_the_room_in_a_layout_is_found_without_drawing(layout, monkeypatch):
    laid_out, drawn = (Figure(figsize=(9, 3), layout=layout) for _ in range(2))
    for figure in (laid_out, drawn):
        for ax in figure.subplots(1, 3):
            show_picture(ax, np.zeros((9, 3, 3), np.uint8))
    monkeypatch.setattr(laid_out, "draw_without_rendering", None)
    letters_across(laid_out.axes, np.array(laid_out.axes))
    drawn.draw_without_rendering()
    for ours, theirs in zip(laid_out.axes, drawn.axes, strict=True):
        np.testing.assert_allclose(ours.get_position(original=True), theirs.get_position(original=True), rtol=1e-9)


def test_images_on_axes_with_shared_limits_are_not_cropped():
    figure = Figure()
    axes, shapes = figure.subplots(1, 3, sharex=True, sharey=True), [(39, 24, 3), (21, 51, 3), (90, 9, 3)]
    for ax, shape in zip(axes, shapes, strict=True):
        show_picture(ax, np.zeros(shape, np.uint8))
    figure.draw_without_rendering()
    for ax, (height, width, _) in zip(axes, shapes, strict=True):
        assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, width - 0.5, height - 0.5, -0.5)


@pytest.mark.parametrize(("n", "n_columns"), [(1, 3), (4, 4), (5, 4), (7, 1)])
def test_a_grid_has_the_axes_that_were_asked_for(n, n_columns):
    figure = Figure()
    divided, axes = axes_grid(figure.add_subplot(), n, n_columns, (1, 1))
    assert divided is figure
    assert axes.shape == (n,)
    assert len(set(axes)) == n
    lefts = {round(ax.get_position().x0, 6) for ax in axes}
    assert len(lefts) == min(n, n_columns)


def test_axes_of_a_subfigure_are_divided_within_it():
    figure = Figure(figsize=(8, 4))
    _, right = figure.subfigures(1, 2)
    whole = right.subplots()
    width = letters_across(whole, np.array([whole]))
    found, axes = axes_grid(whole, 4, 2, (1, 1))
    assert found is figure
    assert all(ax.get_figure(root=False) is right for ax in axes)
    assert all(ax.bbox.x0 >= right.bbox.x0 for ax in axes)
    assert letters_across(whole, axes) < width < 4 / 0.075


def test_axes_that_cannot_be_used_are_refused():
    figure = Figure()
    with pytest.raises(InvalidParameterError, match="placed by hand"):
        axes_grid(figure.add_axes((0, 0, 1, 1)), 2, 1, (1, 1))
    with pytest.raises(InvalidParameterError, match="2 axes, but 3"):
        axes_grid(figure.subplots(1, 2), 3, 1, (1, 1))


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("ax", "what"),
    [
        (Figure(), "is a Figure"),
        ((Figure(), Figure().subplots(1, 2)), "contains a Figure"),
        ((Figure(), Figure().subplots(2, 2)), "contains a Figure"),
        (Figure().subplot_mosaic("AB"), "is a dict"),
        (plt, "is a module"),
        ([None, None], "contains None"),
    ],
)
def test_what_are_no_axes_is_refused_with_what_to_pass(ax, what, n):
    with pytest.raises(InvalidParameterError, match=rf"^ax {what}\. Pass Axes or an array of them, such as the second"):
        axes_grid(ax, n, 1, (1, 1))


@pytest.mark.parametrize("n_columns", [0, -1, 2.5, None])
def test_a_grid_has_at_least_one_column(n_columns):
    with pytest.raises(InvalidParameterError, match=r"n_columns=.* must be an integer of at least 1"):
        axes_grid(Figure().add_subplot(), 3, n_columns, (1, 1))


def test_spare_axes_are_switched_off():
    axes = Figure().subplots(2, 2)
    _, used = axes_grid(axes, 3, 2, (1, 1))
    assert used.tolist() == axes.ravel()[:3].tolist()
    assert not axes[1, 1].axison


def test_a_legend_has_any_label():
    labels = ["_hidden", "a$b$c", ""]
    ax = Figure().add_subplot()
    legend_beside(ax, ax.plot(np.ones((2, 3))), labels)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == labels
