"""The images below a folder: which files are images, which links are followed, and what is left out."""

from __future__ import annotations

import os
import tarfile
import warnings
import zipfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ImageFile import StubImageFile

from sktl._images.format_readers import IMAGE_SUFFIXES, is_dicom_image, is_read_by_name, missing_extras
from sktl._images.pillow_opening import is_icon
from sktl._images.url_text import is_url, masked
from sktl._short_text import count, first_few
from sktl._utils.paths import kept_path, shown, user_path, working_folder
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

# Files and folders of operating systems, file managers and network drives, in lower case: previews and trash, whose
# images must not become training images.
_OF_THE_SYSTEM = {
    "__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r",
    "$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "network trash folder",
    "temporary items", "@eadir", "@tmp", "@sharebin", "@recycle", "@recently-snapshot", "@__thumb", "#recycle",
    "#snapshot", "~snapshot",
}  # fmt: skip
_TABLES = {".csv", ".tsv"}


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return names as text for a message, of bounded length."""
    return first_few(names, shown, most)


def existing_folder(folder: Any, wanted: str) -> Path:
    """Return the path of a folder that the user passed.

    Parameters
    ----------
    folder : str or path-like
    wanted : str
        Sentence at the end of the message that says what to pass.

    Raises
    ------
    InvalidParameterError
        If `folder` has another type.
    InvalidInputError
        If `folder` is not a folder.
    """
    if not isinstance(folder, str | os.PathLike):
        several = " For several folders, call this once per folder and join the results." if _is_several(folder) else ""
        raise InvalidParameterError(
            f"folder must be the path of one folder, a str or path-like, not {type(folder).__name__}.{several}"
        )
    name = user_path(folder)
    if not name:
        raise InvalidInputError("folder='' is empty. Pass '.' for the current folder.")
    if not os.path.isdir(name):
        raise InvalidInputError(f"folder={shown(masked(name))} {_why_no_folder(name)} {wanted}")
    return Path(name)


def _is_several(folder: Any) -> bool:
    return hasattr(folder, "__iter__") and not isinstance(folder, bytes | bytearray)


def _why_no_folder(name: str) -> str:
    if os.path.isfile(name) and (zipfile.is_zipfile(name) or tarfile.is_tarfile(name)):
        return "is an archive. Unpack it first."
    if os.path.isfile(name) and os.path.splitext(name)[1].lower() in _TABLES:
        return "is a table: use load_label_table."
    if os.path.exists(name):
        return "is a file."
    try:
        os.stat(name)
    except PermissionError as error:
        return f"cannot be read: {error.strerror}. Change the permissions of the folders above it."
    except (OSError, ValueError):
        missing = f"does not exist (looked in {working_folder()})."
    if is_url(name):
        return (
            "is a URL. Folders at URLs are not listed: download the images first, or pass the URLs of images to an "
            "estimator."
        )
    if os.path.expandvars(name) != name:
        return f"{missing} Variables are not replaced: use os.path.expandvars."
    if (stripped := name.strip(" \t\r\n\"'")) != name and os.path.isdir(stripped):
        return f"{missing} {shown(stripped)} does: remove the white space or quotes around the name."
    return missing


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, including links and without hidden folders, sorted by name."""
    return [Path(entry.path) for entry in _entries(folder) if os.path.isdir(entry.path)]


def has_images(folder: Path) -> bool:
    """Return True if a folder itself contains images, not only folders below it."""
    return any(not os.path.isdir(entry.path) and _is_image(entry.path) for entry in _entries(folder))


