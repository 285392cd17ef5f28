"""An evaluation as text: the most important figures, and all findings."""

from __future__ import annotations

from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.sentences import headlines, listed, of_calibration, of_target, of_typicality, short
from sktl._short_text import decimal, number, percent

from .evaluation_results import Evaluation
from .markup import plain

_LISTED = 5


def summary_of(report: Evaluation) -> str:
    """Return a report as text for a terminal."""
    lines = [*headlines(report.figures), *_weakest(report)]
    if isinstance(report.figures, ClassFigures):
        lines += [of_calibration(report.figures.calibration)[0]]
        lines += [of_target(target) for target in report.figures.coverage.targets]
    messages = [finding.message for finding in report.findings]
    typical = report.typicality if isinstance(report.typicality, str) else of_typicality(report.typicality)
    if typical not in messages:
        lines.append(typical)
    if messages:
        lines += ["", "Findings:", *(f"- {message}" for message in messages)]
    return "\n".join(map(plain, lines))


def _weakest(report: Evaluation) -> list[str]:
    """Return the classes, labels or numbers that are recognized worst."""
    figures = report.figures
    if isinstance(figures, ClassFigures):
        rows = sorted((row for row in figures.of_classes if row.recall.n), key=lambda row: row.recall.value)
        names = [
            f"{short(row.name)} ({percent(row.recall.value, 0)})" for row in rows[:_LISTED] if row.recall.value < 1
        ]
        return [f"Least often recognized: {', '.join(names)}."] if names else []
    if isinstance(figures, LabelFigures):
        found = [row for row in figures.of_labels if row.average_precision is not None]
        found.sort(key=lambda row: row.average_precision or 0.0)
        names = [f"{short(row.name)} ({decimal(row.average_precision)})" for row in found[:_LISTED]]
        return [f"Lowest average precision: {', '.join(names)}."] if names else []
    if len(figures.of_numbers) == 1:
        return []
    errors = [f"{short(row.name)} {number(row.error.value)}" for row in figures.of_numbers]
    return [f"Mean absolute errors: {listed(errors, _LISTED)}."]
