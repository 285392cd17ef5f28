"""Decode the content of a sample to RGB: the meaning of each file format, array and PIL mode as pixels."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError, features

from sktl._utils.locks import fork_safe_lock
from sktl._utils.process_errors import raise_process_error

from .bit_depths import looked_up
from .format_readers import READERS, Reader, reader_name
from .pillow_misreadings import corrected, unloaded_copy, why_misread, without_texts
from .pillow_opening import open_image, why_refused
from .pixel_advice import FILE, Words
from .pixel_advice import PIL as PIL_WORDS
from .pixel_checks import check_pixels
from .preprocessing import Preprocessing
from .problems import ImageProblem, check_size
from .tiff import why_no_picture
from .unreadable_formats import why_undecodable

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Part of every cache key. Change it when the same content is decoded to other pixels than before; otherwise caches
# return features of the old pixels.
DECODING_RULE = 3
_CODECS = ("jpg", "jpg_2000", "webp", "avif", "libtiff", "littlecms2")
_LIBRARIES = r"(PIL|pydicom|pillow_heif|tifffile|sktl\._images)\b"
_ORIENTATION = 0x0112
_CHANGED, _TURNED = (2, 3, 4, 5, 6, 7, 8), (5, 6, 7, 8)


def decoding_rule() -> tuple[object, ...]:
    """Return everything except the content that affects the pixels from `decode`. It is part of every cache key.

    It consists of versions and of Pillow's process-wide settings, which sktl does not change. Limits are not included:
    they affect which images are refused, but never pixels.
    """
    switches = (ImageFile.LOAD_TRUNCATED_IMAGES, TiffImagePlugin.READ_LIBTIFF)
    return (DECODING_RULE, PIL.__version__, *_codec_versions(), switches, _foreign_readers())


@functools.cache
def _codec_versions() -> tuple[str | None, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about missing codecs
        # The version of "jpg" is the version of its interface, which is the same for all releases of libjpeg-turbo.
        return features.version_feature("libjpeg_turbo"), *(features.version(name) for name in _CODECS)


def _foreign_readers() -> tuple[tuple[str, ...], ...]:
    """Return the readers of other packages that replace Pillow's, such as pillow-heif, with their versions."""
    # Copied, because other threads may register readers.
    openers = [(name, opener) for name, (opener, _) in list(Image.OPEN.items())]
    readers = [*openers, *list(Image.DECODERS.items())]
    found = {(name, *_origin(reader)) for name, reader in readers}
    return tuple(sorted(reader for reader in found if reader[1] != PIL.__name__))


def _origin(reader: object) -> tuple[str, str, str]:
    """Return the package and name of a function or class, and the version of the package."""
    package, name = (str(getattr(reader, kind, "")) for kind in ("__module__", "__qualname__"))
    package = package.partition(".")[0]
    return package, name, str(getattr(sys.modules.get(package), "__version__", ""))


def decode(content: bytes | np.ndarray, preprocessing: Preprocessing) -> Image.Image:
    """Decode the content of a sample to an upright RGB image.

    A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size (Pillow's `draft`) if the result is at least twice as large as
    `preprocessing` needs. Its features then differ slightly from the features of the full-size image.

    Raises
    ------
    ImageProblem
        If the content is damaged or not an image.
    """
    if not isinstance(content, bytes):
        return Image.fromarray(content)
    return _despite_warnings(_decode_file, content, preprocessing)


def _decode_file(content: bytes, preprocessing: Preprocessing) -> Image.Image:
    reader = READERS.get(reader_name(content))
    if reader is not None and reader.is_active:
        return Image.fromarray(_read(reader, content))
    try:
        return _decode_by_pillow(content, preprocessing)
    except ImageProblem as problem:
        if reader is None or reader.is_installed:
            raise
        raise ImageProblem(reader.why_missing()) from problem


def _decode_by_pillow(content: bytes, preprocessing: Preprocessing) -> Image.Image:
    try:
        with open_image(without_texts(content)) as image:
            check_header(image)
            rgb = _to_rgb(_reduced(image, preprocessing) if image.format == "JPEG" else image, FILE)
            return _plain(rgb)
    except (ImageProblem, Warning):
        raise
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise_process_error(error)
        reason = why_no_picture(content) if isinstance(error, UnidentifiedImageError) else None
        raise ImageProblem(reason or why_undecodable(content, error)) from error


def _plain(image: Image.Image) -> Image.Image:
    """Return an image with the same pixels in memory that does not refer to its file, which has a format and frames."""
    return image._new(image.im)


