"""TIFF files that Pillow does not read give the same picture as all others, or are refused by name."""

from __future__ import annotations

import io
import logging
import lzma
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from raster_files import packed, tiff

from sktl._images.decoding import ImageProblem, decode, read_pixels
from sktl._images.format_readers import READERS, reader_name
from sktl._images.preprocessing import Preprocessing

tifffile = pytest.importorskip("tifffile", reason="these TIFF files need tifffile, an optional package")

PREPROCESSING = Preprocessing(8, (8, 8))
RNG = np.random.default_rng(0)
GRAY = {"photometric": "minisblack"}
BANDS = {**GRAY, "planarconfig": "contig"}
PICTURE = RNG.random((20, 30, 3))
ALPHA = RNG.random((20, 30, 1))


def saved(pixels, photometric="rgb", **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def decoded(content):
    return np.asarray(decode(content, PREPROCESSING)).astype(int)


def as_dtype(picture, dtype):
    dtype = np.dtype(dtype)
    return picture.astype(dtype) if dtype.kind == "f" else np.rint(picture * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_the_same_picture_has_the_same_pixels_however_it_is_stored(dtype, compression, bigtiff):
    options = {"compression": compression, "bigtiff": bigtiff}
    colors = as_dtype(PICTURE, dtype)
    planes = saved(np.moveaxis(colors, 2, 0), planarconfig="separate", **options)
    for content in (saved(colors, rowsperstrip=7, **options), planes, saved(colors, tile=(16, 16), **options)):
        np.testing.assert_allclose(decoded(content), PICTURE * 255, atol=1)  # Pillow cuts colors of 16 bits
    gray = PICTURE[..., 0]
    for photometric, values in (("minisblack", gray), ("miniswhite", 1 - gray)):
        content = saved(as_dtype(values, dtype), photometric, **options)
        np.testing.assert_allclose(decoded(content), 255 * gray[:, :, None].repeat(3, 2), atol=0.8)


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float64"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_gray_with_alpha_is_blended_with_white(dtype, planar):
    gray = PICTURE[..., :1]
    shown = (255 * (gray * ALPHA + 1 - ALPHA)).repeat(3, 2)
    for extra, pixels in (("unassalpha", [gray, ALPHA]), ("assocalpha", [gray * ALPHA, ALPHA])):
        values = as_dtype(np.dstack(pixels), dtype)
        values = values if planar == "contig" else np.moveaxis(values, 2, 0)
        content = saved(values, "minisblack", extrasamples=[extra], planarconfig=planar)
        assert reader_name(content) == "tiff"
        np.testing.assert_allclose(decoded(content), shown, atol=1.5)
    associated = as_dtype(np.dstack([(1 - gray) * ALPHA, ALPHA]), dtype)
    np.testing.assert_allclose(decoded(saved(associated, "miniswhite", extrasamples=["assocalpha"])), shown, atol=1.5)
    ignored = saved(values, "minisblack", extrasamples=["unspecified"], planarconfig=planar)
    np.testing.assert_allclose(decoded(ignored), (255 * gray * ALPHA).repeat(3, 2), atol=1)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_fourth_channel_beside_colors_is_alpha_or_ignored(planar, compression):
    shown = 255 * (PICTURE * ALPHA + 1 - ALPHA)
    for extra, colors, expected in (
        ("unspecified", PICTURE, 255 * PICTURE),  # such as near infrared
        ("unassalpha", PICTURE, shown),
        ("assocalpha", PICTURE * ALPHA, shown),
    ):
        values = as_dtype(np.dstack([colors, ALPHA]), np.uint8)
        values = values if planar == "contig" else np.moveaxis(values, 2, 0)
        content = saved(values, extrasamples=[extra], planarconfig=planar, compression=compression)
        np.testing.assert_allclose(decoded(content), expected, atol=2.5)


def test_the_first_page_is_read():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels in (PICTURE, 1 - PICTURE):
            writer.write(pixels, photometric="rgb", metadata=None)
    np.testing.assert_allclose(decoded(file.getvalue()), PICTURE * 255, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation):
    content = saved(PICTURE, extratags=[(274, "H", 1, orientation, True)])
    image = Image.fromarray(np.rint(PICTURE * 255).astype(np.uint8))
    image.getexif()[274] = orientation
    np.testing.assert_array_equal(decoded(content), np.asarray(ImageOps.exif_transpose(image)))


def test_floats_beyond_white_are_refused_with_what_to_pass():
    with pytest.raises(ImageProblem, match=r"has values up to 4\.\d+; floats must lie in \[0, 1\].*pixels of the file"):
        decoded(saved(PICTURE * 4.5))
    with pytest.raises(ImageProblem, match="contains NaN"):
        decoded(saved(np.where(PICTURE > 0.9, np.nan, PICTURE)))


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (RNG.random((20, 30, 5)), BANDS, "with 5 channels, which is neither gray nor RGB"),
        (RNG.integers(0, 99, (20, 30, 13), np.uint16), BANDS, "with 13 channels, which is neither gray nor RGB"),
        (RNG.integers(0, 99, (20, 30, 4), np.uint8), BANDS, "with 4 channels, which is neither gray nor RGB"),
        (RNG.integers(0, 99, (20, 30, 3), np.uint32), {}, "has 32-bit integer pixels, whose white is unknown"),
        (RNG.integers(0, 99, (20, 30), np.int16), GRAY, "has signed 16-bit integer pixels"),
        (RNG.integers(0, 99, (20, 30, 3), np.int16), {}, "has signed 16-bit integer pixels"),
        (RNG.random((20, 30)).astype(np.complex64), GRAY, "has complex pixels"),
    ],
)
def test_pixels_without_a_known_meaning_are_refused_by_all_readers_in_the_same_words(pixels, options, reason, caplog):
    content = saved(pixels, **options)
    for read in (decoded, lambda content: read_pixels(READERS["tiff"], content)):
        with pytest.raises(ImageProblem, match=reason):
            read(content)
    assert not caplog.records  # Python prints them if nothing handles them


