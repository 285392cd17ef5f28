"""Images for people to look at."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._images.samples import as_samples
from sktl._inspection.display_thumbnails import Pictures, read_pictures
from sktl.exceptions import InvalidImageError

IMAGES = [np.full((2 + i, 8, 3), 10 * i, np.uint8) for i in range(6)]


class Counting:
    """Samples that remember which of them were asked for."""

    def __init__(self):
        self.samples, self.asked = as_samples(IMAGES), []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.samples[i]


@given(st.lists(st.integers(-6, 5), max_size=8))
def test_each_picture_is_read_once_when_it_is_used(positions):
    samples, expected = Counting(), read_pictures(as_samples(IMAGES), range(6), 4)
    pictures = Pictures(samples, 4)
    assert len(pictures) == 6
    assert samples.asked == []
    for i in positions:
        np.testing.assert_array_equal(pictures[i], expected[i])
    assert sorted(samples.asked) == sorted({i % 6 for i in positions})
    for found in ([*pictures], pictures[:], pickle.loads(pickle.dumps(pictures)), copy.copy(pictures)):
        assert len(found) == 6
        assert all(map(np.array_equal, found, expected))
    assert sorted(samples.asked) == [*range(6)]


def test_a_picture_beyond_the_last_is_an_index_error_and_one_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "1.png").write_bytes(b"text")
    pictures = Pictures(as_samples([IMAGES[0], tmp_path / "1.png"]), 4)
    with pytest.raises(IndexError):
        pictures[2]
    with pytest.raises(InvalidImageError, match=r"X\[1\] .*1\.png"):
        pictures[1]
