"""`y` and `sample_weight` to class codes and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite, column_or_1d, compute_class_weight
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils.multiclass import check_classification_targets

from .exceptions import InvalidInputError, InvalidParameterError


@dataclass(frozen=True)
class Targets:
    """What is learned: the classes, and for each sample its class and its weight.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        Sorted labels, in their own dtype.
    codes : int64 array of shape (n_samples,)
        Position in `classes`.
    weights : float64 array of shape (n_samples,)
        Sample weight times class weight.
    """

    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Targets:
        """Return those of some samples."""
        return Targets(self.classes, self.codes[rows], self.weights[rows])

    def relative_weights(self) -> np.ndarray:
        """Return the weights relative to their mean."""
        return self.weights / self.weights.mean()


def check_targets(
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[Any, float] | str | None,
    n_samples: int,
    kept: np.ndarray | None = None,
) -> Targets:
    """Check labels and weights of `n_samples` images; return those of the images kept, or of all.

    Raises
    ------
    InvalidInputError
        If `y` is not one label per image of at least two classes, or `sample_weight` not one finite weight per image.
    InvalidParameterError
        If `class_weight` does not fit the classes.
    """
    labels = check_labels(y)
    if len(labels) != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has {len(labels)} labels (inconsistent numbers of samples). Pass one "
            "label for each image."
        )
    weights = _check_sample_weight(sample_weight, n_samples)
    if kept is not None:
        labels, weights = labels[kept], weights[kept]
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InvalidInputError(
            f"y has only one class, {classes.tolist()[0]!r}; a classifier needs images of at least two classes."
        )
    weights = weights * _class_weights(class_weight, classes, codes, weights)[codes]
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidParameterError(
            f"class_weight={class_weight!r} must give weights that are finite, not negative and not all zero."
        )
    return Targets(classes, codes.astype(np.int64), weights)


def check_validation_targets(y: Any, sample_weight: Any, classes: np.ndarray, n_samples: int) -> Targets:
    """Check labels and weights of a validation set, whose labels must be among the classes.

    Raises
    ------
    InvalidInputError
        If they are not, or do not fit the number of images.
    """
    labels = check_labels(y)
    if len(labels) != n_samples:
        raise InvalidInputError(f"X_val has {n_samples} images but y_val has {len(labels)} labels. Pass one for each.")
    codes = {label: code for code, label in enumerate(classes.tolist())}
    unknown = sorted({str(label) for label in labels.tolist() if label not in codes})
    if unknown:
        raise InvalidInputError(
            f"y_val has labels that y does not have: {', '.join(unknown[:5])}. Remove these images."
        )
    positions = np.array([codes[label] for label in labels.tolist()], dtype=np.int64)
    return Targets(classes, positions, _check_sample_weight(sample_weight, n_samples))


def hold_out(targets: Targets, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of training and validation samples, each class in both in the same proportion.

    Raises
    ------
    InvalidParameterError
        If there are too few samples for that.
    """
    try:
        train, held_out = train_test_split(
            np.arange(len(targets.codes)), test_size=fraction, stratify=targets.codes, random_state=seed
        )
    except ValueError as error:
        counts = np.bincount(targets.codes, minlength=len(targets.classes))
        rarest = targets.classes.tolist()[int(counts.argmin())]
        raise InvalidParameterError(
            f"early_stopping=True cannot hold out validation_fraction={fraction:g} of {len(targets.codes)} images with "
            f"{len(targets.classes)} classes, of which {rarest!r} has {counts.min()}: {error} Pass X_val and y_val, "
            "another validation_fraction, or early_stopping=False."
        ) from error
    for rows, part in ((train, "training"), (held_out, "validation")):
        if not targets.weights[rows].any():
            raise InvalidParameterError(
                f"early_stopping=True left only images of weight zero in the {part} part. Pass X_val and y_val, "
                "another validation_fraction, or another random_state."
            )
    return np.sort(train), np.sort(held_out)


def check_labels(y: Any) -> np.ndarray:
    if y is None:
        raise InvalidInputError(
            "The classifier requires y to be passed, but the target y is None. Pass one label for each image."
        )
    try:
        if isinstance(y, list | tuple):
            # NumPy makes "nan" of NaN among strings, and "1" of 1: look at the labels themselves.
            labels = np.array(y, dtype=object)
            kinds = {label.dtype.kind if isinstance(label, np.generic) else type(label) for label in labels.flat}
            y = labels if labels.ndim == 1 and str in kinds and len(kinds) > 1 else y
        labels = np.asarray(column_or_1d(y, warn=True))
        if labels.dtype.kind in "OT":
            return _check_object_labels(labels.astype(object))
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
    except InvalidInputError:
        raise
    except (ValueError, TypeError) as error:
        hint = "y must hold one label for each image: names, integers or booleans."
        raise InvalidInputError(f"{error} {hint}") from error
    return labels


def _check_object_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels of an object array: strings as they are, integers and booleans in their own dtype."""
    for position, label in enumerate(labels):
        if not isinstance(label, str | bool | int | np.bool_ | np.integer):
            found = "a missing value" if _is_missing(label) else f"a {type(label).__name__}"
            raise InvalidInputError(
                f"Unknown label type: y[{position}] is {found}, {label!r}. Labels are strings, integers or booleans."
            )
    kinds = {str if isinstance(x, str) else bool if isinstance(x, bool | np.bool_) else int for x in labels}
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidInputError(f"y mixes labels of types {names}; convert them to one type, for instance with str.")
    return labels if kinds == {str} else np.array(labels.tolist())


def _is_missing(label: Any) -> bool:
    return label is None or is_scalar_nan(label) or type(label).__name__ in ("NAType", "NaTType")


def _check_sample_weight(sample_weight: Any, n_samples: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_samples)
    try:
        weights = np.array(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"sample_weight must hold numbers: {error}") from error
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.shape != (n_samples,):
        raise InvalidInputError(
            f"sample_weight has shape {weights.shape}, but X has {n_samples} images: pass shape ({n_samples},)."
        )
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        raise InvalidInputError(
            f"sample_weight[{wrong[0]}] is {weights[wrong[0]]}; weights must be finite and not negative."
        )
    if not weights.any():
        raise InvalidInputError("sample_weight is all zero: Sample weights must contain at least one non-zero number.")
    return weights


def _class_weights(
    class_weight: Mapping[Any, float] | str | None, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    if class_weight == "balanced":
        totals = np.bincount(codes, weights)
        return np.divide(weights.sum(), len(classes) * totals, out=np.zeros(len(classes)), where=totals > 0)
    try:
        return np.asarray(compute_class_weight(class_weight, classes=classes, y=classes[codes]))
    except ValueError as error:
        raise InvalidParameterError(f"class_weight={class_weight!r} does not fit y: {error}") from error