@dataclass
class ImageFiles:
    """The images below some folders, and the files that were left out, in the order in which they were found.

    Each folder is read once per class. A link is followed if it adds images. It is not followed to the root, to a
    folder above the root, or to a place below the root that is read anyway, so that images below the root keep the
    class of their own folder.

    Parameters
    ----------
    root : path
        The folder that contains the folders.

    Attributes
    ----------
    images : list of str
    labels : list of str
        The class of each image, as passed to `add`.
    others : list of str
        Files that are not images.
    links : list of str
        Links that were not followed.
    shared : list of str
        Paths in one class whose content a link also adds to another class.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._root = os.path.realpath(self.root)
        self._label_at: dict[str, str] = {}  # the class in which a real path was found first

    @property
    def ignored(self) -> list[str]:
        """The files and links that were left out."""
        return [*self.others, *self.links]

    def children(self) -> list[Path]:
        """Return the folders in the root, sorted by name, without files and links that lead back."""
        folders = []
        for entry in _entries(self.root):
            target = _target(entry)
            if not os.path.isdir(entry.path):
                self.others.append(entry.path)
            elif target is not None and not self._follows(target, True, self.root, entry.name):
                self.links.append(entry.path)
            else:
                folders.append(Path(entry.path))
        return folders

    def add(self, folder: Path, label: str = "") -> int:
        """Add the images below a folder, sorted by path, and return their number.

        Raises
        ------
        InvalidInputError
            If a folder cannot be read.
        """
        images: list[str] = []
        others: list[str] = []
        ahead = deque([kept_path(folder)])
        places: dict[str, str] = {}
        while ahead:
            here = ahead.popleft()
            place = os.path.realpath(here)
            if places.setdefault(place, here) is not here:
                self.links.append(here)
                continue
            self._note(here, place, label)
            for entry in _entries(here):
                target, is_folder = _target(entry), os.path.isdir(entry.path)
                if not is_folder and not _is_image(entry.path):
                    others.append(entry.path)
                elif target is not None and not self._follows(target, is_folder, folder, label):
                    self.links.append(entry.path)
                else:
                    (ahead if is_folder else images).append(entry.path)
                    if target is not None and not is_folder:
                        self._note(entry.path, target, label)
        self.images += sorted(images)
        self.labels += [label] * len(images)
        self.others += sorted(others)
        return len(images)

    def _follows(self, target: str, is_folder: bool, folder: Path, label: str) -> bool:
        """Return True if a link is followed. A link to an image of its own class is: it may be there to weight it."""
        if is_folder:
            return not self._is_read(target) and not _is_within(self._root, target)
        if not label or _is_within(target, os.path.realpath(folder)) or os.path.dirname(target) == self._root:
            return True
        return not self._is_read(target)

    def _note(self, path: str, place: str, label: str) -> None:
        """Record the real path of a folder, or of an image that a link leads to."""
        if self._label_at.setdefault(place, label) != label:
            self.shared.append(path)

    def _is_read(self, place: str) -> bool:
        """Return True if a real path is below the root and not in a folder that is left out."""
        return _is_within(place, self._root) and not any(
            _is_left_out(part) for part in Path(place).relative_to(self._root).parts
        )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder, sorted by name."""
    try:
        with os.scandir(kept_path(folder)) as entries:
            return sorted((entry for entry in entries if not _is_left_out(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidInputError(
            f"The folder {shown(os.fspath(folder))} cannot be read: {error.strerror}. Change its permissions, or move "
            "it elsewhere."
        ) from error


def _target(entry: os.DirEntry[str]) -> str | None:
    """Return the real path that a link leads to, or None if an entry is not a link."""
    # Junctions are links to folders on Windows. They need no special rights, and are not symbolic links.
    is_link = entry.is_symlink() or getattr(os.path, "isjunction", os.path.islink)(entry.path)
    return os.path.realpath(entry.path) if is_link else None


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def _is_image(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES or is_read_by_name(path):
        return True
    if not os.path.isfile(path):
        return False
    try:
        if is_icon(path):
            return True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit of sktl holds when it is read
            with Image.open(path) as image:
                return not isinstance(image, StubImageFile) and image.format != "MPEG"
    except Image.DecompressionBombError:  # raised after the format has been recognized
        return True
    except Exception:  # Pillow's plugins raise all kinds of errors for other files
        return _is_dicom(path)


def _is_dicom(path: str) -> bool:
    try:
        return is_dicom_image(path)
    except OSError:
        return False


def besides(n_others: int, links: str = "") -> str:
    """Return what else a folder without images has, in parentheses."""
    others = count(n_others, "other file") if n_others else ""
    found = ", and ".join(filter(None, [others, links]))
    return f" ({found})" if found else ""


def warn_of_ignored(files: ImageFiles, wanted: str, more: str = "") -> None:
    """Warn once of other files, once of links, and once of images that links add to two classes."""
    root = shown(str(files.root))
    told = [
        (files.others, "file", f"left out: not {wanted}", f"{more} {missing_extras(files.others)}".strip()),
        (files.links, "link", "not followed: already listed elsewhere", more),
        (files.shared, "link", "shared with another class", "Keep each image in one class folder."),
    ]
    for paths, noun, what, advice in told:
        number, verb = count(len(paths), noun), "is" if len(paths) == 1 else "are"
        if paths:
            warn(f"{number} in {root} {verb} {what}: {listed(paths)}. {advice}".rstrip(), ImageFolderWarning)
