"""Suspicious labels: images whose label is improbable for models that were not trained on them.

The probability of the own label ranks wrong labels well. Two things make it better. Models learn from wrong labels, so
they are fitted a second time without the most suspicious. And copies have labels of their own, which count as a vote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sktl._short_text import fitted, percent, rounded
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.number_targets import MAD_TO_STD, NumberTargets

from .copies import divided
from .issues import LETTERS, Issue, Note
from .out_of_fold import Learner, OutOfFold, out_of_fold
from .subjects import Subjects

# Another label must be at least this many times as probable as the label given.
_ODDS = 10.0
# Residuals beyond this many standard deviations, of a normal distribution with the same median of absolute residuals.
_DEVIATIONS = 5.0


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
    """

    targets: Targets
    plain: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Votes:
    """Labels of the copies of each image. All copies together have one vote, and so does the model.

    Copies do not vote if the labels of more than one of them differ from the most common label: such images are often
    photos of one scene, and what tells their classes apart is too small to matter among the pixels.

    Attributes
    ----------
    means : float64 array of shape (n_samples, n_columns)
        Mean labels of the other files, 0 if there is no vote.
    counts : float64 array of shape (n_samples,)
        1 if there is a vote, and otherwise 0.
    """

    means: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, targets: Targets, contents: np.ndarray, components: np.ndarray) -> Votes:
        """Return the votes for images, from the numbers of their contents and of the components of copies."""
        memberships = targets.memberships().astype(np.float64)
        are_divided = np.isin(components, divided(components, targets.values()))
        _, first, contents = np.unique(contents, return_index=True, return_inverse=True)
        _, components = np.unique(components, return_inverse=True)
        of_content = _sums(memberships, contents) / np.bincount(contents)[:, None]
        of_component = _sums(of_content, components[first])
        n_others = np.bincount(components[first])[components] - 1
        counts = ((n_others > 0) & ~are_divided).astype(np.float64)
        sums = of_component[components] - of_content[contents]
        return cls(sums * (counts / np.maximum(n_others, 1))[:, None], counts)

    def added_to(self, found: OutOfFold) -> OutOfFold:
        """Return probabilities in which copies have votes. Predictions of numbers have no votes."""
        if not self.means.shape[1]:
            return found
        return replace(found, values=(found.values + self.means) / (1 + self.counts)[:, None])


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
    alone : OutOfFold
        The same without votes.
    learner : Learner
    labeled : LabeledRows
        What it learns from.
    trusted : bool array of shape (n_samples,)
        Images whose labels are learned from.
    """

    found: OutOfFold
    alone: OutOfFold
    learner: Learner
    labeled: LabeledRows
    trusted: np.ndarray

    @classmethod
    def of(cls, learner: Learner, labeled: LabeledRows, votes: Votes, cv: Any, seed: int) -> LabelModel:
        """Return the model. For classes, it does not learn from the labels that are suspicious at first."""
        targets, plain, rows = labeled.targets, labeled.plain, labeled.rows
        tuned = learner.tuned(targets, rows)
        alone = out_of_fold(tuned, targets, plain, rows, cv, seed)
        trusted = np.ones(len(rows), dtype=bool)
        if isinstance(targets, ClassTargets) and learner.features is not None:
            trusted = _trusted(targets, votes.added_to(alone))
        if not trusted.all():
            # Without weight, the others do not count. The features of those that do would be a copy of nearly all.
            # Their best penalty differs, but hardly ever their best number of stages.
            seen = targets.with_changes(weights=targets.weights * trusted)
            tuned = learner.with_stages(tuned).tuned(seen, rows)
            alone = out_of_fold(tuned, targets, plain, rows, cv, seed, trusted)
        return cls(votes.added_to(alone), alone, tuned, labeled, trusted)

    @property
    def learned(self) -> np.ndarray:
        """Whether each class, label or number could be learned for predictions of other images."""
        targets = self.labeled.targets
        return targets.learnable(targets.weights * self.trusted)

    @property
    def spread(self) -> np.ndarray | None:
        """The standard deviation of the residuals of each number, without those that are far off."""
        targets = self.labeled.targets
        if not isinstance(targets, NumberTargets):
            return None
        residuals = self.found.values - self.labeled.plain.reshape(len(targets), -1)
        spread = MAD_TO_STD * np.nanmedian(np.abs(residuals), axis=0)
        return np.asarray(np.maximum(spread, np.finfo(np.float32).eps * targets.units.scale))

    def predict(self, wanted: np.ndarray) -> np.ndarray:
        """Return predictions for other images."""
        targets, plain, rows = self.labeled.targets, self.labeled.plain, self.labeled.rows
        return self.learner.predict(rows[self.trusted], plain[self.trusted], wanted, targets)


def _trusted(targets: ClassTargets, found: OutOfFold) -> np.ndarray:
    """Return whether to learn from each label: all that are not suspicious, and all of a class that mostly is."""
    own, learned = (table[np.arange(len(targets)), targets.codes] for table in (found.values, found.learned))
    suspicious = learned & (np.nan_to_num(found.values).max(axis=1) > _ODDS * np.nan_to_num(own, nan=1.0))
    shares = np.bincount(targets.codes, suspicious, len(targets.classes)) / np.bincount(targets.codes)
    return ~suspicious | (shares > 0.5)[targets.codes]


def label_issues(
    targets: Targets,
    values: np.ndarray,
    learned: np.ndarray,
    numbers: np.ndarray,
    subjects: Subjects,
    spread: np.ndarray | None = None,
) -> Iterator[Issue]:
    """Yield the suspicious labels.

    Parameters
    ----------
    targets : Targets
        Targets of some images.
    values : float64 array of shape (n_samples, n_columns)
        Predictions for them; NaN if there is none.
    learned : bool array of shape (n_samples, n_columns)
        Whether the model could learn each class, label or number. Only what it could learn is judged.
    numbers : int array of shape (n_samples,)
        Numbers of the images among all images.
    subjects : Subjects
    spread : float64 array of shape (n_columns,) or None
        Standard deviation of the residuals of numbers.
    """
    whole = subjects.whole() if isinstance(targets, NumberTargets) else None
    for row in np.flatnonzero(are_judged(targets, values, learned)).tolist():
        number = int(numbers[row])
        if isinstance(targets, ClassTargets):
            finding = _judge_class(targets, values[row], row)
        elif isinstance(targets, LabelTargets):
            finding = _judge_labels(targets, values[row], learned[row], row)
        else:
            finding = _judge_numbers(subjects.value(number), values[row], spread, whole)
        if finding is not None:
            yield Issue(kind="suspicious_label", **subjects.describe(number), **finding)


def are_judged(targets: Targets, values: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Return whether each image has a class, a label or a number that is judged. The arguments are as for findings."""
    if isinstance(targets, ClassTargets):
        learned = np.take_along_axis(learned, targets.codes[:, None], axis=1)
    return np.asarray(np.isfinite(values).all(axis=1) & learned.any(axis=1))


