"""Why a sample cannot be used: reasons before they become errors, size limits, and errors raised elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

from PIL import Image, PngImagePlugin

from sktl._short_text import LONGEST_REASON, one_line, shown_value
from sktl._utils.environment_limits import bound_from
from sktl.exceptions import InvalidImageError, InvalidImageWarning, InvalidInputError, InvalidParameterError

_LIMIT_VARIABLE = "SKTL_MAX_PIXELS"
_DEFAULT_LIMIT = 89_478_485  # Pillow's limit, at which Pillow only warns: 256 MiB as RGB
_QUOTED_OR_X = re.compile(r"""'[^']*'|"[^"]*"|\bX\b""")  # names of files and columns are quoted


class ImageProblem(Exception):  # noqa: N818 - a reason on its way to an InvalidImageError
    """Reason why a sample cannot be used as an image. It is never raised to the user.

    Parameters
    ----------
    reason : str
        The reason in words, which may include words of another library.
    """

    def __init__(self, reason: str):
        super().__init__(one_line(reason, LONGEST_REASON))


@contextmanager
def as_argument(argument: str) -> Iterator[None]:
    """Make errors about images name the argument that holds the images, where `as_samples` says X."""
    try:
        yield
    except InvalidImageError as error:
        raise InvalidImageError(error.failures, argument, error.lead, error.remedy) from error.__cause__
    except InvalidInputError as error:
        message = _QUOTED_OR_X.sub(lambda found: argument if found[0] == "X" else found[0], str(error))
        raise InvalidInputError(message) from error.__cause__


def set_pixel_limit(n_pixels: int | None) -> None:
    """Set the maximum size of images, as protection against small files that unpack to gigabytes.

    The limit applies to this process and to processes that it starts afterwards. It is stored in the environment
    variable `SKTL_MAX_PIXELS`, which can also be set before Python starts.

    Parameters
    ----------
    n_pixels : int or None
        Maximum of width times height, at least 1. None restores the default of 89,478,485. Images are opened without
        Pillow's own limit and its warning, unless your program has changed `PIL.Image.MAX_IMAGE_PIXELS`: images of more
        than twice that number are then refused as well. WebP files are always subject to Pillow's limit.

    Raises
    ------
    InvalidParameterError
        If `n_pixels` is neither None nor an integer of at least 1.

    See Also
    --------
    check_images : Find images that cannot be used, and why.
    """
    if n_pixels is None:
        os.environ.pop(_LIMIT_VARIABLE, None)
        return
    if isinstance(n_pixels, bool) or not isinstance(n_pixels, Integral) or n_pixels < 1:
        raise InvalidParameterError(
            f"n_pixels={shown_value(n_pixels)} must be an integer of at least 1, or None for the default."
        )
    os.environ[_LIMIT_VARIABLE] = str(int(n_pixels))


def pixel_limit() -> int:
    """Return the limit set by `set_pixel_limit`, or Pillow's if the program has set a lower one."""
    return _limit()[0]


def _limit() -> tuple[int, str]:
    """Return the limit, and what raises it."""
    example = f"a number of pixels, such as {_DEFAULT_LIMIT}"
    ours = bound_from(_LIMIT_VARIABLE, 1, example, InvalidImageWarning) or _DEFAULT_LIMIT
    base = Image.MAX_IMAGE_PIXELS
    if base in (None, _DEFAULT_LIMIT) or 2 * base >= ours:
        return ours, "sktl.set_pixel_limit"
    return 2 * base, "PIL.Image.MAX_IMAGE_PIXELS, which is half of it,"


def limits() -> tuple[int | None, ...]:
    """Return everything except the content that affects which images are refused."""
    return pixel_limit(), Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY


def check_size(width: int, height: int, what: str = "") -> None:
    """Raise `ImageProblem` if an image, or what the words `what` say that it has, has no pixels or too many."""
    if width < 1 or height < 1:
        raise ImageProblem(f"has {what}no pixels: {width} x {height}")
    limit, setting = _limit()
    if width * height > limit:
        raise ImageProblem(
            f"has {what}{width} x {height} pixels, more than the limit of {limit:,}; shrink it, or raise the limit "
            f"with {setting} if you trust its source"
        )
