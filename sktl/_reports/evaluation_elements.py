"""Elements of the sections of an evaluation's page: headings, tiles, tables and images with their captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktl._evaluation.confidence_intervals import Mean, Rate
from sktl._evaluation.sentences import interval
from sktl._short_text import NONE

from .markup import Markup, joined, named, tag
from .page_thumbnails import Album

# Images of cells of the confusion matrix, and of labels, are smaller and share a limit of their own.
_SMALL_SIDE = 112
_SMALL_SHARE = 4


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of a page, each of which knows its name.

    Parameters
    ----------
    samples : sequence of Sample
        All images of `X`.
    names : sequence of str
        Their names.
    positions : int64 array of shape (n_evaluated,)
        Positions in `X` of the evaluated images.
    large, small : Album
    """

    samples: Sequence[Any]
    names: Sequence[str]
    positions: np.ndarray
    large: Album
    small: Album

    @classmethod
    def of(cls, samples: Sequence[Any], names: Sequence[str], positions: np.ndarray, limit: int) -> Pictures:
        """Return the images of a page, whose thumbnails take at most `limit` bytes."""
        for_small = limit // _SMALL_SHARE
        return cls(samples, names, positions, Album(limit - for_small), Album(for_small, _SMALL_SIDE))

    def card(self, row: int, *caption: object, beside: np.ndarray | None = None, small: bool = False) -> Markup:
        """Return an evaluated image with its name and a caption, and another picture beside it."""
        position = int(self.positions[row])
        name, album = self.names[position], self.small if small else self.large
        pictures = [album.show(self.samples[position], name)]
        if beside is not None:
            pictures.append(album.show_pixels(beside, f"Map of where the model looked in {name}"))
        text = tag("figcaption", *caption, tag("span", named(name), class_="name"))
        class_ = "card pair" if beside is not None else "card small" if small else "card"
        return tag("figure", tag("div", *pictures, class_="shots"), text, class_=class_)


def section(identifier: str, title: str, *content: object) -> Markup:
    """Return a section of the page with a heading."""
    return tag("section", tag("h2", title), *content, id=identifier)


def paragraphs(sentences: Iterable[object]) -> Markup:
    """Return sentences as paragraphs."""
    return joined(*(tag("p", sentence) for sentence in sentences))


def tile(value: str, label: str, note: str = "") -> Markup:
    """Return one figure in large letters."""
    small = tag("span", note, class_="muted") if note else None
    return tag("div", tag("strong", value), tag("span", label), small, class_="tile")


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], words: Sequence[int] = (0,)) -> Markup:
    """Return a table that scrolls by itself. `words` are the columns that are aligned to the left."""

    def cell(name: str, i: int, content: object, **attributes: object) -> Markup:
        return tag(name, content, class_=None if i in words else "number", **attributes)

    head = tag("tr", *(cell("th", i, content, scope="col") for i, content in enumerate(heads)))
    body = [tag("tr", *(cell("td", i, content) for i, content in enumerate(row))) for row in rows]
    # Focusable, so that it can be scrolled with the keyboard.
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide", tabindex=0)


def with_interval(value: str, figure: Rate | Mean) -> Markup:
    """Return a figure and, in small letters, its interval."""
    limits = interval(figure)
    return joined(value, tag("span", limits, class_="interval") if limits and value != NONE else "")


def grid(cards: Iterable[Markup]) -> Markup:
    """Return images side by side."""
    return tag("div", *cards, class_="cards")


def folded(summary: object, *content: object, anchor: str | None = None) -> Markup:
    """Return content that opens on a click, also by a link to `anchor`: browsers open what surrounds a target."""
    inner = tag("div", *content, id=anchor)
    return tag("details", tag("summary", summary), inner)


def beside(chart: Markup, *content: object) -> Markup:
    """Return a chart with its explanation beside it, or below it on narrow screens."""
    return tag("div", chart, tag("div", *content, class_="words"), class_="explained")


def rest(n: int, shown: int, what: str) -> Markup | None:
    """Return a sentence about what a list leaves out, or None."""
    return tag("p", f"The page shows {shown:,} of {n:,} {what}.", class_="muted") if n > shown else None
