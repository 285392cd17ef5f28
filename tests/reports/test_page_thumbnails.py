"""Thumbnails as data URIs, within a limit."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image, features

from sktl._images.samples import as_samples
from sktl._reports import page_thumbnails
from sktl._reports.page_thumbnails import Album, data_uri


def _noise(n, side=64):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def _decoded(markup):
    return Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]*)", markup)[1])))


def test_a_thumbnail_is_the_image_within_its_side():
    wide = np.full((100, 400, 3), (200, 30, 60), np.uint8)
    shown = Album(side=80).show(as_samples([wide])[0], "a <wide> image")
    assert 'width="80" height="20"' in shown
    assert 'alt="a &lt;wide&gt; image"' in shown
    assert _decoded(shown).size == (80, 20)
    assert np.abs(np.asarray(_decoded(shown).convert("RGB"), int) - wide[0, 0]).max() < 12


@pytest.mark.parametrize("has_webp", [True, False])
@pytest.mark.parametrize("n_channels", [3, 4])
def test_a_pillow_without_webp_writes_what_it_can(monkeypatch, has_webp, n_channels):
    if has_webp and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    monkeypatch.setattr(page_thumbnails.features, "check", lambda name: has_webp)
    uri = data_uri(np.full((8, 8, n_channels), 200, np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert uri.startswith(f"data:image/{image.format.lower()};base64,")


@pytest.mark.parametrize("limit", [0, 1, 10_000, 30_000])
def test_the_limit_holds_and_those_left_out_are_the_last(limit):
    album = Album(limit)
    shown = [album.show(sample, "x") for sample in as_samples(_noise(20))]
    have = ["<img" in one for one in shown]
    assert sum(len(one) for one, has in zip(shown, have, strict=True) if has) <= limit + 200 * sum(have)
    assert have == sorted(have, reverse=True)
    assert album.n_left_out == have.count(False) > 0


def test_images_that_cannot_be_read_are_words(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"<script>")
    shown = Album().show(as_samples([str(tmp_path / "bad.jpg")])[0], "x")
    assert "no-picture" in shown
    assert "Cannot be shown" in shown
    assert "<script" not in shown
