"""Decode the content of one sample to RGB: what each file format, array and PIL mode means as pixels."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from numbers import Integral
from typing import ParamSpec, TypeVar

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, TiffImagePlugin, features

from sktl._utils.environment import bound_from
from sktl._utils.isolation import fork_safe_lock
from sktl._words import LONGEST_REASON, one_line
from sktl.exceptions import InvalidImageWarning, InvalidParameterError

from .advice import NUMPY, Numbers, Words, spanned
from .advice import PIL as PIL_WORDS
from .corrections import corrected, why_misread, without_texts
from .formats import why_undecodable
from .preprocessing import Preprocessing

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Enters every cache key: change it when the same content gives other pixels than before.
DECODING_RULE = 2
_CODECS = ("jpg", "jpg_2000", "webp", "avif", "libtiff", "littlecms2")
# Programs of others that Pillow hands such files to.
_RUN_BY_PROGRAMS = {"EPS": "Ghostscript", "WMF": "Windows"}
# Their header says nothing of the size of the image within.
_CONTAINERS = ("ICNS",)
_LIMIT_VARIABLE = "SKTL_MAX_PIXELS"
_DEFAULT_LIMIT = 89_478_485  # that of Pillow, which it only warns about: a quarter of a GiB as RGB
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)


class ImageProblem(Exception):  # noqa: N818 - a reason on its way to an InvalidImageError
    """Why one sample is not an image that can be used; never leaves the package.

    Parameters
    ----------
    reason : str
        In words, some of which may be those of another library.
    """

    def __init__(self, reason: str):
        super().__init__(one_line(reason, LONGEST_REASON))


def decoding_rule() -> tuple[object, ...]:
    """Return what decides the pixels that `decode` gives for a content: it enters each cache key.

    It holds versions, and settings of Pillow that apply to the whole process and are not ours to change. Limits are not
    among them: they decide what is refused, and never the pixels.
    """
    switches = (ImageFile.LOAD_TRUNCATED_IMAGES, TiffImagePlugin.READ_LIBTIFF)
    return (DECODING_RULE, PIL.__version__, *_codec_versions(), switches, _foreign_readers())


@functools.cache
def _codec_versions() -> tuple[str | None, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a Pillow without a codec warns
        # The version of "jpg" is that of its interface, which all releases of libjpeg-turbo share.
        return features.version_feature("libjpeg_turbo"), *(features.version(name) for name in _CODECS)


def _foreign_readers() -> tuple[tuple[str, ...], ...]:
    """Return who reads formats in Pillow's place, such as pillow-heif, with versions."""
    openers = [(name, opener) for name, (opener, _) in list(Image.OPEN.items())]  # others may register theirs meanwhile
    readers = [*openers, *list(Image.DECODERS.items())]
    found = {(name, *_origin(reader)) for name, reader in readers}
    return tuple(sorted(reader for reader in found if reader[1] != PIL.__name__))


def _origin(reader: object) -> tuple[str, str, str]:
    """Return the package of a function or class, its name, and the version of the package."""
    package, name = (str(getattr(reader, kind, "")) for kind in ("__module__", "__qualname__"))
    package = package.partition(".")[0]
    return package, name, str(getattr(sys.modules.get(package), "__version__", ""))


class RangeProblem(ImageProblem):
    """Numbers that are not pixels.

    Parameters
    ----------
    numbers : Numbers
        Of this image.
    words : Words
        For the remedy.
    whole : Numbers or None
        Of all such images of `X`, from which the remedy follows; None where only this one is known.
    """

    def __init__(self, numbers: Numbers, words: Words, whole: Numbers | None = None):
        super().__init__(numbers.describe() + words.advise(whole or numbers))
        self.numbers = numbers
        self.words = words

    def among(self, problems: Sequence[RangeProblem]) -> RangeProblem:
        """Return the same problem with the remedy for all images of its kind."""
        parts = [problem.numbers for problem in problems if problem.numbers.are_floats == self.numbers.are_floats]
        return RangeProblem(self.numbers, self.words, spanned(parts))


