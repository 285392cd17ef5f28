"""`PredictionsDisplay`: images with their predictions and the true labels or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._estimators.wrapped_estimators import (
    check_instance,
    number_names,
    predicts_labels,
    predicts_numbers,
    samples_for,
)
from sktl._evaluation.comparisons import ClassComparison, Comparison, LabelComparison, NumberComparison
from sktl._evaluation.predicted_values import check_probabilities, class_answers, label_answers
from sktl._images.image_reader import ImageReader
from sktl._images.samples import Sample
from sktl._short_text import shown_value
from sktl._targets.label_checks import check_labels
from sktl._targets.number_targets import suggesting_regression
from sktl._targets.target_tables import is_table
from sktl._utils.arguments import check_count, check_random_state
from sktl._utils.optional import require
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import InvalidParameterError

from .display_thumbnails import read_pictures
from .figure_layout import axes_grid, check_task, letters_across, picture_cell, show_picture, show_text, title_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SELECTIONS = ("samples", "errors", "losses")
_SIDE = 512


class PredictionsDisplay:
    """Grid of images with their predictions, and with the true labels or numbers.

    Create it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        Images to show, uint8, of any sizes.
    y_true : ndarray of shape (n_images,) or (n_images, n_columns)
        Labels of the images; for several labels, a table of 0 and 1; for regression, numbers.
    y_pred : ndarray of shape (n_images,) or (n_images, n_columns)
        Predicted label of each image; for several labels, 1 for each predicted label; for regression, the predicted
        numbers. `from_estimator` shows what `predict` returns, `from_predictions` the most probable labels.
    positions : ndarray of shape (n_images,)
        Positions of the images in `X`.
    proba_true, proba_pred : ndarray of the shape of `y_true`, default=None
        Predicted probabilities of `y_true` and of `y_pred`, in [0, 1]. For several labels, the probabilities that each
        label has the value in `y_true` and in `y_pred`. None for regression.
    select : {"samples", "errors", "losses"}, default="samples"
        How the images were selected; see :meth:`from_predictions`.
    names : ndarray of shape (n_columns,), default=None
        Names of several labels or of several numbers.
    scale : ndarray of shape (n_numbers,), default=None
        For regression, the standard deviation of each number, which is the unit for comparing and rounding errors.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_images,)
        Axes of each image; a single Axes with a sentence if there is no image.
    figure_ : matplotlib Figure

    See Also
    --------
    SaliencyDisplay : Regions of an image that support a class.
    sklearn.metrics.ConfusionMatrixDisplay : How often each class is mistaken for another.
    sklearn.metrics.PredictionErrorDisplay : Predicted numbers against true numbers.

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
        positions: np.ndarray,
        proba_true: np.ndarray | None = None,
        proba_pred: np.ndarray | None = None,
        select: str = "samples",
        names: np.ndarray | None = None,
        scale: np.ndarray | None = None,
    ):
        self.images = images
        self.y_true = y_true
        self.y_pred = y_pred
        self.positions = positions
        self.proba_true = proba_true
        self.proba_pred = proba_pred
        self.select = select
        self.names = names
        self.scale = scale

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
        """Draw predictions of a fitted classifier or regressor.

        Parameters
        ----------
        estimator : classifier with `predict_proba` and `classes_`, or regressor
            A :class:`PretrainedImageClassifier` or :class:`PretrainedImageRegressor`, or a search, pipeline or ensemble
            that contains one.
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats. If the estimator
            contains a :class:`~sklearn.compose.ColumnTransformer`, a table with a column of images.
        y : array-like of shape (n_samples,) or (n_samples, n_columns)
            Labels or numbers of the images, as in `fit`. A data frame must have the same columns as in `fit`, in the
            same order.
        select : {"samples", "errors", "losses"}, default="samples"
            As in :meth:`from_predictions`.
        n_images : int, default=12
            As in :meth:`from_predictions`.
        random_state : int, RandomState or None, default=None
            As in :meth:`from_predictions`.
        image_shape : tuple of int, default=None
            Shape of one image, if `X` contains flattened rows. None uses the `image_shape` of the sktl estimator.
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
        _check_choice(select, n_images, n_columns, random_state)
        check_instance(estimator)
        samples = samples_for(estimator, X, image_shape)
        compared = _predicted(estimator, X, y, len(samples))
        return cls._choose(samples, compared, select, n_images, random_state).plot(ax=ax, n_columns=n_columns)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_proba: Any,
        *,
        task: str = "classification",
        classes: Any = None,
        select: str = "samples",
        n_images: int = 12,
        random_state: int | np.random.RandomState | None = None,
        image_shape: Sequence[int] | None = None,
        image_reader: ImageReader | None = None,
        ax: Any = None,
        n_columns: int = 4,
    ) -> PredictionsDisplay:
        """Draw predictions from probabilities or numbers, for instance from the result of `cross_val_predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats. Only images that are
            shown are read.
        y_true : array-like of shape (n_samples,) or (n_samples, n_columns)
            Labels of the images; a table of 0 and 1 with one column per label; or, with `task="regression"`, numbers.
        y_proba : array-like of shape (n_samples, n_classes) or (n_samples, n_labels)
            The probability of each class or label. With `task="regression"`, the predicted numbers, in the shape of
            `y_true`.
        task : {"classification", "regression"}, default="classification"
            Whether `y_true` contains classes or labels, or numbers.
        classes : array-like of shape (n_classes,) or (n_labels,), default=None
            Label of each column of `y_proba`. None uses the sorted labels in `y_true`; for several labels, the column
            names of a data frame, or positions.
        select : {"samples", "errors", "losses"}, default="samples"
            Which images are shown. `"samples"` selects random images and shows them in the order of `X`. `"errors"`
            selects wrong predictions, the most confident first. `"losses"` selects the images with the highest log
            loss, which have the lowest probability of the true label.

            With several labels, `"errors"` begins with the images that have the most wrong labels, and `"losses"` ranks
            images by the sum of the log losses of their labels. With `task="regression"`, both select the largest
            errors: `"errors"` by the largest error of an image, `"losses"` by the sum of its squared errors, in
            standard deviations of `y_true`.
        n_images : int, default=12
            Maximum number of images to show, at least 1.
        random_state : int, RandomState or None, default=None
            Controls the selection of random images. None draws different images each time.
        image_shape : tuple of int, default=None
            Shape of one image, if `X` contains flattened rows.
        image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
            How files and bytes are read, as in :class:`PretrainedImageClassifier`.
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
            If `task`, `classes`, `select`, `n_images` or `n_columns` has an invalid value.
        InvalidInputError
            If `X`, `y_true` and `y_proba` have inconsistent shapes, or probabilities are not in [0, 1].
        InvalidImageError
            If images to show cannot be read.
        """
        require("matplotlib", f"{cls.__name__}.from_predictions", "sktl[plot]")
        _check_choice(select, n_images, n_columns, random_state)
        check_task(task)
        samples = samples_for(None, X, image_shape, image_reader)
        compared: Comparison
        if task == "regression":
            if classes is not None:
                raise InvalidParameterError('classes has no meaning with task="regression". Leave classes=None.')
            compared = NumberComparison.of(len(samples), y_true, y_proba)
        else:
            with suggesting_regression(y_true):
                compared = _compare_labels(len(samples), y_true, y_proba, classes)
        return cls._choose(samples, compared, select, n_images, random_state).plot(ax=ax, n_columns=n_columns)

    @classmethod
    def _choose(
        cls,
        samples: Sequence[Sample],
        compared: Comparison,
        select: str,
        n_images: int,
        random_state: int | np.random.RandomState | None,
    ) -> PredictionsDisplay:
        if select == "samples":
            rng = random_state
            if not isinstance(rng, np.random.RandomState):
                rng = np.random.RandomState(rng)  # with None, seeded by the system and not by NumPy's global state
            chosen = np.sort(rng.permutation(len(samples))[:n_images])
        else:
            chosen = (compared.errors() if select == "errors" else compared.losses())[:n_images]
        pictures = read_pictures(samples, chosen.tolist(), _SIDE)
        return cls(pictures, positions=chosen, select=select, **vars(compared.take(chosen)))

    def _compared(self) -> Comparison:
        if self.proba_true is None or self.proba_pred is None:
            n_numbers = 1 if self.y_true.ndim == 1 else self.y_true.shape[1]
            scale = np.ones(n_numbers) if self.scale is None else self.scale
            return NumberComparison(self.y_true, self.y_pred, scale, self.names)
        if self.names is not None:
            return LabelComparison(self.y_true, self.y_pred, self.proba_true, self.proba_pred, self.names)
        return ClassComparison(self.y_true, self.y_pred, self.proba_true, self.proba_pred)

    def plot(self, *, ax: Any = None, n_columns: int = 4) -> PredictionsDisplay:
        """Draw the images, upright and uncropped; titles of wrong predictions also contain the true label or number.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            A single Axes is divided into a grid. In an array, the first Axes are used. None creates a new
            figure.
        n_columns : int, default=4
            Maximum number of images in a row.

        Returns
        -------
        display : PredictionsDisplay
            The display itself.
        """
        require("matplotlib", f"{type(self).__name__}.plot", "sktl[plot]")
        compared = self._compared()
        n = max(1, len(self.images))
        self.figure_, self.axes_ = axes_grid(ax, n, n_columns, picture_cell(self.images, compared.n_lines()))
        for i, pixels in enumerate(self.images):
            show_picture(self.axes_[i], pixels)
        letters = letters_across(ax, self.axes_)
        for i in range(len(self.images)):
            # The words of the title also say what is wrong, without color. Axes that are used again had another color.
            color = title_color(self.axes_[i], compared.is_wrong(i))
            self.axes_[i].set_title(compared.title(i, letters), fontsize="small", parse_math=False, color=color)
        if not self.images:
            show_text(self.axes_[0], "no wrong prediction" if self.select == "errors" else "no image")
        return self


def _check_choice(select: Any, n_images: int, n_columns: int, random_state: Any) -> None:
    if not isinstance(select, str) or select not in _SELECTIONS:
        raise InvalidParameterError(f"select={shown_value(select)} must be one of {', '.join(map(repr, _SELECTIONS))}.")
    check_count(n_images, "n_images")
    check_count(n_columns, "n_columns")
    check_random_state(random_state)


def _compare_labels(n_images: int, y_true: Any, y_proba: Any, classes: Any) -> Comparison:
    """Compare probabilities with classes, or with a table of labels."""
    if is_table(y_true):
        return LabelComparison.of(n_images, y_true, y_proba, classes)
    classes = np.unique(check_labels(y_true, "y_true")) if classes is None else classes
    return ClassComparison.of(n_images, y_true, y_proba, classes)


def _predicted(estimator: Any, X: Any, y: Any, n_images: int) -> Comparison:
    """Compare the predictions of a fitted estimator with `y`."""
    if predicts_numbers(estimator):
        return NumberComparison.of(n_images, y, estimator.predict(X), number_names(estimator))
    check_probabilities(estimator)
    several = predicts_labels(estimator)
    if not (is_table(y) if several is None else several):
        proba, predicted = class_answers(estimator, X)
        return ClassComparison.of(n_images, y, proba, estimator.classes_, predicted)
    proba, predicted, names = label_answers(estimator, X)
    return LabelComparison.of(n_images, y, proba, names, predicted)
