"""Digests of image files, by which a file is recognized although other images were added, removed or moved."""

from __future__ import annotations

import hashlib

from .problems import ImageProblem
from .samples import FileSample, ReadSample, Sample

# Spreadsheets and readers of CSV files take the prefix for text, and digits alone for a number.
_PREFIX = "sha256-"
_N_DIGITS = 32


def file_digest(sample: Sample) -> str:
    """Return a digest of the bytes of a file, also of a damaged one; empty if it is no local file, or is not readable.

    It does not depend on the versions of libraries or on the reader of the file.
    """
    file = sample.sample if isinstance(sample, ReadSample) else sample
    if not isinstance(file, FileSample):
        return ""
    try:
        return _PREFIX + hashlib.sha256(file.read()).hexdigest()[:_N_DIGITS]
    except ImageProblem:
        return ""
