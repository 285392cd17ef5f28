"""Files with random damage are read or refused in our words, in bounded memory, whatever reads them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sktl._images.content_keys import content_name
from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing

pydicom = pytest.importorskip("pydicom", reason="needs pydicom, an optional package")
pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif, an optional package")
tifffile = pytest.importorskip("tifffile", reason="needs tifffile, an optional package")
resource = pytest.importorskip("resource", reason="the memory of a process is not measured on Windows")
from pydicom.data import data_manager  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
PREPROCESSING = Preprocessing(8, (8, 8))
PICTURE = np.random.default_rng(0).random((20, 30, 3))
SHIPPED = Path(data_manager.__file__).parent / "test_files"
NAMES = (
    "CT_small", "MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_implicit", "ExplVR_BigEnd", "image_dfl",
    "SC_rgb_jpeg_dcmtk", "SC_rgb_rle_16bit_2frame", "liver_1frame", "rtdose",
)  # fmt: skip
# What the same file takes undamaged is far below; the pixels of the limit would take more than a gigabyte.
_MOST_MEGABYTES = 400


def tiffs():
    for dtype in ("float16", "float64", "uint16"):
        for compression in (None, "zlib", "lzma"):
            pixels = PICTURE if dtype != "uint16" else np.moveaxis(PICTURE * 65535, 2, 0)
            options = {"planarconfig": "separate"} if dtype == "uint16" else {"rowsperstrip": 7}
            for bigtiff in (False, True):
                file = io.BytesIO()
                tifffile.imwrite(
                    file, pixels.astype(dtype), photometric="rgb", compression=compression, bigtiff=bigtiff, **options
                )
                yield file.getvalue()


def palettes():
    """A file with a palette of segments, one of which is copied."""
    dataset = pydicom.dcmread(SHIPPED / "MR_small.dcm")
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for color in ("Red", "Green", "Blue"):
        dataset.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [4096, 0, 16])
        segments = np.array([0, 2, 5, 900, 1, 4000, 65_000, 2, 1, 4, 0], "<u2")
        setattr(dataset, f"Segmented{color}PaletteColorLookupTableData", segments.tobytes())
    file = io.BytesIO()
    dataset.save_as(file)
    yield file.getvalue()


def heics():
    for mode, dtype, white in (("RGB", np.uint8, 255), ("RGBA;16", np.uint16, 65535)):
        pixels = (np.repeat(np.repeat(PICTURE, 3, 0), 3, 1) * white).astype(dtype)
        pixels = np.dstack([pixels, pixels[..., :1]]) if "A" in mode else pixels
        file = io.BytesIO()
        pillow_heif.encode(mode, (90, 60), np.ascontiguousarray(pixels).tobytes(), file, quality=50)
        yield file.getvalue()


def pillows():
    for format_, options in (("TIFF", {"compression": "tiff_lzw"}), ("PNG", {}), ("JPEG", {}), ("ICO", {})):
        file = io.BytesIO()
        Image.fromarray((PICTURE * 255).astype(np.uint8)).save(file, format_, **options)
        yield file.getvalue()


def files():
    return [*((SHIPPED / f"{name}.dcm").read_bytes() for name in NAMES), *palettes(), *tiffs(), *heics(), *pillows()]


def damaged(content, rng):
    """The same file with bytes changed, cut off, left out or doubled, more often near its beginning."""
    data = bytearray(content)
    end = min(len(data), int(rng.choice([200, 1500, len(data)])))
    at, length = int(rng.integers(end)), int(rng.integers(1, 64))
    kind = rng.integers(5)
    if kind == 0:
        for position in rng.integers(end, size=rng.integers(1, 9)):
            data[position] = rng.integers(256)
    elif kind == 1:
        data[at : at + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\0\0", b"\0\0\xff\xff")[rng.integers(4)]
    elif kind == 2:
        del data[int(rng.integers(len(data))) :]
    elif kind == 3:
        del data[at : at + length]
    else:
        data[at:at] = data[at : at + length]
    return bytes(data)


def assert_named(n, seed):
    """Assert the law for so many damaged files."""
    rng, contents = np.random.default_rng(seed), files()
    for content in contents:  # imports, and memory that libraries keep
        try:
            decode(content, PREPROCESSING)
        except ImageProblem:
            continue
    before, n_read = megabytes(), 0
    for i in range(n):
        content = damaged(contents[i % len(contents)], rng)
        assert content_name(content) == content_name(content)
        try:
            n_read += min(decode(content, PREPROCESSING).size) > 0
        except ImageProblem as problem:
            assert str(problem)  # noqa: PT017 - either answer is right
            assert str(problem).isprintable()  # noqa: PT017
    assert n / 10 < n_read < n * 9 / 10
    assert megabytes() - before < _MOST_MEGABYTES


def megabytes():
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def test_damage_is_named():
    assert_named(200, 0)


@pytest.mark.slow
def test_much_damage_is_named():
    assert_named(5_000, 1)
