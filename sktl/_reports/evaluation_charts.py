"""Charts of an evaluation as inline SVG, which browsers scale and print without loss, in the colors of the page."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sktl._evaluation.confidence_intervals import Rate

from .markup import Markup, tag

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 26, 12, 44
# Charts draw at most this many points, so that a page of many images stays small.
_MOST_POINTS = 2000
_MOST_VERTICES = 300


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Parameters
    ----------
    label : str
    low, high : float
        Limits; `low` is less than `high`.
    is_share : bool, default=False
        Whether tick labels are in percent.
    """

    label: str
    low: float
    high: float
    is_share: bool = False

    @classmethod
    def around(cls, label: str, values: Iterable[float]) -> Axis:
        """Return an axis on which finite values have a little space."""
        found = [*values]
        low, high = min(found), max(found)
        margin = (high - low) * 0.04 or abs(high) * 0.5 or 1.0
        return cls(label, low - margin, high + margin)

    def ticks(self) -> list[float]:
        """Return about five round numbers within the limits."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(max(span / 4, sys.float_info.min)))  # smaller numbers are not precise
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 5.5)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def text(self, tick: float) -> str:
        """Return the label of a tick."""
        return f"{100 * tick:.4g} %" if self.is_share else f"{tick:z.4g}"

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return positions on the axis, from 0 to 1."""
        places: np.ndarray = (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)
        return places


@dataclass(frozen=True)
class Frame:
    """The axes of a chart, on which points are placed.

    Parameters
    ----------
    x, y : Axis
    """

    x: Axis
    y: Axis

    def across(self, values: np.ndarray) -> np.ndarray:
        """Return horizontal positions."""
        return _LEFT + self.x.place(values) * (_WIDTH - _LEFT - _RIGHT)

    def down(self, values: np.ndarray) -> np.ndarray:
        """Return vertical positions, which SVG counts from the top."""
        return _HEIGHT - _BOTTOM - self.y.place(values) * (_HEIGHT - _TOP - _BOTTOM)

    def line(self, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, class_: str) -> Markup:
        """Return a line through points, without most of them if they are many."""
        rows = _spread(len(x), _MOST_VERTICES)
        points = zip(self.across(np.asarray(x)[rows]), self.down(np.asarray(y)[rows]), strict=True)
        return tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in points), class_=class_)

    def points(self, x: np.ndarray, y: np.ndarray, class_: str) -> Markup:
        """Return small dots, without most of them if they are many."""
        rows = _spread(len(x), _MOST_POINTS)
        places = zip(self.across(x[rows]), self.down(y[rows]), strict=True)
        # Lines of no length with round ends are dots, and one element for all dots is much smaller.
        return tag("path", d="".join(f"M{a:.1f} {b:.1f}h0" for a, b in places), class_=class_)

    def draw(self, *content: Markup, text: str) -> Markup:
        """Return the chart. `text` says in words what it shows."""
        parts = [tag("title", text), *self._grid(), *content, *self._labels()]
        chart = tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", class_="chart")
        return tag("div", chart, class_="chart-box")

    def _grid(self) -> Iterable[Markup]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        for tick in self.x.ticks():
            at = f"{self.across(np.array(tick)):.1f}"
            yield tag("line", x1=at, x2=at, y1=_TOP, y2=bottom, class_="grid")
            yield tag("text", self.x.text(tick), x=at, y=bottom + 16, text_anchor="middle")
        for tick in self.y.ticks():
            at = f"{self.down(np.array(tick)):.1f}"
            yield tag("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="grid")
            yield tag("text", self.y.text(tick), x=_LEFT - 6, y=at, dy="0.32em", text_anchor="end")

    def _labels(self) -> Iterable[Markup]:
        middle, center = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
        yield tag("text", self.x.label, x=middle, y=_HEIGHT - 8, text_anchor="middle", class_="axis")
        turned = f"rotate(-90 14 {center})"
        yield tag("text", self.y.label, x=14, y=center, text_anchor="middle", transform=turned, class_="axis")


def with_intervals(frame: Frame, x: Sequence[float], rates: Sequence[Rate]) -> list[Markup]:
    """Return shares as dots, whose areas grow with the number of images, with their intervals as lines."""
    most = max(rate.n for rate in rates)
    parts = []
    for value, rate in zip(x, rates, strict=True):
        at, top, bottom, y = (
            f"{place:.1f}"
            for place in (frame.across(np.array(value)), *frame.down(np.array([rate.high, rate.low, rate.value])))
        )
        parts.append(tag("line", x1=at, x2=at, y1=top, y2=bottom, class_="whisker"))
        parts.append(tag("circle", cx=at, cy=y, r=f"{3 + 4 * math.sqrt(rate.n / most):.1f}", class_="dot"))
    return parts


def bars(frame: Frame, edges: np.ndarray, heights: np.ndarray, class_: str) -> list[Markup]:
    """Return the bars of a histogram, from 0."""
    x, y, bottom = frame.across(edges), frame.down(heights), float(frame.down(np.array(0.0)))
    return [
        tag("rect", x=f"{x[i] + 0.5:.1f}", width=f"{x[i + 1] - x[i] - 1:.1f}", y=f"{y[i]:.1f}",
            height=f"{max(0.0, bottom - y[i]):.1f}", class_=class_)
        for i in range(len(heights))
    ]  # fmt: skip


def interval_mark(rate: Rate) -> Markup | None:
    """Return a share with its interval as a mark for a table, on a scale from 0 to 100 %."""
    if not rate.n:
        return None
    low, value, high = (f"{5 + 110 * share:.1f}" for share in (rate.low, rate.value, rate.high))
    return tag(
        "svg",
        tag("line", x1=5, x2=115, y1=8, y2=8, class_="grid"),
        tag("line", x1=low, x2=high, y1=8, y2=8, class_="whisker"),
        tag("circle", cx=value, cy=8, r=4, class_="dot"),
        viewBox="0 0 120 16", width=120, height=16, class_="mark", aria_hidden="true",
    )  # fmt: skip


def _spread(n: int, most: int) -> np.ndarray:
    """Return at most `most` of `n` positions at equal distances, with the first and the last."""
    return np.arange(n) if n <= most else np.round(np.linspace(0, n - 1, most)).astype(np.int64)
