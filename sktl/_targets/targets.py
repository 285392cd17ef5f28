"""Convert `y` and `sample_weight` to class codes and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from sktl._utils.warnings import warn
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .labels import as_numbers, check_complete, check_labels, codes_of, first_shown, shown

# With more images than this, numbers are probably not classes if more than half of them are different.
_MANY = 20


@dataclass(frozen=True)
class Targets:
    """The targets of training: the classes, and the class and weight of each sample.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        Sorted labels in their own dtype.
    codes : int64 array of shape (n_samples,)
        Position of each sample's label in `classes`.
    weights : float64 array of shape (n_samples,)
        Sample weight times class weight.
    groups : int array of shape (n_samples,) or None
        Samples of the same group are not split between training and validation.
    """

    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None

    def take(self, rows: np.ndarray | slice) -> Targets:
        """Return the targets of a subset of samples."""
        groups = None if self.groups is None else self.groups[rows]
        return Targets(self.classes, self.codes[rows], self.weights[rows], groups)

    def labels(self) -> np.ndarray:
        """Return the label of each sample."""
        return self.classes[self.codes]


def check_targets(
    y: Any,
    sample_weight: Any,
    class_weight: Mapping[Any, float] | str | None,
    n_samples: int,
    kept: np.ndarray | None = None,
    groups: Any = None,
) -> Targets:
    """Check labels and weights of `n_samples` images. Return the targets of the images in `kept`, or of all images.

    Raises
    ------
    InvalidInputError
        If `y` is not one label per image with at least two classes, `sample_weight` is not one finite weight per image,
        or `groups` is not one group per image.
    InvalidParameterError
        If `class_weight` does not match the classes.
    """
    labels = check_labels(y)
    if len(labels) != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has {len(labels)} labels (inconsistent numbers of samples). Pass one "
            "label for each image."
        )
    weights = check_sample_weight(sample_weight, n_samples)
    numbers = check_groups(groups, n_samples)
    if kept is not None:
        labels, weights, numbers = labels[kept], weights[kept], None if numbers is None else numbers[kept]
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InvalidInputError(
            f"y has only one class, {shown(classes.tolist()[0])}; a classifier needs images of at least two classes."
        )
    if labels.dtype.kind in "iuf" and len(labels) > _MANY and len(classes) > len(labels) / 2:
        warn(
            f"y has {len(classes)} different numbers for {len(labels)} images. A classifier treats each as a class "
            "and ignores their order.",
            UserWarning,
        )
    weights = weights * _class_weights(class_weight, classes, codes, weights)[codes]
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidParameterError(
            f"class_weight={shown(class_weight)} must give weights that are finite, not negative and not all zero."
        )
    return Targets(classes, codes.astype(np.int64), weights, numbers)


def check_validation_targets(y: Any, sample_weight: Any, classes: np.ndarray, n_samples: int) -> Targets:
    """Check labels and weights of a validation set, whose labels must be among the classes.

    Raises
    ------
    InvalidInputError
        If labels are not among the classes, or do not match the number of images.
    """
    labels = check_labels(y, "y_val")
    if len(labels) != n_samples:
        raise InvalidInputError(f"X_val has {n_samples} images but y_val has {len(labels)} labels. Pass one for each.")
    remedy = "Remove these images, or convert the labels"
    positions = codes_of(labels.tolist(), classes, "y_val", "y", remedy)
    return Targets(classes, positions, check_sample_weight(sample_weight, n_samples, "X_val"))


def check_groups(groups: Any, n_samples: int) -> np.ndarray | None:
    """Return the group of each sample as a number; None without groups.

    Raises
    ------
    InvalidInputError
        If there is not one group per image, or a group is missing.
    """
    if groups is None:
        return None
    values = check_complete(groups, "groups")
    if len(values) != n_samples:
        raise InvalidInputError(f"groups has {len(values)} entries, but X has {n_samples} images. Pass one for each.")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def check_sample_weight(sample_weight: Any, n_samples: int, of: str = "X") -> np.ndarray:
    """Return the weights of samples as a float64 array of shape (n_samples,).

    Raises
    ------
    InvalidInputError
        If they are not one number per image, finite, nonnegative and not all zero.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    name = "sample_weight" if of == "X" else "sample_weight_val"
    weights = as_numbers(sample_weight, name)
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.shape != (n_samples,):
        raise InvalidInputError(
            f"{name} has shape {weights.shape}, but {of} has {n_samples} images: pass shape ({n_samples},)."
        )
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        raise InvalidInputError(f"{name}[{wrong[0]}] is {weights[wrong[0]]}; weights must be finite and not negative.")
    if not weights.any():
        raise InvalidInputError(f"{name} is all zero: Sample weights must contain at least one non-zero number.")
    with np.errstate(all="ignore"):
        mean = weights.mean()
        if not np.isfinite(mean) or mean < np.finfo(np.float64).tiny:
            raise InvalidInputError(
                f"{name} has numbers up to {weights.max():g}, beyond float64. Scale them to about 1."
            )
    return weights


def _class_weights(
    class_weight: Mapping[Any, float] | str | None, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the weight of each class."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):  # "balanced"
        totals = np.bincount(codes, weights)
        return np.divide(weights.sum(), len(classes) * totals, out=np.zeros(len(classes)), where=totals > 0)
    of_each = {}
    for label in classes.tolist():
        if label in class_weight:
            of_each[label] = weight = class_weight[label]
            if not isinstance(weight, Real | np.bool_):
                raise InvalidParameterError(
                    f"class_weight[{shown(label)}] is a {type(weight).__name__}, {shown(weight)}; weights are numbers."
                )
    if len(of_each) < min(len(classes), len(class_weight)):
        others = [label for label in class_weight if label not in of_each]
        raise InvalidParameterError(
            f"class_weight has labels that y does not have: {first_shown(others)}. y has "
            f"{first_shown(classes.tolist())}."
        )
    return np.array([float(of_each.get(label, 1.0)) for label in classes.tolist()])


def appearance(codes: np.ndarray) -> np.ndarray:
    """Return the position of each class in the order in which the classes first appear.

    Classes are trained in this order, so renaming classes changes nothing but the names.
    """
    _, first_positions = np.unique(codes, return_index=True)
    return np.argsort(np.argsort(first_positions))
