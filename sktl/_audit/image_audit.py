"""`ImageAudit`: the findings about a data set, as an array, a frame, a text and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sktl._targets.labels import shown
from sktl.exceptions import InvalidParameterError


@dataclass(frozen=True, eq=False, repr=False)
class ImageAudit:
    """What :func:`audit_images` found in images and their labels.

    Attributes
    ----------
    issues : structured ndarray of shape (n_issues,)
        One row for each finding, the weightiest of each kind first. Fields: `kind`; `part` ("train" or "test"),
        `position` and `name` of the image; its `label` (several labels are joined by ", "); `other_part`,
        `other_position` and `other_name` of its copy; `score` in [0, 1], higher is weightier; `suggestion`, what to do;
        `suggested_label`; `crosses` ("test" or "groups" for copies on both sides of a split); and `contradicts`, True
        for copies with different labels. Findings about a class or the whole set have position -1, and `name` is the
        class. Kinds are "unreadable", "exact_copy", "near_copy", "suspicious_label", "unlike_the_rest", "rare_class"
        and "shortcut".
    duplicate_groups : int64 ndarray of shape (n_train,)
        Number of the group of each image of `X`. Copies are in one group, and so are images of one group of `groups`.
        Pass it as `groups=` to `fit` or to a cross-validation, so that copies are not split.
    classes_ : ndarray of shape (n_classes,)
        Classes or names of labels; empty without `y`.
    n_train, n_test : int
        Number of images of `X` and `X_test`.
    """

    issues: np.ndarray
    duplicate_groups: np.ndarray
    classes_: np.ndarray
    n_train: int
    n_test: int
    _items: Mapping[str, Sequence[Any] | np.ndarray] = field(default_factory=dict)

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
        if part not in self._items:
            raise InvalidParameterError(f"part={shown(part)} must be one of {', '.join(map(shown, self._items))}.")
        return self._items[part]

    def to_html(self, path: str | os.PathLike[str], *, max_megabytes: float = 16) -> None:
        """Write a page on which to decide about the findings: keep, drop or relabel each image.

        The page is one file that loads nothing else and sends nothing. It has the findings by kind, the weightiest
        first, with thumbnails. Decisions are kept in the browser, and downloaded as a CSV file for
        :func:`sktl.datasets.apply_decisions`. The page has at most 5,000 findings, and says how many it leaves out.

        Parameters
        ----------
        path : str or path-like
            File to write, such as "audit.html". An existing file is replaced.
        max_megabytes : float, default=16
            Largest size of all thumbnails. Findings of less weight are shown without a thumbnail, and the page says
            how many.

        Raises
        ------
        InvalidInputError
            If the file cannot be written.
        InvalidParameterError
            If `path` is not a path, or `max_megabytes` is not a number of at least 0.

        See Also
        --------
        sktl.datasets.apply_decisions : Apply the decisions to images and labels.
        """
        # Pages are above audits: they import the kinds of findings.
        from sktl._reports.audit_page import write_audit_page

        write_audit_page(self, path, max_megabytes=max_megabytes)
