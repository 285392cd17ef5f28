"""The checks that an exported file must pass before it is renamed, and the errors that say by how much it fails."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sktl._utils.short_text import count
from sktl.exceptions import ExportError, InvalidParameterError
from sktl.runtime.document import ModelDocument

from .model_format import Run
from .output_differences import TOLERANCES, UNITS, Comparison, rounding_of, within_rounding
from .paired_outputs import DRAWINGS, Answers, GivenImage

_FAR_FROM_ZERO = (
    "float32 has too few digits for numbers so far from 0. Subtract a constant from y, such as its mean, and fit again."
)


def check_document(written: ModelDocument, read: ModelDocument, run: Run) -> None:
    """Raise `ExportError` unless a file has its document, and gives the reference outputs in it."""
    if read != written:
        raise ExportError("The file does not contain the document that was written to it. No file was written.")
    pixels = read.references.pixels(read.preprocessing.crop)
    outputs = np.array(read.references.outputs)
    scale = 1.0 if read.kind in ("classes", "labels") else float(np.abs(outputs).max()) or 1.0
    found = run(pixels)[0]
    if found.shape != outputs.shape or not np.abs(found - outputs).max() <= TOLERANCES[read.kind] * scale:
        raise ExportError("The file, loaded again, computes other outputs than before. No file was written.")


def check_variance(kind: str, precision: str, images: Iterable[GivenImage], outputs: np.ndarray) -> None:
    """Raise `InvalidParameterError` if the images do not show what a lower precision costs.

    Images of the user only: a regressor that returns the same number for drawings and noise does so for all images.
    """
    arguments = sorted({image.argument for image in images} - {DRAWINGS})
    if precision == "float32" or kind in ("classes", "labels") or not arguments or (outputs != outputs[0]).any():
        return
    raise InvalidParameterError(
        f"The {kind} are the same for all images of {' and '.join(arguments)}, so the cost of precision={precision!r}, "
        "a share of their variance, cannot be measured. Pass several different images, or none."
    )


def check_rounding(kind: str, comparison: Comparison, expected: Answers, n_references: int, runtime: str) -> None:
    """Raise `ExportError` if a file in float32 differs from its estimator by more than rounding."""
    if within_rounding(kind, comparison, n_references):
        return
    what, unit = UNITS[kind]
    reasons = [f"{what} differ by up to {comparison.difference:.1e}{unit}"]
    if comparison.n_changed:
        reasons.append(f"{comparison.n_changed} labels differ")
    if comparison.typicality_difference is not None:
        reasons.append(f"p-values of typicality differ by up to {comparison.typicality_difference:.1e}")
    is_far = kind == "numbers" and rounding_of(kind, expected.outputs) > TOLERANCES[kind] / 10
    raise ExportError(
        f"The exported model differs from the estimator on {count(comparison.n_images)} in {runtime}: "
        f"{' and '.join(reasons)}; at most {TOLERANCES[kind]:g} and no label are allowed. No file was written. "
        f"{_FAR_FROM_ZERO if is_far else 'Export to another format, or fit with another backbone.'}"
    )


def check_drop(precision: str, comparison: Comparison, max_drop: float) -> None:
    """Raise `ExportError` if a lower precision costs too much."""
    if comparison.drop <= max_drop:
        return
    raise ExportError(
        f"precision={precision!r} loses {comparison.drop:.4f} on {count(comparison.n_images)}, and "
        f"{comparison.n_changed} labels change; max_drop is {max_drop:g}. No file was written. Pass a larger max_drop, "
        "or choose a higher precision."
    )
