"""`ImageAudit`: the findings about a dataset, as an array, a frame, a text and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sktl._images.samples import Sample
from sktl._short_text import count, shown_value
from sktl._utils.optional import require
from sktl._utils.paths import in_utf8
from sktl.exceptions import InvalidParameterError, MissingPackageError

from .audit_display import AuditDisplay, plot_issues
from .audit_summary import summary


@dataclass(frozen=True, eq=False, repr=False)
class ImageAudit:
    """What :func:`audit_images` found in images and their labels.

    All parameters are stored as read-only attributes.

    Parameters
    ----------
    issues : structured ndarray of shape (n_issues,)
        One row for each finding, the most important of each kind first. Fields: `kind`; `part` ("train" or "test"),
        `position` and `name` of the image; its `label` (several labels are joined by ", "); `other_part`,
        `other_position`, `other_name` and `other_label` of its copy; `score` in [0, 1], higher is more important;
        `suggestion`, what to do; `suggested_label` of a suspicious label, which is "" if an image should have none of
        several labels; `crosses` ("test" or "groups" for copies on both sides of a split); and `contradicts`, True for
        copies with different labels. Findings about a class, a group or the whole set have position -1, and `name` is
        the class or the group. Kinds are "unreadable", "exact_copy", "near_copy", "shared_group", "suspicious_label",
        "unlike_the_rest", "rare_class" and "shortcut".
    duplicate_groups : int64 ndarray of shape (n_train,)
        Group number of each image of `X`. Copies are in one group, and so are images that share a group in `groups`.
        Pass the array as `groups=` to `fit` or to a cross-validation, so that copies are not split.
    classes_ : ndarray of shape (n_classes,)
        Classes or names of labels; empty without `y`.
    n_train, n_test : int
        Number of images of `X` and `X_test`.
    _items, _samples : mapping of str to sequence
        Images of each part, as they were passed and as they are read.
    _keys : mapping of str to sequence
        Content keys of these images; None for images that cannot be used.
    _kind : {"classes", "labels", "numbers", ""}
        What `y` has for each image; "" without `y`.
    _notes : sequence of str
        What the audit could not check, or what holds for the whole set.

    See Also
    --------
    sktl.datasets.apply_decisions : Apply the decisions made on the page that `to_html` writes.
    """

    issues: np.ndarray
    duplicate_groups: np.ndarray
    classes_: np.ndarray
    n_train: int
    n_test: int
    _items: Mapping[str, Sequence[Any] | np.ndarray] = field(default_factory=dict)
    _samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    _keys: Mapping[str, Sequence[bytes | None]] = field(default_factory=dict)
    _kind: str = ""
    _notes: Sequence[str] = ()

    def images(self, part: str) -> Sequence[Any] | np.ndarray:
        """Return the images of a part as they were passed: paths, arrays, PIL images or bytes.

        Parameters
        ----------
        part : {"train", "test"}
            `"train"` for `X` and `"test"` for `X_test`.

        Returns
        -------
        images : sequence
            The image of an issue is ``audit.images(issue["part"])[issue["position"]]``.

        Raises
        ------
        InvalidParameterError
            If there is no such part.
        """
        if not isinstance(part, str) or part not in self._items:
            raise InvalidParameterError(
                f"part={shown_value(part)} must be one of {', '.join(map(shown_value, self._items))}."
            )
        return self._items[part]

    def summary(self) -> str:
        """Return the findings as text, with examples and advice.

        Returns
        -------
        text : str
            A line for each kind of finding, followed by the three most important findings of this kind. Notes about the
            whole set, such as the number of labels that were not judged, come last.
        """
        return summary(self.issues, self.n_train, self.n_test, self._notes)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        counts = count(self.n_train), count(self.n_test, "test image"), count(len(self.issues), "issue")
        return f"<ImageAudit: {', '.join(counts)}>"

    def to_frame(self) -> Any:
        """Return the findings as a pandas data frame or, if pandas is not installed, as a polars data frame.

        Returns
        -------
        frame : pandas.DataFrame or polars.DataFrame
            One row for each finding, with the fields of `issues` as columns. Bytes of file names that are not UTF-8
            are escaped.

        Raises
        ------
        MissingPackageError
            If neither package is installed.
        """
        columns = {name: [*map(_in_utf8, self.issues[name].tolist())] for name in self.issues.dtype.names or ()}
        try:
            library = require("pandas", "to_frame", "pandas")
        except MissingPackageError as error:
            try:
                library = require("polars", "to_frame", "polars")
            except MissingPackageError:
                raise error from None
        return library.DataFrame(columns)

    def plot(self, *, kind: str | None = None, n_images: int = 12, n_columns: int = 4, ax: Any = None) -> AuditDisplay:
        """Show the most important findings as a grid of images; copies are shown side by side.

        Parameters
        ----------
        kind : str, default=None
            Show only findings of this kind. None alternates between the kinds.
        n_images : int, default=12
            Maximum number of findings.
        n_columns : int, default=4
            Maximum number of findings in a row.
        ax : Axes or array-like of Axes, default=None
            Axes to draw in. None creates a new figure.

        Returns
        -------
        display : object
            With the attributes `figure_`, the matplotlib Figure, and `axes_`, an ndarray with the Axes of each finding.

        Raises
        ------
        InvalidParameterError
            If a parameter is invalid, or there is no finding with an image.
        MissingPackageError
            If matplotlib is not installed.
        """
        require("matplotlib", "plot", "sktl[plot]")
        return plot_issues(self.issues, self._samples, kind, n_images, n_columns, ax)

    def to_html(self, path: str | os.PathLike[str], *, max_megabytes: float = 16) -> None:
        """Write a page on which to decide about the findings: keep, drop or relabel each image.

        The page is one file that loads nothing else and sends nothing. It shows the findings by kind, the most
        important first, with thumbnails. The browser stores the decisions; you can download them as a CSV file for
        :func:`sktl.datasets.apply_decisions`. The page shows at most 5,000 findings, and says how many it leaves out.

        Parameters
        ----------
        path : str or path-like
            File to write, such as "audit.html". An existing file is replaced.
        max_megabytes : float, default=16
            Maximum size of all thumbnails together. When it is reached, less important findings are shown without a
            thumbnail, and the page says how many.

        Raises
        ------
        InvalidInputError
            If the folder does not exist, or `path` is a folder, a pipe or a device.
        OSError
            If the file cannot be written.
        InvalidParameterError
            If `path` is not a path, or has another suffix than HTML files; or if `max_megabytes` is not a number of at
            least 0.

        See Also
        --------
        sktl.datasets.apply_decisions : Apply the decisions to images and labels.
        """
        # Pages are above audits: they import the kinds of findings.
        from sktl._reports.audit_page import write_audit_page

        write_audit_page(self, path, max_megabytes=max_megabytes)


def _in_utf8(value: Any) -> Any:
    """Return a value for a data frame, whose text is UTF-8; file names may contain other bytes."""
    return in_utf8(value) if isinstance(value, str) else value
