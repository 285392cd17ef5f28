"""Charts: round ticks within the limits, everything inside the picture, and few points however many images."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._evaluation.confidence_intervals import Rate
from sktl._reports.evaluation_charts import Axis, Frame, bars, interval_mark, with_intervals

NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


@given(NUMBERS, st.floats(1e-6, 1e12))
def test_ticks_are_a_few_round_numbers_within_the_limits(low, span):
    axis = Axis("x", low, low + span)
    if axis.high - axis.low < 1e-9 * abs(low):
        return  # too close for float64
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    slack = 1e-6 * span + 1e-9 * abs(low)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


@pytest.mark.parametrize("largest", [5e-324, 1e-323, 1e-320, 1e-309, 1e-300, 1e300, 1e308])
def test_limits_may_be_as_small_and_large_as_numbers(largest):
    for axis in (Axis("x", -largest / 2, largest / 2), Axis.around("x", [0.0, largest])):
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 12
        assert all(axis.low <= tick <= axis.high for tick in ticks)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_an_axis_leaves_space_around_its_values(values):
    axis = Axis.around("x", values)
    assert axis.low < min(values)
    assert axis.high > max(values)


def chart():
    frame = Frame(Axis("x <&", 0, 1, True), Axis("y", 0, 10))
    rates = [Rate.of(np.arange(5) < 3), Rate.of(np.arange(50) < 9)]
    return frame.draw(
        frame.line([0, 1], [0, 10], "ideal"), frame.points(np.array([0.5]), np.array([5.0]), "points"),
        *with_intervals(Frame(frame.x, Axis("y", 0, 1)), [0.2, 0.9], rates),
        *bars(frame, np.linspace(0, 1, 4), np.array([1, 0, 10]), "bar"), text="What it <shows>",
    )  # fmt: skip


def test_a_chart_is_well_formed_and_says_what_it_shows():
    (svg,) = ElementTree.fromstring(chart())
    assert svg.find("title").text == "What it <shows>"
    assert {text.text for text in svg.iter("text")} >= {"x <&", "y", "0 %", "100 %", "10"}


def test_nothing_lies_outside_the_picture():
    (svg,) = ElementTree.fromstring(chart())
    _, _, width, height = map(float, svg.get("viewBox").split())
    for element in svg.iter():
        for name, limit in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height), ("cy", height)):
            if element.get(name) is not None:
                assert 0 <= float(element.get(name)) <= limit


@pytest.mark.parametrize("n", [1, 100, 100_000])
def test_points_and_lines_are_bounded(n):
    frame, x = Frame(Axis("x", 0, 1), Axis("y", 0, 1)), np.linspace(0, 1, n)
    assert frame.points(x, x, "points").count("M") == min(n, 2000)
    vertices = re.search(r'points="([^"]*)"', frame.line(x, x, "series"))[1].split()
    assert len(vertices) == min(n, 300)
    assert vertices[-1].startswith(f"{frame.across(x[-1]):.1f},")


def test_a_mark_needs_images():
    assert interval_mark(Rate.of(np.zeros(0, bool))) is None
    assert "circle" in interval_mark(Rate.of(np.ones(3, bool)))
