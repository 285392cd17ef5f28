"""Images for people to look at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._images.samples import as_samples
from sktl._inspection.display_thumbnails import read_pictures
from sktl.exceptions import InvalidImageError

IMAGES = [np.full((2 + i, 8, 3), 10 * i, np.uint8) for i in range(6)]


@given(st.lists(st.integers(0, 5), max_size=8), st.integers(1, 12))
def test_pictures_have_a_bounded_size_and_the_order_of_the_positions(positions, side):
    pictures = read_pictures(as_samples(IMAGES), positions, side)
    assert [max(found.shape) <= max(3, side) for found in pictures] == [True] * len(positions)
    assert [found.flat[0] for found in pictures] == [10 * i for i in positions]


def test_all_pictures_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "1.png").write_bytes(b"text")
    samples = as_samples([IMAGES[0], tmp_path / "1.png", tmp_path / "2.png"])
    with pytest.raises(InvalidImageError, match=r"(?s)X\[1\] .*1\.png.*X\[2\]"):
        read_pictures(samples, range(3), 4)
