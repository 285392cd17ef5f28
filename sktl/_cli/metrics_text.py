"""Metrics of predictions for a test set as text for people: classes, several labels or numbers.

Commands import this module when they run, because it imports scikit-learn, which would delay help and usage errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import classification_report

from sktl._evaluation import metrics
from sktl._evaluation.metrics import FIGURES
from sktl._short_text import count, decimal, fitted

from .command_messages import printable
from .image_sources import WIDTH
from .text_formats import as_table

# Classes in a confusion matrix: the columns of more do not fit a line.
_MOST = 20


@dataclass(frozen=True)
class ClassMetrics(metrics.ClassMetrics):
    """Metrics of predicted classes, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        n, names = len(self.truth), [fitted(printable(str(label)), WIDTH) for label in self.labels]
        table = classification_report(
            self.truth, self.predictions, labels=self.labels, target_names=names, zero_division=0.0, digits=3
        )
        support = np.array(self.confusion()).sum(axis=1)
        constant = f"Always answering {names[support.argmax()]} gives {support.max() / n:.4f}."
        return f"Accuracy {self.accuracy:.4f} on {count(n)}. {constant}\n\n{table}\n{self._matrix(names)}"

    def _matrix(self, names: list[str]) -> str:
        """Return the confusion matrix with a heading; of many classes, those with the most mistakes."""
        counts = np.array(self.confusion())
        mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
        kept = np.sort(np.argsort(-mistakes, kind="stable")[:_MOST])
        short = [str(k + 1) for k in range(len(kept))]
        rows = zip(short, (names[k] for k in kept), counts[np.ix_(kept, kept)].tolist(), strict=True)
        matrix = [["", "", *short], *([number, name, *map(str, row)] for number, name, row in rows)]
        of_some = ""
        if len(names) > _MOST:
            of_some = f" of the {_MOST} classes with the most mistakes, of {len(names):,}; --json has all"
        heading = f"Confusion matrix{of_some} (rows: true classes, columns: predictions):"
        return f"{heading}\n\n{as_table(matrix, words=(1,))}"


@dataclass(frozen=True)
class LabelMetrics(metrics.LabelMetrics):
    """Metrics of several labels, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        heading = ["", "average precision", *FIGURES]
        rows = [
            [name, *(decimal(value) for value in [*of_label.values()][:-1]), str(of_label["support"])]
            for name, of_label in self.of_labels().items()
        ]
        return (
            f"Average precision {decimal(self.macro, 4)} (mean over labels), {decimal(self.micro, 4)} (over all pairs "
            f"of image and label)\nand example-based F1 {self.example_f1:.4f} on {count(len(self.truth))} with "
            f"{count(len(self.names), 'label')}.\n\n{as_table([heading, *rows], words=(0,))}"
        )


@dataclass(frozen=True)
class NumberMetrics(metrics.NumberMetrics):
    """Metrics of predicted numbers, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        several, n = len(self.names) > 1, count(len(self.truth))
        of_one = "" if several else f", mean absolute error {self.mean_absolute_errors[0]:.4g}"
        lines = [f"R2 {decimal(self.r2, 4)}{' (mean over numbers)' if several else of_one} on {n}."]
        if several:
            rows = [
                [name, decimal(row["r2"], 4), f"{row['mean_absolute_error']:.4g}"]
                for name, row in self.of_numbers().items()
            ]
            lines += ["", as_table([["", "R2", "mean absolute error"], *rows], words=(0,))]
        errors = [
            [row["image"], *([row["number"]] if several else []), f"{row['true']:.6g}", f"{row['prediction']:.6g}"]
            for row in self.largest_errors()
        ]
        heading = ["image", *(["number"] if several else []), "true", "prediction"]
        lines += ["", "Largest errors:", "", as_table([heading, *errors], words=(0, 1) if several else (0,))]
        return "\n".join(lines)
