"""`SaliencyDisplay`: the regions of an image that support a class or label, or that raise a number."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from sklearn.utils.validation import check_is_fitted

from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._estimators.wrapped_estimators import thawed
from sktl._images.decoding import decode
from sktl._images.preprocessing import Preprocessing
from sktl._short_text import count, rounded, shown_value, type_of, with_percent
from sktl._targets.class_codes import codes_of
from sktl._utils.arguments import check_count
from sktl._utils.devices import nearest_device
from sktl._utils.forked_gradients import check_gradients
from sktl._utils.optional import require
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .display_thumbnails import picture, read_each
from .figure_layout import axes_grid, letters_across, picture_cell, show_picture, show_text
from .gradcam import class_maps, find_target_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 512


class SaliencyDisplay:
    """Images with Grad-CAM [1]_ maps of the regions that support a class or label, or that raise a number.

    Create it with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, 3)
        Images to show, uint8, of any sizes.
    heats : list of ndarray of shape (H, W)
        How strongly the position of each pixel supports the class, as a fraction of the strongest position, in [0, 1].
        All values are 0 if no position supports the class. NaN outside the part of the image that the network sees.
    targets : ndarray of shape (n_images,) or None
        Class or label that each map explains; for a regressor of several numbers, the position of the number. None for
        a regressor of one number.
    proba : ndarray of shape (n_images,), default=None
        Predicted probability of the class or label, in [0, 1]. None for regressors.
    numbers : ndarray of shape (n_images,), default=None
        Predicted number that each map explains, for regressors.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_images,)
    colorbar_ : matplotlib Colorbar or None
    figure_ : matplotlib Figure

    See Also
    --------
    PredictionsDisplay : Images with their labels and predictions.

    Notes
    -----
    The map is the sum of the outputs (activations) of the last layer with spatial positions, weighted by the mean
    gradient of the class's logit. Negative values, which count against the class, are set to zero. Most convolutional
    networks have a grid of 7 x 7 positions, and a ViT with patches of 16 pixels has 14 x 14.

    For a regressor, the gradient of the predicted number is used instead of the logit's gradient. The map shows the
    positions that raise the number; positions that lower it are set to zero.

    In a ViT whose output is its class token, the map shows what this token attends to in the last block. Each position
    is weighted by its own gradient [2]_, because a mean gradient hides attention; in a test, maps with a mean gradient
    found the objects less often. The blocks of a ViT also move information between positions: in two of four small ViTs
    that were trained from scratch, the last block no longer had the information at the position of the object. Pass
    `layer` for the map of an earlier block, such as `"blocks.0.norm1"` of timm's ViTs, whose positions correspond more
    closely to the image.

    If the output layer receives features of several stages (`feature_stages_`), the map shows the contribution of the
    last stage. The contributions of blocks in earlier stages are not included.

    The map shows where the network found something, at the resolution of the grid. It shows neither what the network
    found nor whether it should matter. A plausible map may reflect only the edges in an image [3]_, so compare the map
    with the map of another class, or of an estimator with ``weights=None``.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization",
       ICCV 2017.
    .. [2] R. L. Draelos and L. Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
       neural networks", arXiv 2011.08891, 2020.
    .. [3] J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
    """

    axes_: np.ndarray
    colorbar_: Any
    figure_: Figure

    def __init__(
        self,
        images: Sequence[np.ndarray],
        heats: Sequence[np.ndarray],
        *,
        targets: np.ndarray | None,
        proba: np.ndarray | None = None,
        numbers: np.ndarray | None = None,
    ):
        self.images = images
        self.heats = heats
        self.targets = targets
        self.proba = proba
        self.numbers = numbers

    @classmethod
    @isolated()
    def from_estimator(
        cls,
        estimator: PretrainedImageClassifier | PretrainedImageRegressor,
        X: Any,
        *,
        target: Any = None,
        layer: str | None = None,
        ax: Any = None,
        n_columns: int = 4,
        cmap: Any = "inferno",
        alpha: float = 0.7,
        colorbar: bool = True,
    ) -> SaliencyDisplay:
        """Draw maps of the regions that support a class or raise a number; the estimator does not change.

        Parameters
        ----------
        estimator : PretrainedImageClassifier or PretrainedImageRegressor
            A fitted estimator, with any number of trained stages, or a
            :class:`~sklearn.frozen.FrozenEstimator` of one.
        X : array-like of shape (n_images, ...)
            Images, in a format that the estimator accepts. All images are drawn, so pass only a few.
        target : label, int or array-like of shape (n_images,), default=None
            Class or label to explain, for all images or for each image; for a regressor, the position of a number,
            counted from 0. None explains the predicted class, the most probable label of each image, or the first
            number.
        layer : str, default=None
            Name of a module of `estimator.module_.backbone` whose output is weighted, of shape (n, C, H, W),
            (n, H, W, C) or (n, tokens, C). None selects the last suitable module.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        n_columns : int, default=4
            As in :meth:`plot`.
        cmap : str or matplotlib Colormap, default="inferno"
            As in :meth:`plot`.
        alpha : float, default=0.7
            As in :meth:`plot`.
        colorbar : bool, default=True
            As in :meth:`plot`.

        Returns
        -------
        display : SaliencyDisplay
            The display, drawn, with the computed values as attributes.

        Raises
        ------
        MissingPackageError
            If captum or matplotlib is not installed: ``pip install 'sktl[explain]'``.
        InvalidInputError
            If `estimator` is not a :class:`PretrainedImageClassifier` or :class:`PretrainedImageRegressor`, `X` is not
            in a supported format, or `target` is not a class, label or number of the estimator.
        InvalidImageError
            If images cannot be read.
        BackboneError
            If the network has no layer with spatial positions.
        InvalidParameterError
            If `layer` does not exist or has no spatial positions, or `n_columns` or `alpha` has an invalid value.
        """
        for package in ("matplotlib", "captum"):
            require(package, f"{cls.__name__}.from_estimator", "sktl[explain]")
        estimator = thawed(estimator)
        if not isinstance(estimator, PretrainedImageClassifier | PretrainedImageRegressor):
            raise InvalidInputError(
                f"estimator is {type_of(estimator)}; pass a PretrainedImageClassifier or a "
                "PretrainedImageRegressor, such as the best_estimator_ of a search or the last step of a pipeline."
            )
        check_is_fitted(estimator)
        _check_style(n_columns, alpha)
        images, heats, explained = explain(estimator, X, target, layer)
        display = cls(images, heats, **explained)
        return display.plot(ax=ax, n_columns=n_columns, cmap=cmap, alpha=alpha, colorbar=colorbar)

    def plot(
        self,
        *,
        ax: Any = None,
        n_columns: int = 4,
        cmap: Any = "inferno",
        alpha: float = 0.7,
        colorbar: bool = True,
    ) -> SaliencyDisplay:
        """Draw the images, upright and uncropped; parts that the network does not see are pale and outside a frame.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            A single Axes is divided into a grid. In an array, the first Axes are used. None creates a new
            figure.
        n_columns : int, default=4
            Maximum number of images in a row.
        cmap : str or matplotlib Colormap, default="inferno"
            Colors of the map.
        alpha : float, default=0.7
            Opacity of the strongest position, in [0, 1]. Weaker positions are more transparent. 0 hides the map.
        colorbar : bool, default=True
            Whether to add a color bar.

        Returns
        -------
        display : SaliencyDisplay
            The display itself.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidParameterError
            If `n_columns` is not an integer of at least 1, or `alpha` is not in [0, 1].
        """
        require("matplotlib", f"{type(self).__name__}.plot", "sktl[explain]")
        _check_style(n_columns, alpha)
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        shades = colormaps.get_cmap(cmap)(np.linspace(0, 1, 256))
        shades[:, 3] = np.linspace(0, alpha, 256)
        colors = ListedColormap(shades, name="saliency", bad=(1, 1, 1, 0.65))
        n = max(1, len(self.images))
        self.figure_, self.axes_ = axes_grid(ax, n, n_columns, picture_cell(self.images, 3), beside=1.0 * colorbar)
        for i, pixels in enumerate(self.images):
            show_picture(self.axes_[i], pixels)
            _draw_heat(self.axes_[i], self.heats[i], colors)
        self.colorbar_ = self._draw_colorbar(shades) if colorbar else None
        letters = letters_across(ax, self.axes_)
        for i in range(len(self.images)):
            self.axes_[i].set_title(self._title(i, letters), fontsize="small", parse_math=False)
        if not len(self.images):
            show_text(self.axes_[0], "no image")
        return self

    def _draw_colorbar(self, shades: np.ndarray) -> Any:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap
        from matplotlib.transforms import offset_copy

        # Blended with white, because a color bar does not show transparency.
        on_white = ListedColormap(shades[:, :3] * shades[:, 3:] + 1 - shades[:, 3:])
        colors = ScalarMappable(cmap=on_white)
        parent = self.axes_[0].get_figure(root=False)
        bar = parent.colorbar(colors, ax=self.axes_.tolist(), ticks=[0, 1], aspect=40, panchor=False)
        bar.ax.set_yticklabels(["none", "most"])
        bar.set_label("support for the class" if self.numbers is None else "raises the number")
        # Beside the bar, between its two tick labels, whatever their font.
        beside = offset_copy(bar.ax.transAxes, self.figure_, x=5, units="points")
        bar.ax.yaxis.set_label_coords(1, 0.5, transform=beside)
        return bar

    def _title(self, i: int, letters: int) -> str:
        is_blank = not np.nanmax(self.heats[i], initial=0) > 0
        if self.numbers is not None:
            name = "" if self.targets is None else f"number {self.targets[i]}: "
            return f"{name}{rounded(self.numbers[i], abs(self.numbers[i]) / 10)}" + "\nno position raises it" * is_blank
        assert self.targets is not None
        assert self.proba is not None
        return with_percent(self.targets[i], self.proba[i], letters) + "\nno position supports it" * is_blank


def explain(
    estimator: PretrainedImageClassifier | PretrainedImageRegressor, X: Any, target: Any, layer: str | None = None
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, np.ndarray | None]]:
    """Return images, their maps, and what the maps explain, as the parameters of `SaliencyDisplay`."""
    check_gradients()
    samples = estimator._as_samples(X, reset=False)
    preprocessing = estimator.backbone_.preprocessing
    seen = read_each(samples, range(len(samples)), lambda content: _see(content, preprocessing))
    codes, explained = _explained(estimator, X, target, len(samples))
    # A copy, because module_ shares its parts with the estimator, and to() and eval mode would change them.
    model = copy.deepcopy(estimator).module_.to(_device_for(estimator))
    network = model.get_submodule("backbone")
    place = find_target_layer(network, preprocessing.crop, layer)
    maps = class_maps(model, network, place, torch.stack([tensor for _, tensor, _ in seen]), codes)
    heats = [heat_over(shown, box, _relative(grid)) for (shown, _, box), grid in zip(seen, maps.numpy(), strict=True)]
    return [shown for shown, _, _ in seen], heats, explained


def heat_over(shown: np.ndarray, box: Sequence[float], grid: np.ndarray) -> np.ndarray:
    """Interpolate the values of a grid at each pixel of an image; pixels outside the box of the grid are NaN.

    If the box is narrower than a pixel, the pixel nearest to its center counts as inside.

    Parameters
    ----------
    shown : ndarray of shape (H, W, 3)
    box : (float, float, float, float)
        Left, top, right and bottom of the area that the grid covers, as fractions of the image's width and height.
    grid : ndarray of shape (height, width)
    """
    left, top, right, bottom = box
    height, width = shown.shape[:2]
    x = ((np.arange(width) + 0.5) / width - left) / (right - left)
    y = ((np.arange(height) + 0.5) / height - top) / (bottom - top)
    # A value of the grid belongs to the center of its cell, half a cell from the edge.
    places = np.meshgrid(y * grid.shape[0] - 0.5, x * grid.shape[1] - 0.5, indexing="ij")
    heat = map_coordinates(grid.astype(np.float32), places, order=1, mode="nearest")
    heat[~_within(y)] = np.nan
    heat[:, ~_within(x)] = np.nan
    return heat


def _within(shares: np.ndarray) -> np.ndarray:
    """Return which pixels have their center in [0, 1]; the nearest pixel if there is none."""
    within = (shares >= 0) & (shares <= 1)
    if not within.any():
        within[np.abs(shares - 0.5).argmin()] = True
    return within


def _see(
    content: bytes | np.ndarray, preprocessing: Preprocessing
) -> tuple[np.ndarray, torch.Tensor, tuple[float, ...]]:
    """Return an image for display, the network's input, and the box of the image that the input shows, as fractions."""
    image = decode(content, preprocessing)
    box = np.array(preprocessing.seen_box(*image.size)) / [*image.size, *image.size]
    return picture(content, _SIDE), preprocessing(image), tuple(box.tolist())


