"""`PredictionsDisplay`: images with their labels and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._images.samples import Sample
from sktl._targets.labels import check_labels, codes_of
from sktl._utils.isolation import isolated
from sktl._utils.optional import require
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .drawing import WRONG, axes_grid, check_count, letters_across, picture_cell, show_picture, with_percent
from .thumbnails import read_pictures, samples_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SELECTIONS = ("samples", "errors", "losses")
_SIDE = 512
# Tolerance around 0 and 1, because probabilities may be means of float32 values.
_ROUNDING = 1e-6


class PredictionsDisplay:
    """Grid of images with their labels, predictions and predicted probabilities.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        Images to show, uint8, of any sizes.
    y_true : ndarray of shape (n_images,)
        Labels of the images.
    y_pred : ndarray of shape (n_images,)
        Most probable label of each image.
    proba_true, proba_pred : ndarray of shape (n_images,)
        Predicted probabilities of `y_true` and of `y_pred`, in [0, 1].
    positions : ndarray of shape (n_images,)
        Positions of the images in the `X` that they were selected from.
    select : {"samples", "errors", "losses"}, default="samples"
        How the images were selected; see :meth:`from_predictions`.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_images,)
        Axes of each image; a single one with a sentence if there is no image.
    figure_ : matplotlib Figure

    See Also
    --------
    SaliencyDisplay : Regions of an image that support a class.
    sklearn.metrics.ConfusionMatrixDisplay : How often each class is mistaken for another.

    Examples
    --------
    >>> import numpy as np
    >>> from sktl import PredictionsDisplay
    >>> X = np.zeros((3, 8, 8), np.uint8)
    >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]
    >>> display = PredictionsDisplay.from_predictions(X, ["cat", "dog", "dog"], proba, select="errors")
    >>> display.positions, display.y_pred
    (array([1]), array(['cat'], dtype='<U3'))
    """

    axes_: np.ndarray
    figure_: Figure

    def __init__(
        self,
        images: Sequence[np.ndarray],
        *,
        y_true: np.ndarray,
        y_pred: np.ndarray,
        proba_true: np.ndarray,
        proba_pred: np.ndarray,
        positions: np.ndarray,
        select: str = "samples",
    ):
        self.images = images
        self.y_true = y_true
        self.y_pred = y_pred
        self.proba_true = proba_true
        self.proba_pred = proba_pred
        self.positions = positions
        self.select = select

    @classmethod
    @isolated()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        select: str = "samples",
        n_images: int = 12,
        random_state: int | np.random.RandomState | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        n_columns: int = 4,
    ) -> PredictionsDisplay:
        """Draw predictions of a fitted classifier.

        Parameters
        ----------
        estimator : classifier with `predict_proba` and `classes_`
            A :class:`PretrainedImageClassifier`, or a search, pipeline or ensemble with one.
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : array-like of shape (n_samples,)
            Labels of the images.
        select : {"samples", "errors", "losses"}, default="samples"
            As in :meth:`from_predictions`.
        n_images : int, default=12
            As in :meth:`from_predictions`.
        random_state : int, RandomState or None, default=None
            As in :meth:`from_predictions`.
        image_shape : tuple of int, default=None
            Shape of one image, if `X` contains flattened rows. None uses the estimator's `image_shape`.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        n_columns : int, default=4
            As in :meth:`plot`.

        Returns
        -------
        display : PredictionsDisplay
            The display, drawn, with the computed values as attributes.

        Raises
        ------
        MissingPackageError, InvalidParameterError, InvalidInputError, InvalidImageError
            As in :meth:`from_predictions`.
        """
        require("matplotlib", f"{cls.__name__}.from_estimator", "sktl[plot]")
        _check_choice(select, n_images, n_columns)
        samples = samples_for(estimator, X, image_shape)
        proba, classes = estimator.predict_proba(X), estimator.classes_
        display = cls._choose(samples, y, proba, classes, select, n_images, random_state)
        return display.plot(ax=ax, n_columns=n_columns)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_proba: Any,
        *,
        classes: Any = None,
        select: str = "samples",
        n_images: int = 12,
        random_state: int | np.random.RandomState | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        n_columns: int = 4,
    ) -> PredictionsDisplay:
        """Draw predictions from probabilities, for instance from the result of `cross_val_predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats. Only images that are
            shown are read.
        y_true : array-like of shape (n_samples,)
            Labels of the images.
        y_proba : array-like of shape (n_samples, n_classes)
            The probability of each class.
        classes : array-like of shape (n_classes,), default=None
            Label of each column of `y_proba`. None uses the sorted labels in `y_true`.
        select : {"samples", "errors", "losses"}, default="samples"
            Which images are shown. `"samples"` selects random images and shows them in the order of `X`. `"errors"`
            selects wrong predictions, beginning with the highest probability of the wrong label. `"losses"` selects the
            images with the highest log loss, which have the lowest probability of the true label.
        n_images : int, default=12
            Maximum number of images to show, at least 1.
        random_state : int, RandomState or None, default=None
            Controls the selection of random images. None draws different images each time.
        image_shape : tuple of int, default=None
            Shape of one image, if `X` contains flattened rows.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        n_columns : int, default=4
            As in :meth:`plot`.

        Returns
        -------
        display : PredictionsDisplay
            The display, drawn, with the computed values as attributes.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidParameterError
            If `select`, `n_images` or `n_columns` has an invalid value.
        InvalidInputError
            If `X`, labels and probabilities have inconsistent shapes, or probabilities are not in [0, 1].
        InvalidImageError
            If images to show cannot be read.
        """
        require("matplotlib", f"{cls.__name__}.from_predictions", "sktl[plot]")
        _check_choice(select, n_images, n_columns)
        classes = np.unique(check_labels(y_true, "y_true")) if classes is None else classes
        samples = samples_for(None, X, image_shape)
        display = cls._choose(samples, y_true, y_proba, classes, select, n_images, random_state)
        return display.plot(ax=ax, n_columns=n_columns)

    @classmethod
    def _choose(
        cls,
        samples: Sequence[Sample],
        y_true: Any,
        y_proba: Any,
        classes: Any,
        select: str,
        n_images: int,
        random_state: int | np.random.RandomState | None,
    ) -> PredictionsDisplay:
        classes, proba = np.asarray(classes), _probabilities(y_proba)
        codes = _codes(len(samples), check_labels(y_true, "y_true"), proba, classes)
        winners = proba.argmax(axis=1)
        rows = np.arange(len(samples))
        proba_true, proba_pred = proba[rows, codes], proba[rows, winners]
        if select == "samples":
            rng = random_state
            if not isinstance(rng, np.random.RandomState):
                rng = np.random.RandomState(rng)  # with None, seeded by the system and not by NumPy's global state
            chosen = np.sort(rng.permutation(len(samples))[:n_images])
        elif select == "errors":
            wrong = np.flatnonzero(winners != codes)
            chosen = wrong[np.argsort(-proba_pred[wrong], kind="stable")][:n_images]
        else:
            chosen = np.argsort(proba_true, kind="stable")[:n_images]
        return cls(
            read_pictures(samples, chosen.tolist(), _SIDE),
            y_true=classes[codes[chosen]],
            y_pred=classes[winners[chosen]],
            proba_true=proba_true[chosen],
            proba_pred=proba_pred[chosen],
            positions=chosen,
            select=select,
        )

    def plot(self, *, ax: Any = None, n_columns: int = 4) -> PredictionsDisplay:
        """Draw the images, upright and uncropped; titles of wrong predictions contain the true label.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            Single axes are divided into a grid. From an array of axes, the first ones are used. None creates a new
            figure.
        n_columns : int, default=4
            Maximum number of images in a row.

        Returns
        -------
        display : PredictionsDisplay
            The display itself.
        """
        require("matplotlib", f"{type(self).__name__}.plot", "sktl[plot]")
        lines = 3 if np.array_equal(self.y_pred, self.y_true) else 4
        n = max(1, len(self.images))
        self.figure_, self.axes_ = axes_grid(ax, n, n_columns, picture_cell(self.images, lines))
        letters = letters_across(ax, self.axes_)
        for i, pixels in enumerate(self.images):
            show_picture(self.axes_[i], pixels)
            title, colour = self._title(i, letters)
            self.axes_[i].set_title(title, color=colour, fontsize="small", parse_math=False)
        if not self.images:
            self.axes_[0].set_axis_off()
            nothing = "no wrong prediction" if self.select == "errors" else "no image"
            self.axes_[0].text(0.5, 0.5, nothing, ha="center", va="center", transform=self.axes_[0].transAxes)
        return self

    def _title(self, i: int, letters: int) -> tuple[str, str]:
        """Return the title and color of an image; the title also shows without color whether it is wrong."""
        guess = with_percent(self.y_pred[i], self.proba_pred[i], letters)
        if self.y_pred[i] == self.y_true[i]:
            return guess, "black"
        return f"{guess}\n{with_percent(f'true: {self.y_true[i]}', self.proba_true[i], letters)}", WRONG


def _check_choice(select: str, n_images: int, n_columns: int) -> None:
    if select not in _SELECTIONS:
        raise InvalidParameterError(f"select={select!r} must be one of {', '.join(map(repr, _SELECTIONS))}.")
    check_count(n_images, "n_images")
    check_count(n_columns, "n_columns")


def _probabilities(y_proba: Any) -> np.ndarray:
    try:
        proba = np.asarray(y_proba, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Probabilities must be numbers: {error}") from error
    legal = (proba >= -_ROUNDING) & (proba <= 1 + _ROUNDING)  # also False for NaN
    if not legal.all():
        position = np.argwhere(~legal)[0]
        raise InvalidInputError(
            f"y_proba{position.tolist()} is {proba[tuple(position)]}, but probabilities lie in [0, 1]: pass the result "
            "of predict_proba, not of decision_function."
        )
    return proba.clip(0, 1)


def _codes(n_samples: int, y_true: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Check the arguments, and return the position of each label in `classes`."""
    if y_true.shape != (n_samples,):
        raise InvalidInputError(
            f"There are {n_samples} images, but the labels have shape {y_true.shape}. Pass one label for each image."
        )
    if proba.shape != (n_samples, len(classes)):
        raise InvalidInputError(
            f"Probabilities have shape {proba.shape}; for {n_samples} images and {len(classes)} classes, it must be "
            f"({n_samples}, {len(classes)}). Pass classes=estimator.classes_ if a class has no images."
        )
    remedy = "Pass classes=estimator.classes_, or leave these images out"
    return codes_of(y_true.tolist(), classes, "y_true", "the estimator", remedy)
