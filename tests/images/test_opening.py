"""Files are opened as Pillow opens them, except for its limit of pixels, which belongs to the whole process."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from sktl._images import problems
from sktl._images.decoding import ImageProblem, decode
from sktl._images.opening import open_image
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
