"""Figures of an evaluation in sentences, for readers who are not statisticians. The text and the page share them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sktl._short_text import NONE, count, decimal, first_few, fitted, number, percent

from .calibration import Calibration
from .class_figures import ClassFigures
from .confidence_intervals import Mean, Rate, fewest_images
from .label_figures import LabelFigures
from .model_figures import Figures
from .number_figures import NumberFigure, NumberFigures
from .selective_classification import CoverageTarget
from .typicality_figures import LOW, TypicalityFigures, too_few_references

# Longer names of classes are cut in their middle.
_LETTERS = 32
# A larger difference between stated and true probability matters, even if it is not proven.
_RELEVANT_GAP = 0.05
# If even more images than this multiple of `LOW` may have a low typicality, nothing can be said.
_TOO_WIDE = 5


def threshold(value: float | None) -> str:
    """Return a threshold with all its digits, at least three, or a dash."""
    return NONE if value is None else np.format_float_positional(value, min_digits=3)


def interval(figure: Rate | Mean) -> str:
    """Return the limits of an interval, "" if it has none."""
    if isinstance(figure, Rate):
        low, high = (
            f"{100 * limit:.1f}" if 0 < limit < 1 else f"{100 * limit:.0f}" for limit in (figure.low, figure.high)
        )
        return f"{low} to {high} %" if figure.n else ""
    return f"{number(figure.low)} to {number(figure.high)}" if math.isfinite(figure.high) else ""


def short(name: object) -> str:
    """Return a name as sentences and tables show it."""
    return fitted(name, _LETTERS)


def headlines(figures: Figures) -> list[str]:
    """Return the most important figures as sentences."""
    if isinstance(figures, ClassFigures):
        return _of_classes(figures)
    return _of_labels(figures) if isinstance(figures, LabelFigures) else _of_numbers(figures)


def _of_classes(figures: ClassFigures) -> list[str]:
    accuracy, frequent = figures.accuracy, figures.most_frequent
    constant = frequent.recall.n / accuracy.n
    lines = [
        f"The model is right for {percent(accuracy.value)} of {count(accuracy.n)} of "
        f"{count(len(figures.classes), 'class', 'classes')}. For new images like these, expect {interval(accuracy)} "
        "(95 % confidence interval).",
        f"Answering {short(frequent.name)} for every image would be right for {percent(constant)}.",
    ]
    if len(figures.classes) > 1:
        lines.append(
            f"Balanced accuracy {percent(figures.balanced_accuracy)}: the mean share of correct predictions over the "
            "classes, so that rare classes count as much as frequent ones."
        )
    if figures.log_loss is not None:
        n_known = sum(figure.recall.n for figure in figures.of_classes if figure.known)
        of_which = f" for {count(n_known)} of classes that the model knows" if n_known < accuracy.n else ""
        lines.append(
            f"Log loss {figures.log_loss:z.3f}{of_which}: the model typically gives the true class a probability of "
            f"{percent(math.exp(-figures.log_loss), 0)}. Confident mistakes weigh most; 0 is perfect."
        )
    return lines


def _of_labels(figures: LabelFigures) -> list[str]:
    right = figures.all_right
    return [
        f"For {percent(right.value)} of {count(right.n)}, all {count(len(figures.labels), 'label')} are right. For "
        f"new images like these, expect {interval(right)} (95 % confidence interval).",
        f"Mean average precision {decimal(figures.macro)}: how well the images with a label are ranked before the "
        "others, averaged over labels; 1 is perfect.",
        f"F1 score of the labels of an image {decimal(figures.example_f1)} on average: how well its predicted labels "
        "match its true ones; 1 is perfect.",
    ]


def _of_numbers(figures: NumberFigures) -> list[str]:
    n = count(len(figures.y_true))
    if len(figures.of_numbers) > 1:
        return [
            f"R2 {decimal(figures.r2)}, averaged over {count(len(figures.of_numbers), 'number')}, on {n}: the share of "
            "the differences between images that the predictions explain. 1 is perfect; 0 is no better than the mean."
        ]
    return [f"Evaluated on {n}.", *of_number(figures.of_numbers[0])]


def of_number(figure: NumberFigure) -> list[str]:
    """Return the figures of one number as sentences."""
    limits = f" (95 % confidence interval {interval(figure.error)})" if interval(figure.error) else ""
    shares = ", and ".join(f"by at most {number(error)} for {percent(share, 0)}" for share, error in figure.within[:2])
    lines = [
        f"Predictions are off by {number(figure.error.value)} on average{limits}. The best constant answer is off by "
        f"{number(figure.guess)}.",
        f"They are off {shares} of the images. The largest error is {number(figure.within[-1][1])}.",
    ]
    if figure.r2 is not None:
        lines.append(
            f"R2 {figure.r2:.3f}: the share of the differences between images that the predictions explain. 1 is "
            "perfect; 0 is no better than the mean."
        )
    if figure.bias.low > 0 or figure.bias.high < 0:
        side = "high" if figure.bias.low > 0 else "low"
        lines.append(f"On average, predictions are {number(abs(figure.bias.value))} too {side}.")
    return lines


def of_calibration(calibration: Calibration) -> list[str]:
    """Return what the calibration means."""
    return [
        f"On average, the model states a probability of {percent(calibration.probability)}, and its answers are right "
        f"for {percent(calibration.share)}. {_verdict(calibration)}",
        f"Expected calibration error {percent(calibration.error)}: the mean distance of the points from the diagonal. "
        f"With this number of independent images, chance alone gives about {percent(calibration.chance)} even if all "
        "probabilities are right.",
    ]


def _verdict(calibration: Calibration) -> str:
    difference = calibration.probability - calibration.share
    gap = f"{abs(difference) * 100:.1f} percentage points"
    if not calibration.differs:
        if abs(difference) > _RELEVANT_GAP:
            return f"The difference of {gap} may be due to chance: these images, or their groups, are too few to tell."
        return "On average, the probabilities are about right, as far as these images show."
    if difference > 0:
        return f"The probabilities are too high by {gap} on average: the model is more confident than it should be."
    return f"The probabilities are too low by {gap} on average: the model is more cautious than it needs to be."


def of_target(target: CoverageTarget) -> str:
    """Return what reaching an accuracy costs, and on how many images this rests."""
    goal, kept = percent(target.accuracy, 0), target.kept
    if target.threshold is None:
        return (
            f"These images do not prove that a threshold reaches {goal} accuracy. This takes at least "
            f"{count(fewest_images(target.accuracy))} without a mistake, or more with some."
        )
    limits = f"(95 % confidence interval {interval(kept)})"
    if target.turned_away == 0:
        return (
            f"The accuracy is at least {goal} without leaving any image to a person: {percent(kept.value)} of "
            f"{count(kept.n)} {limits}."
        )
    return (
        f"To reach {goal} accuracy, leave {percent(target.turned_away)} of the images to a person: those with a "
        f"probability below {threshold(target.threshold)}. Of the other {count(kept.n)}, {percent(kept.value)} are "
        f"right {limits}."
    )


def of_typicality(typicality: TypicalityFigures) -> str:
    """Return what the typicality of the images means."""
    if too_few := too_few_references(typicality.n_references):
        return too_few
    low = typicality.low
    start = (
        f"{percent(low.value)} of the images have a typicality of at most {LOW} ({interval(low)}). Of images from "
        "where the training images came from, about 5 % do."
    )
    if low.low > LOW:
        return f"{start} These images differ from the training images: another camera, place, time or kind of object."
    if low.high > _TOO_WIDE * LOW:
        return f"{start} These images, or their groups, are too few to tell whether they differ."
    return f"{start} The images are about as ordinary as the training images."


def listed(names: Sequence[str], n: int = 10) -> str:
    """Return the first few names."""
    return first_few(names, short, n)
