"""Images on disk as the arrays that scikit-learn works with."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import StubImageFile
from sklearn.utils import Bunch

from .exceptions import ImageFolderWarning, InvalidInputError

__all__ = ["load_image_folder"]

_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
_SUFFIXES |= {".jp2", ".avif"}
_LISTED = 5
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}


def load_image_folder(folder: str | os.PathLike[str]) -> Bunch:
    """List the images of a folder that has one sub-folder per class: FOLDER/<class>/*.jpg.

    Nothing is decoded. Files that are no images (by suffix, else by their first bytes) are left out with a warning,
    hidden files and folders silently. Images in folders below those of the classes belong to the class above.

    Parameters
    ----------
    folder : str or path-like

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With attributes

        - `data`: ndarray of str of shape (n_samples,), the paths, sorted by class and path;
        - `target`: ndarray of str of shape (n_samples,), the class names;
        - `target_names`: list of str, the sorted class names;
        - `ignored`: list of str, the files that were left out.

    Raises
    ------
    InvalidInputError
        If the folder is not there, has no sub-folders, one of them has no images, or all are parts of a data set: named
        "train", "test" or the like and holding nothing but folders.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, PIL.Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ["cat", "dog"]:
    ...     (folder / name).mkdir()
    ...     PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name / "1.png")
    >>> load_image_folder(folder).target
    array(['cat', 'dog'], dtype='<U3')
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        kind = "is a file" if root.exists() else f"does not exist (looked in {os.getcwd()})"
        raise InvalidInputError(f"folder={str(folder)!r} {kind}. Pass a folder with one sub-folder per class.")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not _is_hidden(path))
    ignored = [str(path) for path in sorted(root.iterdir()) if path.is_file() and not _is_hidden(path)]
    if not classes:
        raise InvalidInputError(
            f"folder={str(folder)!r} has no sub-folders. It needs one per class, as in {root.name}/cat/1.jpg and "
            f"{root.name}/dog/1.jpg."
        )
    if all(path.name.lower() in _PARTS and not _has_files(path) for path in classes):
        parts = ", ".join(path.name for path in classes)
        raise InvalidInputError(
            f"folder={str(folder)!r} has the sub-folders {parts}, which are parts of a data set and no classes. Pass "
            f"one of them: load_image_folder({str(classes[-1])!r})."
        )
    paths: list[str] = []
    labels: list[str] = []
    for class_folder in classes:
        images, others = _split(class_folder)
        if not images:
            raise InvalidInputError(
                f"The class folder {str(class_folder)!r} has no images ({len(others)} other files). Remove it, or add "
                "images."
            )
        paths += images
        labels += [class_folder.name] * len(images)
        ignored += others
    if ignored:
        more = f" and {len(ignored) - _LISTED} more" if len(ignored) > _LISTED else ""
        warnings.warn(
            f"{len(ignored)} files in {str(folder)!r} are left out, since they are no images in a class folder: "
            f"{', '.join(ignored[:_LISTED])}{more}. All are in the attribute `ignored`.",
            ImageFolderWarning,
            stacklevel=2,
        )
    names = [path.name for path in classes]
    return Bunch(data=np.array(paths), target=np.array(labels), target_names=names, ignored=ignored)


def _has_files(folder: Path) -> bool:
    return any(path.is_file() and not _is_hidden(path) for path in folder.iterdir())


def _split(folder: Path) -> tuple[list[str], list[str]]:
    """Return the images below a folder, and the other files, both sorted."""
    images: list[str] = []
    others: list[str] = []
    seen = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        if os.path.realpath(parent) in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not _is_hidden(Path(name)))
        for name in sorted(files):
            path = Path(parent, name)
            if not _is_hidden(path):
                (images if _is_image(path) else others).append(str(path))
    return sorted(images), sorted(others)


def _raise(error: OSError) -> None:
    raise error


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return not isinstance(image, StubImageFile) and image.format != "MPEG"
    except Exception:  # whatever Pillow's plugins make of a file of another kind
        return False
