"""An evaluation as one page: what matters most for a decision comes first."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.confidence_intervals import Rate
from sktl._evaluation.findings import Finding
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.sentences import headlines, short
from sktl._evaluation.sentences import of_typicality as typicality_words
from sktl._evaluation.typicality_figures import LOW, TypicalityFigures
from sktl._short_text import number, percent

from . import evaluation_class_sections, evaluation_label_sections, evaluation_number_sections
from .evaluation_charts import Axis, Frame, bars, interval_mark
from .evaluation_elements import Pictures, beside, folded, grid, paragraphs, rest, section, table, with_interval
from .evaluation_results import Evaluation
from .markup import Markup, named, tag
from .page import asset, checked_page, page, write_page
from .page_thumbnails import MOST_BYTES

_MOST_GROUPS = 30
_LEAST_TYPICAL = 12
_LISTED = 100
_MOST_CLASSES = 500
# Names of sections in the navigation, in the order of the page; a report has only some of them.
_TITLES = {
    "findings": "Findings",
    "classes": "Classes",
    "labels": "Labels",
    "numbers": "Numbers",
    "predictions": "Predictions",
    "groups": "Groups",
    "confusions": "Confusions",
    "missed": "Missed",
    "mistakes": "Mistakes",
    "calibration": "Probabilities",
    "coverage": "Turning images away",
    "typicality": "Typicality",
    "model": "Model",
}


def write_evaluation_page(report: Evaluation, path: Any, title: str, limit: int) -> None:
    """Write the page of a report.

    Raises
    ------
    InvalidParameterError
        If `path` is not a path, or has another suffix than HTML files.
    InvalidInputError
        If the folder does not exist, or `path` is a folder, a pipe or a device.
    OSError
        If the file cannot be written.
    """
    checked_page(path)  # before images are read
    write_page(path, page_of(report, title, limit))


def page_of(report: Evaluation, title: str, limit: int = MOST_BYTES) -> str:
    """Return the page of a report as text, with thumbnails of at most `limit` bytes."""
    figures, pictures = report.figures, Pictures.of(report.samples, report.names, report.positions, limit)
    if isinstance(figures, ClassFigures):
        tiles = evaluation_class_sections.tiles(figures)
        own = evaluation_class_sections.sections(report, figures, pictures)
    elif isinstance(figures, LabelFigures):
        tiles = evaluation_label_sections.tiles(figures)
        own = evaluation_label_sections.sections(report, figures, pictures)
    else:
        tiles = evaluation_number_sections.tiles(figures)
        own = evaluation_number_sections.sections(report, figures, pictures)
    table, *others = own
    of_images, of_model = _of_typicality(report, pictures), _of_model(report)
    parts = [*_of_findings(report), table, *_of_groups(report), *others, of_images, of_model]
    header = tag(
        "header",
        tag("h1", named(title)),
        tag("div", *tiles, class_="tiles"),
        paragraphs(headlines(figures)),
        _navigation(parts),
    )
    n_left_out = pictures.large.n_left_out + pictures.small.n_left_out
    full = f" {n_left_out:,} further images were left out to keep the page small." if n_left_out else ""
    footer = tag("footer", tag("p", f"Written by sktl. The page loads nothing and contains no full-size image.{full}"))
    return page(title, header, tag("main", *parts), footer, styles=asset("evaluation.css"))


def _navigation(parts: list[Markup]) -> Markup:
    links = [
        tag("a", title, href=f"#{identifier}")
        for identifier, title in _TITLES.items()
        if any(part.startswith(f'<section id="{identifier}">') for part in parts)
    ]
    return tag("nav", *links, aria_label="Sections")


def _of_findings(report: Evaluation) -> list[Markup]:
    if not report.findings:
        return []
    parts = [_finding(report, finding) for finding in report.findings]
    words = "Facts about the images that limit what the figures mean."
    return [section("findings", "Findings", tag("p", words), *parts)]


def _finding(report: Evaluation, finding: Finding) -> Markup:
    if not finding.positions:
        return tag("div", finding.message, class_="note")
    items = []
    for i, position in enumerate(finding.positions[:_LISTED]):
        detail = f": {finding.details[i]}" if finding.details else ""
        items.append(tag("li", named(report.names[position]), named(detail) if detail else None))
    left_out = rest(len(finding.positions), len(items), "images")
    return tag("div", finding.message, folded("Which images", tag("ul", *items), left_out), class_="note")


def _of_groups(report: Evaluation) -> list[Markup]:
    groups = report.figures.of_groups
    if not groups:
        return []
    is_rate = isinstance(groups[0].figure, Rate)
    what = (
        ("correct predictions" if isinstance(report.figures, ClassFigures) else "images with all labels right")
        if is_rate
        else "mean absolute error"
    )
    rows = [
        [
            named(short(group.name)),
            f"{group.n:,}",
            with_interval(percent(group.figure.value) if is_rate else number(group.figure.value), group.figure),
            (interval_mark(group.figure) if isinstance(group.figure, Rate) else None) or "",
        ]
        for group in groups[:_MOST_GROUPS]
    ]
    words = (
        "The groups that are most surely bad come first. If a few groups are much worse than the others, find out "
        "what they have in common: the mean over all images hides them. Small figures are 95 % confidence intervals; "
        "groups of few images differ by chance."
    )
    left_out = rest(len(groups), _MOST_GROUPS, "groups")
    return [section("groups", "Each group", tag("p", words), table(["group", "images", what, ""], rows), left_out)]


def _of_typicality(report: Evaluation, pictures: Pictures) -> Markup:
    title = "Are the images like the training images?"
    if isinstance(report.typicality, str):
        return section("typicality", title, tag("p", report.typicality, class_="muted"))
    typicality = report.typicality
    cards = [
        pictures.card(row, tag("span", f"typicality {typicality.p_values[row]:.3f}"))
        for row in typicality.least()[:_LEAST_TYPICAL].tolist()
    ]
    words = (
        "Typicality is a value between 0 and 1 that says how ordinary an image is among the training images. If the "
        "images come from the same source, all bars are about as high as the dashed line. A high first bar means "
        "images of another kind."
    )
    return section(
        "typicality",
        title,
        beside(_histogram(typicality), paragraphs([words, typicality_words(typicality)])),
        tag("h3", "The least typical images"),
        tag("p", "Look for images that should not be there, and for kinds of images that the training images lack."),
        grid(cards),
    )


def _histogram(typicality: TypicalityFigures) -> Markup:
    counts = typicality.histogram
    expected = counts.sum() / len(counts)
    frame = Frame(Axis("typicality", 0, 1), Axis("images", 0, 1.08 * max(int(counts.max()), 1)))
    edges = np.linspace(0, 1, len(counts) + 1)
    parts = [
        *bars(frame, edges[:2], counts[:1], "bar low"),
        *bars(frame, edges[1:], counts[1:], "bar"),
        frame.line([0, 1], [expected, expected], "ideal"),
    ]
    return frame.draw(*parts, text=f"Histogram of typicality. {percent(typicality.low.value)} are at most {LOW}.")


def _of_model(report: Evaluation) -> Markup:
    facts = table(["fact", "value"], [[fact.name, named(fact.value)] for fact in report.facts], words=(0, 1))
    parts = [facts, _of_training(report)]
    if report.limits:
        parts += [tag("h3", "Limits"), tag("ul", *(tag("li", line) for line in report.limits))]
    return section("model", "What the model was trained on", *parts)


def _of_training(report: Evaluation) -> Markup | None:
    """Return the number of training images of all classes, of which the facts name only a few."""
    figures = report.figures
    rows = figures.of_classes if isinstance(figures, ClassFigures) else getattr(figures, "of_labels", ())
    known = [(row.name, row.n_trained) for row in rows if row.n_trained is not None]
    if not known:
        return None
    items = [tag("li", named(short(name)), f": {n:,}") for name, n in known[:_MOST_CLASSES]]
    left_out = rest(len(known), len(items), "classes")
    return folded("Training images of each class", tag("ul", *items, class_="columns"), left_out)
