"""The arguments of an export, checked before anything is computed: which images are used for what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sktl._estimators.saving import check_sizes
from sktl._images.preprocessing import Preprocessing
from sktl._images.problems import as_argument
from sktl._short_text import shown_value, type_of
from sktl.exceptions import InvalidParameterError, TypicalityError
from sktl.runtime.document import PRECISIONS

from .export_paths import FORMATS, Target, check_package
from .reference_images import default_samples
from .verification import DRAWINGS, GivenImage

# Fewer images would neither give ranges nor show what int8 costs.
_LEAST_CALIBRATION = 40
# More images hardly widen ranges.
_MOST_FOR_RANGES = 256
_DEFAULT_DROP = 0.005
# What files compute instead of the estimator, with an output layer and without.
_PREDICTIONS = ("predict", "predict_proba", "decision_function", "typicality")
_FEATURES = ("transform",)
_GENERAL = "Pass a fitted classifier, regressor or encoder of sktl."
# Classifiers with a threshold of their own, and the attributes that hold it.
_THRESHOLDS = {TunedThresholdClassifierCV: "best_threshold_", FixedThresholdClassifier: "threshold"}


@dataclass(frozen=True)
class Images:
    """All images of an export, and which of them are used for what.

    Parameters
    ----------
    given : list of GivenImage
        Drawings, where they are compared, and the images of `calibration` and `verify`, as they were passed.
    for_ranges : int array
        Positions in `given` of the images that determine the ranges of numbers in int8.
    compared : int array
        Positions in `given` of the images on which files are compared with the estimator. Lower precisions are measured
        on them.
    """

    given: list[GivenImage]
    for_ranges: np.ndarray
    compared: np.ndarray

    @classmethod
    def of(cls, estimator: Any, precision: str, calibration: Any, verify: Any) -> Images:
        verified = [] if verify is None else _given(estimator, verify, "verify")
        calibrating = [] if calibration is None else _given(estimator, calibration, "calibration")
        given = calibrating + verified
        if precision == "float32" or not given:  # labels of noise say nothing about what a lower precision costs
            given = _drawings(estimator.backbone_.preprocessing) + given
        if precision != "int8":
            return cls(given, np.arange(0), np.arange(len(given)))
        if len(calibrating) < _LEAST_CALIBRATION:
            raise InvalidParameterError(
                f"calibration has {len(calibrating)} images. Pass at least {_LEAST_CALIBRATION} with "
                'precision="int8", better some hundreds.'
            )
        order = np.random.default_rng(0).permutation(len(calibrating))  # images may be sorted by class
        n_ranges = min(len(calibrating) // 2, _MOST_FOR_RANGES)
        return cls(given, order[:n_ranges], np.append(order[n_ranges:], np.arange(len(calibrating), len(given))))


def check_estimator(estimator: Any) -> None:
    """Raise an error unless this is a fitted estimator whose outputs a file can compute.

    Raises
    ------
    InvalidParameterError
        If it is not an estimator of sktl, or of a subclass with a method of its own for outputs.
    NotFittedError
        If it is not fitted.
    """
    # Not isinstance, because the estimators import this file for their method `export`.
    if isinstance(estimator, type) or not hasattr(estimator, "_fitted_extractor"):
        given = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
        raise InvalidParameterError(
            f"estimator is {'the class' if isinstance(estimator, type) else 'a'} {given}. {_what_to_pass(estimator)}"
        )
    check_is_fitted(estimator)
    check_sizes(estimator.backbone_.preprocessing)
    if method := _own_method(type(estimator), _PREDICTIONS if hasattr(estimator, "net_") else _FEATURES):
        raise InvalidParameterError(
            f"{type(estimator).__name__}.{method} is a method of your own, which the file would not contain. Fit and "
            f"export the class of sktl instead, and apply what {method} adds to the outputs of the file."
        )


def _own_method(kind: type, names: Iterable[str]) -> str | None:
    """Return the first of some methods that a class of the user defines; None if sktl defines them all."""
    for name in names:
        owner = next((base for base in kind.__mro__ if name in vars(base)), None)
        if owner is not None and owner.__module__.partition(".")[0] != __name__.partition(".")[0]:
            return name
    return None


def _what_to_pass(estimator: Any) -> str:
    """Return the advice for what is not an estimator of sktl: which part of it to pass, if it contains one."""
    if hasattr(estimator, "best_estimator_"):
        return "Pass its best_estimator_."
    if isinstance(estimator, TransformedTargetRegressor):
        return "Pass its regressor_. The file does not contain the inverse function: apply it to predictions."
    for kind, threshold in _THRESHOLDS.items():
        if isinstance(estimator, kind):
            return (
                f"Pass its estimator_. The file does not contain {threshold}: compare the probabilities of the second "
                "class with it."
            )
    if isinstance(estimator, Pipeline):
        return _step_to_pass(estimator)
    return _GENERAL


def _step_to_pass(pipeline: Pipeline) -> str:
    """Return the advice for a pipeline: the step that can be exported, and what the file would not contain."""
    steps = [step for _, step in pipeline.steps]
    places = [i for i, step in enumerate(steps) if hasattr(step, "_fitted_extractor")]
    if places and places[-1] < len(steps) - 1:
        return f"Pass its step estimator[{places[-1]}]. The file will contain its outputs, and not the steps after it."
    is_last = bool(places) or _what_to_pass(steps[-1]) != _GENERAL  # the last step may contain what can be exported
    return "Pass its last step, estimator[-1]." if is_last else _GENERAL


def check_precision(precision: Any, calibration: Any, target: Target) -> None:
    """Raise `InvalidParameterError` for a precision that is unknown or impossible with the other arguments."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InvalidParameterError(f"precision={shown_value(precision)} must be {', '.join(map(repr, PRECISIONS))}.")
    if precision != "float32" and not target.format.from_onnx:
        others = " or ".join(found.suffixes[0] for found in FORMATS.values() if found.from_onnx)
        raise InvalidParameterError(
            f"precision={precision!r} is not possible in a {target.format.title}. Export to {others}, or leave "
            'precision="float32".'
        )
    if precision == "float32" and calibration is not None:
        raise InvalidParameterError(
            'calibration is for precision="float16" and "int8". With "float32", pass images as `verify`.'
        )
    if precision == "int8" and calibration is None:
        raise InvalidParameterError(
            f'precision="int8" needs calibration images: pass calibration, at least {_LEAST_CALIBRATION} images like '
            "those of the application, without labels."
        )