def content_key(content: bytes | np.ndarray) -> bytes:
    """Return 32 bytes that identify the content of a sample: its file's bytes, or its shape and RGB pixels."""
    if isinstance(content, bytes):
        digest = hashlib.sha256(b"file")
        digest.update(content)
    else:
        digest = hashlib.sha256(b"pixels %d %d" % content.shape[:2])
        digest.update(np.ascontiguousarray(content).data)
    return digest.digest()


def decode(content: bytes | np.ndarray, preprocessing: Preprocessing) -> Image.Image:
    """Decode the content of a sample to an upright RGB image.

    A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that leaves at least twice the size to which
    `preprocessing` resizes it (Pillow's `draft`); its features then differ a little from those of the whole image.

    Raises
    ------
    ImageProblem
        If the content is damaged, or no image.
    """
    if not isinstance(content, bytes):
        return Image.fromarray(content)
    return _despite_warnings(_decode_file, content, preprocessing)


def _decode_file(content: bytes, preprocessing: Preprocessing) -> Image.Image:
    try:
        with Image.open(BytesIO(without_texts(content))) as image:
            check_header(image)
            return _to_rgb(_reduced(image, preprocessing) if image.format == "JPEG" else image)
    except (ImageProblem, Warning):
        raise
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        check_memory(error)
        raise ImageProblem(why_undecodable(content, error)) from error


def check_memory(error: Exception) -> None:
    """Raise `MemoryError` if that is what an error of Pillow says: it tells of the machine, and not of the image."""
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and (error.errno == errno.ENOMEM or "out of memory" in str(error)):
        raise MemoryError(str(error)) from error


_QUIET = fork_safe_lock()


def _despite_warnings(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a function that uses Pillow; again, without its warnings, if a filter of the user makes them errors.

    What Pillow warns of (damaged EXIF data, a large image) must not decide whether an image is accepted, or how it is
    turned. Filters hold for the process, so they are left alone unless one stopped Pillow half-way.
    """
    try:
        return function(*args, **kwargs)
    except Warning:
        with _QUIET, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\b")
            return function(*args, **kwargs)


def set_pixel_limit(n_pixels: int | None) -> None:
    """Bound the size of images that are decoded, against files that are small and unpack to gigabytes.

    The bound holds in this process and in those that it starts from then on: it is kept in the environment variable
    `SKTL_MAX_PIXELS`, which may also be set before Python starts.

    Parameters
    ----------
    n_pixels : int or None
        Width times height, at least 1; None is the default, 89,478,485. Pillow has a limit of its own, twice its
        `PIL.Image.MAX_IMAGE_PIXELS`: beyond that both must be raised.

    Raises
    ------
    InvalidParameterError
        If it is no such number.

    See Also
    --------
    check_images : Which images cannot be used, and why.
    """
    if n_pixels is None:
        os.environ.pop(_LIMIT_VARIABLE, None)
        return
    if isinstance(n_pixels, bool) or not isinstance(n_pixels, Integral) or n_pixels < 1:
        raise InvalidParameterError(f"n_pixels={n_pixels!r} must be an integer of at least 1, or None for the default.")
    os.environ[_LIMIT_VARIABLE] = str(int(n_pixels))


def pixel_limit() -> int:
    """Return the bound that `set_pixel_limit` sets."""
    example = f"a number of pixels, such as {_DEFAULT_LIMIT}"
    return bound_from(_LIMIT_VARIABLE, 1, example, InvalidImageWarning) or _DEFAULT_LIMIT


def limits() -> tuple[int | None, ...]:
    """Return what decides, beside the content, which images are refused: what one process accepts, another may not."""
    return pixel_limit(), Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY


def check_header(image: Image.Image) -> None:
    """Raise `ImageProblem` if an image should not be decoded."""
    if image.format in _RUN_BY_PROGRAMS:
        raise ImageProblem(
            f"is a .{image.format.lower()} file, which Pillow lets {_RUN_BY_PROGRAMS[image.format]} draw; "
            "convert it to PNG if you trust its source"
        )
    if image.format in _CONTAINERS:
        raise ImageProblem(f"is a .{image.format.lower()} file, a container of icons; convert it to PNG")
    if problem := why_misread(image):
        raise ImageProblem(problem)
    width, height = image.size
    if not width * height and not isinstance(image, ImageFile.StubImageFile):  # which cannot be decoded, and say why
        raise ImageProblem(f"has no pixels: {width} x {height}")
    if width * height > pixel_limit():
        raise ImageProblem(
            f"has {width} x {height} pixels, more than the limit of {pixel_limit():,}; shrink it, or raise the limit "
            "with sktl.set_pixel_limit if you trust its source"
        )


def _reduced(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Decode a JPEG at the smallest scale that leaves twice the size after resizing, and resize it."""
    width, height = image.size
    if _is_turned(image):
        needed_height, needed_width = preprocessing.resized_shape(height, width)
    else:
        needed_width, needed_height = preprocessing.resized_shape(width, height)
    drafted = image.draft(None, (2 * needed_width, 2 * needed_height))
    image.load()
    if drafted is None or drafted[1][2:] == image.size:
        return image
    # Of sides that the scale does not divide, the last blocks reach beyond the image: the box is what shows it.
    return preprocessing.resample(image, (needed_width, needed_height), drafted[1])


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) in _TURNED
    except (Warning, MemoryError):
        raise
    except Exception:  # EXIF too broken to hold an orientation
        return False


