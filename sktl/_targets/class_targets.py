"""One class for each sample: convert `y` and `class_weight` to class codes and weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from sklearn.model_selection import train_test_split

from sktl._short_text import first_shown, shown_value
from sktl._utils.similar_names import resemblances
from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

from .base_targets import Targets
from .class_codes import codes_of
from .joined_labels import find_joined
from .label_checks import check_labels, warn_of_similar_labels
from .outputs import ClassOutputs
from .sample_groups import check_groups
from .sample_weights import as_weight, check_sample_weight, has_mean

# With more images than this, numbers are probably not classes if more than half of them are different.
_MANY = 20
# What pandas, NumPy, `str`, databases and spreadsheets convert missing values to. NA may be a name.
_CONVERTED_MISSING = {"nan", "NaN", "NaT", "None", "<NA>", "N/A", "n/a", "#N/A", "null", "NULL"}


@dataclass(frozen=True)
class ClassTargets(Targets):
    """The class and the weight of each sample.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        Sorted labels in their own dtype.
    codes : int64 array of shape (n_samples,)
        Position of each sample's label in `classes`.
    weights : float64 array of shape (n_samples,)
        Sample weight times class weight.
    groups : int array of shape (n_samples,) or None
    class_weights : float64 array of shape (n_classes,) or None
        Weights by which validation samples are also multiplied.
    """

    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None
    class_weights: np.ndarray | None = None

    @property
    def loss(self) -> str:
        return "cross_entropy"

    @property
    def outputs(self) -> ClassOutputs:
        return ClassOutputs(self.classes)

    @property
    def rank(self) -> np.ndarray:
        return _appearance(self.codes[self.counted()], len(self.classes))

    def memberships(self) -> np.ndarray:
        return self.codes[:, None] == np.arange(len(self.classes))

    def counts(self) -> np.ndarray:
        """Return the number of samples of each class."""
        return np.bincount(self.codes, minlength=len(self.classes))

    def values(self) -> np.ndarray:
        return self.codes

    def ranked_values(self, rank: np.ndarray) -> np.ndarray:
        return rank[self.codes]

    def ranked_weights(self, rank: np.ndarray) -> np.ndarray:
        return self.weights

    def _of_samples(self, rows: np.ndarray | slice) -> dict[str, Any]:
        return {"codes": self.codes[rows]}

    def learnable(self, weights: np.ndarray) -> np.ndarray:
        return np.bincount(self.codes, weights, len(self.classes)) > 0

    def scored(self, learned: np.ndarray) -> np.ndarray:
        return np.take_along_axis(learned, self.codes[:, None], axis=1)[:, 0]

    def restricted(self, rows: np.ndarray, present: np.ndarray | None = None) -> Self:
        found = np.unique(self.codes[rows if present is None else present])
        codes = np.searchsorted(found, self.codes[rows]).astype(np.int64)
        weights = None if self.class_weights is None else self.class_weights[found]
        return replace(self.take(rows), classes=self.classes[found], codes=codes, class_weights=weights)

    def losing(self, rows: np.ndarray) -> np.ndarray:
        return np.flatnonzero(~np.isin(self.codes, self.codes[rows]))

    @property
    def is_trivial(self) -> bool:
        return len(self.classes) < 2

    def ordered(self) -> Self:
        rank = self.rank
        order = np.argsort(rank)
        weights = None if self.class_weights is None else self.class_weights[order]
        return replace(self, classes=self.classes[order], codes=rank[self.codes], class_weights=weights)

    def narrowed(self, n_columns: int, rng: np.random.RandomState) -> tuple[np.ndarray, Self]:
        weighted = np.unique(self.codes[self.counted()])
        drawn = weighted[rng.permutation(len(weighted))[:n_columns]]
        return np.flatnonzero((self.weights > 0) & np.isin(self.codes, drawn)), self

    def _strata(self) -> np.ndarray:
        return self.codes

    def _hold_out_samples(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        self._check_counts(fraction)
        rows = np.arange(len(self))
        train, held_out = train_test_split(rows, test_size=fraction, stratify=self.codes, random_state=seed)
        return train, held_out

    def _check_counts(self, fraction: float) -> None:
        """Raise `ValueError` if some class cannot be in both parts. Scikit-learn's message would list codes."""
        counts = self.counts()
        if 1 in counts:
            names = first_shown(self.classes[counts == 1].tolist())
            raise ValueError(f"each class needs at least two images, and these have one: {names}")
        n_held_out = math.ceil(fraction * len(self))
        if min(n_held_out, len(self) - n_held_out) < len(counts):
            raise ValueError(
                f"the parts would have {len(self) - n_held_out} and {n_held_out} images, and each needs one of each "
                "class"
            )

    def scarcity(self) -> str:
        counts = self.counts()
        rarest = self.classes.tolist()[int(counts.argmin())]
        return f" with {len(self.classes)} classes, of which {shown_value(rarest)} has {counts.min()}"

    def of_validation(self, y: Any, sample_weight: Any, n_samples: int) -> Self:
        labels = check_labels(y, "y_val")
        if len(labels) != n_samples:
            raise InvalidInputError(
                f"X_val has {n_samples} images but y_val has {len(labels)} labels. Pass one for each."
            )
        remedy = "Remove these images, or convert the labels"
        codes = codes_of(labels.tolist(), self.classes, "y_val", "y", remedy)
        weights = check_sample_weight(sample_weight, n_samples, "X_val")
        if self.class_weights is not None:
            weights = weights * self.class_weights[codes]
        if not weights.any():
            raise InvalidInputError(
                "X_val has only images of weight zero (see class_weight and sample_weight_val). Pass images of other "
                "classes, too."
            )
        return replace(self, codes=codes, weights=weights, groups=None)


