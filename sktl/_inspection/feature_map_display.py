"""`FeatureMapDisplay`: images as points in a plane; images with similar features are close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import get_tags

from sktl._estimators.wrapped_estimators import check_instance, predicts_numbers, samples_for
from sktl._short_text import fitted, one_line, percent, shown_value, type_of
from sktl._targets.label_checks import check_labels
from sktl._targets.number_targets import number_columns, suggesting_regression
from sktl._targets.target_tables import is_table
from sktl._utils.optional import require
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .display_thumbnails import read_pictures
from .figure_layout import axes_grid, check_task, font_scale, legend_beside, legend_size, style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 64
_LETTERS = 28
# Length of the longer side of a thumbnail in inches, and the smallest distance of two thumbnails in such lengths.
_THUMBNAIL = 0.4
_APART = 1.15
_SCALE = "viridis"


class FeatureMapDisplay:
    """Map of images as points or thumbnails; images with similar features are close to each other.

    Create it with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    coordinates : ndarray of shape (n_samples, 2)
        Position of each image.
    y : array-like of shape (n_samples,), default=None
        Labels, shown by color and marker. The first 104 classes have different pairs of color and marker. With
        `task="regression"`, numbers, shown on a color scale.
    thumbnails : list of ndarray of shape (H, W, 3), default=None
        Images to show instead of points, uint8.
    axis_names : (str, str), default=("", "")
        Names of the two axes.
    task : {"classification", "regression"}, default="classification"
        Whether `y` contains labels or numbers.

    Attributes
    ----------
    ax_ : matplotlib Axes
    colorbar_ : matplotlib Colorbar or None
        The color scale of numbers; None if `scatter_kw` colors the points.
    figure_ : matplotlib Figure
    scatters_ : list of matplotlib PathCollection
        The points of each class, in sorted order; without labels, a single collection with all points.
    shown_ : ndarray of int
        Positions of the images that are shown as thumbnails.

    See Also
    --------
    PretrainedImageEncoder : Computes the features that are mapped.

    Notes
    -----
    Two dimensions rarely show every difference that a network represents. Classes that overlap on the map may be far
    apart in another direction, and clusters that a projection such as t-SNE draws may not exist in the features.

    Examples
    --------
    >>> import numpy as np
    >>> from sktl import FeatureMapDisplay
    >>> display = FeatureMapDisplay(np.eye(2), y=["cat", "dog"]).plot()
    >>> len(display.scatters_)
    2
    """

    ax_: Axes
    colorbar_: Any
    figure_: Figure
    scatters_: list[Any]
    shown_: np.ndarray

    def __init__(
        self,
        coordinates: np.ndarray,
        *,
        y: Any = None,
        thumbnails: Sequence[np.ndarray] | None = None,
        axis_names: tuple[str, str] = ("", ""),
        task: str = "classification",
    ):
        self.coordinates = coordinates
        self.y = y
        self.thumbnails = thumbnails
        self.axis_names = axis_names
        self.task = task

    @classmethod
    @isolated()
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        task: str = "auto",
        projection: Any = "pca",
        thumbnails: bool = False,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        scatter_kw: dict[str, Any] | None = None,
    ) -> FeatureMapDisplay:
        """Draw a map of the features that a fitted estimator computes.

        Parameters
        ----------
        estimator : transformer
            A fitted :class:`PretrainedImageClassifier`, :class:`PretrainedImageRegressor` or
            :class:`PretrainedImageEncoder`, or a search or pipeline that contains one, whose `transform` returns
            features.
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.
        y : array-like of shape (n_samples,), default=None
            Labels or numbers to show. They are passed only to supervised projections, such as
            LinearDiscriminantAnalysis. If there are several labels or numbers, pass one column. Give images without a
            label a class of their own, such as "unlabeled".
        task : {"auto", "classification", "regression"}, default="auto"
            Whether `y` contains labels or numbers. `"auto"` is `"regression"` if the estimator is a regressor, and
            otherwise `"classification"`.
        projection : "pca" or transformer with `fit_transform`, default="pca"
            Reduces features to at least two dimensions, of which the first two are drawn. A copy is fitted. `"pca"`
            selects the first two principal components.
        thumbnails : bool, default=False
            Whether to show images instead of points. Images that would cover other images are not shown. All images are
            read once more, and the display contains a small copy of each.
        image_shape : tuple of int, default=None
            Shape of one image, for thumbnails of flattened rows. None uses the estimator's `image_shape`.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.
        scatter_kw : dict, default=None
            As in :meth:`plot`.

        Returns
        -------
        display : FeatureMapDisplay
            The display, drawn, with the computed values as attributes.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidParameterError
            If `projection` is neither `"pca"` nor a transformer, or `task` has an invalid value.
        InvalidInputError
            If the estimator computes no features, if labels are missing, if `X` and `y` have different lengths, if `y`
            has several columns, or if the projection fails or returns fewer than two dimensions.
        InvalidImageError
            If images cannot be read.
        """
        require("matplotlib", f"{cls.__name__}.from_estimator", "sktl[plot]")
        if projection != "pca" and not hasattr(projection, "fit_transform"):
            raise InvalidParameterError(
                f'projection={shown_value(projection)} must be "pca", or have the method fit_transform.'
            )
        check_instance(estimator)
        if isinstance(task, str) and task == "auto":
            task = "regression" if predicts_numbers(estimator) else "classification"
        check_task(task)
        if not hasattr(estimator, "transform"):
            raise InvalidInputError(
                f"estimator is {type_of(estimator)} without transform, which computes no features: pass an "
                "estimator of sktl, such as the best_estimator_ of a search or a step of a pipeline."
            )
        features = np.asarray(estimator.transform(X))
        _values_of(len(features), y, task)
        coordinates, names = _principal(features) if projection == "pca" else _projected(projection, features, y)
        pictures = None
        if thumbnails:  # of all images: larger axes show others, and files may be gone by then
            samples = samples_for(estimator, X, image_shape)
            pictures = read_pictures(samples, range(len(samples)), _SIDE)
        display = cls(coordinates, y=y, thumbnails=pictures, axis_names=names, task=task)
        return display.plot(ax=ax, scatter_kw=scatter_kw)

    def plot(self, *, ax: Any = None, scatter_kw: dict[str, Any] | None = None) -> FeatureMapDisplay:
        """Draw the map, with a legend of the classes or a scale of the numbers to its right.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure with room for the legend.
        scatter_kw : dict, default=None
            Passed to `matplotlib.axes.Axes.scatter` for all points. An array or list may have one value per sample.

        Returns
        -------
        display : FeatureMapDisplay
            The display itself.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidParameterError
            If `task` has an invalid value.
        InvalidInputError
            If coordinates, `y` and thumbnails have different lengths, labels are missing, or `y` has several columns.
        """
        require("matplotlib", f"{type(self).__name__}.plot", "sktl[plot]")
        coordinates, y = self._checked()
        is_scale = y is not None and self.task == "regression"
        classes = [] if y is None or is_scale else np.unique(y).tolist()
        labels = [fitted(label, _LETTERS) for label in classes]
        width = 6.0 + (legend_size(labels)[1] if labels else 0.8 * is_scale)
        self.figure_, (self.ax_,) = axes_grid(ax, 1, 1, (width, 5.2))
        self.colorbar_ = None
        if y is not None and is_scale:
            self.scatters_ = [self._draw_scale(coordinates, y, scatter_kw)]
        else:
            self.scatters_ = self._draw_points(coordinates, y, classes, scatter_kw)
        self.ax_.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        self.ax_.set_xticks([])
        self.ax_.set_yticks([])
        self.shown_ = np.empty(0, dtype=int)
        if labels:
            legend_beside(self.ax_, self.scatters_, labels)
        if self.thumbnails is not None:
            self._draw_thumbnails(coordinates, self.thumbnails, self._styles(y, classes))
        return self

    def _checked(self) -> tuple[np.ndarray, np.ndarray | None]:
        coordinates = np.asarray(self.coordinates)
        if coordinates.ndim != 2 or coordinates.shape[1] != 2:
            raise InvalidInputError(
                f"coordinates have shape {coordinates.shape}. Pass an array of shape (n_samples, 2)."
            )
        if self.thumbnails is not None and len(self.thumbnails) != len(coordinates):
            raise InvalidInputError(
                f"There are {len(coordinates)} points, but {len(self.thumbnails)} thumbnails. Pass one for each."
            )
        check_task(self.task)
        return coordinates, _values_of(len(coordinates), self.y, self.task)

    def _draw_points(
        self, coordinates: np.ndarray, y: np.ndarray | None, classes: list[Any], scatter_kw: dict[str, Any] | None
    ) -> list[Any]:
        members = [y == label for label in classes] or [np.ones(len(coordinates), dtype=bool)]
        scatters = []
        for number, some in enumerate(members):
            color, marker = style(number, self.ax_)
            options = self._point_options({"c": color, "marker": marker}, scatter_kw)
            scatters.append(self.ax_.scatter(*coordinates[some].T, **_of_members(options, some)))
        return scatters

    def _draw_scale(self, coordinates: np.ndarray, numbers: np.ndarray, scatter_kw: dict[str, Any] | None) -> Any:
        """Draw points in the colors of their numbers, with a color bar unless the user colors them."""
        options = self._point_options({"c": numbers, "cmap": _SCALE}, scatter_kw)
        is_scale = options.get("c") is numbers
        if not is_scale:
            options.pop("cmap", None)  # matplotlib warns of a color map without numbers
        scatter = self.ax_.scatter(*coordinates.T, **options)
        if is_scale:
            parent = self.ax_.get_figure(root=False)
            assert parent is not None
            self.colorbar_ = parent.colorbar(scatter, ax=self.ax_, aspect=40)
        return scatter

    def _point_options(self, default: dict[str, Any], scatter_kw: dict[str, Any] | None) -> dict[str, Any]:
        from matplotlib.collections import PathCollection

        size = (36 if len(self.coordinates) <= 300 else 16) * font_scale() ** 2
        default = default | {"s": size, "edgecolors": "0.3", "linewidths": 0.4, "alpha": 0.85}
        options = styled(default, scatter_kw, PathCollection)
        if options.keys() & {"color", "facecolor"}:  # matplotlib does not accept "c" together with these
            del options["c"]
        return options

    def _styles(self, y: np.ndarray | None, classes: list[Any]) -> list[tuple[Any, str]]:
        """Return the color and the marker of each thumbnail."""
        if y is None:
            return [("0.3", "")] * len(self.coordinates)
        if not classes:
            (scatter,) = self.scatters_
            return [(color, "") for color in scatter.to_rgba(y)]
        return [style(classes.index(label), self.ax_) for label in y.tolist()]

    def _draw_thumbnails(
        self, coordinates: np.ndarray, thumbnails: Sequence[np.ndarray], styles: list[tuple[Any, str]]
    ) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage
        from matplotlib.transforms import offset_copy

        self.ax_.margins(0.08)
        self.figure_.draw_without_rendering()  # otherwise, the sizes below are not yet those of the final layout
        self.shown_ = self._apart(coordinates)
        for i in self.shown_:
            pixels = thumbnails[i]
            zoom = _THUMBNAIL * font_scale() * 72 / max(pixels.shape[:2])
            picture = OffsetImage(pixels, zoom=zoom, interpolation="nearest" if max(pixels.shape) < 32 else None)
            color, marker = styles[i]
            border = {"edgecolor": color, "linewidth": 1.5}
            self.ax_.add_artist(AnnotationBbox(picture, coordinates[i], pad=0, bboxprops=border, zorder=3))
            # The marker of the class in the upper left corner, because colors repeat after eight classes.
            height, width = np.array(pixels.shape[:2]) * zoom / 144
            corner = offset_copy(self.ax_.transData, self.figure_, -width, height, units="inches")
            self.ax_.plot(
                *coordinates[i], marker=marker, markersize=6 * font_scale(), color=color, markeredgecolor="white",
                zorder=4, transform=corner,
            )  # fmt: skip

    def _apart(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the positions of images that do not cover each other in the current layout of the axes, in order."""
        inches = np.array(self.ax_.bbox.size) / self.figure_.dpi
        corner, opposite = np.array([self.ax_.get_xlim(), self.ax_.get_ylim()]).T
        places = (coordinates - corner) / (opposite - corner) * inches / (_THUMBNAIL * font_scale())
        kept: list[int] = []
        for i, place in enumerate(places):
            if not kept or (np.abs(places[kept] - place).max(axis=1) > _APART).all():
                kept.append(i)
        return np.array(kept, dtype=int)


