"""Check the arguments of an audit: images, labels, groups and the estimator, as values that the checks work on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from sktl._estimators.base import PretrainedImageBase
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._estimators.wrapped_estimators import freezes_predictor, images_for, own_estimators, parameter, samples_for
from sktl._images.input_containers import as_items, check_image_shape
from sktl._images.lazy_images import LazyImages
from sktl._ranking.cv_and_scoring import check_splits
from sktl._short_text import shown_value
from sktl._targets.base_targets import Targets
from sktl._targets.class_codes import class_codes
from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.number_targets import NumberTargets, number_columns, suggesting_classification, suggesting_regression
from sktl._targets.outputs import LogitOutputs
from sktl._targets.sample_groups import check_groups
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .issues import Issue
from .shared_groups import shared_groups
from .subjects import MOST_EXACT, Part, Subjects


@dataclass(frozen=True)
class Given:
    """The checked arguments.

    Attributes
    ----------
    subjects : Subjects
    targets, test_targets : Targets or None
    shared_groups : list of Issue
    """

    subjects: Subjects
    targets: Targets | None
    test_targets: Targets | None
    shared_groups: list[Issue]

    @classmethod
    def of(cls, X: Any, y: Any, groups: Any, X_test: Any, y_test: Any, groups_test: Any, estimator: Any) -> Given:
        """Return the arguments of `audit_images`, checked."""
        if y_test is not None and (X_test is None or y is None):
            raise InvalidInputError("y_test needs X_test and y: pass them too.")
        parts = {"train": check_part(X, estimator, "X")}
        n_train = len(parts["train"].samples)
        targets = test_targets = None
        if y is not None:
            targets = check_targets(estimator, y, n_train)
            parts["train"] = with_targets(parts["train"], targets, y)
        if X_test is not None:
            parts["test"] = check_part(X_test, estimator, "X_test")
        if y_test is not None:
            assert targets is not None
            test_targets = check_test_targets(targets, y_test, len(parts["test"].samples))
            parts["test"] = with_targets(parts["test"], test_targets, y_test)
        subjects = Subjects(parts, check_groups(groups, n_train))
        n_test = len(parts["test"].samples) if "test" in parts else None
        return cls(subjects, targets, test_targets, shared_groups(groups, groups_test, n_train, n_test))

    @property
    def kind(self) -> str:
        """What `y` has for each image: "classes", "labels", "numbers" or, without `y`, ""."""
        kinds: dict[Any, str] = {ClassTargets: "classes", LabelTargets: "labels", NumberTargets: "numbers"}
        return kinds.get(type(self.targets), "")

    @property
    def classes(self) -> np.ndarray:
        """Classes or names of labels."""
        outputs = None if self.targets is None else self.targets.outputs
        return outputs.classes if isinstance(outputs, LogitOutputs) else np.empty(0, dtype="U1")


def check_estimator(estimator: Any, random_state: Any) -> tuple[Any, PretrainedImagePredictor, int]:
    """Return the estimator, the estimator of sktl whose network computes features, and a seed.

    Raises
    ------
    InvalidParameterError
        If `estimator` predicts neither labels nor numbers, or `random_state` or one of its parameters is invalid.
    """
    default = PretrainedImageClassifier(random_state=random_state)
    default._check_parameters()
    (seed,) = default._draw_seeds(1)
    if estimator is None:
        estimator = PretrainedImageClassifier(random_state=seed)
    if isinstance(estimator, type):
        raise InvalidParameterError(
            f"estimator is the class {estimator.__name__}: pass an instance, {estimator.__name__}()."
        )
    if not hasattr(estimator, "__sklearn_tags__") or not (is_classifier(estimator) or is_regressor(estimator)):
        raise InvalidParameterError(
            f"estimator={shown_value(estimator)} must be a classifier or a regressor, such as "
            "PretrainedImageClassifier()."
        )
    if is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        raise InvalidParameterError(
            f"estimator={shown_value(estimator)} has no predict_proba, which reveals suspicious labels. Choose another "
            "one."
        )
    if freezes_predictor(estimator):
        raise InvalidParameterError(
            f"estimator={shown_value(estimator)} has a FrozenEstimator, which is not fitted again without the images "
            "that it predicts. Pass the estimator in it, FrozenEstimator.estimator, instead."
        )
    found = next(own_estimators(estimator), None)
    computes = found if isinstance(found, PretrainedImagePredictor) else _like(found, seed)
    computes._check_parameters()
    return estimator, computes, seed


def check_folds(cv: Any) -> Any:
    """Return `cv`, with an iterable as a list, because its folds are needed twice.

    Raises
    ------
    InvalidParameterError
        If the number of folds is too small. Other folds are checked when they are made.
    """
    is_number, can_split = isinstance(cv, Integral), callable(getattr(cv, "split", None))
    if isinstance(cv, str | bool) or (is_number and cv < 2) or not (is_number or can_split or isinstance(cv, Iterable)):
        raise InvalidParameterError(f"cv={shown_value(cv)} must be at least 2 folds, or a cross-validation generator.")
    return cv if is_number or can_split else list(cv)


def folds_of_usable(cv: Any, targets: Targets, groups: np.ndarray | None, numbers: np.ndarray, seed: int) -> Any:
    """Return the folds of the usable images, as positions among them; a number of folds remains a number.

    All images are divided, because folds may be given by position, and then those that cannot be used are left out.

    Parameters
    ----------
    cv : int, cross-validation generator or list
    targets : Targets
        Targets of all images in `X`.
    groups : int array of shape (n_samples,) or None
        Groups for a generator.
    numbers : int array of shape (n_usable,)
        Positions of the usable images.
    seed : int

    Raises
    ------
    InvalidParameterError
        If `cv` does not suit `y`.
    """
    if isinstance(cv, Integral):
        return cv
    of_image = np.full(len(targets), -1)
    of_image[numbers] = np.arange(len(numbers))
    splits = check_splits(cv, targets, targets.outputs.observed(targets.values()), groups, seed)
    mapped = ([of_image[rows] for rows in split] for split in splits)
    return [(train[train >= 0], held_out[held_out >= 0]) for train, held_out in mapped]


def keep_together(folds: Any, groups: np.ndarray) -> bool:
    """Return True for folds that do not divide a group: a number of them, or positions as of `folds_of_usable`."""
    if isinstance(folds, Integral):
        return True
    return not any(np.isin(groups[train], groups[held_out]).any() for train, held_out in folds)


def _like(encoder: PretrainedImageBase | None, seed: int) -> PretrainedImagePredictor:
    """Return a classifier with the network of an encoder."""
    if encoder is None:
        return PretrainedImageClassifier(random_state=seed)
    parameters = set(PretrainedImageClassifier().get_params()) - {"feature_stages"}
    given = {name: value for name, value in encoder.get_params(deep=False).items() if name in parameters}
    return PretrainedImageClassifier(**given)


def check_part(X: Any, estimator: Any, name: str) -> Part:
    """Return the images of `X` or `X_test`, without labels. Unusable images are found when they are read."""
    try:
        items = as_items(images_for(estimator, X), check_image_shape(parameter(estimator, "image_shape")))
        if isinstance(items, LazyImages) and not isinstance(X, LazyImages):
            X = items = LazyImages(X)  # which fits of the same images recognize, so that each is read once
        return Part(items, samples_for(estimator, X, lenient=True), [""] * len(items), given=X)
    except InvalidInputError as error:
        if name == "X":
            raise
        raise InvalidInputError(f"{name}: {error}") from None


def check_targets(estimator: Any, y: Any, n_samples: int) -> Targets:
    """Return the targets for what the estimator predicts."""
    own = estimator
    if not isinstance(estimator, PretrainedImagePredictor):
        own = PretrainedImageRegressor() if is_regressor(estimator) else PretrainedImageClassifier()
    if is_regressor(own):
        with suggesting_classification("pass estimator=PretrainedImageClassifier()"):
            return own._check_targets(y, None, n_samples)
    try:
        with suggesting_regression(y, "pass estimator=PretrainedImageRegressor()"):
            return own._check_targets(y, None, n_samples)
    except InvalidInputError as error:
        if not str(error).startswith("y has only one class"):
            raise
        raise InvalidInputError(f"{error} Pass y=None to audit the images alone.") from None


def check_test_targets(targets: Targets, y_test: Any, n_samples: int) -> Targets:
    """Return the targets of the test images, which may have classes of their own."""
    if not isinstance(targets, ClassTargets):
        try:
            return targets.of_validation(y_test, None, n_samples)
        except InvalidInputError as error:
            raise InvalidInputError(str(error).replace("_val", "_test")) from None
    names, codes = class_codes(y_test, targets.classes, "y_test")
    if len(codes) != n_samples:
        raise InvalidInputError(f"X_test has {n_samples} images but y_test has {len(codes)} labels. Pass one for each.")
    classes = np.fromiter([*targets.classes.tolist(), *names[len(targets.classes) :]], dtype=object)
    return ClassTargets(classes, codes.astype(np.int64), np.ones(n_samples))


def among(targets: ClassTargets, classes: np.ndarray) -> tuple[ClassTargets, np.ndarray]:
    """Return targets with the codes of other classes, and whether each image's class is one of these."""
    columns = {label: column for column, label in enumerate(classes.tolist())}
    new = np.array([columns.get(label, -1) for label in targets.classes.tolist()], dtype=np.int64)
    codes = new[targets.codes]
    return replace(targets, classes=classes, codes=np.maximum(codes, 0)), codes >= 0


def with_targets(part: Part, targets: Targets, y: Any) -> Part:
    """Return a part with the labels of its images. Numbers are those of `y`: targets are rounded."""
    if isinstance(targets, ClassTargets):
        names = [str(label) for label in targets.classes.tolist()]
        return replace(part, labels=[names[code] for code in targets.codes], values=targets.codes[:, None])
    if isinstance(targets, LabelTargets):
        names = [str(name) for name in targets.outputs.names()]
        labels = [", ".join(names[i] for i in np.flatnonzero(row > 0)) for row in targets.indicator]
        return replace(part, labels=labels, values=targets.indicator)
    numbers = number_columns(y, "y")
    return replace(part, labels=[", ".join(map(_number_text, row)) for row in numbers], values=numbers)


def _number_text(number: float) -> str:
    """Return a number for people. Whole numbers are not rounded, so that different numbers look different."""
    is_whole = number == np.floor(number) and abs(number) < MOST_EXACT
    return f"{number:z.0f}" if is_whole else f"{number:.10g}"
