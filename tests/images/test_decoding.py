"""Content becomes the RGB pixels that a person would see, or a reason with its remedy."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from unittest import mock

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin, features

import sktl
from sktl._images.decoding import ImageProblem, array_to_rgb, decode, decoding_rule, pil_to_rgb
from sktl._images.preprocessing import Preprocessing
from sktl.exceptions import InvalidImageWarning, InvalidParameterError

PREPROCESSING = Preprocessing(8, (8, 8))
ORIENTATION = 0x0112
SIDES = st.integers(1, 12)
RGB = st.tuples(SIDES, SIDES, st.just(3)).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
RGBA = st.tuples(SIDES, SIDES, st.just(4)).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
GREY = st.tuples(SIDES, SIDES).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
FLOATS = [np.float16, np.float32, np.float64, np.longdouble]

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8))
# From the pixels of the stored image, what a viewer shows for each EXIF orientation (EXIF 2.32, tag 0x0112).
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def saved(image, format_="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def decoded(data, preprocessing=PREPROCESSING):
    image = decode(data, preprocessing)
    assert image.mode == "RGB"
    return np.asarray(image)


def both_ways(image, format_="PNG", **options):
    """The pixels of an image as encoded bytes, as a lazy PIL image, and as itself."""
    data = saved(image, format_, **options)
    return [decoded(data), np.asarray(pil_to_rgb(opened(data))), np.asarray(pil_to_rgb(image))]


def on_white(rgba):
    alpha = rgba[..., 3:].astype(float) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def three(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, -1)


def png16(pixels):
    """A PNG file of 16-bit pixels, uint16 (H, W, 3), which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


# Orientation


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize(
    ("format_", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {})]
)
def test_exif_orientation_is_applied_to_files_and_pil_images(format_, options, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(NOISE, format_, exif=exif, **options)
    stored = np.asarray(opened(saved(NOISE, format_, **options)).convert("RGB"))
    np.testing.assert_array_equal(decoded(data), SHOWN[orientation](stored))
    np.testing.assert_array_equal(pil_to_rgb(opened(data)), SHOWN[orientation](stored))


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_exif_orientation_is_applied_in_every_mode(mode, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = (
        Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
        if mode == "I;16"
        else NOISE.convert(mode)
    )
    data = saved(image, exif=exif)
    np.testing.assert_array_equal(decoded(data), SHOWN[orientation](decoded(saved(image))))
    np.testing.assert_array_equal(pil_to_rgb(opened(data)), decoded(data))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of the broken EXIF
@settings(max_examples=60)
@given(exif=st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda tail: b"II*\0\x08\0\0\0\x05\0" + tail)))
def test_broken_exif_leaves_the_image_as_stored(exif):
    for format_ in ("PNG", "JPEG"):
        data = saved(NOISE, format_, exif=b"Exif\0\0" + exif)
        expected = decoded(saved(NOISE, format_))
        np.testing.assert_array_equal(decoded(data), expected)
        np.testing.assert_array_equal(pil_to_rgb(opened(data)), expected)


# Modes


@settings(max_examples=20)
@given(rgb=RGB)
def test_rgb_stays_as_it_is(rgb):
    for pixels in [*both_ways(Image.fromarray(rgb)), np.asarray(decode(rgb, PREPROCESSING)), array_to_rgb(rgb)]:
        np.testing.assert_array_equal(pixels, rgb)


@settings(max_examples=20)
@given(grey=GREY)
def test_grey_becomes_three_equal_channels(grey):
    for pixels in [*both_ways(Image.fromarray(grey)), array_to_rgb(grey), array_to_rgb(grey[..., None])]:
        np.testing.assert_array_equal(pixels, three(grey))


@settings(max_examples=20)
@given(bits=st.tuples(SIDES, SIDES).flatmap(lambda shape: hnp.arrays(bool, shape)))
def test_one_bit_becomes_black_and_white(bits):
    for format_ in ("PNG", "TIFF"):
        for pixels in both_ways(Image.fromarray(bits), format_):
            np.testing.assert_array_equal(pixels, three(bits * np.uint8(255)))