def _of_members(options: dict[str, Any], members: np.ndarray) -> dict[str, Any]:
    """Select the values of some samples from options of a scatter plot that have one value per sample.

    Numbers as colors keep the range of all samples, so that a number has the same color in each class.
    """
    chosen = dict(options)
    for name, value in options.items():
        is_array = hasattr(value, "__array__") or isinstance(value, list)  # tuples are colors and line styles
        if name == "marker" or not is_array or np.ndim(value) == 0 or len(value) != len(members):
            continue
        array = np.asarray(value)
        chosen[name] = array[members]
        if name == "c" and array.ndim == 1 and array.dtype.kind in "iuf" and "norm" not in options:
            chosen = {"vmin": np.nanmin(array), "vmax": np.nanmax(array)} | chosen
    return chosen


def _values_of(n: int, y: Any, task: str) -> np.ndarray | None:
    """Return one label or one number for each image."""
    if y is None:
        return None
    if is_table(y):
        table = "y.iloc" if hasattr(y, "iloc") else "y" if hasattr(y, "shape") else "np.asarray(y)"
        raise InvalidInputError(
            "y has several columns, but the map shows one label or one number for each image. Pass one column, such as "
            f"{table}[:, 0]."
        )
    if task == "regression":
        values = number_columns(y, "y")[:, 0]
    else:
        with suggesting_regression(y):
            values = check_labels(y)
    if values.shape != (n,):
        kind = "number" if task == "regression" else "label"
        raise InvalidInputError(
            f"There are {n} images, but y has shape {values.shape}. Pass one {kind} for each image."
        )
    return values


