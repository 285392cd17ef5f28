"""Readers of formats that Pillow does not read: which content each of them reads, and which versions decide its pixels.

A reader turns the bytes of a file into an array: uint8, or floats in [0, 1], of shape (H, W), (H, W, 3) or (H, W, 4).
Its packages are optional and are imported when the first file needs them. Which reader a file belongs to depends on its
bytes alone, not on what is installed, so it can be cached together with the content key.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import Image, TiffImagePlugin

from sktl._short_text import one_line
from sktl._utils.process_errors import raise_process_error

from .problems import ImageProblem
from .tiff import has_tiff_image, is_beyond_pillow
from .tiff_tags import is_tiff
from .unreadable_formats import DICOM, HEIC, is_avif, is_known

# Part of every cache key of a file that a reader reads. Change it when a reader returns other pixels than before.
READING_RULE = 1
# Suffixes of files that Pillow reads, in lower case.
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2",
    ".avif",
})  # fmt: skip
_LONGEST = 200


@dataclass(frozen=True)
class Reader:
    """A reader of a format.

    Parameters
    ----------
    name : str
        Name of the reader.
    what : str
        What one of its files is, in messages.
    module : str
        Module of this package that defines ``read(content)``.
    package : str
        Package that it needs.
    deciding : tuple of str
        Distributions whose versions decide its pixels, its own first.
    suffixes : tuple of str
        Suffixes of its files, in lower case, by which folders are listed.
    yields : callable
        Returns True if the program has set up Pillow to read some of these files, which are then left to it.
    """

    name: str
    what: str
    module: str
    package: str
    deciding: tuple[str, ...]
    suffixes: tuple[str, ...] = ()
    yields: Callable[[], bool] = lambda: False

    @property
    def is_installed(self) -> bool:
        """Whether its package is installed."""
        return _is_installed(self.package)

    @property
    def distribution(self) -> str:
        """What to install. An extra of sktl would also install PyTorch, which `sktl.runtime` does without."""
        return self.deciding[0]

    @property
    def is_active(self) -> bool:
        """Whether files of this format are read by this reader, instead of being left to Pillow."""
        return self.is_installed and not self.yields()

    def why_missing(self) -> str:
        """Return what to install."""
        return f"is a {self.what} that Pillow does not read: pip install {self.distribution}, or convert it to PNG"

    def identity(self) -> tuple[object, ...]:
        """Return everything except the content that affects the pixels. It is part of every cache key."""
        return (self.name, READING_RULE, *(_version(name) for name in self.deciding))

    def read(self, content: bytes) -> np.ndarray:
        """Return the pixels of a file.

        Raises
        ------
        ImageProblem
            If the file cannot be read, or the package is not installed.
        """
        if not self.is_installed:
            raise ImageProblem(self.why_missing())
        module = importlib.import_module(f".{self.module}", __package__)
        try:
            return module.read(content)
        except (ImageProblem, Warning):
            raise
        except ImportError as error:
            raise ImageProblem(f"is a {self.what}, but {self.package} cannot be imported: {error}") from error
        except Exception as error:  # the packages raise almost anything on damaged files
            raise_process_error(error)
            reason = str(error) if " " in str(error) else f"{type(error).__name__} {error}"
            raise ImageProblem(f"is not a valid {self.what}: {one_line(reason, _LONGEST)}") from error


def _opens_heif() -> bool:
    return "HEIF" in Image.OPEN


def _reads_all_by_libtiff() -> bool:
    return TiffImagePlugin.READ_LIBTIFF


READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "dicom", ".dcm file", "dicom", "pydicom",
            (
                "pydicom", "python-gdcm", "pyjpegls", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg",
                "pylibjpeg-rle",
            ),
            (".dcm", ".dicom"),
        ),
        Reader("heic", ".heic file", "heic", "pillow_heif", ("pillow-heif",), (".heic", ".heif", ".hif"), _opens_heif),
        Reader("tiff", ".tiff file", "tiff", "tifffile", ("tifffile", "imagecodecs"), (), _reads_all_by_libtiff),
    )
}  # fmt: skip


def reader_name(content: bytes) -> str:
    """Return the name of the reader to which content belongs; empty if it is left to Pillow."""
    if HEIC.matches(content) and not is_avif(content):
        return "heic"
    # A DICOM file may start with the header of another format, so that programs for that format read it as well. Many
    # start with the header of a TIFF file that contains no image.
    if DICOM.matches(content) and not (is_known(content) if not is_tiff(content) else has_tiff_image(content)):
        return "dicom"
    return "tiff" if is_beyond_pillow(content) else ""


def is_read_by_name(path: str) -> bool:
    """Return True if the suffix of a path belongs to an installed reader."""
    suffix = os.path.splitext(path)[1].lower()
    return any(suffix in reader.suffixes and reader.is_installed for reader in READERS.values())


def missing_extras(paths: Iterable[str]) -> str:
    """Return the commands that install readers for files of these names; empty if none is missing."""
    suffixes = {os.path.splitext(path)[1].lower() for path in paths}
    missing = [r for r in READERS.values() if suffixes & set(r.suffixes) and not r.is_installed]
    return " ".join(f"To read {reader.what}s: pip install {reader.distribution}." for reader in missing)


def is_dicom_image(path: str) -> bool:
    """Return True for a DICOM file without a suffix, as scanners name them, that can be read; not for a DICOMDIR."""
    if not READERS["dicom"].is_installed or os.path.basename(path).upper() == "DICOMDIR":
        return False
    with open(path, "rb") as file:
        return file.read(132).endswith(b"DICM")


@functools.cache
def _is_installed(package: str) -> bool:
    """Return True if a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
