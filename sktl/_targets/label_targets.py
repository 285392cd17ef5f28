"""Several labels for each sample: convert an indicator `y` and `class_weight` to zeros, ones and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np

from sktl._short_text import first_shown, shown_value
from sktl._utils.similar_names import resemblances
from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

from .base_targets import Targets
from .folds import stratify
from .label_checks import warn_of_similar_labels
from .outputs import LabelOutputs
from .sample_groups import check_groups
from .sample_weights import as_weight, check_sample_weight
from .target_tables import Table

# Of fewer images, each may have exactly one of two labels by chance.
_FEWEST_OF_TWO = 10


@dataclass(frozen=True)
class LabelTargets(Targets):
    """Which labels each sample has.

    Parameters
    ----------
    classes : array of shape (n_labels,)
        Names of the labels, or their positions.
    indicator : float64 array of shape (n_samples, n_labels)
        1 if a sample has a label and 0 otherwise.
    weights : float64 array of shape (n_samples,)
    groups : int array of shape (n_samples,) or None
    label_weights : float64 array of shape (2, n_labels) or None
        Weights of the samples without and with each label, with mean 1 for each label. None weights all equally.
    doubt : float64 array of shape (n_labels,) or float
        Probability of the opposite that every sample is trained with. It is not 0 for labels that all samples have, or
        none, because their probabilities would otherwise become 1 or 0.
    """

    classes: np.ndarray
    indicator: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None
    label_weights: np.ndarray | None = None
    doubt: np.ndarray | float = 0.0

    @property
    def loss(self) -> str:
        return "binary_cross_entropy"

    @property
    def outputs(self) -> LabelOutputs:
        return LabelOutputs(self.classes)

    @property
    def rank(self) -> np.ndarray:
        weights = np.empty((0, len(self.classes))) if self.label_weights is None else self.label_weights
        return canonical_rank(np.concatenate([self.indicator[self.counted()], weights]))

    def counts(self) -> np.ndarray:
        """Return the number of samples with each label."""
        return self.indicator.sum(axis=0).astype(np.int64)

    def values(self) -> np.ndarray:
        return self.indicator * (1 - 2 * self.doubt) + self.doubt

    def memberships(self) -> np.ndarray:
        return self.indicator

    def ranked_weights(self, rank: np.ndarray) -> np.ndarray:
        if self.label_weights is None:
            return self.weights[:, None]
        of_labels = np.where(self.indicator > 0, self.label_weights[1], self.label_weights[0])
        return np.ascontiguousarray((self.weights[:, None] * of_labels)[:, np.argsort(rank)])

    def _of_samples(self, rows: np.ndarray | slice) -> dict[str, Any]:
        return {"indicator": self.indicator[rows]}

    def learnable(self, weights: np.ndarray) -> np.ndarray:
        has = self.indicator[weights > 0] > 0
        with_and_without = np.stack([~has.all(axis=0), has.any(axis=0)])
        if self.label_weights is not None:
            with_and_without &= self.label_weights > 0
        return np.asarray(with_and_without.all(axis=0))

    def scored(self, learned: np.ndarray) -> np.ndarray:
        # Samples without a label favor the strongest penalty if no sample with the label is scored, and vice versa.
        has, counted = self.indicator > 0, learned & (self.weights > 0)[:, None]
        return np.asarray(learned & (counted & has).any(axis=0) & (counted & ~has).any(axis=0))

    def trained_with(self, weights: np.ndarray) -> Self:
        """Return the targets with other weights in training, and with doubt where a label is then constant."""
        laplace = 1 / (np.count_nonzero(weights) + 2)  # the rule of succession
        return replace(self, weights=weights, doubt=np.where(self.learnable(weights), 0.0, laplace))

    def restricted(self, rows: np.ndarray, present: np.ndarray | None = None) -> Self:
        some, others = self.take(rows), self.take(rows if present is None else present)
        learned = others.learnable(others.weights)
        return some._columns(np.flatnonzero(learned)) if learned.any() else some

    @property
    def is_trivial(self) -> bool:
        return not self.learnable(self.weights).any()

    def ordered(self) -> Self:
        return self._columns(np.argsort(self.rank))

    def narrowed(self, n_columns: int, rng: np.random.RandomState) -> tuple[np.ndarray, Self]:
        drawn = rng.permutation(len(self.classes))[:n_columns]
        return np.flatnonzero(self.weights > 0), self._columns(np.sort(drawn))

    def _columns(self, columns: np.ndarray) -> Self:
        label_weights = None if self.label_weights is None else self.label_weights[:, columns]
        indicator = np.ascontiguousarray(self.indicator[:, columns])
        return replace(
            self,
            classes=self.classes[columns],
            indicator=indicator,
            label_weights=label_weights,
            doubt=np.broadcast_to(self.doubt, len(self.classes))[columns],
        )

    def _strata(self) -> np.ndarray:
        # Whichever is rarer, so that neither all samples with a label nor all samples without it end up in one part.
        return np.where(self.indicator.mean(axis=0) > 0.5, 1 - self.indicator, self.indicator)

    def _hold_out_samples(self, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        parts = stratify(self._strata(), np.array([1 - fraction, fraction]), np.random.RandomState(seed))
        if min(np.bincount(parts, minlength=2)) < 1:
            raise ValueError("one part would be empty")
        return np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)

    def scarcity(self) -> str:
        return f" with {len(self.classes)} labels"

    def of_validation(self, y: Any, sample_weight: Any, n_samples: int) -> Self:
        table = Table.of(y, "y_val")
        if table.values.shape != (n_samples, len(self.classes)):
            raise InvalidInputError(
                f"y_val has shape {table.values.shape}; pass {n_samples} rows, one for each image of X_val, and "
                f"{len(self.classes)} columns, one for each label of y."
            )
        indicator = indicator_of(table, self.outputs, "y_val", "y")
        weights = check_sample_weight(sample_weight, n_samples, "X_val")
        found = replace(self, indicator=indicator, weights=weights, groups=None)
        if not found.ranked_weights(np.arange(len(self.classes))).any():
            raise InvalidInputError(
                "X_val has only labels of weight zero (see class_weight and sample_weight_val). Pass images with other "
                "labels, too."
            )
        return found


def canonical_rank(columns: np.ndarray) -> np.ndarray:
    """Return the position of each column in an order that depends on the contents of the columns alone."""
    return np.argsort(np.lexsort(columns[::-1]), kind="stable")


def check_indicator(
    y: Any, sample_weight: Any, class_weight: Any, n_samples: int, rows: np.ndarray | None = None, groups: Any = None
) -> LabelTargets:
    """Check labels and weights of `n_samples` images. Return the targets of the images in `rows`, or of all images.

    Raises
    ------
    InvalidInputError
        If `y` is not a table of zeros and ones with a row for each image, or weights or groups do not match.
    InvalidParameterError
        If `class_weight` does not match the labels.
    """
    table = Table.of(y, "y")
    if len(table.values) != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has {len(table.values)} rows (inconsistent numbers of samples). Pass one "
            "row for each image."
        )
    indicator = zeros_and_ones(table, "y")
    classes = _names_of(table)
    if rows is None:  # otherwise, all rows have been checked before
        _warn_of_one_hot(indicator, y)
        warn_of_similar_labels(classes)
        _warn_of_sides(class_weight, classes)
    weights, numbers = check_sample_weight(sample_weight, n_samples), check_groups(groups, n_samples)
    label_weights, totals, weighed = _weigh(classes, indicator, weights, class_weight)
    known = np.zeros_like(totals, dtype=bool)
    if rows is not None:
        known = weighed == 0
        indicator, weights, numbers = indicator[rows], weights[rows], None if numbers is None else numbers[rows]
        label_weights, totals, weighed = _weigh(classes, indicator, weights, class_weight)
    has_zeros = bool((weighed > 0).sum() < (totals > 0).sum() or not weights.all())
    _warn_of_constant(classes, (weighed == 0) & ~known, has_zeros)
    return LabelTargets(classes, indicator, weights, numbers, label_weights).trained_with(weights)


def _weigh(
    classes: np.ndarray, indicator: np.ndarray, weights: np.ndarray, class_weight: Any
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the weights of the labels, and the total weights of the samples without and with each, before and after.

    Each is an array of shape (2, n_labels), except weights of labels that are None.
    """
    # Not by a BLAS, in which the bits of a column depend on its position.
    totals = (weights[:, None] * np.stack([1 - indicator, indicator])).sum(axis=1)
    label_weights = _label_weights(class_weight, classes, totals)
    return label_weights, totals, totals if label_weights is None else totals * label_weights


