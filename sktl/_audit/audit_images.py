"""`audit_images`: find what is wrong with images and labels, before a model is trusted."""

from __future__ import annotations

from typing import Any

from .image_audit import ImageAudit


def audit_images(
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    estimator: Any = None,
    cv: Any = 5,
    random_state: Any = None,
) -> ImageAudit:
    """Find unreadable images, copies, suspicious labels and other problems of a data set."""
    raise NotImplementedError