def check_classes(
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None,
    n_samples: int,
    rows: np.ndarray | None = None,
    groups: Any = None,
) -> ClassTargets:
    """Check labels and weights of `n_samples` images. Return the targets of the images in `rows`, or of all images.

    Raises
    ------
    InvalidInputError
        If `y` is not one label per image with at least two classes of nonzero weight, `sample_weight` is not one finite
        weight per image, or `groups` is not one group per image.
    InvalidParameterError
        If `class_weight` does not match the classes.
    """
    labels = check_labels(y, warns=rows is None)  # otherwise, all rows have been checked before
    if isinstance(y, np.ndarray) and y.dtype.kind == "T":  # scikit-learn fails to split it and to score predictions
        raise InvalidInputError("y has dtype StringDType, which scikit-learn does not support. Pass y.astype(object).")
    if len(labels) != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has {len(labels)} labels (inconsistent numbers of samples). Pass one "
            "label for each image."
        )
    weights = check_sample_weight(sample_weight, n_samples)
    numbers = check_groups(groups, n_samples)
    if rows is not None:
        labels, weights, numbers = labels[rows], weights[rows], None if numbers is None else numbers[rows]
    classes, codes = np.unique(labels, return_inverse=True)
    _check_distinct(labels, classes)
    if rows is None:
        _warn_of_converted(labels, classes)
        _warn_of_numbers(labels, classes)
        _warn_of_joined(classes)
        warn_of_similar_labels(classes)
    class_weights = _class_weights(class_weight, classes, codes, weights)
    weights = weights * class_weights[codes]
    _check_weighted(classes, codes, weights, class_weight)
    if rows is None:
        _warn_of_unweighted(classes, np.bincount(codes, weights))
    return ClassTargets(classes, codes.astype(np.int64), weights, numbers, class_weights)


def _check_distinct(labels: np.ndarray, classes: np.ndarray) -> None:
    """Raise `InvalidInputError` for a single class and for names of files."""
    if len(classes) < 2:
        # Meta-estimators pass several labels one at a time, as 0 and 1.
        of_several = " If this is one of several labels, some images must have it, and some must not."
        raise InvalidInputError(
            f"y has only one class, {shown_value(classes.tolist()[0])}; a classifier needs images of at least two "
            f"classes.{of_several if classes[0] in (0, 1) else ''}"
        )
    if len(classes) == len(labels) and _is_file(first := classes.tolist()[0]):
        raise InvalidInputError(
            f"y has names of files, such as {shown_value(first)}, each only once: X and y may be swapped, or "
            "the parts of a split unpacked in another order than X_train, X_test, y_train, y_test. Pass the images "
            "as X and their labels as y."
        )