def most_drop(max_drop: Any, precision: str) -> float:
    """Return how much a lower precision may cost.

    Raises
    ------
    InvalidParameterError
        If it is invalid, or was passed with float32, which is compared with the estimator exactly.
    """
    if max_drop is None:
        return _DEFAULT_DROP
    if not isinstance(max_drop, Real) or isinstance(max_drop, bool) or not 0 <= float(max_drop) < np.inf:
        raise InvalidParameterError(
            f"max_drop={shown_value(max_drop)} must be a number of at least 0, such as {_DEFAULT_DROP}."
        )
    if precision == "float32":
        raise InvalidParameterError(
            'max_drop is for precision="float16" and precision="int8"; float32 loses nothing. Leave max_drop=None.'
        )
    return float(max_drop)


def check_references(estimator: Any, include_references: Any) -> None:
    """Raise `TypicalityError` if references of typicality should be exported, and the estimator has none."""
    if not isinstance(include_references, bool | np.bool_):
        raise InvalidParameterError(f"include_references is {type_of(include_references)}. Pass True or False.")
    if not include_references:
        return
    if not hasattr(estimator, "_typicality"):
        raise TypicalityError("An encoder has no typicality. Leave include_references=False.")
    if estimator._typicality is None:
        raise TypicalityError(estimator._why_not_typical())


def check_packages(target: Target, precision: str) -> None:
    """Raise `MissingPackageError` if a package is missing."""
    target.check_packages()
    if precision == "int8":
        check_package("onnxruntime", 'precision="int8"')


def notes(estimator: Any) -> tuple[str, ...]:
    """Return what does not travel with the files."""
    notes = []
    if callable(estimator.image_reader):
        notes.append("The function image_reader does not travel with the model. Read images by it before resizing.")
    if estimator.image_shape is not None:
        notes.append("The exported model takes images, not flattened rows as with image_shape.")
    if estimator.precision_ != "float32":
        notes.append(
            f"The estimator computes features in {estimator.precision_}. The exported model does not, and was compared "
            "with the estimator's answers on features in float32."
        )
    return tuple(notes)


def _given(estimator: Any, X: Any, argument: str) -> list[GivenImage]:
    with as_argument(argument):
        found = estimator._as_samples(X, reset=False)
    return [GivenImage(sample, argument, position) for position, sample in enumerate(found)]


def _drawings(preprocessing: Preprocessing) -> list[GivenImage]:
    return [GivenImage(sample, DRAWINGS, position) for position, sample in enumerate(default_samples(preprocessing))]
