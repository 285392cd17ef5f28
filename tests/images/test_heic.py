"""HEIC files are read as the photo is seen: rotated once, white at 255, on white; AVIF files by Pillow."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from sktl._images.decoding import ImageProblem, decode
from sktl._images.format_readers import READERS, reader_name
from sktl._images.preprocessing import Preprocessing

pillow_heif = pytest.importorskip("pillow_heif", reason="reading HEIC needs pillow-heif, an optional package")

PREPROCESSING = Preprocessing(8, (8, 8))
ORIENTATION = 0x0112
ROWS, COLUMNS = np.mgrid[:64, :96]
RGB = np.stack([COLUMNS * 2.6, ROWS * 4, (ROWS + COLUMNS) * 1.5], axis=2).astype(np.uint8)
ALPHA = (COLUMNS * 2.6).astype(np.uint8)


def saved(pixels, mode="RGB", **options):
    """The bytes of a HEIC file. Its compression is without loss, except for the conversion to YCbCr."""
    file = io.BytesIO()
    size = pixels.shape[1], pixels.shape[0]
    pillow_heif.encode(mode, size, pixels.tobytes(), file, **{"quality": -1, "chroma": 444, **options})
    return file.getvalue()


def decoded(content):
    return np.asarray(decode(content, PREPROCESSING)).astype(int)


def test_colors_are_read():
    content = saved(RGB)
    assert reader_name(content) == "heic"
    np.testing.assert_allclose(decoded(content), RGB, atol=2)


def test_gray_is_read():
    np.testing.assert_allclose(decoded(saved(RGB[..., 0], "L")), RGB[..., :1].repeat(3, 2), atol=2)


@pytest.mark.parametrize("mode", ["RGB;16", "L;16", "RGBA;16"])
def test_white_of_10_bits_is_255(mode):
    values = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    n_channels = len(mode.partition(";")[0])
    pixels = values[:, :, None].repeat(n_channels, 2)
    if n_channels == 4:
        pixels[..., 3] = 65535
    content = saved(np.ascontiguousarray(pixels if n_channels > 1 else values), mode)
    found = decoded(content)
    assert (found.min(), found.max()) == (0, 255)
    np.testing.assert_allclose(found, (values / 65535 * 255)[:, :, None].repeat(3, 2), atol=1.5)


def test_transparent_pixels_are_blended_with_white():
    content = saved(np.dstack([RGB, ALPHA]), "RGBA")
    share = ALPHA[:, :, None] / 255
    np.testing.assert_allclose(decoded(content), RGB * share + 255 * (1 - share), atol=3)


def test_colors_that_are_multiplied_by_alpha_are_read_alike():
    share = np.maximum(ALPHA, 64)[:, :, None] / 255
    premultiplied = np.rint(np.dstack([RGB * share, share * 255])).astype(np.uint8)
    image = pillow_heif.from_bytes("RGBA", (96, 64), premultiplied.tobytes())
    image.premultiplied_alpha = True
    file = io.BytesIO()
    image.save(file, quality=-1, chroma=444)
    np.testing.assert_allclose(decoded(file.getvalue()), RGB * share + 255 * (1 - share), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_rotated_once(orientation):
    """pillow-heif writes the orientation both as a property of the image and into its EXIF data."""
    image, exif = Image.fromarray(RGB), Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=-1, chroma=444, exif=exif.tobytes())
    image.getexif()[ORIENTATION] = orientation
    np.testing.assert_allclose(decoded(file.getvalue()), np.asarray(ImageOps.exif_transpose(image)).astype(int), atol=2)


def test_of_several_images_the_primary_one_is_read():
    file, images = io.BytesIO(), pillow_heif.from_pillow(Image.fromarray(RGB))
    images.add_from_pillow(Image.fromarray(255 - RGB))
    images.save(file, primary_index=1, quality=-1, chroma=444)
    np.testing.assert_allclose(decoded(file.getvalue()), 255 - RGB.astype(int), atol=2)


def test_nothing_is_registered_with_pillow():
    decoded(saved(RGB))
    Image.init()
    assert "HEIF" not in Image.OPEN
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(saved(RGB)))


def test_a_program_that_registered_a_plugin_of_its_own_keeps_it(monkeypatch):
    content = saved(RGB)

    def open_anything(file, name):
        return Image.open(io.BytesIO(PNG))

    file = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(file, "PNG")
    PNG = file.getvalue()
    monkeypatch.setitem(Image.OPEN, "HEIF", (open_anything, lambda start: start[4:8] == b"ftyp"))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    assert not READERS["heic"].is_active
    np.testing.assert_array_equal(decoded(content), np.full((3, 3, 3), [255, 0, 0]))


def test_a_size_beyond_the_limit_is_refused_before_memory_is_allocated(monkeypatch):
    content = saved(RGB)
    at = content.index(b"ispe") + 8
    huge = content[:at] + struct.pack(">II", 60_000, 60_000) + content[at + 8 :]
    with pytest.raises(ImageProblem, match="has 60000 x 60000 pixels, more than the limit of 89,478,485"):
        decoded(huge)
    monkeypatch.setenv("SKTL_MAX_PIXELS", "6143")
    with pytest.raises(ImageProblem, match="has 96 x 64 pixels, more than the limit of 6,143"):
        decoded(content)


def test_a_damaged_file_is_named():
    content = saved(RGB)
    for damaged in (content[:100], content[:-200], content[:40] + bytes(500)):
        with pytest.raises(ImageProblem, match=r"is not a valid \.heic file: "):
            decoded(damaged)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif_files_belong_to_pillow():
    for mode, pixels in (("RGB", RGB), ("RGBA", np.dstack([RGB, ALPHA]))):
        file = io.BytesIO()
        Image.fromarray(pixels, mode).save(file, "AVIF", quality=100)
        assert reader_name(file.getvalue()) == ""
        assert decoded(file.getvalue()).shape == (64, 96, 3)


def test_an_avif_file_without_a_decoder_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    content = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100)
    with pytest.raises(ImageProblem, match="this build of Pillow does not read: pip install --upgrade pillow"):
        decoded(content)
