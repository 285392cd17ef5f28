"""The images on which each export is verified: three drawings, which are stored in the file, and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sktl._datasets.synthetic_datasets import make_cats, make_leaves, make_surface_defects
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample, as_samples

_SMALLEST = 96
_N_NOISE = 5


def drawings(preprocessing: Preprocessing) -> list[np.ndarray]:
    """Return a cat, a metal surface and a leaf as RGB images, somewhat larger than the network's input."""
    size = max(_SMALLEST, *preprocessing.crop)
    sets = (make_cats, 0), (make_surface_defects, 3), (make_leaves, 0)
    images = [make(4, image_size=size, random_state=0).data[i] for make, i in sets]
    return [np.asarray(Image.fromarray(image).convert("RGB")) for image in images]


def reference_pixels(preprocessing: Preprocessing) -> np.ndarray:
    """Return the drawings as input of the network, uint8 of shape (3, H, W, 3)."""
    return np.stack([preprocessing.pixels(Image.fromarray(image)) for image in drawings(preprocessing)])


def default_samples(preprocessing: Preprocessing) -> Sequence[Sample]:
    """Return the drawings and noise as samples."""
    shape = (_N_NOISE, *preprocessing.crop, 3)
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    return as_samples([*drawings(preprocessing), *noise])
