"""The table that `rank_backbones` returns: one row per network, best first."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, overload

from sktl._utils.optional import require

OK = "ok"
_HEADINGS = {
    "rank": "rank",
    "backbone": "backbone",
    "weights": "weights",
    "image_size": "pixels",
    "mean_score": "",  # the name of the score
    "std_score": "+-",
    "logme": "LogME",
    "seconds_per_image": "ms/image",
    "million_parameters": "M params",
    "megabytes": "MB",
    "n_features": "features",
}
_WORDS = (1, 2)
_LINE = 240
_DECIMALS = {"mean_score": 4, "std_score": 4, "logme": 4, "million_parameters": 2, "megabytes": 1}


@dataclass(frozen=True, kw_only=True)
class RankedBackbone:
    """Measurements of one network.

    Attributes
    ----------
    rank : int or None
        Rank by `mean_score`, then by `logme`, from 1. None if the network could not be measured.
    backbone : str
        Name of the network; for a callable, its qualified name.
    weights : str
        Readable name of the weights: a published name, a path, or "random".
    image_size : tuple of int, or None
        Height and width of the network's input, in pixels.
    n_stages : int or "all"
        Number of first stages that are used. The printed table shows a number after the name of the network.
    mean_score, std_score : float
        Mean and standard deviation, over the folds, of the output layer's score. The output layer is trained as in
        ``PretrainedImageClassifier(trainable_stages=0)``, or in :class:`PretrainedImageRegressor`.
    logme : float
        Log evidence per image of the labels or numbers given the features, averaged over the classes, labels or
        standardized numbers; higher is better. Only differences between networks are meaningful.
    seconds_per_image : float
        Wall time of the pass per image, including decoding. If features were cached, a few images pass through the
        network again to measure it.
    million_parameters : float
        Number of parameters of the network without its output layer, in millions.
    megabytes : float
        Size of the weights as float32, in 10^6 bytes.
    n_features : int or None
        Number of features that the network's own output layer receives.
    status : str
        `"ok"`, or the reason why the network could not be measured. The printed table shows the beginning of the
        reason.
    params : dict
        Parameters for an estimator with this network: ``PretrainedImageClassifier(**row.params)``, or another
        estimator of sktl.
    """

    rank: int | None = None
    backbone: str
    weights: str
    image_size: tuple[int, int] | None = None
    n_stages: int | str = "all"
    mean_score: float = math.nan
    std_score: float = math.nan
    logme: float = math.nan
    seconds_per_image: float = math.nan
    million_parameters: float = math.nan
    megabytes: float = math.nan
    n_features: int | None = None
    status: str
    params: dict[str, Any] = field(hash=False)


class BackboneRanking(Sequence[RankedBackbone]):
    """Pretrained networks in the order of their scores; networks that could not be measured come last.

    It is a sequence of :class:`RankedBackbone` that prints as a table. `to_frame` returns it as a data frame.

    Parameters
    ----------
    rows : iterable of RankedBackbone
        Rows in any order, without ranks.
    scoring : str
        Name of the scores, such as "accuracy".
    """

    def __init__(self, rows: Iterable[RankedBackbone], scoring: str):
        ordered = sorted(rows, key=_worse_last)
        ranks = [number if row.status == OK else None for number, row in enumerate(ordered, start=1)]
        self.rows = tuple(replace(row, rank=rank) for row, rank in zip(ordered, ranks, strict=True))
        self.scoring = scoring

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> RankedBackbone: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RankedBackbone, ...]: ...
    def __getitem__(self, index: int | slice) -> RankedBackbone | tuple[RankedBackbone, ...]:
        return self.rows[index]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each network and a column for each attribute except `params`.

        Returns
        -------
        frame : pandas.DataFrame
            Rows are in the order of the ranking. `rank` and `n_features` are nullable integers.

        Raises
        ------
        MissingPackageError
            If pandas is not installed.
        """
        pandas = require("pandas", "to_frame", "pandas")

        columns = [column.name for column in fields(RankedBackbone) if column.name != "params"]
        frame = pandas.DataFrame([vars(row) for row in self.rows], columns=columns)
        return frame.astype({"rank": "Int64", "n_features": "Int64"})  # nullable, because both may be missing

    def __repr__(self) -> str:
        columns = [*zip(self._header(), *(_cells(row) for row in self.rows), strict=True)]
        for i, column in enumerate(columns):
            adjust = str.ljust if i in _WORDS else str.rjust
            columns[i] = tuple(adjust(cell, max(map(len, column))) for cell in column)
        lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        rows = [self._header(), *(_cells(row) for row in self.rows)]
        lines = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows]
        notes = [f"<p>{html.escape(note)}</p>" for note in self._notes()]
        return f"<table>{''.join(lines)}</table>{''.join(notes)}"

    def _notes(self) -> list[str]:
        """Return a line for each network that could not be measured."""
        lines = (f"{row.backbone} ({row.weights}): {row.status}" for row in self.rows if row.status != OK)
        return [textwrap.shorten(line, _LINE, placeholder=" ...") for line in lines]

    def _header(self) -> list[str]:
        return [heading or self.scoring for heading in _HEADINGS.values()]


def _worse_last(row: RankedBackbone) -> tuple[bool, float, float]:
    scores = (math.inf if math.isnan(score) else -score for score in (row.mean_score, row.logme))
    return (row.status != OK, *scores)  # type: ignore[return-value]


def _cells(row: RankedBackbone) -> list[str]:
    cells = {name: _cell(name, getattr(row, name)) for name in _HEADINGS}
    if row.n_stages != "all":
        cells["backbone"] += f", {row.n_stages} of its stages"
    return list(cells.values())


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if name == "image_size":
        return "x".join(map(str, value))
    if name == "seconds_per_image":
        return f"{1000 * value:.1f}"
    return f"{value:.{_DECIMALS[name]}f}" if name in _DECIMALS else str(value)
