"""Digests of image files: equal for equal bytes, whatever reads them, and empty where there is no file."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sktl._images.file_digests import file_digest
from sktl._images.samples import as_samples


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=4))
def test_digests_are_equal_if_the_bytes_are(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{i}.jpg" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    digests = [file_digest(sample) for sample in as_samples(paths)]
    assert len({*digests}) == len({*contents})
    assert digests == [file_digest(sample) for sample in as_samples(paths, image_reader=lambda path: 1 / 0)]
    assert all(digest.startswith("sha256-") for digest in digests)


def test_what_is_no_readable_file_has_no_digest(tmp_path):
    images = [tmp_path / "absent.jpg", tmp_path, "https://example.org/a.jpg", np.zeros((8, 8), np.uint8), b"bytes"]
    assert [file_digest(sample) for sample in as_samples(images)] == [""] * 5
