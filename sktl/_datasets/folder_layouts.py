"""Subfolders that are not classes, such as the parts of a dataset, and classes whose names look the same."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sktl._utils.paths import kept_path, shown
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError

from .dataset_parts import part_of, parts_among
from .folders import folders_in, has_images, listed

_IMAGES = {"images", "image", "imgs", "img", "photos", "jpegimages"}
_NOTES = {
    "labels", "label", "annotations", "annotation", "annots", "masks", "mask", "imagesets", "segmentationclass",
    "segmentationobject", "ground_truth", "groundtruth", "gt",
}  # fmt: skip
# Characters without a shape outside the Unicode categories Cf and Cc: joiners, fillers, variation selectors, tags.
_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_LISTED = 5
# A dataset has few parts, and often more classes.
_MOST_PARTS = 4
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
    all_known = names <= _IMAGES | _NOTES
    below = {folder: [child.name for child in folders_in(folder)] for folder in folders}
    upper = [part for part in parts if below[part] and not has_images(part)]
    inner = {name.lower() for part in upper for name in below[part]}
    has_notes = bool(names & _NOTES) and (bool(names & _IMAGES) or bool(parts))
    if (inner and inner <= _IMAGES | _NOTES) or (all_known and has_notes and not upper):
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(folders)}, which are not classes: this is a layout "
            "for object detection (YOLO, COCO) or segmentation. sktl classifies whole images: sort the images into one "
            "folder per class."
        )
    if len(upper) > 1 or (upper and all_known):
        best = next((part for part in upper if part_names[part.name] == "train"), upper[0])
        every = all(part_of(folder.name) for folder in folders)
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(parts)}, which are parts of a dataset, not "
            f"classes. Pass one of them: {shown(kept_path(best))}."
            f"{' load_image_parts reads all.' if every else ''}"
        )
    _warn_of_parts(root, below, all_known)
    _warn_of_wrapper(root, below)
    if nested == "merge":
        _warn_of_lower_classes(root, below, upper)


def _warn_of_parts(root: Path, below: Mapping[Path, Sequence[str]], all_known: bool) -> None:
    """Warn if all classes, or all folders below them, have names of parts.

    Parameters
    ----------
    root : path
    below : mapping of path to sequence of str
        Names of the folders in each class folder.
    all_known : bool
        Whether all class folders have names of parts.
    """
    if len(below) > 1 and all_known:
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


def _warn_of_lower_classes(root: Path, below: Mapping[Path, Sequence[str]], parts: Sequence[Path]) -> None:
    """Warn if the folders below the class folders may be the classes, as in 2024/cat and 2025/cat, or train/cat.

    Only their names tell which of the two levels are classes, so the warnings name both readings.
    """
    names = [folder.name for folder in below]
    count = Counter(name for inside in below.values() for name in inside)
    shared = sorted(name for name, n in count.items() if n > 1)
    are_upper = len(shared) > len(count) / 2 and not any(not inside or has_images(f) for f, inside in below.items())
    if parts and len(names) <= _MOST_PARTS and _may_be_classes(below[parts[0]], names):
        part = parts[0]
        warn(
            f"The images of class {shown(part.name)} in {shown(str(root))} are in its subfolders {listed(below[part])}."
            f" If {shown(part.name)} is a part of a dataset, and its subfolders are the classes, pass "
            f"{shown(kept_path(part))}.",
            ImageFolderWarning,
        )
    elif are_upper and _may_be_classes(shared, names):
        warn(
            f"The classes of {shown(str(root))} are {listed(names)}, and their images are "
            f"in subfolders of the same names, {listed(shared)}. If the subfolders are the classes, pass "
            f"y = [Path(path).relative_to({shown(str(root))}).parts[1] for path in data]. If each subfolder of each "
            "class is a class of its own, pass nested='join'.",
            ImageFolderWarning,
        )


def _may_be_classes(names: Sequence[str], upper: Sequence[str]) -> bool:
    """Return True if folders below the folders `upper` may be classes, and not parts or sources of their images."""
    are_known = {name.lower() for name in names} <= _IMAGES | _NOTES or len(parts_among(names)) == len(names)
    are_sources = _are_counted(names) and not _are_counted(upper)
    return len(names) > 1 and not are_known and not are_sources


def _are_counted(names: Sequence[str]) -> bool:
    """Return True for years, dates, and names that differ only in a number or a letter, such as "camera A"."""
    stems = {re.sub(r"\d+|(?<![^\W\d_])[^\W\d_](?![^\W\d_])", "", name.casefold()) for name in names}
    # Classes may be short numbers or letters.
    return len(stems) == 1 and (any(map(str.isalnum, stems.pop())) or min(map(len, names)) >= len("2024"))


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
    if same := _alike(names, _as_seen):
        raise InvalidInputError(f"{place} that look the same: {_escaped(same)}. Rename one, or {remedy}.")
    if padded := [name for name in names if name != name.strip()]:
        warn(
            f"{place} that begin or end with white space, which is a part of the class: {listed(padded)}. Rename them.",
            ImageFolderWarning,
        )
    if similar := _alike(names, _as_read):
        warn(
            f"{place} that look nearly the same, but are different classes: {_escaped(similar)}. If they are one "
            f"class, {remedy}.",
            ImageFolderWarning,
        )


def look_alikes(names: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of a name and one of the others that look the same, or nearly the same, and differ."""
    others = list(others)
    as_read, as_seen = ({key(other): other for other in others} for key in (_as_read, _as_seen))
    pairs = [(name, as_seen.get(_as_seen(name), as_read.get(_as_read(name), name))) for name in names]
    return [(name, other) for name, other in pairs if name != other]


def _alike(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the groups of names that share a key."""
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _as_seen(name: str) -> str:
    # Normalized last, because a character without a shape may separate a letter from its accent.
    return " ".join(unicodedata.normalize("NFC", "".join(filter(_has_shape, name))).split())


def _has_shape(character: str) -> bool:
    """Return True if a character has a shape or is white space."""
    return character.isspace() or not (unicodedata.category(character) in ("Cf", "Cc") or _SHAPELESS.match(character))


def _as_read(name: str) -> str:
    dashes = "".join("-" if unicodedata.category(c) == "Pd" else c for c in _as_seen(name))
    return unicodedata.normalize("NFKC", dashes).casefold()


def _escaped(groups: Sequence[Sequence[str]]) -> str:
    """Return groups of names with escapes instead of non-ASCII characters, which shows how the names differ."""
    more = [f"and {len(groups) - _LISTED} more"] if len(groups) > _LISTED else []
    return ", ".join([*(" and ".join(ascii(name) for name in group[:2]) for group in groups[:_LISTED]), *more])