@settings(max_examples=30)
@given(rgba=RGBA)
def test_transparency_shows_white(rgba):
    for pixels in [*both_ways(Image.fromarray(rgba)), array_to_rgb(rgba)]:
        np.testing.assert_allclose(pixels, on_white(rgba), atol=1)


@settings(max_examples=20)
@given(rgba=RGBA, dtype=st.sampled_from(FLOATS))
def test_transparency_of_floats_shows_white(rgba, dtype):
    np.testing.assert_allclose(array_to_rgb((rgba / 255).astype(dtype)), on_white(rgba), atol=1)


@settings(max_examples=20)
@given(grey=GREY, data=st.data())
def test_transparency_of_grey_shows_white(grey, data):
    alpha = data.draw(hnp.arrays(np.uint8, grey.shape))
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    for pixels in both_ways(image):
        np.testing.assert_allclose(pixels, on_white(np.dstack([three(grey), alpha])), atol=1)


def palette_image(indices, palette):
    image = Image.frombytes("P", indices.shape[::-1], (indices % 8).tobytes())
    image.putpalette(palette.tobytes())
    return image


PALETTES = hnp.arrays(np.uint8, (8, 3))


@settings(max_examples=20)
@given(indices=GREY, palette=PALETTES)
def test_a_palette_is_looked_up(indices, palette):
    for pixels in both_ways(palette_image(indices, palette)):
        np.testing.assert_array_equal(pixels, palette[indices % 8])


@settings(max_examples=20)
@given(indices=GREY, palette=PALETTES, clear=st.integers(0, 7))
def test_the_transparent_color_of_a_palette_shows_white(indices, palette, clear):
    image = palette_image(indices, palette)
    image.info["transparency"] = clear
    palette[clear] = 255
    for format_ in ("PNG", "GIF"):
        for pixels in both_ways(image, format_, **({"transparency": clear} if format_ == "PNG" else {})):
            np.testing.assert_array_equal(pixels, palette[indices % 8])


@settings(max_examples=20)
@given(indices=GREY, palette=PALETTES, alphas=st.binary(min_size=8, max_size=8))
def test_a_palette_with_alphas_shows_white(indices, palette, alphas):
    image = palette_image(indices, palette)
    image.info["transparency"] = alphas
    rgba = np.column_stack([palette, np.frombuffer(alphas, np.uint8)])[indices % 8]
    for pixels in both_ways(image, transparency=alphas):
        np.testing.assert_allclose(pixels, on_white(rgba), atol=1)


def test_a_palette_of_four_channels_shows_white():
    rgba = np.dstack([np.asarray(NOISE), np.where(np.arange(30) < 15, 0, 255)[None].repeat(20, 0)]).astype(np.uint8)
    image = Image.fromarray(rgba).quantize(16)
    assert image.palette.mode == "RGBA"
    expected = on_white(np.asarray(image.convert("RGBA")))
    for pixels in both_ways(image):
        np.testing.assert_allclose(pixels, expected, atol=1)


def test_a_transparent_color_of_rgb_or_grey_shows_white():
    for mode, key in (("RGB", (10, 20, 30)), ("L", 77)):
        image = Image.new(mode, (4, 3), key)
        image.putpixel((0, 0), 5 if mode == "L" else (5, 5, 5))
        image.info["transparency"] = key
        expected = np.full((3, 4, 3), 255)
        expected[0, 0] = 5
        for pixels in both_ways(image, transparency=key):
            np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["PA", "RGBa", "La"])
def test_rare_modes_with_alpha_show_white(mode):
    rgba = Image.fromarray(np.full((3, 4, 4), 100, np.uint8))
    image = {"RGBa": lambda: rgba.convert("RGBa"), "La": lambda: rgba.convert("LA").convert("La")}.get(
        mode, lambda: Image.merge("PA", [Image.new("L", (4, 3), 100).convert("P"), Image.new("L", (4, 3), 100)])
    )()
    np.testing.assert_allclose(pil_to_rgb(image), np.full((3, 4, 3), 100 * 100 / 255 + 155), atol=2)


