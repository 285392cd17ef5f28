"""Predictions as rows and records: the class of each image, its labels or its numbers.

Commands import this module when they run, because it imports NumPy, which would delay help and usage errors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from sktl._evaluation.evaluated_images import predict_usable
from sktl._evaluation.findings import about_training_images
from sktl._evaluation.typicality_figures import too_few_references
from sktl.exceptions import BackboneError, InvalidImageError, TypicalityError

from .model_outputs import headings_of, kind_of, number_names

_MOST_COMPARED = 1_000
_TYPICALITY = "typicality"
_rounded = "{:.4f}".format  # probabilities for people


@dataclass(frozen=True)
class Predictions(ABC):
    """What an estimator predicts for some images.

    Parameters
    ----------
    names : list of str
        Names of the columns of `values`, which may be missing for numbers.
    images : sequence of str
    values : float64 array of shape (n_samples, n_columns)
        Probabilities, or numbers.
    typicality : float64 array of shape (n_samples,) or None
        P-values that images come from where the training images came from, if they are wanted.
    """

    names: list[str]
    images: Sequence[str]
    values: np.ndarray
    typicality: np.ndarray | None = None

    def _with_typicality(self, rows: Iterable[list[str]], as_text: Callable[[float], str]) -> Iterator[list[str]]:
        """Return rows with a last column."""
        if self.typicality is None:
            return iter(rows)
        column = chain([_TYPICALITY], map(as_text, self.typicality.tolist()))
        return ([*row, cell] for row, cell in zip(rows, column, strict=True))

    def _headings(self, own: Sequence[str], names: Sequence[str], word: str) -> list[str]:
        """Return the headings `own` and the names of outputs, with a word before names that another column has."""
        taken = {*own, *([] if self.typicality is None else [_TYPICALITY])}
        headings = [*own]
        for name in names:
            heading = name
            while heading in taken or (heading != name and heading in names):
                heading = f"{word}_{heading}"
            headings.append(heading)
        return headings

    def table(self) -> list[list[str]]:
        """Return a heading and rows for people, with all that is wanted."""
        return [*self._with_typicality(self.summary(), _rounded)]

    def csv(self) -> Iterator[list[str]]:
        """Return a heading and rows for programs, with all that is wanted.

        Numbers have all digits, because rounded probabilities have ties, and a log loss that depends on the rounding.
        Each row is made when it is asked for, because those of many classes take far more memory than their values.
        """
        return self._with_typicality(self.rows(), repr)

    def json(self) -> list[dict[str, Any]]:
        """Return all that is predicted, with all that is wanted."""
        if self.typicality is None:
            return self.records()
        of_each = zip(self.records(), self.typicality.tolist(), strict=True)
        return [record | {_TYPICALITY: p} for record, p in of_each]

    @abstractmethod
    def summary(self) -> list[list[str]]:
        """Return a heading and rows for people."""

    @abstractmethod
    def rows(self) -> Iterator[list[str]]:
        """Return a heading and rows for programs."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """Return all that is predicted."""


class _Classes(Predictions):
    """The most probable class of each image."""

    def summary(self) -> list[list[str]]:
        winners, best = self.values.argmax(axis=1), self.values.max(axis=1, initial=0.0)
        rows = zip(self.images, winners, best, strict=True)
        return [["image", "prediction", "probability"], *([image, self.names[k], _rounded(p)] for image, k, p in rows)]

    def rows(self) -> Iterator[list[str]]:
        yield self._headings(["image", "prediction", "probability"], self.names, "class")
        for image, row in zip(self.images, self.values, strict=True):
            best = int(row.argmax())
            yield [image, self.names[best], *map(repr, [row[best].item(), *row.tolist()])]

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "image": image,
                "prediction": self.names[int(np.argmax(row))],
                "probability": max(row),
                "probabilities": dict(zip(self.names, row, strict=True)),
            }
            for image, row in zip(self.images, self.values.tolist(), strict=True)
        ]


class _Labels(Predictions):
    """The labels of each image, whose probabilities are above 0.5."""

    def summary(self) -> list[list[str]]:
        rows = [["image", "prediction", "probability"]]
        for image, row in zip(self.images, self.values, strict=True):
            has = np.flatnonzero(row > 0.5)
            probabilities = ", ".join(map(_rounded, row[has]))
            rows.append([image, ", ".join(self.names[k] for k in has) or "-", probabilities or "-"])
        return rows

    def rows(self) -> Iterator[list[str]]:
        yield self._headings(["image", "prediction"], self.names, "label")
        for image, row in zip(self.images, self.values, strict=True):
            has = ", ".join(self.names[k] for k in np.flatnonzero(row > 0.5))
            yield [image, has, *map(repr, row.tolist())]

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "image": image,
                "prediction": [name for name, p in zip(self.names, row, strict=True) if p > 0.5],
                "probabilities": dict(zip(self.names, row, strict=True)),
            }
            for image, row in zip(self.images, self.values.tolist(), strict=True)
        ]


class _Numbers(Predictions):
    """One or more numbers of each image."""

    @property
    def headings(self) -> list[str]:
        """The names of the numbers, or their positions from 0 if they have no names."""
        return number_names(self.names, self.values.shape[1])

    def summary(self) -> list[list[str]]:
        return [*self._rows("{:.6g}".format)]

    def rows(self) -> Iterator[list[str]]:
        return self._rows(repr)

    def _rows(self, as_text: Callable[[float], str]) -> Iterator[list[str]]:
        names = ["prediction"] if self.values.shape[1] == 1 else self.headings
        yield self._headings(["image"], names, "number")
        for image, row in zip(self.images, self.values, strict=True):
            yield [image, *map(as_text, row.tolist())]

    def records(self) -> list[dict[str, Any]]:
        return [
            {"image": image, "prediction": row[0] if len(row) == 1 else dict(zip(self.headings, row, strict=True))}
            for image, row in zip(self.images, self.values.tolist(), strict=True)
        ]


_KINDS: dict[str, type[Predictions]] = {"classes": _Classes, "labels": _Labels, "numbers": _Numbers}


def values_of(estimator: Any, images: Sequence[str]) -> np.ndarray:
    """Return the probabilities of the classes or labels, or the numbers, of shape (n_samples, n_columns)."""
    if kind_of(estimator) != "numbers":
        probabilities: np.ndarray = estimator.predict_proba(images)
        return probabilities
    numbers: np.ndarray = estimator.predict(images)
    return numbers.reshape(len(numbers), -1)


def training_images_among(estimator: Any, images: np.ndarray) -> str:
    """Return a sentence about test images that are training images; empty if there are none, or it is unknown.

    The features of images that the estimator has predicted are cached. At most 1,000 images are compared, so that a
    cache that is too small costs little.
    """
    if estimator.cache is False:
        return ""
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MOST_COMPARED)).astype(np.int64))
    known = np.zeros(len(images), dtype=bool)
    try:
        known[rows] = estimator.set_params(verbose=0)._compare_with_training(images[rows])[1]
    except (TypicalityError, BackboneError):  # there are no references, or the network has other blocks here
        return ""
    return " ".join(finding.message for finding in about_training_images(known, np.arange(len(images))))


def limit_of_typicality(estimator: Any) -> str:
    """Return why no image can have a low typicality; empty if images can, or there is no typicality."""
    known = estimator._typicality
    return "" if known is None else too_few_references(known.n_references)


def predict_images(
    estimator: Any, images: Sequence[str], typicality: bool = False
) -> tuple[Predictions, InvalidImageError | None]:
    """Return the predictions for the images that can be used, and the error about the others, if any."""
    names, predictions = headings_of(estimator), _KINDS[kind_of(estimator)]
    try:
        values, rows, failures = predict_usable(partial(values_of, estimator), images, np.arange(len(images)))
    except InvalidImageError as error:
        n_columns = len(names) or estimator.n_outputs_  # numbers may have no names
        return predictions(names, [], np.empty((0, n_columns)), np.empty(0) if typicality else None), error
    images = [images[row] for row in rows]
    p_values = estimator.typicality(images) if typicality else None
    return predictions(names, images, values, p_values), InvalidImageError(failures) if failures else None