def pil_to_rgb(image: Image.Image) -> Image.Image:
    """Return a new RGB image: upright by EXIF, transparency on white, 16 bits scaled to 8, the first frame only."""
    return _despite_warnings(_to_rgb, image)


def _to_rgb(image: Image.Image) -> Image.Image:
    # Loaded here, where damage is an error: Pillow gives what it has of a damaged image when it is asked again.
    upright = _upright(corrected(image))
    if upright.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(upright, dtype=np.float64)
        clear = upright.info.get("transparency")
        return _from_floats(np.where(values == clear, 1, values / 65535) if isinstance(clear, int) else values / 65535)
    if image.mode == "I":
        raise ImageProblem("has 32-bit integer pixels, whose white is unknown; convert it to uint8 or to [0, 1]")
    if image.mode == "F":
        pixels = np.asarray(upright)
        check_pixels(pixels, PIL_WORDS)
        return _from_floats(pixels)
    if upright.has_transparency_data:
        return _on_white(upright)
    return upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (Warning, MemoryError):
        raise
    except Exception:  # EXIF too broken to hold an orientation
        return image.copy()


def _from_floats(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(_to_uint8(pixels)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(pixels, dtype=np.float64) * 255).astype(np.uint8)


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Return contiguous RGB pixels, uint8 of shape (H, W, 3), of a checked array (H, W) or (H, W, C)."""
    pixels = array if array.dtype == np.uint8 else _to_uint8(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 4:
        return np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(pixels))))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def check_pixels(array: np.ndarray, words: Words = NUMPY) -> None:
    """Raise `ImageProblem` unless the array holds uint8, or finite floats in [0, 1]; `words` are for its remedy."""
    if array.size == 0:
        raise ImageProblem(f"has no pixels: shape {array.shape}")
    if array.dtype == np.uint8:
        return
    if array.dtype == bool:
        raise ImageProblem(words.explain(f"has dtype bool; for black and white pass {words.as_float}"))
    if array.dtype.kind == "O":
        advice = f"has dtype object; pass uint8, or floats in [0, 1]: {words.as_uint8} or {words.as_float}"
        raise ImageProblem(words.explain(advice))
    if array.dtype.kind not in "iuf":
        name = "a structured dtype" if array.dtype.kind == "V" else f"dtype {array.dtype}"
        # In the words of scikit-learn, as for arrays without rows or columns.
        known = " (Complex data not supported)" if array.dtype.kind == "c" else ""
        raise ImageProblem(f"has {name}; pass uint8, or floats in [0, 1]{known}")
    low, high = float(array.min()), float(array.max())  # a long double may be infinite in all that follows
    if not np.isfinite(low) or not np.isfinite(high):
        found = "NaN" if np.isnan(low) or np.isnan(high) else "infinity"
        raise ImageProblem(f"contains {found}; every pixel must be a finite number")
    numbers = Numbers(low, high, array.dtype)
    if not numbers.is_pixels:
        raise RangeProblem(numbers, words)
