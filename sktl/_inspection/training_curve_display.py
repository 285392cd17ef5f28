"""`TrainingCurveDisplay`: curves of loss and scores by epoch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktl._short_text import shown_value
from sktl._utils.optional import require
from sktl.exceptions import InvalidInputError

from .figure_layout import axes_grid, style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTPUT_LAYER = "output layer"
_NO_SCORES = {"epoch", "dur"}
_NO_SCORE_ENDINGS = ("_best", "_batch_count")
_NO_SCORE_BEGINNINGS = ("event_",)


class TrainingCurveDisplay:
    """Curves of loss and scores by epoch, separately for the two phases of training.

    Create it with :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    scores : dict of str to ndarray of shape (n_epochs,)
        Values by name, such as `"train_loss"` and `"valid_loss"`, with NaN in epochs without the score.
    phases : array-like of str of shape (n_epochs,)
        Phase of each epoch: `"output layer"` or `"stages"`.
    epochs : array-like of int of shape (n_epochs,), default=None
        Numbers of the epochs. None counts from 1. If the validation loss was also measured before the first epoch of a
        phase, the entry for this measurement is the number of epochs before the phase.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Axes of the losses and, if there are other scores, axes of these scores below.
    ax_ : matplotlib Axes
        The first of `axes_`.
    lines_ : dict of str to list of matplotlib Line2D
        One line per phase for each score.
    figure_ : matplotlib Figure

    See Also
    --------
    PretrainedImageClassifier, PretrainedImageRegressor : Estimators whose `history_` is drawn.

    Notes
    -----
    If augmentation or mixup changes the images of the second phase, its training losses are not comparable with the
    first phase. A jump when this phase starts is not a regression.

    Examples
    --------
    >>> from sktl import TrainingCurveDisplay
    >>> losses = {"train_loss": [1.1, 0.7, 0.5], "valid_loss": [1.0, 0.8, 0.7]}
    >>> display = TrainingCurveDisplay(losses, phases=["output layer", "output layer", "stages"])
    >>> display.scores["valid_loss"].min()
    np.float64(0.7)
    """

    axes_: np.ndarray
    ax_: Axes
    figure_: Figure
    lines_: dict[str, list[Any]]

    def __init__(self, scores: Mapping[str, Any], *, phases: Sequence[str], epochs: Sequence[int] | None = None):
        self.scores = {name: np.asarray(values, dtype=float) for name, values in scores.items()}
        self.phases = np.asarray(phases)
        self.epochs = np.arange(1, len(self.phases) + 1) if epochs is None else np.asarray(epochs)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, line_kw: dict[str, Any] | None = None
    ) -> TrainingCurveDisplay:
        """Draw the training of a fitted classifier or regressor.

        Parameters
        ----------
        estimator : PretrainedImageClassifier or PretrainedImageRegressor
            The fitted estimator. Its scores are the losses and the scores that callbacks in `net_params` recorded.
        ax : matplotlib Axes or array-like of them, default=None
            As in :meth:`plot`.
        line_kw : dict, default=None
            As in :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The display, drawn, with the computed values as attributes.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidInputError
            If the estimator has no history.
        """
        require("matplotlib", f"{cls.__name__}.from_estimator", "sktl[plot]")
        check_is_fitted(estimator)
        history = getattr(estimator, "history_", None)
        if not history:
            raise InvalidInputError(
                f"{type(estimator).__name__} has no history of its training: pass a fitted "
                "PretrainedImageClassifier or PretrainedImageRegressor, such as the best_estimator_ of a search."
            )
        phases = [row.get("phase", _OUTPUT_LAYER) for row in history]
        epochs = [row["epoch"] for row in history]
        return cls(_scores(history), phases=phases, epochs=epochs).plot(ax=ax, line_kw=line_kw)

    def plot(self, *, ax: Any = None, line_kw: dict[str, Any] | None = None) -> TrainingCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            Axes to draw on. A single Axes is divided if there are scores other than losses. None creates a new figure.
        line_kw : dict, default=None
            Passed to `matplotlib.axes.Axes.plot` for all curves.

        Returns
        -------
        display : TrainingCurveDisplay
            The display itself.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed.
        InvalidInputError
            If scores, phases and epochs have different lengths.
        """
        require("matplotlib", f"{type(self).__name__}.plot", "sktl[plot]")
        self._check_lengths()
        from matplotlib.ticker import MaxNLocator

        losses = [name for name in self.scores if name.endswith("loss")]
        panels = [("loss", losses), ("score", [name for name in self.scores if name not in losses])]
        panels = [(label, names) for label, names in panels if names] or [("loss", [])]
        self.figure_, self.axes_ = axes_grid(ax, len(panels), 1, (6.4, 3.6))
        self.ax_ = self.axes_[0]
        self.lines_ = {}
        for axes, (label, names) in zip(self.axes_, panels, strict=True):
            for number, name in enumerate(names):
                self.lines_[name] = self._draw_score(axes, name, number, line_kw)
            axes.set(xlabel="epoch", ylabel=label)
            if len(self.epochs):
                axes.set_xlim(*self.epochs[[0, -1]] + [-0.5, 0.5])
            # Another locator was set by the user and is kept.
            if isinstance(locator := axes.xaxis.get_major_locator(), MaxNLocator):
                locator.set_params(integer=True)
            self._draw_phases(axes)
            if names and len(self.epochs):
                for text in axes.legend().get_texts():
                    text.set_parse_math(False)
        return self

    def _check_lengths(self) -> None:
        for name, values in {"epochs": self.epochs, **self.scores}.items():
            if values.shape != self.phases.shape:
                raise InvalidInputError(
                    f"{shown_value(name)} has shape {values.shape}, but phases has shape {self.phases.shape}. Pass one "
                    "value for each epoch."
                )

    def _spans(self) -> list[tuple[str, slice]]:
        """Return the name and the rows of each phase."""
        spans, start = [], 0
        for name, group in itertools.groupby(self.phases.tolist()):
            end = start + len(list(group))
            spans.append((name, slice(start, end)))
            start = end
        return spans

    def _draw_score(self, axes: Axes, name: str, number: int, line_kw: dict[str, Any] | None) -> list[Any]:
        from matplotlib.lines import Line2D

        # One line per phase: a line across phases would suggest progress between losses that are not comparable.
        lines = []
        for i, (_, rows) in enumerate(self._spans()):
            epochs = self.epochs[rows]
            default = {
                "color": style(number, axes)[0],
                "linestyle": "-" if name.startswith("train") else "--",
                "marker": "o" if len(epochs) <= 20 else None,
                "markersize": 4,
                "label": None if i else name.replace("_", " "),
            }
            lines += axes.plot(epochs, self.scores[name][rows], **styled(default, line_kw, Line2D))
        return lines

    def _draw_phases(self, axes: Axes) -> None:
        spans = self._spans()
        if len(spans) < 2:
            return
        for i, (name, rows) in enumerate(spans):
            first, last = self.epochs[rows][[0, -1]]
            if i:
                # A validated start has the number of the last epoch before it, so that both coincide.
                begin = (self.epochs[rows.start - 1] + first) / 2
                axes.axvspan(begin, last + 0.5, color="0.5", alpha=0.12, linewidth=0)
                axes.axvline(begin, color="0.4", linewidth=0.8)
            # The first and the last name extend inward from the edges, so that names of short phases fit.
            x, align = (first + last) / 2, "center"
            if i == 0:
                x, align = axes.get_xlim()[0], "left"
            elif i == len(spans) - 1:
                x, align = axes.get_xlim()[1], "right"
            place = axes.get_xaxis_transform()
            axes.text(x, 1.02, name, ha=align, va="bottom", alpha=0.75, transform=place, parse_math=False)


def _scores(history: Any) -> dict[str, np.ndarray]:
    """Return the scores in a skorch history: numbers per epoch that are neither times nor counts."""
    names = dict.fromkeys(name for row in history for name, value in row.items() if _is_score(name, value))
    return {name: np.array([row.get(name, np.nan) for row in history], dtype=float) for name in names}


def _is_score(name: str, value: Any) -> bool:
    if name in _NO_SCORES or name.endswith(_NO_SCORE_ENDINGS) or name.startswith(_NO_SCORE_BEGINNINGS):
        return False
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