@pytest.mark.parametrize(
    ("ink", "shown"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_cmyk_inks_have_their_colors(ink, shown):
    image = Image.new("CMYK", (16, 16), ink)
    for format_ in ("JPEG", "TIFF"):
        for pixels in both_ways(image, format_):
            np.testing.assert_allclose(pixels, np.broadcast_to(shown, (16, 16, 3)), atol=3)


SIXTEEN = hnp.arrays(np.uint16, st.tuples(SIDES, SIDES))


@settings(max_examples=30)
@given(grey=SIXTEEN)
def test_16_bits_are_scaled_not_clipped(grey):
    expected = three(np.rint(grey / 257))
    image = Image.fromarray(grey)
    for format_ in ("PNG", "TIFF", "PPM"):
        for pixels in both_ways(image, format_):
            np.testing.assert_allclose(pixels, expected, atol=1)
    big_endian = Image.frombytes("I;16B", image.size, grey.astype(">u2").tobytes())
    np.testing.assert_allclose(pil_to_rgb(big_endian), expected, atol=1)


@pytest.mark.parametrize("clear", [-1, 70_000])
def test_a_clear_value_that_16_bits_do_not_have_changes_no_pixel(clear):
    image = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    expected = np.asarray(pil_to_rgb(image))
    image.info["transparency"] = clear
    np.testing.assert_array_equal(pil_to_rgb(image), expected)


@settings(max_examples=20)
@given(rgb=hnp.arrays(np.uint16, st.tuples(SIDES, SIDES, st.just(3))))
def test_16_bit_colors_are_scaled_not_clipped(rgb):
    for pixels in (decoded(png16(rgb)), np.asarray(pil_to_rgb(opened(png16(rgb))))):
        np.testing.assert_allclose(pixels, rgb / 257, atol=1)


def test_32_bit_integers_are_refused_with_advice():
    image = Image.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4))
    with pytest.raises(ImageProblem, match=r"32-bit integer.*white is unknown; convert it to uint8 or to \[0, 1\]"):
        pil_to_rgb(image)
    with pytest.raises(ImageProblem, match=r"32-bit integer.*convert it"):
        decode(saved(image, "TIFF"), PREPROCESSING)


@settings(max_examples=30)
@given(grey=hnp.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1, width=32)))
def test_float_pil_images_in_range_are_scaled(grey):
    for pixels in both_ways(Image.fromarray(grey), "TIFF"):
        np.testing.assert_array_equal(pixels, three(np.rint(grey.astype(float) * 255)))


@pytest.mark.parametrize(
    ("value", "advice"), [(255, "x / 255"), (65535, "x / 65535"), (-1, "undo"), (np.nan, "NaN"), (np.inf, "infinity")]
)
def test_float_pil_images_out_of_range_are_refused_with_advice(value, advice):
    image = Image.fromarray(np.array([[0, value]], np.float32))
    with pytest.raises(ImageProblem, match=advice):
        pil_to_rgb(image)
    with pytest.raises(ImageProblem, match=advice):
        decode(saved(image, "TIFF"), PREPROCESSING)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format_):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = saved(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert opened(data).n_frames == 3
    for pixels in (decoded(data), np.asarray(pil_to_rgb(opened(data)))):
        np.testing.assert_array_equal(pixels, np.asarray(frames[0]))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "F", "LA", "I;16"])
def test_pil_to_rgb_returns_a_new_image(mode):
    image = Image.new(mode, (4, 3))
    before = image.tobytes()
    result = pil_to_rgb(image)
    assert (result.mode, result.size) == ("RGB", (4, 3))
    result.paste("red", (0, 0, 4, 3))
    assert (image.mode, image.tobytes()) == (mode, before)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_large_upright_rgb_file_is_not_copied(monkeypatch, kind):
    data = saved(Image.new("RGB", (40, 30), "red"), kind)
    monkeypatch.setattr(Image.Image, "copy", lambda image: pytest.fail("copied"))
    assert decoded(data).shape == (30, 40, 3)