def read_pixels(reader: Reader, content: bytes) -> np.ndarray:
    """Return the pixels of a file, as uint8 of shape (H, W, 3), from a reader that may not be the one for its format.

    Raises
    ------
    ImageProblem
        If the reader cannot read the file.
    """
    return _despite_warnings(_read, reader, content)


def _read(reader: Reader, content: bytes) -> np.ndarray:
    pixels = reader.read(content)
    check_pixels(pixels, FILE)
    return array_to_rgb(pixels)


_QUIET = fork_safe_lock()


def _despite_warnings(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a function that reads an image. Call it again without warnings if a user's filter turns them into errors.

    Warnings of Pillow and other readers (damaged EXIF data, a large image) must not affect whether an image is accepted
    or how it is rotated. Filters are process-wide, so they are changed only after one of them has interrupted a reader.
    """
    try:
        return function(*args, **kwargs)
    except Warning:
        with _QUIET, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_LIBRARIES)
            return function(*args, **kwargs)


def check_header(image: Image.Image) -> None:
    """Raise `ImageProblem` if an image should not be decoded."""
    if problem := why_refused(image.format) or why_misread(image):
        raise ImageProblem(problem)
    if all(image.size) or not isinstance(image, ImageFile.StubImageFile):  # stubs raise their own error on decoding
        check_size(*image.size)


def _reduced(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Decode a JPEG at the smallest scale that is at least twice the resized size, and resize it."""
    width, height = image.size
    if is_turned(image):
        needed_height, needed_width = preprocessing.resized_shape(height, width)
    else:
        needed_width, needed_height = preprocessing.resized_shape(width, height)
    drafted = image.draft(None, (2 * needed_width, 2 * needed_height))
    image.load()
    if drafted is None or drafted[1][2:] == image.size:
        return image
    # If the scale does not divide a side, the last blocks extend beyond the image. The box excludes that part.
    return preprocessing.resample(image, (needed_width, needed_height), drafted[1])


def is_turned(image: Image.Image) -> bool:
    """Return True if EXIF data say that the image in a file lies on its side."""
    try:
        return _orientation(image) in _TURNED
    except Warning:
        raise
    except Exception as error:  # EXIF data too damaged to contain an orientation
        raise_process_error(error)
        return False


def _orientation(image: Image.Image) -> Any:
    """Return the orientation in EXIF data, which may be anything in a damaged file. 1 is upright."""
    return image.getexif().get(_ORIENTATION, 1)


def pil_to_rgb(image: Image.Image) -> Image.Image:
    """Return a new RGB image: rotated according to EXIF, blended with white, 16 bits scaled to 8, first frame only."""
    found = _despite_warnings(lambda image: _to_rgb(unloaded_copy(image), PIL_WORDS), image)
    return found.copy() if found is image else found


def _to_rgb(image: Image.Image, words: Words) -> Image.Image:
    # `corrected` loads the image and raises an error if it is damaged. Pillow would return a partial image the second
    # time.
    upright = _upright(corrected(image))
    if upright.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        grays, clear = np.arange(65536) / 65535, upright.info.get("transparency")
        if isinstance(clear, int) and 0 <= clear < len(grays):
            grays[clear] = 1
        return Image.fromarray(looked_up(np.asarray(upright), 0, grays)).convert("RGB")
    if image.mode == "I":
        raise ImageProblem("has 32-bit integer pixels, whose white is unknown; convert it to uint8 or to [0, 1]")
    if image.mode == "F":
        pixels = np.asarray(upright)
        check_pixels(pixels, words)
        return _from_floats(pixels)
    if upright.has_transparency_data:
        return _on_white(upright)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF data turn it: itself if it is RGB and upright, and otherwise a new image.

    A copy of a large image takes hundreds of megabytes. Other modes need it, because their conversion changes them.
    """
    try:
        is_result = image.mode == "RGB" and _orientation(image) not in _CHANGED
        return image if is_result else ImageOps.exif_transpose(image)
    except Warning:
        raise
    except Exception as error:  # EXIF data too damaged to contain an orientation
        raise_process_error(error)
        return image.copy()


def _from_floats(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(_to_uint8(pixels)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(pixels, dtype=np.float64) * 255).astype(np.uint8)


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Return a checked array of shape (H, W) or (H, W, C) as contiguous RGB pixels, uint8 of shape (H, W, 3)."""
    pixels = array if array.dtype == np.uint8 else _to_uint8(array)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 4:
        return np.asarray(_on_white(Image.fromarray(np.ascontiguousarray(pixels))))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
