"""Content keys are equal if and only if the contents are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sktl._images.content_keys import content_key

SIDES = st.integers(1, 12)
RGB = st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
CONTENTS = st.one_of(
    st.binary(max_size=4),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.just(3)).flatmap(
        lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))
    ),
)


def same_content(a, b):
    if isinstance(a, bytes) or isinstance(b, bytes):
        return type(a) is type(b) and a == b
    return np.array_equal(a, b)


@settings(max_examples=300)
@given(a=CONTENTS, b=CONTENTS)
def test_keys_are_equal_iff_the_contents_are(a, b):
    assert (content_key(a) == content_key(b)) == same_content(a, b)
    assert len(content_key(a)) == 32


@settings(max_examples=50)
@given(shape=st.permutations([2, 3, 4]), other=st.permutations([2, 3, 4]))
def test_the_shape_of_the_pixels_is_part_of_the_key(shape, other):
    a, b = (np.zeros((h * k, w, 3), np.uint8) for h, w, k in (shape, other))
    assert (content_key(a) == content_key(b)) == (a.shape == b.shape)


@settings(max_examples=30)
@given(rgb=RGB)
def test_the_key_does_not_depend_on_the_memory_layout(rgb):
    layouts = [rgb.copy("F"), rgb[::-1].copy()[::-1], np.repeat(rgb, 2, 1)[:, ::2]]
    assert {content_key(layout) for layout in layouts} == {content_key(rgb)}


def test_pixels_and_the_file_of_their_bytes_have_different_keys():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert content_key(rgb) != content_key(rgb.tobytes())
    assert content_key(rgb) != content_key(b"pixels 20 30" + rgb.tobytes())