# JPEG files at a reduced scale


def smooth(width, height, rng):
    return Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def noisy(width, height, rng):
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def jpeg(image, orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(image, "JPEG", quality=90, exif=exif)


def drafts(data, preprocessing):
    """The image as sktl decodes it, and in full."""
    return decode(data, preprocessing), pil_to_rgb(opened(data))


LONG = st.integers(16, 700)
TARGETS = st.one_of(st.integers(8, 64), st.tuples(st.integers(8, 64), st.integers(8, 64)))


@settings(max_examples=60)
@given(width=LONG, height=LONG, target=TARGETS, orientation=st.sampled_from([1, 6]))
def test_a_reduced_jpeg_has_at_least_twice_the_size_after_resizing(width, height, target, orientation):
    preprocessing = Preprocessing(target, (8, 8))
    with mock.patch.object(Preprocessing, "resample", autospec=True, side_effect=Preprocessing.resample) as resample:
        decoded, full = drafts(jpeg(Image.new("RGB", (width, height)), orientation), preprocessing)
    needed = preprocessing.resized_shape(*full.size)
    if resample.called:  # a side that the scale does not divide: resized at once, before it is turned
        assert decoded.size == needed
        stored = resample.call_args.args[1].size
        reduced = stored[::-1] if orientation == 6 else stored
    else:
        reduced = decoded.size
    assert reduced == full.size or (reduced[0] >= 2 * needed[0] and reduced[1] >= 2 * needed[1])


@settings(max_examples=20)
@given(target=st.integers(8, 40), power=st.integers(1, 3))
def test_a_jpeg_is_reduced_as_far_as_twice_the_size_allows(target, power):
    side = 2 * target * 2**power
    reduced, _ = drafts(jpeg(Image.new("RGB", (side, side))), Preprocessing(target, (8, 8)))
    assert reduced.size == (2 * target, 2 * target)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "WEBP"])
def test_only_jpeg_files_are_reduced(format_):
    assert decoded(saved(Image.new("RGB", (512, 512)), format_)).shape == (512, 512, 3)


def test_pil_images_are_never_reduced():
    assert pil_to_rgb(opened(jpeg(Image.new("RGB", (512, 512))))).size == (512, 512)


# Mean and largest difference, in gray levels of 255. A box average (the reduced decode) and a triangle over the same
# pixels differ most on white noise, which no photo comes near. The largest means that a search for them found are 0.62,
# in images with the fewest pixels, and 4.99.
TOLERANCES = {"smooth": (smooth, 0.65, 4), "noisy": (noisy, 5.5, 40)}


@pytest.mark.parametrize("kind", TOLERANCES)
@settings(max_examples=25)
@given(
    sides=st.tuples(st.integers(4, 8), st.integers(4, 8), st.integers(0, 15), st.integers(0, 15)),
    target=st.integers(20, 64),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    orientation=st.sampled_from(list(SHOWN)),
    seed=st.integers(0, 99),
)
def test_a_reduced_jpeg_gives_nearly_the_input_of_the_full_one(kind, sides, target, interpolation, orientation, seed):
    make, mean, largest = TOLERANCES[kind]
    width, height = sides[0] * target + sides[2], sides[1] * target + sides[3]
    preprocessing = Preprocessing(target, (target - 2, target - 2), interpolation)
    data = jpeg(make(width, height, np.random.default_rng(seed)), orientation)
    reduced, full = (preprocessing.pixels(image).astype(int) for image in drafts(data, preprocessing))
    difference = np.abs(reduced - full)
    assert difference.mean() <= mean
    assert difference.max() <= largest


