"""Thumbnails as data URIs, with a limit on the total number of bytes in a page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image, features

from sktl._images.decoding import ImageProblem
from sktl._images.samples import Sample
from sktl._inspection.display_thumbnails import picture
from sktl._short_text import shown_value
from sktl.exceptions import InvalidParameterError

from .markup import Markup, plain, tag

SIDE = 192
# All data URIs of a page. Browsers open pages of this size within seconds, and mail programs still attach them.
MOST_BYTES = 16_000_000
_QUALITY = 70
_METHOD = 2  # of WebP: half of the default's time, 5 % more bytes
# Smaller images are shown as squares.
_TINY = 64


def data_uri(pixels: np.ndarray) -> str:
    """Return uint8 pixels of shape (H, W, 3) or (H, W, 4) as a data URI."""
    # All browsers read WebP, at two thirds of the size of JPEG. Pillow may be built without it.
    form = "WEBP" if features.check("webp") else "JPEG" if pixels.shape[-1] == 3 else "PNG"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, quality=_QUALITY, method=_METHOD)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def limit_of(max_megabytes: Any) -> int:
    """Return the bytes that thumbnails may take.

    Raises
    ------
    InvalidParameterError
        If `max_megabytes` is not a number of at least 0.
    """
    is_number = isinstance(max_megabytes, Real) and not isinstance(max_megabytes, bool)
    if not is_number or not 0 <= max_megabytes < math.inf:
        raise InvalidParameterError(f"max_megabytes={shown_value(max_megabytes)} must be a number of at least 0.")
    return round(max_megabytes * 1e6)


@dataclass
class Album:
    """Thumbnails of a page, within a limit.

    Parameters
    ----------
    limit : int, default=MOST_BYTES
        Largest number of bytes that the thumbnails take on the page.
    side : int, default=SIDE
        Longer side of a thumbnail in pixels, at most.

    Attributes
    ----------
    n_bytes : int
        Bytes that the thumbnails take so far.
    n_left_out : int
        Number of images that were left out because of the limit.
    """

    limit: int = MOST_BYTES
    side: int = SIDE
    n_bytes: int = 0
    n_left_out: int = 0

    def show(self, sample: Sample, alt: str) -> Markup:
        """Return the thumbnail of a sample, or words in its place if it is unreadable or beyond the limit.

        Ask for the images that matter most first.
        """
        if self.n_bytes >= self.limit:
            return self._left_out()
        try:
            pixels = picture(sample.read(), self.side)
        except ImageProblem as problem:
            return _no_picture(f"Cannot be shown: {plain(problem)}")
        return self.show_pixels(pixels, alt)

    def show_pixels(self, pixels: np.ndarray, alt: str) -> Markup:
        """Return pixels, such as a heat map of the size of a thumbnail, or words in their place beyond the limit."""
        uri = data_uri(pixels)
        if self.n_bytes + len(uri) > self.limit:
            self.n_bytes = self.limit  # so that what comes later, and matters less, is left out too
            return self._left_out()
        self.n_bytes += len(uri)
        height, width = pixels.shape[:2]
        tiny = "tiny" if max(height, width) < _TINY else None
        return tag("img", src=uri, alt=plain(alt), width=width, height=height, class_=tiny, decoding="async")

    def _left_out(self) -> Markup:
        self.n_left_out += 1
        return _no_picture("No thumbnail: the page is full")


def _no_picture(words: str) -> Markup:
    return tag("span", words, class_="no-picture")
