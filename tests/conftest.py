"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# SciPy reads it at import, and one of scikit-learn's checks is skipped without it.
os.environ["SCIPY_ARRAY_API"] = "1"
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    """Let warnings of ours be errors; not in pyproject.toml, where pytest imports sktl before coverage is measured."""
    for kind in ("BackboneWarning", "ImageFolderWarning"):
        config.addinivalue_line("filterwarnings", f"error::sktl.exceptions.{kind}")
