"""Images on disk as the arrays that scikit-learn works with, and drawn ones for want of photos.

Drawn images are no substitute for photos: accuracies on them say nothing about a real task. What they have in common
with real sets is how they go wrong: look-alikes, several images of one patient or plant, backgrounds that give the
class away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import StubImageFile
from sklearn.utils import Bunch, check_random_state

from ._synthetic import BACKGROUNDS, draw_cat, draw_leaf, draw_radiograph, draw_surface
from ._warnings import warn
from .exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

__all__ = ["load_image_folder", "make_cats", "make_leaves", "make_radiographs", "make_surface_defects"]

_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
_SUFFIXES |= {".jp2", ".avif"}
_LISTED = 5
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}


def load_image_folder(folder: str | os.PathLike[str]) -> Bunch:
    """List the images of a folder that has one sub-folder per class: `FOLDER/<class>/*.jpg`.

    Nothing is decoded. Files that are no images (by suffix, else by their first bytes) are left out with a warning,
    hidden files and folders silently. Images in folders below those of the classes belong to the class above.

    Parameters
    ----------
    folder : str or path-like
        Where the sub-folders are; `~` is the home directory.

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
        warn(
            f"{len(ignored)} files in {str(folder)!r} are left out, since they are no images in a class folder: "
            f"{', '.join(ignored[:_LISTED])}{more}. All are in the attribute `ignored`.",
            ImageFolderWarning,
        )
    names = [path.name for path in classes]
    return Bunch(data=np.array(paths), target=np.array(labels), target_names=names, ignored=ignored)


def make_cats(
    n_samples: int = 180, *, image_size: int = 96, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    """Draw faces of cats with six coats, which are three pairs of look-alikes.

    Parameters
    ----------
    n_samples : int, default=180
        Number of images, spread evenly over the classes.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        For what is drawn.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size, 3); `target`, an ndarray of str of
        shape (n_samples,); and `target_names`, a list of str.

    See Also
    --------
    load_image_folder : Paths and labels of photos.

    Examples
    --------
    >>> from sktl.datasets import make_cats
    >>> make_cats(6, random_state=0).data.shape
    (6, 96, 96, 3)
    """
    rng = check_random_state(random_state)
    names = ["blue", "blue_longhair", "colourpoint", "mitted_colourpoint", "spotted", "tabby"]
    target = np.resize(names, n_samples)
    return _bunch([draw_cat(rng, name, image_size) for name in target], target, names)


def make_surface_defects(
    n_samples: int = 120, *, image_size: int = 96, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    """Draw grey close-ups of a metal surface with four kinds of defects.

    Parameters
    ----------
    n_samples : int, default=120
        Number of images, spread evenly over the classes.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        For what is drawn.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size); `target`, an ndarray of str of shape
        (n_samples,); and `target_names`, a list of str.

    See Also
    --------
    load_image_folder : Paths and labels of photos.

    Examples
    --------
    >>> from sktl.datasets import make_surface_defects
    >>> make_surface_defects(4, random_state=0).target.tolist()
    ['inclusion', 'patches', 'pits', 'scratches']
    """
    rng = check_random_state(random_state)
    names = ["inclusion", "patches", "pits", "scratches"]
    target = np.resize(names, n_samples)
    return _bunch([draw_surface(rng, name, image_size) for name in target], target, names)


def make_radiographs(
    n_patients: int = 80,
    *,
    images_per_patient: int = 3,
    image_size: int = 96,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw grey pictures in the manner of chest X-rays, several of each patient, with and without an opacity.

    A patient has one anatomy and one diagnosis; three in ten have an opacity. Images of a patient differ in position
    and exposure.

    Parameters
    ----------
    n_patients : int, default=80
        Number of patients.
    images_per_patient : int, default=3
        Number of images of each.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        For what is drawn.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size); `target`, an ndarray of str of shape
        (n_samples,); `target_names`, a list of str; and `groups`, the patients, an ndarray of int of shape
        (n_samples,).

    See Also
    --------
    sklearn.model_selection.GroupKFold : Folds no two of which share a patient.

    Examples
    --------
    >>> from sktl.datasets import make_radiographs
    >>> make_radiographs(2, random_state=0).groups
    array([0, 0, 0, 1, 1, 1])
    """
    rng = check_random_state(random_state)
    names = ["normal", "opacity"]
    images, target, groups = [], [], []
    for patient in range(n_patients):
        name = names[patient % 10 in (1, 4, 7)]
        anatomy = rng.uniform(-1, 1, size=9)
        for _ in range(images_per_patient):
            images.append(draw_radiograph(rng, anatomy, name == "opacity", image_size))
            target.append(name)
            groups.append(patient)
    return _bunch(images, np.array(target), names, groups=np.array(groups))


def make_leaves(
    n_plants: int = 60,
    *,
    photos_per_plant: int = 4,
    backgrounds: Sequence[str] = ("table",),
    image_size: int = 96,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw leaves of healthy and of ill plants, several photos of each.

    A plant has one shape, one green and one state of health, with its spots in the same places. Photos of a plant
    differ in how the leaf lies and in the light.

    Parameters
    ----------
    n_plants : int, default=60
        Number of plants, spread evenly over the classes.
    photos_per_plant : int, default=4
        Number of photos of each.
    backgrounds : sequence of {"table", "soil", "grass"}, default=("table",)
        What the leaf lies on. Of several, each photo has one at random.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        For what is drawn.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size, 3); `target`, an ndarray of str of
        shape (n_samples,); `target_names`, a list of str; and `groups`, an ndarray of int of shape (n_samples,), the
        plants.

    Raises
    ------
    InvalidParameterError
        If a background has another name.

    See Also
    --------
    sklearn.model_selection.GroupKFold : Folds no two of which share a plant.

    Examples
    --------
    >>> from sktl.datasets import make_leaves
    >>> make_leaves(3, photos_per_plant=2, random_state=0).groups
    array([0, 0, 1, 1, 2, 2])
    """
    if not backgrounds or not set(backgrounds) <= set(BACKGROUNDS):
        raise InvalidParameterError(f"backgrounds={backgrounds!r} must be some of {', '.join(BACKGROUNDS)}.")
    rng = check_random_state(random_state)
    names = ["early_blight", "healthy", "late_blight"]
    images, target, groups = [], [], []
    for plant in range(n_plants):
        name, plant_seed = names[plant % 3], rng.randint(2**31 - 1)
        for _ in range(photos_per_plant):
            background = backgrounds[rng.randint(len(backgrounds))]
            images.append(draw_leaf(rng, plant_seed, name, background, image_size))
            target.append(name)
            groups.append(plant)
    return _bunch(images, np.array(target), names, groups=np.array(groups))


def _bunch(images: list[np.ndarray], target: np.ndarray, names: list[str], **more: np.ndarray) -> Bunch:
    return Bunch(data=np.array(images), target=target, target_names=names, **more)


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