# Content that cannot be decoded


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page.*download it again"),
        (b"\n  <html>404</html>", "is an HTML page.*download it again"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
            r"is not a valid \.heic file|\.heic file.*pillow-heif",
        ),
        (
            b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(50),
            r"is not a valid \.heic file|\.heic file.*pillow-heif",
        ),
        (bytes(128) + b"DICM" + bytes(50), r"\.dcm file (without an image|.*pip install pydicom)"),
        (b"\x93NUMPY\x01\0" + bytes(50), r"\.npy file.*numpy\.load"),
        (b"PK\x03\x04" + bytes(50), r"\.npz file.*numpy\.load"),
        (b"%PDF-1.7\n" + bytes(50), r"\.pdf file.*pdf2image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"\.svg file.*cairosvg"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", r"\.svg file.*cairosvg"),
        (b"\0\0\0\x18ftypisom" + bytes(50), r"\.mp4 file.*ffmpeg"),
        (b"\0\0\0\x14ftypqt  " + bytes(50), r"\.(mp4|mov) file.*ffmpeg"),
        (b"hello", "is not an image in a format that Pillow reads"),
        (bytes(1000), "is not an image in a format that Pillow reads"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_content_of_another_kind_is_named_with_the_remedy(content, reason):
    with pytest.raises(ImageProblem, match=reason):
        decode(content, PREPROCESSING)


def test_an_image_too_large_to_be_honest_is_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageProblem, match=r"has 30 x 20 pixels, .* limit of 200; .* with PIL.Image.MAX_IMAGE_PIXELS"):
        decode(saved(NOISE), PREPROCESSING)


def test_the_limit_of_pixels_is_one_of_width_times_height(monkeypatch):
    monkeypatch.delenv("SKTL_MAX_PIXELS", raising=False)
    files = [saved(NOISE.resize((30, 20)), format_) for format_ in ("JPEG", "PNG")]
    sktl.set_pixel_limit(600)
    try:
        for file in files:
            decode(file, PREPROCESSING)
        sktl.set_pixel_limit(np.int64(599))
        for file in files:
            with pytest.raises(
                ImageProblem, match=r"has 30 x 20 pixels, more than the limit of 599; .*set_pixel_limit"
            ):
                decode(file, PREPROCESSING)
    finally:
        sktl.set_pixel_limit(None)
    for file in files:
        decode(file, PREPROCESSING)


def test_a_limit_in_the_environment_that_is_no_number_is_named_and_not_heeded(monkeypatch):
    monkeypatch.setenv("SKTL_MAX_PIXELS", "many")
    with pytest.warns(InvalidImageWarning, match="SKTL_MAX_PIXELS='many' is not a number of pixels"):
        decode(saved(NOISE), PREPROCESSING)


@pytest.mark.parametrize("n_pixels", [0, -1, 2.0, "9", True])
def test_a_limit_of_pixels_is_a_positive_integer(n_pixels):
    with pytest.raises(InvalidParameterError, match=r"n_pixels=.* must be an integer of at least 1, or None"):
        sktl.set_pixel_limit(n_pixels)


def test_what_pillow_would_let_a_program_draw_is_refused():
    with pytest.raises(ImageProblem, match=r"is a \.eps file, which Pillow renders with Ghostscript; convert it"):
        decode(saved(NOISE, "EPS"), PREPROCESSING)