def _check_weighted(classes: np.ndarray, codes: np.ndarray, weights: np.ndarray, class_weight: Any) -> None:
    """Raise an error for weights of samples, class weights included, with which no classifier can be trained."""
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidParameterError(
            f"class_weight={shown_value(class_weight)} must give weights that are finite, not negative and not all "
            "zero."
        )
    if not has_mean(weights):
        raise InvalidParameterError(
            f"class_weight={shown_value(class_weight)} gives weights up to {weights.max():g}, beyond float64. Scale "
            "them to about 1."
        )
    if len(weighed := np.unique(codes[weights > 0])) < 2:
        raise InvalidInputError(
            f"y has only one class whose images have a weight above zero, {shown_value(classes.tolist()[weighed[0]])}; "
            "a classifier needs images of at least two classes."
        )


def _warn_of_converted(labels: np.ndarray, classes: np.ndarray) -> None:
    """Warn of classes that are named as missing values are once they have been converted to strings."""
    if found := [label for label in classes.tolist() if label in _CONVERTED_MISSING]:
        warn(
            f"y has the label {first_shown(found)} for {np.isin(labels, found).sum()} images. Programs write "
            "this text for missing values. If it stands for a missing label, drop these images.",
            InputWarning,
        )


def _warn_of_numbers(labels: np.ndarray, classes: np.ndarray) -> None:
    """Warn of numbers that are probably not classes, because most of them are different."""
    if labels.dtype.kind in "iuf" and len(labels) > _MANY and len(classes) > len(labels) / 2:
        warn(
            f"y has {len(classes)} different numbers for {len(labels)} images. A classifier treats each as a class "
            "and ignores their order.",
            InputWarning,
        )


def _warn_of_joined(classes: np.ndarray) -> None:
    """Warn if a class seems to consist of several labels, such as "cat;dog"."""
    if joined := find_joined([label for label in classes.tolist() if isinstance(label, str)]):
        warn(
            f"y has the class {shown_value(joined.name)}, and {joined.evidence}. If images have several labels, pass "
            f"pandas.Series(y).str.get_dummies({joined.separator!r}) as y.",
            InputWarning,
        )


def _warn_of_unweighted(classes: np.ndarray, totals: np.ndarray) -> None:
    """Warn of classes with a total weight of 0. They stay classes, as in scikit-learn."""
    if (totals == 0).any():
        warn(
            f"All images of {first_shown(classes[totals == 0].tolist())} in y have weight zero. Training ignores these "
            "images, but each of their labels is a class. If it is not one, leave the images out.",
            InputWarning,
        )


def _is_file(label: Any) -> bool:
    """Return True if a label is the name of an existing file with a suffix. A file may have any other label's name."""
    return isinstance(label, str) and bool(os.path.splitext(label)[1]) and os.path.isfile(label)


def _class_weights(
    class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None,
    classes: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Return the weight of each class."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):  # "balanced"
        totals = np.bincount(codes, weights)
        return np.divide(weights.sum(), len(classes) * totals, out=np.zeros(len(classes)), where=totals > 0)
    if not isinstance(class_weight, Mapping):
        raise InvalidParameterError(
            f"class_weight={shown_value(class_weight)} is for several labels per image. Pass a dict with the weight of "
            "each class, or 'balanced'."
        )
    of_each: dict[Any, float] = {}
    for label in classes.tolist():
        if label in class_weight:
            of_each[label] = as_weight(class_weight[label], f"class_weight[{shown_value(label)}]")
    if len(of_each) < min(len(classes), len(class_weight)):
        others = [label for label in class_weight if label not in of_each]
        raise InvalidParameterError(
            f"class_weight has labels that y does not have: {first_shown(others)}. y has "
            f"{first_shown(classes.tolist())}. {resemblances(others, classes.tolist())}".rstrip()
        )
    return np.array([of_each.get(label, 1.0) for label in classes.tolist()])


def _appearance(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the position of each class in the order in which the classes first appear; other classes are last.

    Classes are trained in this order, so renaming classes changes nothing but the names.
    """
    found, first_positions = np.unique(codes, return_index=True)
    first = np.full(n_classes, len(codes))
    first[found] = first_positions
    return np.argsort(np.argsort(first, kind="stable"))
