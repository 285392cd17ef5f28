"""`PredictionsDisplay`: images with what was predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._images.samples import Sample
from sktl._targets.columns import check_labels, codes_of
from sktl._utils.isolation import isolated
from sktl._utils.optional import require
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .drawing import WRONG, axes_grid, check_count, letters_across, picture_cell, show_picture, with_percent
from .thumbnails import read_pictures, samples_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SELECTIONS = ("samples", "errors", "losses")
_SIDE = 512
# By which probabilities, perhaps means of float32, may miss 0 and 1.
_ROUNDING = 1e-6


class PredictionsDisplay:
    """A grid of images with their labels, what was predicted for them, and how probable it was said to be.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        Images to show, uint8, of any sizes.
    y_true : ndarray of shape (n_images,)
        Their labels.
    y_pred : ndarray of shape (n_images,)
        The most probable label of each.
    proba_true, proba_pred : ndarray of shape (n_images,)
        The probabilities that were predicted for the two, in [0, 1].
    positions : ndarray of shape (n_images,)
        Positions of the images in the `X` from which they were chosen.
    select : {"samples", "errors", "losses"}, default="samples"
        How they were chosen.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_images,)
        One for each image; one with a sentence if there is no image.
    figure_ : matplotlib Figure

    See Also
    --------
    SaliencyDisplay : Which part of an image speaks for a class.
    sklearn.metrics.ConfusionMatrixDisplay : How often one class is taken for another.

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
        """Draw what a fitted classifier predicts.

        Parameters
        ----------
        estimator : classifier with `predict_proba` and `classes_`
            A :class:`PretrainedImageClassifier`, or a search, pipeline or ensemble with one.
        X : images, n_samples of them
            In any of the forms that :class:`PretrainedImageClassifier` names.
        y : array-like of shape (n_samples,)
            Their labels.
        select : {"samples", "errors", "losses"}, default="samples"
            As in :meth:`from_predictions`.
        n_images : int, default=12
            As in :meth:`from_predictions`.
        random_state : int, RandomState or None, default=None
            As in :meth:`from_predictions`.
        image_shape : tuple of int, default=None
            None is that of the estimator.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        n_columns : int, default=4
            As in :meth:`plot`.

        Returns
        -------
        display : PredictionsDisplay
            Drawn, with what was computed as its attributes.

        Raises
        ------
        MissingPackageError, InvalidParameterError, InvalidInputError, InvalidImageError
            As by :meth:`from_predictions`.
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
        """Draw probabilities that were predicted before, for instance by `cross_val_predict`.

        Parameters
        ----------
        X : images, n_samples of them
            In any of the forms that :class:`PretrainedImageClassifier` names. Only those that are shown are read.
        y_true : array-like of shape (n_samples,)
            Their labels.
        y_proba : array-like of shape (n_samples, n_classes)
            The probability of each class.
        classes : array-like of shape (n_classes,), default=None
            The label of each column of `y_proba`; None is all labels in `y_true`, sorted.
        select : {"samples", "errors", "losses"}, default="samples"
            Which images are shown: random ones in the order of `X`; wrong ones, those first whose wrong label was
            thought most probable; or those first whose true label was thought least probable, which have the highest
            log loss.
        n_images : int, default=12
            The most images that are shown, at least 1.
        random_state : int, RandomState or None, default=None
            For random ones; None draws others each time.
        image_shape : tuple of int, default=None
            The shape of one image, if `X` holds flattened rows.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        n_columns : int, default=4
            As in :meth:`plot`.

        Returns
        -------
        display : PredictionsDisplay
            Drawn, with what was computed as its attributes.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidParameterError
            If `select`, `n_images` or `n_columns` has no legal value.
        InvalidInputError
            If `X`, labels and probabilities do not go together, or probabilities do not lie in [0, 1].
        InvalidImageError
            If images that are to be shown cannot be read.
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
                rng = np.random.RandomState(rng)  # None draws from the system, not from NumPy's global state
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
        """Draw the images, upright and uncropped, the titles of wrong predictions saying what is right.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            One is divided into a grid; of several, the first are taken. None makes a new figure.
        n_columns : int, default=4
            The most images in a row.

        Returns
        -------
        display : PredictionsDisplay
            Itself.
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
        """Return title and colour of an image; the words tell right from wrong, too."""
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
    legal = (proba >= -_ROUNDING) & (proba <= 1 + _ROUNDING)  # false for NaN, too
    if not legal.all():
        position = np.argwhere(~legal)[0]
        raise InvalidInputError(
            f"y_proba{position.tolist()} is {proba[tuple(position)]}, but probabilities lie in [0, 1]: pass what "
            "predict_proba returns, not decision_function."
        )
    return proba.clip(0, 1)


def _codes(n_samples: int, y_true: np.ndarray, proba: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the position in `classes` of each label, all arguments checked."""
    if y_true.shape != (n_samples,):
        raise InvalidInputError(f"There are {n_samples} images, but the labels have shape {y_true.shape}.")
    if proba.shape != (n_samples, len(classes)):
        raise InvalidInputError(
            f"Probabilities have shape {proba.shape}; for {n_samples} images and {len(classes)} classes it must be "
            f"({n_samples}, {len(classes)}). Pass classes=estimator.classes_ if some class has no image."
        )
    remedy = "Pass classes=estimator.classes_, or leave these images out"
    return codes_of(y_true.tolist(), classes, "y_true", "the estimator", remedy)
