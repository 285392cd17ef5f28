"""Suspicious labels: images whose label is improbable for models that were not trained on them.

The probability of the own label ranks wrong labels well. Two things make it better. Models learn from wrong labels, so
they are fitted a second time without the most suspicious. And copies have labels of their own, which count as votes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.targets import Targets

from .issues import Issue
from .out_of_fold import Learner, OutOfFold, out_of_fold
from .subjects import Subjects

# Another label must be at least this many times as probable as the label given.
_ODDS = 10.0
# Residuals beyond this many standard deviations, of a normal distribution with the same median of absolute residuals.
_DEVIATIONS = 5.0
_NORMAL = 1.4826


@dataclass(frozen=True)
class LabeledRows:
    """Targets of usable training images, in several forms.

    Attributes
    ----------
    targets : Targets
        Their groups are images with equal files and, if there are any, groups of the user.
    plain : array
        In the form of `y`.
    rows : int array
        Positions of the images among the usable images.
    groups : int array or None
        Groups for a cross-validation generator.
    """

    targets: Targets
    plain: np.ndarray
    rows: np.ndarray
    groups: np.ndarray | None


@dataclass(frozen=True)
class Votes:
    """Labels of the copies of each image. Each different file has one vote, and so does the model.

    Attributes
    ----------
    sums : float64 array of shape (n_samples, n_columns)
    counts : float64 array of shape (n_samples,)
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, targets: Targets, contents: np.ndarray, components: np.ndarray) -> Votes:
        """Return the votes for images, from the numbers of their contents and of the components of copies."""
        memberships = targets.memberships().astype(np.float64)
        if isinstance(targets, LabelTargets):
            memberships = targets.indicator
        _, first, contents = np.unique(contents, return_index=True, return_inverse=True)
        _, components = np.unique(components, return_inverse=True)
        of_content = _sums(memberships, contents) / np.bincount(contents)[:, None]
        of_component = _sums(of_content, components[first])
        n_contents = np.bincount(components[first])
        return cls(of_component[components] - of_content[contents], (n_contents[components] - 1).astype(np.float64))

    def added_to(self, found: OutOfFold) -> OutOfFold:
        """Return probabilities in which copies have votes. Predictions of numbers have no votes."""
        if not self.sums.shape[1]:
            return found
        return replace(found, values=(found.values + self.sums) / (1 + self.counts)[:, None])


def _sums(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(numbers.max(initial=-1)) + 1, rows.shape[1]))
    np.add.at(sums, numbers, rows)
    return sums


@dataclass(frozen=True)
class LabelModel:
    """Predictions for the training images, and what predicts other images.

    Attributes
    ----------
    found : OutOfFold
        Predictions for the training images, in which copies have votes.
    learner : Learner
    labeled : LabeledRows
        What it learns from.
    trusted : bool array of shape (n_samples,)
        Images whose labels are learned from.
    """

    found: OutOfFold
    learner: Learner
    labeled: LabeledRows
    trusted: np.ndarray

    @classmethod
    def of(cls, learner: Learner, labeled: LabeledRows, votes: Votes, cv: Any, seed: int) -> LabelModel:
        """Return the model. For classes, it does not learn from the labels that are suspicious at first."""
        targets, plain, rows, groups = labeled.targets, labeled.plain, labeled.rows, labeled.groups
        tuned = learner.tuned(targets, rows)
        found = votes.added_to(out_of_fold(tuned, targets, plain, rows, cv, groups, seed))
        trusted = np.ones(len(rows), dtype=bool)
        if isinstance(targets, ClassTargets) and learner.features is not None:
            trusted = _trusted(targets, found.values)
        if not trusted.all():
            kept = np.flatnonzero(trusted)
            tuned = learner.tuned(targets.take(kept), rows[kept])
            found = votes.added_to(out_of_fold(tuned, targets, plain, rows, cv, groups, seed, trusted))
        return cls(found, tuned, labeled, trusted)

    def predict(self, wanted: np.ndarray) -> np.ndarray:
        """Return predictions for other images."""
        targets, plain, rows = self.labeled.targets, self.labeled.plain, self.labeled.rows
        return self.learner.predict(rows[self.trusted], plain[self.trusted], wanted, targets)


