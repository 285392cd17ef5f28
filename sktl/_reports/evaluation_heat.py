"""Where the model looked in images: Grad-CAM as pictures, drawn without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._estimators.wrapped_estimators import answering, innermost
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.comparisons import NumberComparison
from sktl._evaluation.evaluated_images import taken
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.model_figures import Figures
from sktl._inspection.saliency_display import explain
from sktl._short_text import type_of
from sktl.exceptions import BackboneError, DeviceError

from .page_thumbnails import SIDE

# Colors of matplotlib's "inferno", at equal distances from 0 to 1.
_INFERNO = np.array(
    [(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39),
     (252, 255, 164)], dtype=np.float64,
)  # fmt: skip
_OPACITY = 0.7
_PALE = 0.65


@dataclass(frozen=True, eq=False)
class Maps:
    """Images under maps of what supports an answer.

    Parameters
    ----------
    pictures : list of uint8 array of shape (H, W, 3)
    targets : tuple
        What each map explains: a class, a label, or the position of a number.
    """

    pictures: list[np.ndarray]
    targets: tuple[Any, ...]


def maps_of(estimator: Any, X: Any, rows: np.ndarray, targets: Sequence[Any]) -> Maps | str:
    """Return some images of `X` under maps of what supports a target, or the reason why there are no maps.

    Parameters
    ----------
    estimator : fitted estimator
    X : array-like of shape (n_images, ...)
    rows : int array of shape (n_explained,)
        Positions of the images to explain.
    targets : sequence of shape (n_explained,)
        A class, label or position of a number for each of them.
    """
    (inner, _), answers = innermost(estimator), answering(estimator)
    # What raises a number may lower the same number on another scale.
    is_other_number = isinstance(inner, PretrainedImageRegressor) and answers is not inner
    if is_other_number or not isinstance(inner, PretrainedImageClassifier | PretrainedImageRegressor):
        return f"Maps of where the model looked are unavailable for {type_of(answers)}."
    if find_spec("captum") is None:
        return "To see where the model looked, install captum: pip install 'sktl[explain]'."
    if not len(rows):
        return Maps([], ())
    inner, seen = innermost(estimator, taken(X, rows))
    try:
        images, heats, _ = explain(inner, seen, np.fromiter(targets, dtype=object))
    except (BackboneError, DeviceError) as error:
        return str(error)
    pictures = [_small(overlaid(image, heat)) for image, heat in zip(images, heats, strict=True)]
    return Maps(pictures, tuple(targets))


def _small(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image with a map of values in [0, 1] over it; where the map is NaN, the image is pale."""
    unseen = np.isnan(heat)
    values = np.where(unseen, 0.0, heat)
    stops = np.linspace(0, 1, len(_INFERNO))
    colors = np.stack([np.interp(values, stops, channel) for channel in _INFERNO.T], axis=-1)
    opacity = np.where(unseen, _PALE, _OPACITY * values)[..., None]
    colors[unseen] = 255
    return np.round(image * (1 - opacity) + colors * opacity).astype(np.uint8)


def explained(estimator: Any, figures: Figures, worst: np.ndarray) -> list[Any]:
    """Return what to explain of each of the worst mistakes: the wrong class, or the label or number most in error."""
    if isinstance(figures, ClassFigures):
        return [getattr(estimator, "classes_", figures.classes)[code] for code in figures.y_pred[worst]]
    if isinstance(figures, LabelFigures):
        errors = np.abs(figures.proba - figures.y_true)[worst]
        return [getattr(estimator, "classes_", figures.labels)[k] for k in errors.argmax(axis=1)]
    scale = NumberComparison.of(len(figures.y_true), figures.y_true, figures.y_pred).scale
    errors = np.abs(figures.y_pred - figures.y_true)[worst] / scale
    return [int(k) for k in errors.argmax(axis=1)]
