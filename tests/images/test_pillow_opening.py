"""Files are opened as Pillow opens them, except for its limit of pixels, which belongs to the whole process."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from raster_files import tiff

from sktl import check_images
from sktl._images import pillow_opening, problems
from sktl._images.decoding import ImageProblem, decode
from sktl._images.pillow_opening import open_image
from sktl._images.preprocessing import Preprocessing

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "ICO", "TGA", "PCX", "MPO", "DIB")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


def saved(format_="PNG"):
    file = io.BytesIO()
    PICTURE.save(file, format_)
    return file.getvalue()


def outcome(open_, content):
    try:
        with open_(content) as image:
            return type(image), image.format, image.mode, image.size, image.tobytes()
    except Exception as error:  # Pillow's readers raise almost anything
        return type(error)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_is_opened_as_pillow_opens_it(format_):
    content = saved(format_)
    assert not isinstance(outcome(open_image, content), type)
    for n_bytes in (len(content), 0, 4, 20):
        part = content[:n_bytes]
        assert outcome(open_image, part) == outcome(lambda part: Image.open(io.BytesIO(part)), part)


def test_the_limit_of_sktl_replaces_the_one_of_pillow_without_its_warning(monkeypatch):
    for module, name in ((Image, "MAX_IMAGE_PIXELS"), (problems, "_DEFAULT_LIMIT")):
        monkeypatch.setattr(module, name, 250)  # as if the default of both were small
    contents = [saved(format_) for format_ in ("PNG", "JPEG", "TIFF")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setenv("SKTL_MAX_PIXELS", "600")  # more than Pillow opens
        for content in contents:
            decode(content, Preprocessing(8, (8, 8)))
        monkeypatch.delenv("SKTL_MAX_PIXELS")
        for limit in (250, 400):  # which Pillow refuses, and warns about
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            for content in contents:
                with pytest.raises(ImageProblem, match=r"^has 30 x 20 pixels, more than the limit of 250; "):
                    decode(content, Preprocessing(8, (8, 8)))
    assert Image.MAX_IMAGE_PIXELS == 400


def test_the_lower_of_two_limits_that_the_program_has_set_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    for ours, limit, setting in (
        (10_000, 598, r"PIL\.Image\.MAX_IMAGE_PIXELS, which is half of it,"),
        (597, 597, r"sktl\.set_pixel_limit"),
    ):
        monkeypatch.setenv("SKTL_MAX_PIXELS", str(ours))
        with pytest.raises(ImageProblem, match=f"limit of {limit}; .*raise the limit with {setting} if"):
            problems.check_size(30, 20)


# Formats


def record(content, compression=1):
    """An IPTC record, in which Pillow opens an image of any format."""

    def field(number, data):
        return bytes([0x1C, *number]) + (b"\x84\0" + len(data).to_bytes(4, "big")) + data

    sides = [((3, at), side.to_bytes(2, "big")) for at, side in ((20, 30), (30, 20))]
    fields = [((3, 60), b"\1\0"), *sides, ((3, 120), bytes([compression])), ((8, 10), content)]
    return b"".join(field(number, data) for number, data in fields)


def test_no_format_is_opened_that_runs_programs_or_opens_other_files(monkeypatch):
    Image.init()
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))

    def never(*args):
        raise AssertionError

    never.__module__ = "PIL.AnyPlugin"
    names = {name for name, (factory, _) in Image.OPEN.items() if factory.__module__.startswith("PIL.")}
    assert names >= pillow_opening._SAFE_FORMATS - {"AVIF", "WEBP"}  # some builds lack codecs
    assert {"EPS", "ICNS", "IPTC", "WMF"} <= names - pillow_opening._SAFE_FORMATS
    for name in names - pillow_opening._SAFE_FORMATS:
        Image.OPEN[name] = (never, Image.OPEN[name][1])
    for content, reason in (
        (saved("EPS"), r"is a \.eps file, which Pillow renders with Ghostscript"),
        (saved("ICNS"), r"is a \.icns file, a container of icons; convert it to PNG"),
        (b"\xd7\xcd\xc6\x9a\0\0" + bytes(40), r"is a \.wmf file, which Pillow renders with Windows"),
        (record(saved("EPS"), 5), r"is an \.iim file, a container of other images"),
        (record(saved()), r"is an \.iim file, a container of other images"),
    ):
        with pytest.raises(ImageProblem, match=reason):
            decode(content, Preprocessing(8, (8, 8)))


def test_an_image_that_the_program_opened_in_such_a_format_is_not_loaded():
    for format_, content in (("EPS", saved("EPS")), ("IPTC", record(saved("EPS"), 5))):
        (failure,) = check_images([Image.open(io.BytesIO(content))])
        assert failure.reason == pillow_opening.why_refused(format_)


def test_a_format_that_the_program_adds_to_pillow_is_opened(monkeypatch):
    class OwnFile(ImageFile.ImageFile):
        format = "OWN"

        def _open(self):
            self._mode, self._size = "L", (2, 3)
            self.tile = [ImageFile._Tile("raw", (0, 0, 2, 3), 4, ("L", 0, 1))]

    for table in ("ID", "OPEN"):
        monkeypatch.setattr(Image, table, getattr(Image, table).copy())
    Image.register_open("OWN", OwnFile, lambda prefix: prefix.startswith(b"own:"))
    assert decode(b"own:" + bytes(6), Preprocessing(8, (8, 8))).size == (2, 3)


# Sizes of parts of files


@pytest.mark.parametrize("bitmap_format", ["png", "bmp"])
def test_an_icon_is_not_decoded_if_it_is_too_large(monkeypatch, bitmap_format):
    file = io.BytesIO()
    PICTURE.save(file, "ICO", sizes=[PICTURE.size], bitmap_format=bitmap_format)
    monkeypatch.setenv("SKTL_MAX_PIXELS", "600")
    assert decode(file.getvalue(), Preprocessing(8, (8, 8))).size == (30, 20)
    monkeypatch.setenv("SKTL_MAX_PIXELS", "599")
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(ImageProblem, match="has 30 x 20 pixels, more than the limit of 599"):
        decode(file.getvalue(), Preprocessing(8, (8, 8)))


@pytest.mark.parametrize("kind", [3, 9])
@pytest.mark.parametrize("place", [310, 330])
def test_a_tile_is_not_decoded_if_it_is_too_large(kind, place):
    """Of two tags of the same number, Pillow reads the last, and libtiff the first."""
    more = [(322, 3, [16]), (323, 3, [16]), (place, kind, [30_000]), (place + 1, kind, [30_000])]
    content = tiff(zlib.compress(bytes(900)), (16, 16), 8, 1, more=[*more, (259, 3, [8]), (324, 4, [8]), (325, 4, [1])])
    for i in (0, 1):
        content = content.replace(struct.pack("<HH", place + i, kind), struct.pack("<HH", 322 + i, kind))
    with pytest.raises(ImageProblem, match="has tiles of 30000 x 30000 pixels, more than the limit of 89,478,485"):
        decode(content, Preprocessing(8, (8, 8)))


def test_a_jpeg_of_any_size_in_a_texture_is_refused():
    content = b"BLP1" + np.array([0, 0, 30, 20, 4, 0], "<i4").tobytes() + bytes(200)
    with pytest.raises(ImageProblem, match=r"is a \.blp file that contains a JPEG image"):
        decode(content, Preprocessing(8, (8, 8)))


@pytest.mark.parametrize("bitmap_format", ["png", "bmp"])
def test_icons_are_told_by_their_directory(tmp_path, bitmap_format):
    Image.new("RGB", (16, 16)).save(tmp_path / "icons.ico", bitmap_format=bitmap_format)
    (tmp_path / "numbers").write_bytes(np.arange(256, 300, dtype=">i4").tobytes())
    (tmp_path / "short").write_bytes(b"\0\0\1\0")
    assert [pillow_opening.is_icon(tmp_path / name) for name in ("icons.ico", "numbers", "short")] == [
        True,
        False,
        False,
    ]