def unjudged(judged: np.ndarray, reason: str, images: str = "images") -> Iterator[Note]:
    """Yield a note with the number of images whose labels are not judged, if there are any, and the reason."""
    if n := int((~judged).sum()):
        yield Note(f"Labels not judged: {n:,} of {len(judged):,} {images}. {reason}")


def _judge_class(targets: ClassTargets, values: np.ndarray, row: int) -> dict[str, Any] | None:
    code, best = targets.codes[row], int(values.argmax())
    own = values[code]
    if values[best] < _ODDS * own or best == code:
        return None
    suggested = str(targets.outputs.names()[best])
    likely = f"{fitted(suggested, LETTERS)} ({percent(values[best] / values.sum(), 0)})"
    return {
        "score": float(1 - own),
        "suggestion": f"Probably {likely}. Look at it: relabel it, keep it, or drop it.",
        "suggested_label": suggested,
    }


def _judge_labels(targets: LabelTargets, values: np.ndarray, learned: np.ndarray, row: int) -> dict[str, Any] | None:
    has = targets.indicator[row] > 0
    own = np.where(learned, np.where(has, values, 1 - values), 1.0)
    wrong = 1 - own >= _ODDS * own
    if not wrong.any():
        return None
    names = np.array([str(name) for name in targets.outputs.names()], dtype=object)
    advice = [
        f"{verb} {fitted(', '.join(names[wrong & side]), LETTERS)}"
        for verb, side in (("add", ~has), ("remove", has))
        if (wrong & side).any()
    ]
    return {
        "score": float(1 - own.min()),
        "suggestion": f"Probably {' and '.join(advice)}. Look at it: relabel it, keep it, or drop it.",
        "suggested_label": ", ".join(names[has ^ wrong]),
    }


def _judge_numbers(given: Any, values: np.ndarray, spread: Any, whole: Any) -> dict[str, Any] | None:
    """Judge the numbers of an image. Where all numbers are whole, such as counts, suggestions are whole as well."""
    suggested = np.where(whole, np.round(values), values)
    far = np.where(suggested == given, 0, np.abs(values - given) / spread)
    if far.max() <= _DEVIATIONS:
        return None
    column = int(far.argmax())
    likely, is_given = (rounded(number[column], spread[column]) for number in (suggested, given))
    return {
        "score": float(1 - 1 / far.max()),
        "suggestion": f"Rather {likely} than {is_given}. Check the number.",
        "suggested_label": ", ".join(
            f"{value:z.0f}" if is_whole else f"{value:.4g}" for value, is_whole in zip(suggested, whole, strict=True)
        ),
    }