def _check_style(n_columns: Any, alpha: Any) -> None:
    check_count(n_columns, "n_columns")
    if not isinstance(alpha, Real) or not 0 <= float(alpha) <= 1:
        raise InvalidParameterError(f"alpha={shown_value(alpha)} must be a number in [0, 1].")


def _device_for(estimator: PretrainedImagePredictor) -> torch.device:
    device = nearest_device(estimator.device_)
    # The output layer computes in float64, which Apple's accelerators do not support.
    return torch.device("cpu") if device.type == "mps" else device


def _relative(grid: np.ndarray) -> np.ndarray:
    highest = grid.max()
    return grid / highest if highest > 0 else grid


def _explained(
    estimator: PretrainedImageClassifier | PretrainedImageRegressor, X: Any, target: Any, n: int
) -> tuple[np.ndarray, dict[str, np.ndarray | None]]:
    """Return the output to explain for each image, and what the display says about it."""
    rows = np.arange(n)
    if isinstance(estimator, PretrainedImageClassifier):
        proba = estimator.predict_proba(X)
        codes = proba.argmax(axis=1) if target is None else _codes(target, estimator.classes_, n)
        return codes, {"targets": estimator.classes_[codes], "proba": proba[rows, codes]}
    numbers = estimator.predict(X).reshape(n, -1)
    codes = _positions(0 if target is None else target, numbers.shape[1], n)
    return codes, {"targets": codes if numbers.shape[1] > 1 else None, "numbers": numbers[rows, codes]}


