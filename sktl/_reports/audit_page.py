"""The page on which a person decides about the findings of an audit: keep, drop or relabel each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sktl._audit.issues import KINDS
from sktl._short_text import count
from sktl._utils.paths import common_folder

from .audit_page_data import (
    WHOSE,
    WORDS,
    Audit,
    AuditedImage,
    ImageId,
    audited_images,
    checks_of,
    chosen,
    data_of,
    images_of,
    key_of,
)
from .markup import Markup, data_block, joined, named, plain, tag
from .page import asset, checked_page, page, write_page
from .page_thumbnails import MOST_BYTES, Album, limit_of

# More findings are not decided at one sitting, and browsers become slow.
MOST_FINDINGS = 5000
_LONGEST_SUGGESTION = 1000
# How much of a row a finding takes; one image by default.
_LAYOUTS = {"exact_copy": "pair", "near_copy": "pair"} | dict.fromkeys(
    ("shared_group", "rare_class", "shortcut"), "words"
)
_CROSSES = {"test": "in training and test images", "groups": "in two groups"}


def write_audit_page(audit: Audit, path: Any, *, max_megabytes: float = MOST_BYTES / 1e6) -> None:
    """Write the findings of an audit as a page to decide about them; see :meth:`sktl.ImageAudit.to_html`.

    Raises
    ------
    InvalidInputError
        If the folder does not exist, or `path` is a folder, a pipe or a device.
    OSError
        If the file cannot be written.
    InvalidParameterError
        If `path` is not a path or has another suffix than HTML files, or `max_megabytes` is not a number of at least 0.
    """
    checked_page(path)  # before thousands of images are read
    write_page(path, audit_page(audit, Album(limit_of(max_megabytes))))


def audit_page(audit: Audit, album: Album) -> str:
    """Return the page as text."""
    rows = chosen(audit.issues, MOST_FINDINGS)
    images = audited_images(audit.issues[sorted(rows)])
    folders = {part: common_folder([one.name for place, one in images.items() if place.part == part]) for part in WHOSE}
    findings, n_bare = _elements(audit, rows, images, folders, album)
    kinds = audit.issues["kind"]
    by_kind = {kind: [findings[row] for row in sorted(rows) if kinds[row] == kind] for kind in KINDS}
    by_kind = {kind: found for kind, found in by_kind.items() if found}
    sections = [_section(kind, found) for kind, found in by_kind.items()] or [tag("p", "The audit found nothing.")]
    data = data_of(audit, images)
    return page(
        "Audit of images",
        tag("header", *_introduction(audit, folders), *_limits(len(audit.issues) - len(rows), n_bare, album.limit)),
        _bar(),
        tag("main", _filters({kind: len(found) for kind, found in by_kind.items()}), *sections),
        _footer(audit._kind),
        _dialog(),
        data_block("data", data | checks_of(audit, images) | {"key": key_of(audit, data)}),
        styles=asset("audit.css"),
        script=asset("audit.js"),
    )


def _elements(
    audit: Audit, rows: list[int], images: dict[ImageId, AuditedImage], folders: dict[str, str], album: Album
) -> tuple[dict[int, Markup], int]:
    """Return the elements of findings by row, and how many lack a thumbnail. The album fills in the order of rows."""
    elements, n_bare = {}, 0
    for row in rows:
        n_before = album.n_left_out
        elements[row] = _Finding(audit, audit.issues[row], images, folders, album).element()
        n_bare += album.n_left_out > n_before
    return elements, n_bare


def _introduction(audit: Audit, folders: dict[str, str]) -> list[Markup]:
    test = f" and {count(audit.n_test, 'test image')}" if audit.n_test else ""
    kinds, counts = np.unique(audit.issues["kind"], return_counts=True)
    of_kind = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    found = [_named_count(kind, of_kind[kind]) for kind in KINDS if kind in of_kind]
    return [
        tag("h1", f"Audit of {count(audit.n_train, 'training image')}{test}"),
        tag("p", f"Found: {', '.join(found)}." if found else "Found nothing."),
        *(tag("p", note, class_="note") for note in audit._notes),
        *(
            tag("p", f"{WHOSE[part]}s are in ", named(folder), class_="muted")
            for part, folder in folders.items()
            if folder
        ),
    ]


def _named_count(kind: str, n: int) -> str:
    words = WORDS[kind]
    return count(n, words.one.lower(), words.several.lower())


def _limits(n_more: int, n_bare: int, limit: int) -> list[Markup]:
    """Return what the page leaves out, and how to see it."""
    notes = []
    if n_more:
        notes.append(
            f"{count(n_more, 'less important finding')} {'is' if n_more == 1 else 'are'} not on this page, which "
            "has room for a limited number. To see the rest, decide about these, apply the decisions, and run the "
            "audit again; `audit.issues` has all."
        )
    if n_bare:
        notes.append(
            f"{count(n_bare, 'less important finding')} {'has' if n_bare == 1 else 'have'} no thumbnail, because "
            f"the thumbnails of this page take at most {limit / 1e6:,.1f} MB. To see them, open the files, write the "
            "page with a larger limit, or decide about the others, apply the decisions and run the audit again."
        )
    return [tag("p", note, class_="note") for note in notes]


def _bar() -> Markup:
    """Return the bar that stays in view: how much is decided, undo and download."""
    return tag(
        "div",
        tag("span", id="counter", role="status"),
        tag("button", "Undo", id="undo", type="button", aria_keyshortcuts="u", disabled=True),
        tag("button", "Download decisions", id="download", type="button", class_="main"),
        class_="bar needs-script",
    )


_KEYS = [
    ("j k", "or"),
    ("↓ ↑", "next, previous finding"),
    ("← →", "image of a pair"),
    ("e", "keep"),
    ("d", "drop"),
    ("r", "relabel"),
    ("n", "next undecided"),
    ("u", "undo"),
]


def _filters(counts: dict[str, int]) -> Markup:
    """Return the controls that select findings, and the keys."""
    kinds = {"": f"All {sum(counts.values()):,}"} | {
        kind: f"{WORDS[kind].several} {count:,}" for kind, count in counts.items()
    }
    buttons = [
        tag("button", words, type="button", data_kind=kind, aria_pressed="false" if kind else "true")
        for kind, words in kinds.items()
    ]
    keys = [joined(*(joined(tag("kbd", key), " ") for key in letters.split()), words, " ") for letters, words in _KEYS]
    return tag(
        "div",
        tag("div", *buttons, class_="kinds", role="group", aria_label="Kinds of findings"),
        tag("label", tag("input", type="search", id="search", placeholder="Name or label", aria_label="Name or label")),
        tag("label", tag("input", type="checkbox", id="undecided"), " Undecided only"),
        tag("p", id="storage-note", class_="note", hidden=True),
        tag("p", *(tag("span", key) for key in keys), class_="keys muted", aria_label="Keys"),
        tag("p", id="nothing", hidden=True),
        class_="filters needs-script",
    )


def _section(kind: str, findings: list[Markup]) -> Markup:
    heading = joined(WORDS[kind].several, " ", tag("span", f"{len(findings):,}", class_="muted"))
    return tag(
        "section",
        tag("h2", heading, id=f"{kind}-heading"),
        tag("p", WORDS[kind].meaning, class_="muted"),
        tag("div", *findings, class_=f"findings {_LAYOUTS.get(kind, 'single')}"),
        data_kind=kind,
        aria_labelledby=f"{kind}-heading",
    )


@dataclass(frozen=True)
class _Finding:
    """One finding as an element of the page.

    Parameters
    ----------
    audit : Audit
    issue : row of its issues
    images : dict of ImageId to AuditedImage
    folders : dict of str to str
        The folder of all images of a part, which their names do not repeat.
    album : Album
    """

    audit: Audit
    issue: np.void
    images: dict[ImageId, AuditedImage]
    folders: dict[str, str]
    album: Album

    def element(self) -> Markup:
        cards = [self._card(image) for image in images_of(self.issue)]
        shown = tag("div", *cards, class_="cards") if cards else None
        return tag("article", tag("h3", *self._heading()), shown, class_="finding")

    def _heading(self) -> list[Markup]:
        issue = self.issue
        parts = []
        if issue["position"] < 0 and issue["name"]:
            parts.append(joined(named(issue["name"]), ": "))
        parts.append(joined(plain(issue["suggestion"], _LONGEST_SUGGESTION) or WORDS[str(issue["kind"])].one))
        if issue["crosses"]:
            parts.append(_badge(_CROSSES[str(issue["crosses"])]))
        if issue["contradicts"]:
            parts.append(_badge("different labels"))
        return [
            *parts,
            tag("span", f"{issue['score']:.2f}", class_="score", title="Weight among findings of this kind"),
        ]

    def _card(self, image: ImageId) -> Markup:
        known = self.images[image]
        name = named(known.name.removeprefix(self.folders[image.part]))
        label = joined(", labeled ", tag("b", named(known.label))) if known.label else None
        return tag(
            "div",
            self._thumbnail(image, known.name),
            tag("div", name, class_="name", title=plain(known.name)),
            tag("div", WHOSE[image.part], label, class_="muted"),
            tag("div", class_="decision needs-script"),
            tag("div", class_="buttons needs-script"),
            class_="card", data_image=known.number, tabindex="-1", role="group", aria_label=plain(known.name),
        )  # fmt: skip

    def _thumbnail(self, image: ImageId, name: str) -> Markup:
        return self.album.show(self.audit._samples[image.part][image.position], name)


def _badge(words: str) -> Markup:
    return joined(" ", tag("span", words, class_="badge"))


def _dialog() -> Markup:
    """Return the dialog in which a label is chosen. It has no form, because the policy forbids to send one."""
    return tag(
        "dialog",
        tag("h2", "Relabel", id="dialog-heading"),
        tag("div", id="dialog-picture"),
        tag("p", tag("bdi", id="dialog-name")),
        tag("div", id="dialog-choice"),
        tag(
            "p",
            tag("button", "Relabel", type="button", id="dialog-ok", class_="main"),
            " ",
            tag("button", "Cancel", type="button", id="dialog-cancel"),
        ),
        id="dialog", aria_labelledby="dialog-heading",
    )  # fmt: skip


def _footer(kind: str) -> Markup:
    source = "--labels TABLE" if kind in ("labels", "numbers") else "FOLDER"
    option = ', kind="numbers"' if kind == "numbers" else ""  # which integers do not tell
    return tag(
        "footer",
        tag("h2", "Apply the decisions"),
        tag(
            "p",
            "This page changes no file. Download the decisions as CSV, then fit without the images that you dropped "
            "and with the labels that you chose:",
        ),
        tag("p", tag("code", f"sktl fit {source} --decisions decisions.csv -o model.sktl")),
        tag("p", tag("code", f'X, y = sktl.datasets.apply_decisions("decisions.csv", X, y{option})')),
        tag(
            "p",
            "Decisions are kept in this browser, for this report only. Nothing on this page is sent anywhere.",
            class_="needs-script",
        ),
        tag(
            "p", "Without scripts, this page is a list. To decide on the page, allow scripts.", class_="without-script"
        ),
    )
