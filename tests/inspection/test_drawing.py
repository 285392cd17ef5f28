"""What the displays share."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `plot` installs it")
from matplotlib.figure import Figure

from sktl._inspection.drawing import MARKERS, axes_grid, legend_beside, letters_across, style
from sktl.exceptions import InvalidParameterError


def test_the_first_104_classes_look_different():
    assert len({style(number) for number in range(104)}) == 104
    assert len({style(number)[0] for number in range(8)}) == 8
    assert len(set(MARKERS)) == 13


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
