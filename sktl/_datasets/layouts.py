"""Subfolders that are not classes, such as the parts of a dataset, and classes whose names look the same."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sktl._utils.paths import kept_path, shown
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFolderWarning, InvalidInputError

from .folders import folders_in, has_images, listed

_PART = re.compile(r"(train|training|test|testing|val|valid|validation|eval|evaluation)([-_ ]?(set|data|images|\d+))?")
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
_WHOLES = _IMAGES | {"data", "dataset", "pictures"}


def check_layout(root: Path, folders: Sequence[Path]) -> None:
    """Raise `InvalidInputError` if subfolders are not classes, and warn if they may not be classes.

    Parameters
    ----------
    root : path
    folders : sequence of path
        Subfolders that would be classes.
    """
    parts = [folder for folder in folders if _PART.fullmatch(folder.name.lower())]
    names = {folder.name.lower() for folder in folders if folder not in parts}
    all_known = names <= _IMAGES | _NOTES
    nested = [part for part in parts if folders_in(part) and not has_images(part)]
    inner = {child.name.lower() for part in nested for child in folders_in(part)}
    has_notes = bool(names & _NOTES) and (bool(names & _IMAGES) or bool(parts))
    if (inner and inner <= _IMAGES | _NOTES) or (all_known and has_notes and not nested):
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(folders)}, which are not classes: this is a layout "
            "for object detection (YOLO, COCO) or segmentation. sktl classifies whole images: sort the images into one "
            "folder per class."
        )
    if len(nested) > 1 or (nested and all_known):
        best = next((part for part in nested if part.name.lower().startswith("train")), nested[0])
        raise InvalidInputError(
            f"folder={shown(str(root))} has the subfolders {_plain(parts)}, which are parts of a dataset, not "
            f"classes. Pass one of them: {shown(kept_path(best))}. load_image_parts reads all."
        )
    _warn_of_doubt(root, folders, all_known)


def _warn_of_doubt(root: Path, folders: Sequence[Path], all_known: bool) -> None:
    if len(folders) > 1 and all_known:
        warn(
            f"The classes of {shown(str(root))} are {_plain(folders)}, which are usually parts of a dataset. If they "
            "are parts, pass one of them, with one subfolder per class.",
            ImageFolderWarning,
        )
    merged = {child.name.lower() for folder in folders for child in folders_in(folder)}
    if len(merged) > 1 and all(_PART.fullmatch(name) for name in merged):
        warn(
            f"The class folders of {shown(str(root))} have the subfolders {', '.join(sorted(merged)[:5])}, which are "
            "usually parts of a dataset. Their images are read as one set. load_image_parts reads the parts.",
            ImageFolderWarning,
        )
    (first, *more), inside = folders, folders_in(folders[0])
    if not more and first.name.lower() in {root.name.lower(), *_WHOLES} and len(inside) > 1 and not has_images(first):
        names = listed([child.name for child in inside])
        warn(
            f"{shown(str(root))} has one class, {shown(first.name)}, whose images are in {names}. If these are the "
            f"classes, pass {shown(kept_path(first))}.",
            ImageFolderWarning,
        )


def _plain(folders: Sequence[Path]) -> str:
    """Return the names of folders, which need no escapes because they are known words."""
    return ", ".join(folder.name for folder in folders[:5])


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