def _codes(target: Any, classes: np.ndarray, n: int) -> np.ndarray:
    """Return the position in `classes` of the target of each image."""
    targets = _of_each(target, n, "label")
    return codes_of(targets.tolist(), classes, "target", "the estimator", "Choose from its classes_")


def _positions(target: Any, n_outputs: int, n: int) -> np.ndarray:
    """Return the position of the number to explain for each image."""
    for position in _of_each(target, n, "position").tolist():
        if not isinstance(position, Integral) or isinstance(position, bool) or not 0 <= int(position) < n_outputs:
            raise InvalidInputError(
                f"target has the position {shown_value(position)}, but the regressor predicts "
                f"{count(n_outputs, 'number')}. Pass an integer from 0 to {n_outputs - 1}."
            )
    return np.broadcast_to(target, n).astype(np.int64)


def _of_each(target: Any, n: int, kind: str) -> np.ndarray:
    targets = np.full(n, target) if np.ndim(target) == 0 else np.asarray(target)
    if targets.shape != (n,):
        raise InvalidInputError(f"target has shape {targets.shape}. Pass one {kind}, or one for each of {n} images.")
    return targets


def _draw_heat(axes: Axes, heat: np.ndarray, colors: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(heat, interpolation="nearest", cmap=colors, vmin=0, vmax=1)
    unseen = np.isnan(heat)
    if unseen.any() and not unseen.all():
        rows, columns = np.flatnonzero(~unseen.all(axis=1)), np.flatnonzero(~unseen.all(axis=0))
        corner = columns[0] - 0.5, rows[0] - 0.5
        frame = Rectangle(corner, len(columns), len(rows), fill=False, linestyle="--", edgecolor="black", linewidth=0.8)
        axes.add_patch(frame)
