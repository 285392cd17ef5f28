"""Evaluations with made-up figures, for tests of their pages."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sktl import EvaluationReport
from sktl._estimators.estimator_summary import Fact
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.group_figures import Groups
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.number_figures import NumberFigures
from sktl._evaluation.typicality_figures import TypicalityFigures
from sktl._images.samples import as_samples
from sktl._reports.evaluation_heat import Maps


def probabilities(rng, codes, n_classes):
    """Return random probabilities, which are often highest for the class of an image."""
    logits = rng.normal(size=(len(codes), n_classes))
    logits[np.arange(len(codes)), codes % n_classes] += 2
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def of_classes(classes, n=60, groups=None, seed=0):
    """Return figures of random predictions of classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % len(classes)
    proba = probabilities(rng, codes, len(classes))
    return ClassFigures.of(classes, codes, proba, Groups.of(groups, n), [9] * len(classes))


def of_labels(labels, n=60, groups=None, seed=0):
    """Return figures of random predictions of labels."""
    rng = np.random.default_rng(seed)
    has = rng.integers(0, 2, (n, len(labels)))
    proba = 0.6 * rng.random(has.shape) + 0.4 * has
    return LabelFigures.of(labels, has, proba, Groups.of(groups, n), [9] * len(labels))


def of_numbers(numbers, n=60, groups=None, seed=0):
    """Return figures of random predictions of numbers."""
    rng = np.random.default_rng(seed)
    true, errors = rng.normal(size=(2, n, len(numbers)))
    return NumberFigures.of(numbers, true, true + errors, Groups.of(groups, n))


def report_of(figures, images, names=None, findings=(), typicality=None):
    """Return a report of figures about images, which may repeat."""
    n = len(images)
    worst = figures.worst()[:12]
    if typicality is None:
        typicality = TypicalityFigures.of((np.arange(n) + 1) / n)
    return EvaluationReport(
        figures=figures, positions=np.arange(n), n_images=n, names=tuple(names or (f"X[{i}]" for i in range(n))),
        findings=tuple(findings), typicality=typicality, worst=worst,
        maps=Maps([np.full((32, 32, 3), 99, np.uint8)] * len(worst), tuple(range(len(worst)))),
        facts=(Fact("Network", "small", "backbone_"),), limits=("Limits there are.",), samples=as_samples(images),
    )  # fmt: skip


@st.composite
def answers(draw):
    """Draw probabilities, some of them equal, and whether answers are right."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, digits = draw(st.integers(1, 60)), draw(st.integers(1, 3))
    probabilities = rng.random(n).round(digits) ** draw(st.sampled_from([1.0, 1e-6]))  # most of them just below 1
    return probabilities, rng.random(n) < probabilities ** draw(st.sampled_from([0.2, 1.0, 3.0]))