def _warn_of_one_hot(indicator: np.ndarray, y: Any) -> None:
    """Warn if all images have exactly one of several labels, as one-hot classes do."""
    n_images, n_labels = indicator.shape
    is_chance = n_labels == 2 and n_images < _FEWEST_OF_TWO
    if n_labels < 2 or is_chance or (indicator.sum(axis=1) != 1).any():
        return
    remedy = "y.idxmax(axis=1)" if hasattr(y, "idxmax") else "np.argmax(y, axis=1)"
    warn(
        f"Every image has exactly one of the {n_labels} labels of y. If y holds one-hot classes, pass one "
        f"class for each image, {remedy}. If images may have several labels, y is right as it is.",
        InputWarning,
    )


def _names_of(table: Table) -> np.ndarray:
    """Return the names of the labels, or their positions.

    Scores of scikit-learn sort the names, and take tuples for rows of labels.
    """
    if table.names is None:
        return np.arange(table.values.shape[1])
    if not any(all(isinstance(name, kind) for name in table.names) for kind in (str, Real)):
        raise InvalidInputError(
            f"y has the columns {first_shown(table.names)}. Names of labels must be all strings or all numbers: rename "
            "the columns, for instance with y.columns = [*map(str, y.columns)]."
        )
    if empty := [name for name in table.names if isinstance(name, str) and not name.strip()]:
        raise InvalidInputError(
            f"y has a label with an empty name, {shown_value(empty[0])}. Rename the column, or drop it if it marks "
            "images without labels, as in tables of str.get_dummies."
        )
    return np.fromiter(table.names, dtype=object)


