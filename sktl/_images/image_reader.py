"""The parameter `image_reader`: the name of a reader, or a user's function from a path or bytes to an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from PIL import Image

from sktl._short_text import LONGEST_REASON, error_words, shown_value, type_of
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import InvalidParameterError

from .format_readers import READERS
from .image_items import is_array
from .problems import ImageProblem

ImageReader: TypeAlias = str | Callable[[Any], Any]


def check_image_reader(image_reader: Any) -> None:
    """Raise `InvalidParameterError` unless `image_reader` is the name of a reader, a function or None."""
    if image_reader is None or callable(image_reader):
        return
    if not isinstance(image_reader, str) or image_reader not in READERS:
        raise InvalidParameterError(
            f"image_reader={shown_value(image_reader)} must be None, {', '.join(map(repr, READERS))}, or a function "
            "from a path or bytes to an image."
        )


def call_reader(function: Callable[[Any], Any], given: str | bytes) -> Any:
    """Return what a user's function returns for a path or bytes: a PIL image or an array.

    Raises
    ------
    ImageProblem
        If the function fails, or returns something else.
    """
    try:
        image = function(given)
    except Exception as error:  # a user's function may raise anything
        raise_process_error(error)
        raise ImageProblem(f"image_reader failed on it: {error_words(error, LONGEST_REASON)}") from error
    if isinstance(image, Image.Image) or is_array(image):
        return image
    raise ImageProblem(
        f"image_reader returned {type_of(image)}; it must return a PIL image, or an array of shape (H, W), (H, "
        "W, C) or (C, H, W), uint8 or floats in [0, 1]"
    )
