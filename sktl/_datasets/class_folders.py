"""Folders of classes: their images, subfolders that are not classes, such as parts, and checks of class names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sktl._images.format_readers import missing_extras
from sktl._short_text import shown_value
from sktl._utils.paths import kept_path, shown
from sktl._utils.similar_names import as_read, as_seen, escaped_groups, groups_alike
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError

from .bunch import Bunch, bunch
from .dataset_parts import joined_labels, part_of, parts_among
from .image_files import ImageFiles, besides, folders_in, has_images, listed, warn_of_ignored

_IMAGES = {"images", "image", "imgs", "img", "photos", "jpegimages"}
_NOTES = {
    "labels", "label", "annotations", "annotation", "annots", "masks", "mask", "imagesets", "segmentationclass",
    "segmentationobject", "ground_truth", "groundtruth", "gt",
}  # fmt: skip
_LISTED = 5
# A dataset has few parts, and often more classes.
_MOST_PARTS = 4
# Classes beside which "train" is a class.
_VEHICLES = re.compile(
    "(auto|(air|aero)?plane|bicycle|bike|boat|bus|car|helicopter|lorry|(motor|auto)(cycle|bike|mobile)|ship|subway|taxi|"
    "tram|truck|van|vehicle)(e?s)?"
)
# Names of folders above the classes that differ in a number or a letter. Others, such as "grade 1", may be classes.
_SOURCES = re.compile(
    r"(19|20)\d\d([-_. ]?\d\d){0,2}|(batch|cam|camera|date|day|device|fold|line|lot|machine|microscope|month|patient|"
    r"plant|run|scanner|session|site|station|subject|week|year)[-_. ]?(\d+|[a-z])"
)
# Names of views and sources of the images of a class.
_VIEWS = {
    "left", "right", "front", "back", "rear", "side", "top", "bottom", "up", "down", "north", "south", "east", "west",
    "male", "female", "day", "night", "morning", "evening", "indoor", "outdoor", "inside", "outside", "raw", "original",
    "augmented", "mirrored", "flipped", "cropped", "extra",
}  # fmt: skip
# Numbers with a unit or a letter, and letters alone or at the end of a word: "40X", "p01", "camera A", "siteA".
_COUNT = re.compile(r"[^\W\d_]?\d+[^\W\d_]?|(?<![^\W\d_])[^\W\d_](?![^\W\d_])|(?<=[a-z])[A-Z](?![^\W\d_])")
# Names of folders for images that nobody has labeled or that were sorted out, in either spelling, without separators.
_UNLABELED = {"unlabeled", "unlabelled", "unannotated", "unsorted", "todo", "tolabel", "trash", "duplicates"}
# Classes beside which "trash" is a class.
_WASTE = re.compile(".*(battery|biological|cardboard|compost|glass|metal|organic|paper|plastic|recycl|waste).*")
_WHOLES = _IMAGES | {"data", "dataset", "pictures"}


def check_layout(root: Path, folders: Sequence[Path], nested: str) -> None:
    """Raise `InvalidInputError` if subfolders are not classes, and warn if they may not be classes.

    Parameters
    ----------
    root : path
    folders : sequence of path
        Subfolders that would be classes.
    nested : {"merge", "join"}
        How folders below them are treated. With "join", no image loses the name of the folder that it is in.
    """
    part_names = parts_among(folder.name for folder in folders)
    parts = [folder for folder in folders if folder.name in part_names]
    names = {folder.name.lower() for folder in folders if folder not in parts}
    none_is_class = names <= _IMAGES | _NOTES
    below = {folder: [child.name for child in folders_in(folder)] for folder in folders}
    upper = [part for part in parts if below[part] and not has_images(part)]
    inner = {name.lower() for part in upper for name in below[part]}
    has_notes = bool(names & _NOTES) and (bool(names & _IMAGES) or bool(parts))
    if (inner and inner <= _IMAGES | _NOTES) or (none_is_class and has_notes and not upper):
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(folders)}, which are not classes: this is a layout "
            "for object detection (YOLO, COCO) or segmentation. sktl classifies whole images: sort the images into one "
            "folder per class."
        )
    best = next((part for part in upper if part_names[part.name] == "train"), None)
    if (best and len(upper) > 1) or (upper and none_is_class):
        best = best or upper[0]
        every = len({part_of(folder.name) for folder in folders} - {None}) == len(folders)
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(parts)}, which are parts of a dataset, not "
            f"classes. Pass one of them: {shown(kept_path(best))}."
            f"{' load_image_parts reads all.' if every else ''}"
        )
    _warn_of_parts(root, below, none_is_class)
    _warn_of_wrapper(root, below)
    if not parts:  # an unlabeled part is beside others
        _warn_of_unlabeled(root, [folder.name for folder in folders])
    if nested == "merge":
        _warn_of_lower_classes(root, below, best)


def _warn_of_parts(root: Path, below: Mapping[Path, Sequence[str]], none_is_class: bool) -> None:
    """Warn if all classes, or all folders below them, have names of parts.

    Parameters
    ----------
    root : path
    below : mapping of path to sequence of str
        Names of the folders in each class folder.
    none_is_class : bool
        Whether all class folders have names of parts, images or annotations.
    """
    if len(below) > 1 and none_is_class:
        warn(
            f"The classes of {shown(str(root))} are {_plain(below)}, which are usually parts of a dataset. If they "
            "are parts, pass one of them, with one subfolder per class.",
            ImageFolderWarning,
        )
    merged = sorted({name for names in below.values() for name in names})
    if len(merged) > 1 and len(parts_among(merged)) == len(merged):
        warn(
            f"The class folders of {shown(str(root))} have the subfolders {_plain(map(Path, merged))}, which are "
            "usually parts of a dataset. Their images are read as one set. load_image_parts reads the parts.",
            ImageFolderWarning,
        )


def _warn_of_wrapper(root: Path, below: Mapping[Path, Sequence[str]]) -> None:
    """Warn if the only class folder may hold the classes."""
    (first, inside), *more = below.items()
    if not more and first.name.lower() in {root.name.lower(), *_WHOLES} and len(inside) > 1 and not has_images(first):
        warn(
            f"{shown(str(root))} has one class, {shown(first.name)}, whose images are in {listed(inside)}. If these "
            f"are the classes, pass {shown(kept_path(first))}.",
            ImageFolderWarning,
        )


def _warn_of_unlabeled(root: Path, names: Sequence[str]) -> None:
    """Warn if a class folder may hold images without a class, beside others."""
    found = [name for name in names if re.sub(r"[\W_]", "", name).casefold() in _UNLABELED]
    if any(_WASTE.fullmatch(name.casefold()) for name in names):
        found = [name for name in found if name.casefold() != "trash"]
    if found and len(found) < len(names):
        many = len(found) > 1
        warn(
            f"{shown(str(root))} has the {'classes' if many else 'class'} {listed(found)}. If these images have no "
            f"class yet, or should not be learned, move the folder{'s' * many} elsewhere. Otherwise, nothing needs to "
            "be done.",
            ImageFolderWarning,
        )


def _warn_of_lower_classes(root: Path, below: Mapping[Path, Sequence[str]], part: Path | None) -> None:
    """Warn if the folders below the class folders may be the classes, as in 2024/cat and 2025/cat, or train/cat.

    Only their names tell which of the two levels are classes, so the warnings name both readings.

    Parameters
    ----------
    root : path
    below : mapping of path to sequence of str
        Names of the folders in each class folder.
    part : path or None
        Folder that may be the part for training.
    """
    names = [folder.name for folder in below]
    if part and _may_be_part(below) and _may_be_classes(below[part], min_length=2):
        warn(
            f"The images of class {shown(part.name)} in {shown(str(root))} are in its subfolders {listed(below[part])}."
            f" If {shown(part.name)} is a part of a dataset, and its subfolders are the classes, pass "
            f"{shown(kept_path(part))}.",
            ImageFolderWarning,
        )
    elif (shared := _in_all_sources(below)) and _may_be_classes(shared):
        warn(
            f"The classes of {shown(str(root))} are {listed(names)}, and their images are "
            f"in subfolders of the same names, {listed(shared)}. If the subfolders are the classes, pass "
            # The whole path, because `shown` shortens a long one.
            f"y = [Path(path).relative_to({str(root)!r}).parts[1] for path in data]. If each subfolder of each "
            "class is a class of its own, pass nested='join'. Otherwise, nothing needs to be done.",
            ImageFolderWarning,
        )


def _may_be_part(below: Mapping[Path, Sequence[str]]) -> bool:
    """Return True if a folder named like a part may be one: there are few, and the others do not look like classes."""
    flat = [folder for folder, inside in below.items() if not inside]
    are_classes = len(flat) > 1 or any(_VEHICLES.fullmatch(folder.name.casefold()) for folder in below)
    return len(below) <= _MOST_PARTS and not are_classes


def _in_all_sources(below: Mapping[Path, Sequence[str]]) -> list[str]:
    """Return the names of the folders in all class folders if these are years, cameras and the like, else none.

    Most folders must be in all of them, and the images below these folders.
    """
    are_sources = len(below) > 1 and all(_SOURCES.fullmatch(folder.name.casefold()) for folder in below)
    if not are_sources or any(map(has_images, below)):
        return []
    inside = [{*names} for names in below.values()]
    shared = set.intersection(*inside)
    return sorted(shared) if len(shared) > len(set.union(*inside)) / 2 else []


def _may_be_classes(names: Sequence[str], min_length: int = 0) -> bool:
    """Return True if folders below others may be classes, and not parts, views or sources of their images.

    Names that differ only in a number or a letter are sources, unless one of them is shorter than `min_length`: digits
    and letters below a part are more often classes.
    """
    are_known = {name.lower() for name in names} <= _IMAGES | _NOTES | _VIEWS or len(parts_among(names)) == len(names)
    are_counted = len({_COUNT.sub("", name).casefold() for name in names}) == 1
    return len(names) > 1 and not are_known and not (are_counted and min(map(len, names)) >= min_length)


def _plain(folders: Iterable[Path]) -> str:
    """Return the names of a few folders without quotes, because most of them are known words."""
    return ", ".join(shown(folder.name)[1:-1] for folder in [*folders][:_LISTED])


def check_names(
    names: Iterable[str], place: str = "Class folders have names", remedy: str = "move all images into one folder"
) -> None:
    """Raise `InvalidInputError` if two class names look the same, and warn if they look nearly the same.

    Names look the same if they differ only in the composition of letters, in white space at the ends or doubled, or in
    characters without a shape. They look nearly the same if they differ in case or in the kind of dash: "a" and "A" may
    be two classes. `place` begins the messages and `remedy` ends them.
    """
    names = list(names)
    if same := groups_alike(names, as_seen):
        raise InvalidInputError(f"{place} that look the same: {escaped_groups(same)}. Rename one, or {remedy}.")
    if padded := [name for name in names if name != name.strip()]:
        warn(
            f"{place} that begin or end with white space, which is a part of the class: {listed(padded)}. Rename them.",
            ImageFolderWarning,
        )
    if similar := groups_alike(names, as_read):
        warn(
            f"{place} that look nearly the same, but are different classes: {escaped_groups(similar)}. If they are one "
            f"class, {remedy}.",
            ImageFolderWarning,
        )


def instead_of_classes(root: Path) -> str:
    """Return what a folder without subfolders may be, and how it is read."""
    tables = [name for name in sorted(os.listdir(root)) if name.lower().endswith((".csv", ".tsv"))]
    if tables:
        return f" If {shown(tables[0])} holds the labels of the images, use load_label_table."
    return " To predict images that have no class, use list_images." if has_images(root) else ""


def images_of_classes(files: ImageFiles, folders: Mapping[str, Path], nested: str) -> Bunch:
    """Return the images below the folders of classes."""
    if nested not in ("merge", "join"):
        raise InvalidParameterError(f"nested={shown_value(nested)} must be 'merge' or 'join'.")
    if nested == "merge":
        check_names(folders)
    for name, path in folders.items():
        n_others, n_links = len(files.others), len(files.links)
        if not files.add(path, name):
            links = "links to other classes" if len(files.links) > n_links else ""
            raise InvalidInputError(
                f"The class folder {shown(str(path))} has no images{besides(len(files.others) - n_others, links)}. "
                f"{missing_extras(files.others[n_others:]) or 'Remove it, or add images.'}"
            )
    labels, names = files.labels, [*folders]
    if nested == "join":
        labels = joined_labels(folders, files.images, files.labels)
        check_names(names := sorted(set(labels)))
    warn_of_ignored(files, "images in a class folder", "All are in the attribute `ignored`.")
    return bunch(data=np.array(files.images), target=np.array(labels), target_names=names, ignored=files.ignored)