def test_a_preview_in_a_raw_file_is_left_to_pillow_which_refuses_it():
    content = saved(PICTURE, extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    assert reader_name(content) == ""
    with pytest.raises(ImageProblem):
        decoded(content)


# Damaged and hostile files


def test_missing_parts_are_not_read_as_black():
    """tifffile fills them with zeros."""
    for options in ({"rowsperstrip": 5}, {"tile": (16, 16)}, {"rowsperstrip": 5, "compression": "zlib"}):
        content = saved(PICTURE, **options)
        assert decoded(content).shape == (20, 30, 3)
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            tag = file.pages.first.tags["StripByteCounts" if "tile" not in options else "TileByteCounts"]
            at = tag.valueoffset
        with pytest.raises(ImageProblem, match=r"is not a valid \.tiff file: parts of its pixels are missing"):
            decoded(content[:at] + bytes(2) + content[at + 2 :])
        with pytest.raises(ImageProblem):
            decoded(content[:-40])


def test_a_size_beyond_the_limit_is_refused_before_memory_is_allocated(monkeypatch):
    values = packed(np.zeros((1, 6)), 16)
    huge = tiff(values, (50_000, 50_000), 16, 2, 3, number=3)
    with pytest.raises(ImageProblem, match="has 50000 x 50000 pixels, more than the limit of 89,478,485"):
        decoded(huge)
    monkeypatch.setenv("SKTL_MAX_PIXELS", "599")
    with pytest.raises(ImageProblem, match="has 30 x 20 pixels, more than the limit of 599"):
        decoded(saved(PICTURE))


@pytest.mark.parametrize(("compression", "compress"), [(8, zlib.compress), (34925, lzma.compress)])
def test_a_strip_may_not_unpack_to_more_than_its_pixels(compression, compress):
    more = [(259, 3, [compression])]
    bomb = tiff(compress(bytes(20 << 20)), (4, 4), 64, 1, number=3, more=more)
    with pytest.raises(ImageProblem, match="unpacks to more pixels than its header says"):
        decoded(bomb)
    strip = compress(bytes(4 * 4 * 8))
    assert decoded(tiff(strip, (4, 4), 64, 1, number=3, more=more)).shape == (4, 4, 3)
    if compression != 8:
        with pytest.raises(ImageProblem, match="unpacks to more pixels than its header says"):
            decoded(tiff(2 * strip, (4, 4), 64, 1, number=3, more=more))


@pytest.mark.parametrize(
    ("compression", "format_"), [(34712, "JPEG2000"), (33004, "JPEG2000"), (7, "JPEG"), (34933, "PNG"), (50001, "WEBP")]
)
def test_an_image_in_a_strip_may_not_be_larger_than_the_strip(compression, format_):
    file = io.BytesIO()
    Image.new("RGB", (400, 300)).save(file, format_)
    content = tiff(file.getvalue(), (20, 30), 8, 2, 3, more=[(259, 3, [compression])])
    with pytest.raises(ImageProblem, match="unpacks to more pixels than its header says"):
        read_pixels(READERS["tiff"], content)


def test_a_tile_of_more_pixels_than_the_limit_is_refused(monkeypatch):
    content = saved(PICTURE, tile=(32, 48))
    monkeypatch.setenv("SKTL_MAX_PIXELS", "1535")
    with pytest.raises(ImageProblem, match="has tiles of 48 x 32 pixels, more than the limit of 1,535"):
        decoded(content)
    monkeypatch.setenv("SKTL_MAX_PIXELS", "1536")
    assert decoded(content).shape == (20, 30, 3)


def test_what_tifffile_logs_is_not_printed(capfd):
    assert not [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    with pytest.raises(ImageProblem, match=r"is not a valid \.tiff file"):
        read_pixels(READERS["tiff"], b"II*\0" + bytes(50))
    assert capfd.readouterr().err == ""
