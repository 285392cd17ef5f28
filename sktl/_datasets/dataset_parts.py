"""Folders for training, validation and test, with class folders in them or above them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sktl._utils.paths import kept_path, shown
from sktl._utils.similar_names import resemblances
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError

from .image_files import ImageFiles, folders_in, has_images, listed

_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# Words that folders and cells have for parts, beyond those that `load_image_parts` reads.
_PART_WORDS = _WORDS | {
    "trn": "train", "trainval": "train", "tst": "test", "holdout": "test", "eval": "other", "evaluation": "other",
}  # fmt: skip
_PART_WORD = re.compile(rf"({'|'.join(_PART_WORDS)})(?:set|data|images)?")
# Words beside them that say nothing about the images.
_PLAIN_WORDS = {"set", "data", "images", "image", "imgs", "dataset"}
_ORDER = ("train", "val", "test")
_NAME = re.compile(rf"({'|'.join(_WORDS)})([-_ ]?(set|data|images))?")
_WANTED = "Name the parts train, val (or valid, validation) and test, and move other folders elsewhere."


def part_of(name: str) -> str | None:
    """Return the part that a folder name stands for, "train", "val" or "test"; None if it is another name."""
    found = _NAME.fullmatch(name.lower())
    return _WORDS[found[1]] if found else None


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, without numbers: ["train", "images"] for "TrainImages_2017"."""
    separated = re.sub(r"(?<=[^\W\d_])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[\W\d_]+", separated.casefold()) if word]


def part_in(name: str) -> str | None:
    """Return the part that a word of a name stands for, "train", "val", "test" or "other"; None without such a word."""
    return next((_PART_WORDS[match[1]] for word in words_of(name) if (match := _PART_WORD.fullmatch(word))), None)


def parts_among(names: Iterable[str]) -> dict[str, str]:
    """Return the parts that names stand for, "train", "val", "test" or "other", if names are words for parts.

    If none is, return the names that differ only in such words, if one is for training and all names have their other
    words: "train" may also be a class, and so may "bullet_train", or "vehicle_test" beside "vehicle_evaluation", but
    "seg_train" beside "seg_test" is a part.
    """
    names = [*names]
    common = set.intersection(*({*words_of(name)} for name in names)) if names else set()
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        if part := part_in(name):
            rest = (word for word in words_of(name) if not _PART_WORD.fullmatch(word) and word not in _PLAIN_WORDS)
            alike.setdefault(tuple(rest), {})[name] = part
    several = [
        parts
        for rest, parts in alike.items()
        if common.issuperset(rest) and "train" in parts.values() and len({*parts.values()}) > 1
    ]
    plain = alike.get((), {})
    if "train" not in plain.values():
        plain = {name: part for name, part in plain.items() if part_of(name)}
    return plain or max(several, key=len, default={})


def parts_in(root: Path) -> dict[str, dict[str, Path]]:
    """Return the folder of each class by part, for class folders in parts or parts in class folders.

    The key "" of a part is its folder, if the classes are in it.

    Raises
    ------
    InvalidInputError
        If folders are not parts, two folders are the same part, or there is no part for training.
    """
    folders = ImageFiles(root).children()
    if not folders:
        raise InvalidInputError(f"folder={shown(str(root))} has no subfolders. {_WANTED}")
    if any(part_of(folder.name) for folder in folders):
        found = {part: {"": folder} for part, folder in _by_part(root, folders).items()}
    else:
        found = {}
        for folder in folders:
            for part, inner in _by_part(folder, folders_in(folder)).items():
                found.setdefault(part, {})[folder.name] = inner
    if "train" not in found:
        raise InvalidInputError(f"folder={shown(str(root))} has no part for training. {_WANTED}")
    return {part: found[part] for part in _ORDER if part in found}


def _by_part(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folder of each part."""
    if others := [folder.name for folder in folders if part_of(folder.name) is None]:
        raise InvalidInputError(f"{shown(str(root))} has subfolders that are not parts: {listed(others)}. {_WANTED}")
    if not folders or has_images(root):
        what = "images beside its parts" if folders else "no parts"
        raise InvalidInputError(f"{shown(str(root))} has {what}. {_WANTED}")
    found: dict[str, Path] = {}
    for folder in folders:
        if (other := found.setdefault(part_of(folder.name) or "", folder)) is not folder:
            raise InvalidInputError(
                f"{shown(str(root))} has two folders for the same part: {listed([other.name, folder.name])}. Join them."
            )
    return found


def warn_of_new_classes(root: Path, classes: dict[str, Sequence[str]]) -> None:
    """Warn if a part has classes that the part for training lacks."""
    for part, names in classes.items():
        if new := [name for name in names if name not in classes["train"]]:
            warn(
                f"The part {part} of {shown(str(root))} has classes without training images: {listed(new)}. A "
                f"classifier never predicts them. {resemblances(new, classes['train'])}".rstrip(),
                ImageFolderWarning,
            )


def warn_of_inner_classes(root: Path, folders: Mapping[str, Path]) -> None:
    """Warn if the only class folder above the part for training may hold the classes, as in images/train/cat/1.jpg.

    With several class folders, subfolders are sources more often than classes, such as cameras or years.

    Parameters
    ----------
    root : path
    folders : mapping of str to path
        Folder for training of each class.
    """
    (name, folder), *more = folders.items()
    if more or has_images(folder):
        return
    inside = [child.name for child in folders_in(folder) if ImageFiles(folder).add(child)]
    if len(inside) > 1:
        warn(
            f"{shown(str(root))} has one class, {shown(name)}, whose images for training are in {listed(inside)}. If "
            f"these are the classes, pass {shown(kept_path(root / name))}.",
            ImageFolderWarning,
        )


def joined_labels(folders: Mapping[str, Path], images: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return the class of each image, joined with the path of its folder below the folder of the class.

    Raises
    ------
    InvalidInputError
        If a folder has images, and so has a folder below it.
    """
    labels = [
        Path(label, Path(image).parent.relative_to(folders[label])).as_posix()
        for image, label in zip(images, labels, strict=True)
    ]
    names = set(labels)
    for name in sorted(names):
        if above := [parent.as_posix() for parent in Path(name).parents if parent.as_posix() in names]:
            raise InvalidInputError(
                f"{shown(above[0])} has images, and so has {shown(name)} below it. Move the images of the upper folder "
                'into a folder of their own, or pass nested="merge".'
            )
    return labels
