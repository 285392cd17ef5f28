"""Progress bars over images."""

from __future__ import annotations

import sys

from tqdm import tqdm
from tqdm.auto import tqdm as automatic


def progress_bar(description: str, n_images: int, verbose: int) -> tqdm:
    """Return a bar of so many images, shown from `verbose=1` on, with few lines where it goes to a file."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    return automatic(total=n_images, desc=description, unit="image", disable=verbose < 1, mininterval=interval)
