"""The data of an audit's page: which findings it shows, their images, and the words for each kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from sktl._audit.issues import KINDS
from sktl._images.file_digests import file_digest
from sktl._images.samples import Sample
from sktl._targets.joined_labels import SEPARATOR, split_labels
from sktl._utils.paths import in_utf8


class Audit(Protocol):
    """What the page needs of :class:`sktl.ImageAudit`, whose method `to_html` imports the page."""

    @property
    def issues(self) -> np.ndarray:
        """The findings, the most important of each kind first."""

    @property
    def classes_(self) -> np.ndarray:
        """Classes or names of labels."""

    @property
    def n_train(self) -> int:
        """Number of training images."""

    @property
    def n_test(self) -> int:
        """Number of test images."""

    @property
    def _samples(self) -> Mapping[str, Sequence[Sample]]:
        """Images of each part, as they are read."""

    @property
    def _keys(self) -> Mapping[str, Sequence[bytes | None]]:
        """Content keys of the images of each part."""

    @property
    def _kind(self) -> str:
        """What `y` has for each image: "classes", "labels", "numbers" or ""."""

    @property
    def _notes(self) -> Sequence[str]:
        """What the audit could not check, or what holds for the whole set."""


class Words(NamedTuple):
    """The words for a kind of finding.

    Attributes
    ----------
    one, several : str
        Name of the kind.
    meaning : str
        What the findings are, and what to do.
    """

    one: str
    several: str
    meaning: str


WORDS = {
    "unreadable": Words(
        "Unreadable file",
        "Unreadable files",
        "These files cannot be read as images, and fit stops at them. Replace the files, or drop them.",
    ),
    "exact_copy": Words(
        "Exact copy",
        "Exact copies",
        "The same image twice. If one is a training image and the other a test image, the test score is too high. "
        "Drop one of them. If their labels differ, at least one label is wrong.",
    ),
    "near_copy": Words(
        "Near copy",
        "Near copies",
        "One image is the other after it was recompressed, resized, mirrored, cropped or changed in brightness or "
        "color. Drop one of them, or pass the groups of copies to fit and to cross-validation. Photos of one scene may "
        "be near copies, too: keep them if they show different things.",
    ),
    "shared_group": Words(
        "Shared group",
        "Shared groups",
        "These groups, such as patients, have both training and test images. A model may recognize the group, and the "
        "test score is then too high. Move all images of a group to one side.",
    ),
    "suspicious_label": Words(
        "Suspicious label",
        "Suspicious labels",
        "A model that was trained on the other images gives these images another label. Some are wrong labels, others "
        "are right but difficult: look at each image before you relabel it.",
    ),
    "unlike_the_rest": Words(
        "Unlike the rest",
        "Images unlike the rest",
        "These images differ from all others: another subject, a placeholder, a damaged image, or a rare case that you "
        "need. Drop only images that do not belong to the task.",
    ),
    "rare_class": Words(
        "Rare class",
        "Rare classes",
        "These classes have too few images, or images of only one group, to measure how well they are recognized. Add "
        "images, or merge classes.",
    ),
    "shortcut": Words(
        "Shortcut",
        "Shortcuts",
        "Something other than the subject tells the classes apart, so that a model may learn it instead: it will then "
        "fail on images from elsewhere. Collect images of all classes in the same way.",
    ),
}


WHOSE = {"train": "Training image", "test": "Test image"}


class ImageId(NamedTuple):
    """An image of the audit."""

    part: str
    position: int


@dataclass
class AuditedImage:
    """What the page and its script know about an image.

    Attributes
    ----------
    number : int
        Number of the image on the page.
    name : str
    label : str or None
        None if it is unknown.
    suggested : list of str
        Labels that findings suggest, the most important first.
    """

    number: int
    name: str
    label: str | None = None
    suggested: list[str] = field(default_factory=list)


def chosen(issues: np.ndarray, most: int) -> list[int]:
    """Return the rows of the most important findings: first the first of each kind, then the second of each kind.

    In this order, a limit leaves out the least important of each kind, rather than all of the last kinds.
    """
    ranks: dict[str, int] = {}
    keys = []
    for row, kind in enumerate(issues["kind"].tolist()):
        rank = ranks[kind] = ranks.get(kind, -1) + 1
        keys.append((rank, KINDS.index(kind), row))
    return [row for _, _, row in sorted(keys)[:most]]


def images_of(issue: np.void) -> Iterator[ImageId]:
    """Yield the images of a finding: none, one, or both of a pair."""
    if issue["position"] >= 0:
        yield ImageId(str(issue["part"]), int(issue["position"]))
    if issue["other_position"] >= 0:
        yield ImageId(str(issue["other_part"]), int(issue["other_position"]))


def audited_images(issues: np.ndarray) -> dict[ImageId, AuditedImage]:
    """Return the images of some findings, numbered in the order of the findings."""
    found: dict[ImageId, AuditedImage] = {}
    for issue in issues:
        names = [str(issue["name"]), str(issue["other_name"])]
        for image, name in zip(images_of(issue), names, strict=False):
            found.setdefault(image, AuditedImage(len(found), name))
        if issue["other_position"] >= 0 and issue["other_label"]:
            found[ImageId(str(issue["other_part"]), int(issue["other_position"]))].label = str(issue["other_label"])
        if issue["position"] >= 0:
            first = found[next(images_of(issue))]
            first.label = str(issue["label"])
            # No text is a suggestion, too: that the image has none of several labels.
            if issue["kind"] == "suspicious_label" and issue["suggested_label"] not in first.suggested:
                first.suggested.append(str(issue["suggested_label"]))
    return found


def data_of(audit: Audit, images: dict[ImageId, AuditedImage]) -> dict[str, Any]:
    """Return what the page's script needs, as JSON values."""
    classes = [in_utf8(str(name)) for name in audit.classes_]
    codes = {name: k for k, name in enumerate(classes)}

    def parts(label: str) -> list[Any]:
        """Return the numbers in a text as text, or the codes of its labels."""
        if audit._kind == "numbers":
            return label.split(SEPARATOR) if label else []
        return [codes[name] for name in split_labels(in_utf8(label), codes) or []]

    rows = [
        [part, position, in_utf8(image.name), parts(image.label or ""), [parts(label) for label in image.suggested]]
        for (part, position), image in images.items()
    ]
    return {"classes": classes, "kind": audit._kind, "images": rows}


def key_of(audit: Audit, data: dict[str, Any]) -> str:
    """Return the key of a report in the storage of the browser: decisions belong to its findings and their images."""
    digest = hashlib.sha256(json.dumps(data).encode())
    for part, position, *_ in data["images"]:
        digest.update(audit._keys[part][position] or b"-")
    return f"sktl-audit-{digest.hexdigest()[:24]}"


def checks_of(audit: Audit, images: dict[ImageId, AuditedImage]) -> dict[str, Any]:
    """Return by what `apply_decisions` recognizes images, as JSON values: how many there are, and digests of files."""
    digests = [file_digest(audit._samples[part][position]) for part, position in images]
    return {"n_images": {"train": audit.n_train, "test": audit.n_test}, "contents": digests}
