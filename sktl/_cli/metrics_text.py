"""Metrics of predictions for a test set as text for people: classes, several labels or numbers.

Commands import this module when they run, because it imports scikit-learn, which would delay help and usage errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.metrics import classification_report

from sktl._evaluation import metrics
from sktl._evaluation.metrics import FIGURES

from .command_messages import shown
from .output_formats import as_table


@dataclass(frozen=True)
class ClassMetrics(metrics.ClassMetrics):
    """Metrics of predicted classes, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        names = [*map(shown, self.labels)]
        table = classification_report(
            self.truth, self.predictions, labels=self.labels, target_names=names, zero_division=0.0, digits=3
        )
        short = [str(number) for number in range(1, len(names) + 1)]
        cells = zip(short, names, self.confusion(), strict=True)
        matrix = [["", "", *short], *([number, name, *map(str, row)] for number, name, row in cells)]
        return (
            f"Accuracy {self.accuracy:.4f} on {len(self.truth)} images.\n\n{table}\n"
            f"Confusion matrix (rows: true classes, columns: predictions):\n\n{as_table(matrix, words=(1,))}"
        )


@dataclass(frozen=True)
class LabelMetrics(metrics.LabelMetrics):
    """Metrics of several labels, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        heading = ["", "average precision", *FIGURES]
        rows = [
            [name, *(_decimal(value, 3) for value in [*of_label.values()][:-1]), str(of_label["support"])]
            for name, of_label in self.of_labels().items()
        ]
        return (
            f"Average precision {_decimal(self.macro)} (mean over labels), {_decimal(self.micro)} (over all pairs of "
            f"image and label)\nand example-based F1 {self.example_f1:.4f} on {len(self.truth)} images with "
            f"{len(self.names)} labels.\n\n{as_table([heading, *rows], words=(0,))}"
        )


@dataclass(frozen=True)
class NumberMetrics(metrics.NumberMetrics):
    """Metrics of predicted numbers, as text."""

    def report(self) -> str:
        """Return the figures for people."""
        several = len(self.names) > 1
        of_one = "" if several else f", mean absolute error {self.mean_absolute_errors[0]:.4g}"
        lines = [f"R2 {_decimal(self.r2)}{' (mean over numbers)' if several else of_one} on {len(self.truth)} images."]
        if several:
            rows = [
                [name, _decimal(row["r2"]), f"{row['mean_absolute_error']:.4g}"]
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


def _decimal(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