def is_learned(targets: Targets, found: OutOfFold) -> np.ndarray:
    """Return whether the class of each image occurs in other folds, so that it could be learned there."""
    if not isinstance(targets, ClassTargets):
        return np.ones(len(targets), dtype=bool)
    counts = np.zeros((len(targets.classes), found.n_folds + 1))
    np.add.at(counts, (targets.codes, found.folds), 1)
    return counts.sum(axis=1)[targets.codes] > counts[targets.codes, found.folds]


def _trusted(targets: ClassTargets, probabilities: np.ndarray) -> np.ndarray:
    """Return whether to learn from each label: all that are not suspicious, and all of a class that mostly is."""
    own = probabilities[np.arange(len(targets)), targets.codes]
    suspicious = np.nan_to_num(probabilities).max(axis=1) > _ODDS * np.nan_to_num(own, nan=1.0)
    shares = np.bincount(targets.codes, suspicious, len(targets.classes)) / np.bincount(targets.codes)
    return ~suspicious | (shares > 0.5)[targets.codes]


def label_issues(
    targets: Targets, values: np.ndarray, known: np.ndarray, numbers: np.ndarray, subjects: Subjects
) -> Iterator[Issue]:
    """Yield the suspicious labels.

    Parameters
    ----------
    targets : Targets
        Targets of some images; codes of classes outside of `targets.classes` are -1.
    values : float64 array of shape (n_samples, n_columns)
        Predictions for them; NaN if there is none.
    known : bool array of shape (n_samples,)
        Whether the model could have learned the image's class.
    numbers : int array of shape (n_samples,)
        Numbers of the images among all images.
    subjects : Subjects
    """
    judge = _judge_of(targets, values)
    for row in np.flatnonzero(known & np.isfinite(values).all(axis=1)).tolist():
        if (finding := judge(row)) is not None:
            yield Issue(kind="suspicious_label", **subjects.describe(int(numbers[row])), **finding)


def _judge_of(targets: Targets, values: np.ndarray) -> Callable[[int], dict[str, Any] | None]:
    """Return the function from the row of an image to its finding, if there is one."""
    if isinstance(targets, ClassTargets):
        return partial(_judge_class, targets, values)
    if isinstance(targets, LabelTargets):
        return partial(_judge_labels, targets, values)
    given = targets.outputs.observed(targets.values()).reshape(len(values), -1)
    spread = _NORMAL * np.nanmedian(np.abs(values - given), axis=0)
    return partial(_judge_numbers, given, values, np.maximum(spread, np.finfo(np.float32).eps))


def _judge_class(targets: ClassTargets, values: np.ndarray, row: int) -> dict[str, Any] | None:
    own, best = values[row, targets.codes[row]], int(values[row].argmax())
    if values[row, best] < _ODDS * own or best == targets.codes[row]:
        return None
    suggested = str(targets.outputs.names()[best])
    share = values[row, best] / values[row].sum()
    return {
        "score": float(1 - own),
        "suggestion": f"Probably {suggested} ({share:.0%}). Look at it: relabel it, keep it, or drop it.",
        "suggested_label": suggested,
    }


def _judge_labels(targets: LabelTargets, values: np.ndarray, row: int) -> dict[str, Any] | None:
    has = targets.indicator[row] > 0
    own = np.where(has, values[row], 1 - values[row])
    wrong = 1 - own >= _ODDS * own
    if not wrong.any():
        return None
    names = np.array([str(name) for name in targets.outputs.names()], dtype=object)
    advice = [
        f"{verb} {', '.join(names[wrong & side])}"
        for verb, side in (("add", ~has), ("remove", has))
        if (wrong & side).any()
    ]
    return {
        "score": float(1 - own.min()),
        "suggestion": f"Probably {' and '.join(advice)}. Look at it: relabel it, keep it, or drop it.",
        "suggested_label": ", ".join(names[has ^ wrong]),
    }


def _judge_numbers(given: np.ndarray, values: np.ndarray, spread: np.ndarray, row: int) -> dict[str, Any] | None:
    far = np.abs(values[row] - given[row]) / spread
    if far.max() <= _DEVIATIONS:
        return None
    column = int(far.argmax())
    return {
        "score": float(1 - 1 / far.max()),
        "suggestion": f"Rather {values[row, column]:.4g} than {given[row, column]:.4g}. Check the number.",
        "suggested_label": ", ".join(f"{value:.4g}" for value in values[row]),
    }
