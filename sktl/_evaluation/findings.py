"""Findings of an evaluation: facts about the images and `y` that limit what its figures mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sktl._short_text import count, first_few, first_shown, percent, shown_value
from sktl._utils.similar_names import resemblances
from sktl.exceptions import ImageFailure

from .class_figures import ClassFigures
from .group_figures import Groups
from .label_figures import LabelFigures
from .number_figures import NumberFigures
from .sentences import short
from .true_values import missing_counts
from .typicality_figures import LOW, TypicalityFigures, too_few_references

# Shares of fewer images have intervals of at least 35 percentage points in the middle of their range.
_FEW_IMAGES = 20
# With fewer groups, the variance between groups is hardly known.
_FEW_GROUPS = 10


@dataclass(frozen=True)
class Finding:
    """A fact that limits what the figures of an evaluation mean.

    Parameters
    ----------
    kind : str
        "unreadable", "no_label", "some_labels_missing", "unknown_class", "class_without_images",
        "label_without_images", "few_images", "few_groups", "no_better_than_a_constant", "training_images",
        "not_checked_for_training_images", "unlike_the_training_images" or "few_training_images".
    message : str
        What was found, and what it means.
    positions : tuple of int
        Positions of the images in `X`; none for findings about classes or groups.
    details : tuple of str
        What is wrong with each of the images, or nothing.
    """

    kind: str
    message: str
    positions: tuple[int, ...] = ()
    details: tuple[str, ...] = ()


def about_images(
    failures: Sequence[ImageFailure], missing: np.ndarray, what: str, names: Sequence[str] = ()
) -> list[Finding]:
    """Return findings about images that are left out of all figures.

    Parameters
    ----------
    failures : sequence of ImageFailure
        Images that cannot be read.
    missing : bool array of shape (n_images, n_columns)
        Which values of `y` are missing.
    what : str
        What `y` holds, such as "label".
    names : sequence of str
        Names of several columns.
    """
    findings = []
    if failures:
        message = f"{count(len(failures))} cannot be read and {_are(len(failures))} left out of all figures."
        positions, reasons = zip(*((failure.position, failure.reason) for failure in failures), strict=True)
        findings.append(Finding("unreadable", message, positions, reasons))
    unlabeled = missing.all(axis=1)
    incomplete = missing.any(axis=1) & ~unlabeled
    if n := int(unlabeled.sum()):
        message = f"{count(n)} {'has' if n == 1 else 'have'} no {what} and {_are(n)} left out of all figures."
        findings.append(Finding("no_label", message, tuple(np.flatnonzero(unlabeled).tolist())))
    if n := int(incomplete.sum()):
        message = (
            f"For {count(n)}, values of some {what}s are missing: {missing_counts(missing[incomplete], names)}. "
            f"{'It is' if n == 1 else 'They are'} left out of all figures, also of the other {what}s."
        )
        findings.append(Finding("some_labels_missing", message, tuple(np.flatnonzero(incomplete).tolist())))
    return findings


def about_classes(figures: ClassFigures, positions: np.ndarray) -> list[Finding]:
    """Return findings about classes that the model or the images do not have, or of which there are few images."""
    findings = []
    n_known = sum(figure.known for figure in figures.of_classes)
    unknown = figures.y_true >= n_known
    if unknown.any():
        n, several = int(unknown.sum()), len(figures.classes) > n_known + 1
        message = (
            f"The model was not trained on the {'classes' if several else 'class'} "
            f"{first_shown(figures.classes[n_known:])}. It cannot predict {'them' if several else 'it'}, so "
            f"{count(n)} {'counts' if n == 1 else 'count'} as wrong, and {_are(n)} left out of the log loss. "
            f"{resemblances(figures.classes[n_known:], figures.classes[:n_known])}"
        ).rstrip()
        findings.append(Finding("unknown_class", message, tuple(positions[unknown].tolist())))
    counts = [(figure.name, figure.recall.n) for figure in figures.of_classes]
    return [*findings, *_about_constant_class(figures), *_about_counts(counts[:n_known], "class", "classes")]


def _about_constant_class(figures: ClassFigures) -> list[Finding]:
    frequent, accuracy = figures.most_frequent, figures.accuracy
    if accuracy.low > frequent.recall.n / accuracy.n or len(figures.classes) < 2:
        return []
    message = (
        f"The model is not clearly better than a constant answer: {first_shown([frequent.name])} for every image would "
        f"be right for {percent(frequent.recall.n / accuracy.n)}, the model is right for {percent(accuracy.value)}."
    )
    return [Finding("no_better_than_a_constant", message)]


def about_numbers(figures: NumberFigures) -> list[Finding]:
    """Return findings about numbers that are not predicted better than by a constant."""
    useless = [row.name for row in figures.of_numbers if row.error.high >= row.guess]
    if not useless:
        return []
    of_which = f" for {first_shown(useless)}" if len(figures.of_numbers) > 1 else ""
    message = f"By its mean absolute error, the model is not clearly better than the best constant answer{of_which}."
    return [Finding("no_better_than_a_constant", message)]


def about_labels(figures: LabelFigures) -> list[Finding]:
    """Return findings about labels of which there are no or few images."""
    return _about_counts([(figure.name, figure.recall.n) for figure in figures.of_labels], "label", "labels")


def _about_counts(counts: Sequence[tuple[str, int]], one: str, several: str) -> list[Finding]:
    absent = [name for name, n in counts if not n]
    few = [f"{shown_value(short(name))} ({n})" for name, n in counts if 0 < n < _FEW_IMAGES]
    findings = []
    if absent:
        message = (
            f"No image has the {one if len(absent) == 1 else several} {first_shown(absent)}. The figures do not tell "
            f"how well the model recognizes {'it' if len(absent) == 1 else 'them'}."
        )
        findings.append(Finding(f"{one}_without_images", message))
    if few:
        message = (
            f"There are fewer than {_FEW_IMAGES} images of {len(few)} {one if len(few) == 1 else several}: "
            f"{first_few(few)}. Figures of such {several} are rough; look at the intervals."
        )
        findings.append(Finding("few_images", message))
    return findings


def about_groups(groups: Groups | None) -> list[Finding]:
    """Return a finding if there are few groups."""
    if groups is None or len(groups.names) >= _FEW_GROUPS:
        return []
    n = len(groups.names)
    message = (
        "All images are of one group. One group does not tell how well the model works for others, so the intervals "
        "are as wide as possible."
        if n == 1
        else f"The images are of only {n} groups. So few groups tell little about new ones: the intervals allow for "
        "new groups that differ as these do, not for groups of another kind."
    )
    return [Finding("few_groups", message)]


def about_typicality(typicality: TypicalityFigures | str, positions: np.ndarray) -> list[Finding]:
    """Return a finding if clearly more images are unlike the training images than chance explains, or none can be."""
    if isinstance(typicality, str):
        return []
    if too_few := too_few_references(typicality.n_references):
        return [Finding("few_training_images", too_few)]
    if typicality.low.low <= LOW:
        return []
    low = typicality.low
    rows = [row for row in typicality.least().tolist() if typicality.p_values[row] <= LOW]
    message = (
        f"{percent(low.value)} of the images are unlike the training images; 5 % are expected. Images like these may "
        "come from another camera, place or time than the training images."
    )
    return [Finding("unlike_the_training_images", message, tuple(positions[rows].tolist()))]


def about_training_images(known: np.ndarray | None, positions: np.ndarray) -> list[Finding]:
    """Return a finding if images are training images or copies of them, or if this was not checked.

    Parameters
    ----------
    known : bool array of shape (n_images,) or None
        None if the model cannot recognize training images.
    positions : int array of shape (n_images,)
    """
    if known is None:
        message = (
            "The images were not checked for training images, which this model cannot recognize. Make sure that none "
            "of them is a training image, or a copy of one."
        )
        return [Finding("not_checked_for_training_images", message)]
    n = int(known.sum())
    if not n:
        return []
    which = f"At least {n:,} of the {count(len(known))}"
    if n == len(known):
        which = "The image" if n == 1 else f"All {count(n)}"
    are = "is a training image, or a copy of one" if n == 1 else "are training images, or copies of them"
    message = f"{which} {are}. Figures for training images say nothing about new images."
    return [Finding("training_images", message, tuple(positions[known].tolist()))]


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