def _warn_of_constant(classes: np.ndarray, is_constant: np.ndarray, has_zeros: bool) -> None:
    """Warn of labels in which all samples of nonzero weight are alike.

    Parameters
    ----------
    classes : array of shape (n_labels,)
    is_constant : bool array of shape (2, n_labels)
        Whether there are no samples of nonzero weight without and with each label.
    has_zeros : bool
        Whether samples have weight zero, which the warning mentions.
    """
    besides = ", apart from images of weight zero" if has_zeros else ""
    for whose, constant in zip(("Every image has", "No image has"), is_constant, strict=True):
        if constant.any():
            warn(
                f"{whose} the label {first_shown(classes[constant].tolist())}{besides}. It cannot be "
                "learned, and its probability will be about the same for all images.",
                InputWarning,
            )


def indicator_of(y: Any, outputs: LabelOutputs, name: str, owner: str) -> np.ndarray:
    """Return the zeros and ones of a table of the labels that `outputs` predicts, as float64.

    Raises
    ------
    InvalidInputError
        If `y` is not a table of zeros and ones, or has other columns than `outputs`. `name` is the name of `y` in the
        message, and `owner` the owner of the outputs.
    """
    table = Table.of(y, name)
    outputs.check_columns(table.values.shape[1], table.names, name, owner)
    return zeros_and_ones(table, name)


def zeros_and_ones(table: Table, name: str) -> np.ndarray:
    """Return the zeros and ones of a table of labels as float64.

    Raises
    ------
    InvalidInputError
        If the table contains anything else. `name` is its name in the message.
    """
    if len(of_strings := table.columns_of_strings()):
        raise InvalidInputError(_about_strings(table, of_strings, name))
    values = table.numbers(name, "a label of an image is 0 or 1")
    if len(wrong := np.argwhere((values != 0) & (values != 1))):
        raise InvalidInputError(
            f"{table.cell(name, *wrong[0])} is {values[tuple(wrong[0])]:g}, but a table of several labels has only 0 "
            "and 1. For one label for each image, pass shape (n_samples,); for numbers, use PretrainedImageRegressor; "
            "for several columns of classes, wrap the classifier in MultiOutputClassifier."
        )
    return values