def _principal(features: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the first two principal components and their names; components that do not exist are 0."""
    from sklearn.decomposition import PCA

    coordinates = np.zeros((len(features), 2))
    n_components = min(2, len(features) - 1, features.shape[1])
    names = ["", ""]
    if n_components:
        pca = PCA(n_components, random_state=0)
        # If all images are the same, PCA divides by a variance of 0. With dispatch, it uses another method, and warns.
        with np.errstate(invalid="ignore"), config_context(array_api_dispatch=False):
            coordinates[:, :n_components] = pca.fit_transform(features.astype(np.float64))
        for i, share in enumerate(np.nan_to_num(pca.explained_variance_ratio_)):
            names[i] = f"principal component {i + 1} ({percent(share, 0)} of variance)"
    return coordinates, (names[0], names[1])


def _projected(projection: Any, features: np.ndarray, y: Any) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the first two dimensions of the output of a fitted copy of a transformer, and their names."""
    transformer = clone(projection, safe=False)
    name = type(transformer).__name__
    tags = get_tags(transformer) if hasattr(transformer, "__sklearn_tags__") else None
    # PLSRegression is a regressor that does not require y.
    supervised = tags is not None and (tags.target_tags.required or tags.estimator_type in ("classifier", "regressor"))
    if supervised and y is None:
        raise InvalidInputError(f"projection={name} needs labels or numbers: pass y.")
    try:
        found = transformer.fit_transform(features, y) if supervised else transformer.fit_transform(features)
        # Partial least squares also returns coordinates of y.
        coordinates = np.asarray(found[0] if isinstance(found, tuple) else found)
    except ValueError as error:
        raise InvalidInputError(f"projection={name} cannot project these features: {one_line(error)}") from error
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        raise InvalidInputError(
            f"projection={name} returned an array of shape {coordinates.shape}; it must return at least two columns."
        )
    return coordinates[:, :2], (f"{name} 1", f"{name} 2")
