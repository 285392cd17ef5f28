"""Sections of an evaluation's page about several labels: the table, what was missed, and the worst mistakes."""

from __future__ import annotations

import numpy as np

from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.sentences import interval, short, threshold
from sktl._short_text import NONE, count, decimal, percent

from .evaluation_charts import interval_mark
from .evaluation_class_sections import calibration_section, calibration_tile, map_words
from .evaluation_elements import Pictures, folded, grid, paragraphs, rest, section, table, tile, with_interval
from .evaluation_results import Evaluation
from .markup import Markup, joined, named, tag

_MOST_LABELS = 200
_MOST_MISSED, _MOST_PER_LABEL = 600, 8
_MOST_NAMED = 6


def tiles(figures: LabelFigures) -> list[Markup]:
    """Return the most important figures in large letters."""
    limits = f"95 % interval {interval(figures.all_right)}"
    return [
        tile(decimal(figures.macro), "average precision", "mean over labels"),
        tile(decimal(figures.example_f1), "F1 of an image", "mean over images"),
        tile(percent(figures.all_right.value), "all labels right", limits),
        calibration_tile(figures.calibration),
    ]


def sections(report: Evaluation, figures: LabelFigures, pictures: Pictures) -> list[Markup]:
    """Return the sections about labels, the table first."""
    return [
        _of_labels(figures),
        _of_missed(figures, pictures),
        _of_mistakes(report, figures, pictures),
        calibration_section(figures.calibration),
    ]


def _of_labels(figures: LabelFigures) -> Markup:
    rows = sorted(figures.of_labels, key=lambda row: (row.average_precision is None, row.average_precision or 0.0))
    heads = ["label", "images", "average precision", "found", "", "right when predicted", "F1"]
    heads += ["best threshold", "F1 with it", "training images"]
    body = [
        [
            named(short(row.name)),
            f"{row.recall.n:,}",
            decimal(row.average_precision),
            with_interval(percent(row.recall.value), row.recall),
            interval_mark(row.recall) or "",
            with_interval(percent(row.precision.value), row.precision),
            decimal(row.f1),
            threshold(row.best_threshold),
            decimal(row.best_f1),
            NONE if row.n_trained is None else f"{row.n_trained:,}",
        ]
        for row in rows[:_MOST_LABELS]
    ]
    words = (
        "Found: the share of the images with a label for which the model predicts it (recall). Right when predicted: "
        "the share of the predictions of a label that are right (precision). A label is predicted if its probability "
        "is above 0.5, unless the model has its own threshold. Small figures are 95 % confidence intervals. Labels "
        "with the lowest average precision come first."
    )
    caution = (
        "The best threshold has the highest F1 score for these images. It was chosen on them, so its F1 score is too "
        "good: choose thresholds on validation images."
    )
    return section(
        "labels",
        "Each label",
        tag("p", words),
        table(heads, body),
        rest(len(rows), _MOST_LABELS, "labels"),
        tag("p", caution, class_="muted"),
    )


def _of_missed(figures: LabelFigures, pictures: Pictures) -> Markup:
    missed = [(k, row.recall.n - row.recall.n_hits) for k, row in enumerate(figures.of_labels)]
    missed = sorted((pair for pair in missed if pair[1]), key=lambda pair: -pair[1])
    most = max(1, min(_MOST_PER_LABEL, _MOST_MISSED // max(1, len(missed))))
    parts = []
    for k, n in missed[:_MOST_LABELS]:
        rows = figures.missed(k, most)
        cards = [pictures.card(row, tag("span", percent(figures.proba[row, k])), small=True) for row in rows]
        label = joined(named(short(figures.labels[k])), f": missed in {n:,} of {count(figures.of_labels[k].recall.n)}")
        parts.append(folded(label, grid(cards), rest(n, len(cards), "images, the least probable first")))
    words = "Images that have a label that the model does not predict, with the probability that it states."
    return section("missed", "What was missed", tag("p", words if parts else "No label was missed."), *parts)


def _of_mistakes(report: Evaluation, figures: LabelFigures, pictures: Pictures) -> Markup:
    if not len(report.worst):
        return section("mistakes", "The worst mistakes", tag("p", "All labels of all images are right."))
    cards = []
    for i, row in enumerate(report.worst.tolist()):
        caption, map_ = _caption(figures, row), None
        if not isinstance(report.maps, str):
            map_ = report.maps.pictures[i]
            caption.append(tag("span", "map: ", named(short(report.maps.targets[i])), class_="muted"))
        cards.append(pictures.card(row, *caption, beside=map_))
    words = f"The {count(len(report.worst), 'image')} with most wrong labels."
    of_maps = map_words(report, "supports the label that is most in error, which is named below the images")
    return section("mistakes", "The worst mistakes", paragraphs([words, of_maps]), grid(cards))


def _caption(figures: LabelFigures, row: int) -> list[Markup]:
    has, found, proba = figures.y_true[row] > 0, figures.y_pred[row] > 0, figures.proba[row]
    kinds = ("wrong: ", found & ~has, "bad"), ("missed: ", has & ~found, "warn"), ("", has & found, "")
    lines = []
    for word, some, class_ in kinds:
        columns = np.flatnonzero(some)
        for k in columns[np.argsort(-proba[columns], kind="stable")].tolist():
            words = word, named(short(figures.labels[k])), f" {percent(proba[k], 0)}"
            lines.append(tag("span", *words, class_=class_ or None))
    if len(lines) > _MOST_NAMED:
        lines = [*lines[:_MOST_NAMED], tag("span", f"and {len(lines) - _MOST_NAMED} more")]
    return lines
