"""Sections of an evaluation's page about numbers: charts of predictions and errors, and the largest errors."""

from __future__ import annotations

import numpy as np

from sktl._evaluation.number_figures import NumberFigures
from sktl._evaluation.sentences import interval, of_number, short
from sktl._short_text import count, decimal, number

from .evaluation_charts import Axis, Frame
from .evaluation_class_sections import map_words
from .evaluation_elements import Pictures, grid, paragraphs, rest, section, table, tile, with_interval
from .evaluation_results import Evaluation
from .markup import Markup, named, tag

_MOST_CHARTS = 12
_MOST_NAMED = 4
_MEANING = (
    "Each point is an image. In the first chart, images on the dashed line are predicted exactly. In the second, "
    "images above the dashed line are predicted too high, and images below it too low."
)


def tiles(figures: NumberFigures) -> list[Markup]:
    """Return the most important figures in large letters."""
    first = [tile(decimal(figures.r2), "R2", "1 is perfect, 0 no better than the mean")]
    if len(figures.of_numbers) > 1:
        return first
    (figure,) = figures.of_numbers
    limits = f"95 % interval {interval(figure.error)}" if interval(figure.error) else ""
    return [
        *first,
        tile(number(figure.error.value), "mean absolute error", limits),
        tile(number(figure.within[1][1]), "error of 90 %", "of images is at most this"),
        tile(number(figure.guess), "error of a constant", "the best constant answer"),
    ]


def sections(report: Evaluation, figures: NumberFigures, pictures: Pictures) -> list[Markup]:
    """Return the sections."""
    parts = [_of_numbers(figures)] if len(figures.of_numbers) > 1 else []
    charts = [_charts(figures, k) for k in range(min(len(figures.numbers), _MOST_CHARTS))]
    note = rest(len(figures.numbers), len(charts), "numbers")
    parts.append(section("predictions", "Predicted against true numbers", *charts, note))
    return [*parts, _of_mistakes(report, figures, pictures)]


def _of_numbers(figures: NumberFigures) -> Markup:
    heads = ["number", "R2", "mean absolute error", "error of a constant", "error of 90 % at most", "mean difference"]
    body = [
        [
            named(short(row.name)),
            decimal(row.r2),
            with_interval(number(row.error.value), row.error),
            number(row.guess),
            number(row.within[1][1]),
            with_interval(number(row.bias.value), row.bias),
        ]
        for row in figures.of_numbers
    ]
    words = (
        "R2 is the share of the differences between images that the predictions explain: 1 is perfect, 0 is no better "
        "than the mean. A mean difference above 0 means that predictions are too high. Small figures are 95 % "
        "confidence intervals."
    )
    return section("numbers", "Each number", tag("p", words), table(heads, body))


def _charts(figures: NumberFigures, k: int) -> Markup:
    true, predicted, figure = figures.y_true[:, k], figures.y_pred[:, k], figures.of_numbers[k]
    both = Axis.around("", [*_limits(true), *_limits(predicted)])
    against = Frame(Axis("true", both.low, both.high), Axis("predicted", both.low, both.high))
    errors = predicted - true
    largest = float(np.abs(errors).max()) or 1.0
    rest_ = Frame(
        Axis.around("predicted", _limits(predicted)), Axis("predicted minus true", -1.05 * largest, 1.05 * largest)
    )
    diagonal = [both.low, both.high]
    several = len(figures.numbers) > 1
    return tag(
        "div",
        tag("h3", named(short(figure.name))) if several else None,
        tag(
            "div",
            against.draw(
                against.line(diagonal, diagonal, "ideal"), against.points(true, predicted, "points"),
                text="Predicted against true numbers.",
            ),
            rest_.draw(
                rest_.line([rest_.x.low, rest_.x.high], [0, 0], "ideal"), rest_.points(predicted, errors, "points"),
                text="Errors against predicted numbers.",
            ),
            class_="charts",
        ),
        paragraphs([_MEANING, *(of_number(figure) if several else [])]),
    )  # fmt: skip


def _limits(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _of_mistakes(report: Evaluation, figures: NumberFigures, pictures: Pictures) -> Markup:
    if not len(report.worst):
        return section("mistakes", "The largest errors", tag("p", "All predictions are exact."))
    cards = []
    for i, row in enumerate(report.worst.tolist()):
        map_ = None if isinstance(report.maps, str) else report.maps.pictures[i]
        cards.append(pictures.card(row, *_caption(figures, row), beside=map_))
    words = f"The {count(len(report.worst), 'image')} with the largest errors."
    of_maps = map_words(report, "raises the number with the largest error")
    return section("mistakes", "The largest errors", paragraphs([words, of_maps]), grid(cards))


def _caption(figures: NumberFigures, row: int) -> list[Markup]:
    pairs = [*zip(figures.numbers, figures.y_pred[row], figures.y_true[row], strict=True)]
    lines = []
    for name, predicted, true in pairs[:_MOST_NAMED]:
        prefix = [named(short(name)), ": "] if len(pairs) > 1 else []
        lines.append(tag("span", *prefix, f"predicted {number(predicted)}, true {number(true)}"))
    return [*lines, *([tag("span", f"and {len(pairs) - _MOST_NAMED} more")] if len(pairs) > _MOST_NAMED else [])]