def test_a_photo_in_half_is_called_damaged():
    for format_ in ("JPEG", "PNG"):
        data = saved(NOISE.resize((300, 200)), format_)
        with pytest.raises(ImageProblem, match="is damaged: image file is truncated"):
            decode(data[: len(data) // 2], PREPROCESSING)


WHOLE = {
    "PNG": saved(NOISE),
    "JPEG": saved(NOISE, "JPEG"),
    "progressive JPEG": saved(NOISE, "JPEG", progressive=True),
    "JPEG to be reduced": saved(NOISE.resize((300, 200)), "JPEG"),
    "GIF": saved(NOISE, "GIF"),
    "BMP": saved(NOISE, "BMP"),
    "TIFF": saved(NOISE, "TIFF"),
    "WebP": saved(NOISE, "WEBP"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow also warns of what it then raises
@pytest.mark.parametrize("file", WHOLE)
@settings(max_examples=40)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_complete(file, part):
    data = WHOLE[file][: int(part * len(WHOLE[file]))]
    try:
        pixels = decoded(data)
    except ImageProblem as problem:
        assert str(problem)  # noqa: PT017 - either answer is right
    else:
        np.testing.assert_array_equal(pixels, decoded(WHOLE[file]))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_a_damaged_avif_is_not_called_a_video():
    data = saved(NOISE, "AVIF")
    assert decoded(data).shape == (20, 30, 3)
    with pytest.raises(ImageProblem, match="is damaged: "):
        decode(data[: len(data) // 2], PREPROCESSING)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("file", WHOLE)
@settings(max_examples=40)
@given(where=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_changed_byte_gives_an_image_or_a_reason(file, where, byte):
    data = bytearray(WHOLE[file])
    data[int(where * len(data))] = byte
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        assert_image_or_reason(bytes(data))


@settings(max_examples=200)
@given(content=st.binary())
def test_any_bytes_give_an_image_or_a_reason(content):
    assert_image_or_reason(content)


def assert_image_or_reason(content):
    try:
        pixels = decoded(content)
    except ImageProblem as problem:
        assert str(problem)  # noqa: PT017 - either answer is right
    else:
        assert pixels.ndim == 3


# The state of Pillow in the process


def test_what_decides_pixels_enters_the_keys_and_nothing_else(monkeypatch):
    rule = decoding_rule()
    for module, switch, value in (
        (ImageFile, "MAXBLOCK", 100), (Image, "MAX_IMAGE_PIXELS", None), (PngImagePlugin, "MAX_TEXT_CHUNK", 5),
        (GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, switch, value)
            assert decoding_rule() == rule
    for module, switch in ((ImageFile, "LOAD_TRUNCATED_IMAGES"), (TiffImagePlugin, "READ_LIBTIFF")):
        with monkeypatch.context() as patch:
            patch.setattr(module, switch, True)
            assert decoding_rule() != rule
    Image.init()  # which adds Pillow's own readers
    assert decoding_rule() == rule
    for readers, value in ((Image.OPEN, (lambda file, name: NOISE, None)), (Image.DECODERS, lambda *arguments: None)):
        with monkeypatch.context() as patch:
            patch.setitem(readers, "HEIF", value)
            assert decoding_rule() != rule
            patch.setitem(readers, "TIFF", value)
            assert decoding_rule() != rule
    assert decoding_rule() == rule


@pytest.mark.parametrize("strategy", GifImagePlugin.LoadingStrategy)
def test_how_pillow_loads_frames_does_not_change_the_first(monkeypatch, strategy):
    image = palette_image(np.arange(600).reshape(20, 30).astype(np.uint8), RNG.integers(0, 256, (8, 3), np.uint8))
    data = saved(image, "GIF", transparency=3)
    expected = decoded(data)
    monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", strategy)
    np.testing.assert_array_equal(decoded(data), expected)


def test_what_was_decoded_in_another_state_is_not_found_in_this_one(monkeypatch, tmp_path):
    """A truncated file that one process accepts is half gray; the next must not find that."""
    X = [saved(NOISE.resize((300, 200)), "JPEG"), saved(NOISE.resize((300, 200)))]
    X[0] = X[0][: len(X[0]) // 2]
    encoder = sktl.PretrainedImageEncoder(backbone=Pixels, cache=tmp_path)
    classifier = sktl.PretrainedImageClassifier(backbone=Pixels, max_epochs=1, cache=tmp_path, invalid_images="skip")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert sktl.check_images(X) == []
        assert np.isfinite(encoder.fit_transform(X)).all()
        assert classifier.fit(2 * X, [0, 0, 1, 1]).invalid_images_ == ()
    assert [failure.position for failure in sktl.check_images(X)] == [0]
    for use in (encoder.fit_transform, encoder.transform):
        with pytest.raises(sktl.exceptions.InvalidImageError, match=r"X\[0\] .*truncated"):
            use(X)
    with pytest.warns(InvalidImageWarning, match="2 of 4"):
        classifier.fit(2 * X, [0, 0, 1, 1])


def test_a_limit_of_pillow_that_is_lower_holds_for_what_was_decoded_before(monkeypatch):
    X = [saved(NOISE.resize((61, 31)))]
    assert sktl.check_images(X) == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert "more than the limit of 1,800" in sktl.check_images(X)[0].reason


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP", "GIF", "JPEG"])
def test_a_decoded_file_is_a_plain_image_that_does_not_keep_the_file(format_):
    frames = {} if format_ == "JPEG" else {"save_all": True, "append_images": [NOISE.rotate(180)] * 2}
    image = decode(saved(NOISE, format_, **frames), Preprocessing(64, (64, 64)))
    assert type(image) is Image.Image
    assert image.format is None


def test_the_pixels_of_a_decoded_file_are_not_copied():
    with mock.patch.object(Image.Image, "copy", side_effect=AssertionError("a copy")):
        np.testing.assert_array_equal(decoded(saved(NOISE)), np.asarray(NOISE))


# EXIF data with an orientation, and an entry that is cut off.
CUT_EXIF = b"Exif\0\0" + struct.pack("<4sIHHHIHH", b"II*\0", 8, 5, ORIENTATION, 3, 1, 6, 0) + b"\1\1"
WARNED_OF = {
    "broken EXIF": saved(NOISE, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "broken EXIF of a JPEG": saved(NOISE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"),
    "cut EXIF": saved(NOISE, exif=CUT_EXIF),
    "cut EXIF of a JPEG": saved(NOISE, "JPEG", exif=CUT_EXIF),
    "large": saved(NOISE.resize((40, 40))),
    "palette": saved(NOISE.quantize(8), transparency=bytes(range(0, 240, 30))),
}


@pytest.mark.parametrize("name", WARNED_OF)
@pytest.mark.parametrize("filtering", ["error", "always"])
def test_warnings_of_pillow_do_not_change_what_is_accepted(monkeypatch, name, filtering):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # there is a warning up to twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = decoded(WARNED_OF[name])
        lazy, again = (opened(WARNED_OF[name]) for _ in range(2))
    assert expected.shape[:2] == ((30, 20) if name.startswith("cut") else (40, 40) if name == "large" else (20, 30))
    with warnings.catch_warnings(record=filtering == "always"):
        warnings.simplefilter(filtering)
        np.testing.assert_array_equal(decoded(WARNED_OF[name]), expected)
        np.testing.assert_array_equal(pil_to_rgb(lazy), expected)
        assert sktl.check_images([WARNED_OF[name], again]) == []
        assert warnings.filters[0][0] == filtering


# Arrays


@settings(max_examples=30)
@given(rgb=st.one_of(RGB, GREY), dtype=st.sampled_from(FLOATS))
def test_floats_are_the_uint8_they_were_divided_from(rgb, dtype):
    np.testing.assert_array_equal(array_to_rgb((rgb / 255).astype(dtype)), array_to_rgb(rgb))


@settings(max_examples=30)
@given(array=st.one_of(RGB, RGBA, GREY), steps=st.tuples(st.sampled_from([1, -1, 2]), st.sampled_from([1, -1, 2])))
def test_strided_views_read_as_their_copies_and_stay_as_they_are(array, steps):
    view = array[:: steps[0], :: steps[1]]
    before = array.copy()
    pixels = array_to_rgb(view)
    np.testing.assert_array_equal(pixels, array_to_rgb(view.copy()))
    np.testing.assert_array_equal(array, before)
    assert pixels.flags.c_contiguous
    assert (pixels.dtype, pixels.shape) == (np.uint8, (*view.shape[:2], 3))


# Keys


def test_floats_of_a_file_and_of_an_image_are_explained_as_what_was_passed():
    image = Image.new("F", (6, 5), 300)
    file = io.BytesIO()
    image.save(file, "TIFF")
    with pytest.raises(ImageProblem, match=r"\(x = the pixels of the file\)"):
        decode(file.getvalue(), PREPROCESSING)
    with pytest.raises(ImageProblem, match=r"\(x = np\.asarray\(image\)\)"):
        pil_to_rgb(image)
