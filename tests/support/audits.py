"""Audits made of findings, without the images' being audited."""

from __future__ import annotations

import hashlib

import numpy as np

from sktl._audit.audit_result import ImageAudit
from sktl._audit.issues import as_array
from sktl._images.samples import as_samples


def audit_of(issues, X, classes=(), X_test=None, kind="classes", notes=()):
    """Return an audit with these findings and notes about these images. `kind` is what `y` had."""
    items = {"train": X} | ({} if X_test is None else {"test": X_test})
    n_test = 0 if X_test is None else len(X_test)
    return ImageAudit(
        issues=as_array(issues),
        duplicate_groups=np.arange(len(X)),
        classes_=np.array(classes, dtype=object),
        n_train=len(X),
        n_test=n_test,
        _items=items,
        _samples={part: as_samples(images, lenient=True) for part, images in items.items()},
        _keys={part: [_key(image) for image in images] for part, images in items.items()},
        _kind=kind,
        _notes=notes,
    )


def _key(image):
    return hashlib.sha256(np.asarray(image).tobytes()).digest() if isinstance(image, np.ndarray) else None


def noise(n, side=16):
    """Return images of noise, whose thumbnails take some bytes."""
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
