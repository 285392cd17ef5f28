"""`ExportReport`: what was exported, how it was verified, and what the files do not include."""

from __future__ import annotations

from dataclasses import dataclass

from sktl._short_text import count
from sktl._utils.paths import shown

from .verification import UNITS

_COSTS = {
    "classes": "points of accuracy, if the probabilities in float32 are right",
    "labels": "points of accuracy for each label, if the probabilities in float32 are right",
    "numbers": "% of the variance of the numbers",
    "features": "% of the variance of the features",
}


@dataclass(frozen=True)
class ExportReport:
    """What :func:`sktl.export` has written, and how the files were verified. `print` shows a summary.

    Parameters
    ----------
    files : tuple of str
        The files; the first one is the file that a runtime opens.
    format : {"onnx", "openvino", "program"}
    runtime : str
        Name of the runtime in which the files were verified.
    kind : {"classes", "labels", "numbers", "features"}
        What the first output contains.
    precision : {"float32", "float16", "int8"}
    n_bytes : int
        Size of the files.
    n_images : int
        Number of images on which the files were compared with the estimator.
    difference : float
        Largest difference from the estimator: of probabilities; of numbers and features, relative to their largest
        deviation from their mean over the images.
    n_changed : int
        Number of these images whose labels differ from the estimator's predictions.
    drop : float
        What the lower precision costs: for classes and labels, the loss of accuracy that the probabilities of the
        estimator predict; for numbers and features, the share of their variance that is lost.
    n_calibration : int
        Number of images that determined the ranges of numbers in int8; 0 for other precisions.
    float_layers : tuple of str
        Layers that stay in float32: up to three first layers, and up to a quarter of the layers if the model would
        otherwise lose more than `max_drop`.
    notes : tuple of str
        What the files do not include.
    typicality_difference : float or None
        Largest difference of p-values of `typicality` from the estimator's; None if the files do not compute them. It
        is limited with `"float32"` only.
    """

    files: tuple[str, ...]
    format: str
    runtime: str
    kind: str
    precision: str
    n_bytes: int
    n_images: int
    difference: float
    n_changed: int
    drop: float
    n_calibration: int = 0
    float_layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    typicality_difference: float | None = None

    def summary(self) -> str:
        """Return a human-readable summary.

        Returns
        -------
        text : str
            Several lines of text.
        """
        lines = [
            f"Wrote {' and '.join(map(shown, self.files))}: {self.kind} in {self.precision}, "
            f"{self.n_bytes / 1e6:.1f} MB.",
            self._verified(),
        ]
        if self.precision != "float32":
            cost = f"{100 * self.drop:.2f} {_COSTS[self.kind]}"
            changed = f", and {self.n_changed} labels changed" if self.kind in ("classes", "labels") else ""
            lines.append(f"Against float32, it loses {cost}{changed}.")
        if self.typicality_difference is not None:
            lines.append(f"The p-values of typicality differ by at most {self.typicality_difference:.2g}.")
        if self.n_calibration:
            lines.append(f"Ranges were determined on {self.n_calibration} other images.")
        if self.float_layers:
            lines.append(f"Layers that stay in float32: {', '.join(self.float_layers)}.")
        return "\n".join([*lines, *self.notes])

    def _verified(self) -> str:
        what, unit = UNITS[self.kind]
        equal = self.kind in ("classes", "labels") and not self.n_changed
        labels = "; all labels are equal" if equal else ""
        return (
            f"Compared with the estimator in {self.runtime} on {count(self.n_images)}: {what} differ by at most "
            f"{self.difference:.1e}{unit}{labels}."
        )

    def __str__(self) -> str:
        return self.summary()
