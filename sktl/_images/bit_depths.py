"""Convert integers of any bit depth to 8 bits, by a table of all values instead of floats for each pixel."""

from __future__ import annotations

import numpy as np


def in_8_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return unsigned integers of up to 16 bits as uint8. Zero stays black, and the largest value becomes white."""
    if bits == 8 and pixels.dtype == np.uint8:
        return pixels
    white = 2**bits - 1
    return looked_up(pixels, 0, np.arange(white + 1) / white)


def looked_up(pixels: np.ndarray, lowest: int, grays: np.ndarray) -> np.ndarray:
    """Return integers as uint8, given the gray of each value from `lowest` on, as floats in [0, 1]."""
    table = np.rint(np.clip(grays, 0, 1) * 255).astype(np.uint8)
    if lowest == 0 and pixels.dtype.kind == "u" and np.iinfo(pixels.dtype).max < len(table):
        return table[pixels]  # without the memory of indices
    indices = np.clip(pixels.astype(np.int32) - lowest, 0, len(table) - 1)
    return table[indices]