def _about_strings(table: Table, columns: Sequence[int], name: str) -> str:
    """Return the message about strings in some columns of a table of labels."""
    with contextlib.suppress(TypeError, ValueError):
        if np.isin(table.values.astype(np.float64), (0, 1)).all():
            numbers = f"np.array({name}, dtype=float)" if table.names is None else f"{name}.astype(float)"
            return f"{name} has 0 and 1 as strings. Pass numbers: {numbers}."
    n_columns = table.values.shape[1]
    if len(columns) < n_columns:
        names = columns if table.names is None else [table.names[i] for i in columns]
        return (
            f"{name} has strings in {len(columns)} of its {n_columns} columns: {first_shown(names)}. Leave out columns "
            "of strings: a table of several labels has only 0 and 1."
        )
    answers = sorted({*table.values.ravel().tolist()}, key=str)
    # Names of an image's labels would not be repeated in its row.
    if len(answers) == 2 and any(len({*row}) < n_columns for row in table.values.tolist()):
        array = name if table.names else f"np.array({name})"
        return (
            f"{name} has the strings {first_shown(answers)}. For several labels per image, pass a table that is true "
            f"for the labels of an image, such as {array} == {shown_value(answers[1])}; for several columns of "
            "classes, wrap the classifier in MultiOutputClassifier."
        )
    rows = name if table.names is None else f"{name}.to_numpy()"  # a data frame would iterate over names of columns
    return (
        f"{name} has several columns of strings. For several labels per image, pass a table of 0 and 1, such as "
        f"MultiLabelBinarizer().fit_transform({rows}); for several columns of classes, wrap the classifier in "
        "MultiOutputClassifier."
    )


def _warn_of_sides(class_weight: Any, classes: np.ndarray) -> None:
    """Warn of weights of the labels 0 and 1 that may be meant for images without and with each label."""
    n_labels = len(classes)
    if n_labels < 3 or not isinstance(class_weight, Mapping) or set(class_weight) != {0, 1}:
        return
    if classes.tolist() == [*range(n_labels)]:
        warn(
            f"class_weight={shown_value(class_weight)} weights the images that have label 0, and those that have label "
            f"1. To weight images without (0) and with (1) each label, pass [{shown_value(class_weight)}] * "
            f"{n_labels}. Otherwise, name the other labels, too, with weight 1.",
            InputWarning,
        )


def _label_weights(
    class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None,
    classes: np.ndarray,
    totals: np.ndarray,
) -> np.ndarray | None:
    """Return the weights of the samples without and with each label.

    They have mean 1 for each label: the weights of a label change neither its penalty nor other labels.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):  # "balanced"
        found = np.divide(1, totals, out=np.zeros_like(totals), where=totals > 0)
    elif isinstance(class_weight, Mapping):
        found = np.stack([np.ones(len(classes)), _weights_by_label(class_weight, classes.tolist())])
    else:
        found = _weights_by_side(class_weight, len(classes))
    means = (found * totals).sum(axis=0) / totals.sum(axis=0)
    if not np.isfinite(means).all() or (found < 0).any() or not means.all():
        raise InvalidParameterError(
            f"class_weight={shown_value(class_weight)} must give weights that are finite, not negative, and not all "
            "zero for the images of any label."
        )
    if means.min() < np.finfo(np.float64).tiny:
        raise InvalidParameterError(
            f"class_weight={shown_value(class_weight)} gives weights as small as {means.min():g}, beyond float64. "
            "Scale them to about 1."
        )
    return found / means


def _weights_by_label(weights: Mapping[Any, float], labels: list[Any]) -> list[float]:
    """Return the weights of the samples with each label."""
    if unknown := [label for label in weights if label not in labels]:
        raise InvalidParameterError(
            f"class_weight has labels that y does not have: {first_shown(unknown)}. y has "
            f"{first_shown(labels)}. {resemblances(unknown, labels)}".rstrip()
        )
    return [_weight(weights, label, "class_weight") for label in labels]


def _weights_by_side(weights: Sequence[Mapping[Any, float]], n_labels: int) -> np.ndarray:
    """Return the weights of the samples without and with each label, which has a dict of both."""
    are_dicts = all(isinstance(of_label, Mapping) and set(of_label) <= {0, 1} for of_label in weights)
    if len(weights) != n_labels or not are_dicts:
        raise InvalidParameterError(
            f"class_weight={shown_value(weights)} must have one dict with the keys 0 and 1 for each of the {n_labels} "
            "labels."
        )
    of_labels = [*enumerate(weights)]
    return np.array([[_weight(of, side, f"class_weight[{i}]") for i, of in of_labels] for side in (0, 1)])


def _weight(weights: Mapping[Any, float], key: Any, name: str) -> float:
    return as_weight(weights[key], f"{name}[{shown_value(key)}]") if key in weights else 1.0
