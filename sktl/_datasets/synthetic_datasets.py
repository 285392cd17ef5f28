"""Datasets of synthetic images: cats, metal surfaces, chests and leaves, for examples and tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sktl._short_text import shown_value
from sktl._utils import arguments
from sktl.exceptions import InvalidParameterError

from .bunch import Bunch, bunch
from .drawn_pictures import BACKGROUNDS, draw_cat, draw_leaf, draw_radiograph, draw_surface


def make_cats(
    n_samples: int = 180, *, image_size: int = 96, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    """Draw cat faces with six kinds of coats, which form three similar pairs.

    Parameters
    ----------
    n_samples : int, default=180
        Number of images, spread evenly over the classes.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        Controls what is drawn. Pass an int for reproducible images.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size, 3); `target`, an ndarray of str of
        shape (n_samples,); and `target_names`, a list of str.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid.

    See Also
    --------
    load_image_folder : Paths and labels of photos.

    Examples
    --------
    >>> from sktl.datasets import make_cats
    >>> make_cats(6, random_state=0).data.shape
    (6, 96, 96, 3)
    """
    rng = _generator(random_state, n_samples=n_samples, image_size=image_size)
    names = ["blue", "blue_longhair", "colourpoint", "mitted_colourpoint", "spotted", "tabby"]
    target = np.resize(names, n_samples)
    return _bunch([draw_cat(rng, name, image_size) for name in target], target, names)


def make_surface_defects(
    n_samples: int = 120, *, image_size: int = 96, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    """Draw gray close-ups of metal surfaces with four kinds of defects.

    Parameters
    ----------
    n_samples : int, default=120
        Number of images, spread evenly over the classes.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        Controls what is drawn. Pass an int for reproducible images.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size); `target`, an ndarray of str of shape
        (n_samples,); and `target_names`, a list of str.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid.

    See Also
    --------
    load_image_folder : Paths and labels of photos.

    Examples
    --------
    >>> from sktl.datasets import make_surface_defects
    >>> make_surface_defects(4, random_state=0).target.tolist()
    ['inclusion', 'patches', 'pits', 'scratches']
    """
    rng = _generator(random_state, n_samples=n_samples, image_size=image_size)
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
    """Draw gray images that resemble chest X-rays, several of each patient, with and without an opacity.

    Each patient has one anatomy and one diagnosis; three in ten patients have an opacity. The images of a patient
    differ in position and exposure.

    Parameters
    ----------
    n_patients : int, default=80
        Number of patients.
    images_per_patient : int, default=3
        Number of images of each patient.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        Controls what is drawn. Pass an int for reproducible images.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size); `target`, an ndarray of str of shape
        (n_samples,); `target_names`, a list of str; and `groups`, an ndarray of int of shape (n_samples,), the patient
        of each image.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid.

    See Also
    --------
    sklearn.model_selection.GroupKFold : Folds that do not share patients.

    Examples
    --------
    >>> from sktl.datasets import make_radiographs
    >>> make_radiographs(2, random_state=0).groups
    array([0, 0, 0, 1, 1, 1])
    """
    rng = _generator(random_state, n_patients=n_patients, images_per_patient=images_per_patient, image_size=image_size)
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
    """Draw leaves of healthy and diseased plants, several photos of each plant.

    Each plant has one shape of leaf, one shade of green and one state of health, with spots in the same places. The
    photos of a plant differ in the orientation of the leaf and in the lighting.

    Parameters
    ----------
    n_plants : int, default=60
        Number of plants, spread evenly over the classes.
    photos_per_plant : int, default=4
        Number of photos of each plant.
    backgrounds : sequence of {"table", "soil", "grass"}, default=("table",)
        Backgrounds of the leaves. If there are several, each photo has a random one.
    image_size : int, default=96
        Height and width in pixels.
    random_state : int, RandomState or None, default=None
        Controls what is drawn. Pass an int for reproducible images.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With `data`, a uint8 ndarray of shape (n_samples, image_size, image_size, 3); `target`, an ndarray of str of
        shape (n_samples,); `target_names`, a list of str; and `groups`, an ndarray of int of shape (n_samples,), the
        plant of each image.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid.

    See Also
    --------
    sklearn.model_selection.GroupKFold : Folds that do not share plants.

    Examples
    --------
    >>> from sktl.datasets import make_leaves
    >>> make_leaves(3, photos_per_plant=2, random_state=0).groups
    array([0, 0, 1, 1, 2, 2])
    """
    rng = _generator(random_state, n_plants=n_plants, photos_per_plant=photos_per_plant, image_size=image_size)
    names_given = backgrounds if isinstance(backgrounds, Sequence) and not isinstance(backgrounds, str) else ()
    if not names_given or not all(isinstance(name, str) and name in BACKGROUNDS for name in names_given):
        raise InvalidParameterError(
            f"backgrounds={shown_value(backgrounds)} must be a list of some of {', '.join(BACKGROUNDS)}."
        )
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


def _generator(random_state: int | np.random.RandomState | None, **counts: int) -> np.random.RandomState:
    """Return the generator for a seed. Raise `InvalidParameterError` unless all counts are integers of at least 1."""
    from sklearn.utils import check_random_state

    for name, value in counts.items():
        arguments.check_count(value, name)
    arguments.check_random_state(random_state)
    return check_random_state(random_state)


def _bunch(images: list[np.ndarray], target: np.ndarray, names: list[str], **more: np.ndarray) -> Bunch:
    return bunch(data=np.array(images), target=target, target_names=names, **more)
