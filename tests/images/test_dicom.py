"""DICOM files are read as a viewer shows them; each of the files that come with pydicom is read, or refused by name."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sktl
from sktl import check_images
from sktl._images.decoding import ImageProblem, decode
from sktl._images.dicom import device
from sktl._images.dicom_compression import coded_size
from sktl._images.preprocessing import Preprocessing
from sktl.exceptions import InvalidInputError

pydicom = pytest.importorskip("pydicom", reason="reading DICOM needs pydicom, an optional package")
from pydicom.data import data_manager  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\.")  # about what is wrong with files
FILES = Path(data_manager.__file__).parent
PREPROCESSING = Preprocessing(8, (8, 8))
RNG = np.random.default_rng(0)


def shipped(name):
    """The bytes of a file of pydicom, by the end of its path."""
    (path,) = [path for path in FILES.rglob(Path(name).name) if path.as_posix().endswith("/" + name)]
    return path.read_bytes()


def decoded(content):
    return np.asarray(decode(content, PREPROCESSING))


def gray(content):
    pixels = decoded(content)
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0]


def made(pixels, syntax=ExplicitVRLittleEndian, data=None, **attributes):
    """The bytes of a DICOM file with these pixels, (H, W), (H, W, 3) or (n, H, W)."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    is_color = pixels.ndim == 3 and pixels.shape[2] == 3
    shape = pixels.shape[:2] if is_color else pixels.shape[-2:]
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel = 3 if is_color else 1
    if is_color:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if is_color else "MONOCHROME2"
    if pixels.ndim == 3 and not is_color:
        dataset.NumberOfFrames = len(pixels)
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if data is None else data
    dataset["PixelData"].VR = "OB" if data is not None or pixels.dtype.itemsize == 1 else "OW"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def table(entries, first, bits):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return pydicom.Sequence([item])


# The files that come with pydicom

# Name, and what its documentation says: rows, columns, gray or color.
READ = {
    "test_files/CT_small.dcm": (128, 128, "gray"),  # signed 16 bits, no window
    "test_files/MR_small.dcm": (64, 64, "gray"),
    "test_files/MR_small_implicit.dcm": (64, 64, "gray"),
    "test_files/MR_small_bigendian.dcm": (64, 64, "gray"),
    "test_files/MR_small_expb.dcm": (64, 64, "gray"),
    "test_files/MR_small_padded.dcm": (64, 64, "gray"),
    "test_files/MR_small_RLE.dcm": (64, 64, "gray"),
    "test_files/MR_small_jp2klossless.dcm": (64, 64, "gray"),
    "test_files/693_J2KI.dcm": (512, 512, "gray"),
    "test_files/J2K_pixelrep_mismatch.dcm": (512, 512, "gray"),
    "test_files/image_dfl.dcm": (512, 512, "gray"),  # deflated as a whole
    "test_files/liver_1frame.dcm": (512, 512, "gray"),  # one bit
    "test_files/liver_expb_1frame.dcm": (512, 512, "gray"),
    "test_files/examples_overlay.dcm": (300, 484, "gray"),
    "test_files/dicomdirtests/77654033/CR1/6154": (16, 16, "gray"),  # MONOCHROME1
    "test_files/dicomdirtests/98892001/CT2N/6293": (16, 16, "gray"),
    "charset_files/chrRuss.dcm": (32, 32, "gray"),
    "test_files/ExplVR_BigEnd.dcm": (60, 80, "color"),
    "test_files/SC_rgb_dcmtk_+eb+cr.dcm": (100, 100, "color"),
    "test_files/SC_rgb_dcmtk_+eb+cy+n1.dcm": (100, 100, "color"),
    "test_files/SC_rgb_dcmtk_+eb+cy+np.dcm": (100, 100, "color"),
    "test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm": (100, 100, "color"),
    "test_files/SC_rgb_gdcm_KY.dcm": (100, 100, "color"),
    "test_files/SC_rgb_jpeg.dcm": (256, 256, "color"),
    "test_files/SC_rgb_jpeg_app14_dcmd.dcm": (256, 256, "color"),
    "test_files/SC_jpeg_no_color_transform.dcm": (256, 256, "color"),
    "test_files/SC_rgb_rle.dcm": (100, 100, "color"),
    "test_files/SC_rgb_rle_2frame.dcm": (100, 100, "color"),
    "test_files/SC_rgb_rle_16bit.dcm": (100, 100, "color"),
    "test_files/SC_rgb_small_odd.dcm": (3, 3, "color"),
    "test_files/SC_rgb_small_odd_big_endian.dcm": (3, 3, "color"),
    "test_files/SC_ybr_full_422_uncompressed.dcm": (100, 100, "color"),
    "test_files/examples_palette.dcm": (350, 800, "color"),
    "test_files/examples_rgb_color.dcm": (240, 320, "color"),
    "test_files/examples_ybr_color.dcm": (240, 320, "color"),  # 30 frames
    "test_files/examples_jpeg2k.dcm": (480, 640, "color"),
}
REFUSED = {
    "test_files/rtplan.dcm": r"without an image \(RT Plan Storage\); leave it out",
    "test_files/test-SR.dcm": r"without an image \(Comprehensive SR Storage\)",
    "test_files/waveform_ecg.dcm": "without an image .*ECG",
    "test_files/dicomdirtests/DICOMDIR": r"without an image \(Media Storage Directory Storage\)",
    "charset_files/chrKoreanMulti.dcm": "without an image",  # a header alone
    "palettes/pet.dcm": "without an image",
    "test_files/MR_truncated.dcm": r"is not a valid \.dcm file: .*less than expected",
    "test_files/badVR.dcm": r"is not a valid \.dcm file: .*'1A'",
    "test_files/JPEG2000.dcm": "signed 16-bit values and no window.*image_reader",
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": r"is not a valid \.dcm file: .*256 x 1024",
    "test_files/rtdose.dcm": "32-bit values and no window",
    "test_files/SC_rgb_rle_32bit.dcm": "has colors of 32 bits, whose white is unknown",
}
# Compressions that pydicom decodes only with further packages.
NEED_DECODERS = {
    "test_files/MR_small_jpeg_ls_lossless.dcm": "JPEG-LS Lossless.*no decoder.*pip install pyjpegls",
    "test_files/JPEGLSNearLossless_08.dcm": "JPEG-LS Lossy.*no decoder.*pip install pyjpegls",
    "test_files/SC_rgb_jpeg_gdcm.dcm": "JPEG Lossless.*no decoder.*pip install pylibjpeg pylibjpeg-libjpeg",
    "test_files/JPGExtended.dcm": "cannot be decompressed: .*12-bit.*pip install pylibjpeg pylibjpeg-libjpeg",
    "test_files/GDCMJ2K_TextGBR.dcm": "cannot be decompressed: .*pip install pylibjpeg pylibjpeg-openjpeg",
}


def test_a_data_set_of_pydicom_is_refused_and_the_remedies_work():
    dataset = pydicom.dcmread(next(FILES.rglob("MR_small.dcm")))
    (failure,) = check_images([dataset])
    assert check_images([eval(re.search(r"such as (\S+),", failure.reason)[1], {"x": dataset})]) == []
    with pytest.raises(InvalidInputError, match=r"Pass a list of .* such as \[X\.filename\]\.$"):
        check_images(dataset)


@pytest.mark.parametrize("name", READ)
def test_a_file_of_pydicom_is_read_as_documented(name):
    rows, columns, kind = READ[name]
    pixels = decoded(shipped(name))
    assert pixels.shape == (rows, columns, 3)
    assert (pixels == pixels[:, :, :1]).all() == (kind == "gray")
    assert pixels.max() > pixels.min()


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_pydicom_without_usable_pixels_is_refused_by_name(name):
    with pytest.raises(ImageProblem, match=REFUSED[name]) as caught:
        decoded(shipped(name))
    assert len(str(caught.value)) < 330


@pytest.mark.parametrize("name", NEED_DECODERS)
def test_a_compression_without_a_decoder_is_named_with_the_packages_that_decode_it(name):
    content = shipped(name)
    decoder = pydicom.pixels.get_decoder(pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID)
    if {"pylibjpeg", "gdcm", "pyjpegls"} & set(decoder.available_plugins):
        pytest.skip("a decoder that decodes it is installed")
    with pytest.raises(ImageProblem, match=NEED_DECODERS[name]):
        decoded(content)


def test_every_file_of_pydicom_is_read_or_refused_in_our_words():
    for path in FILES.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            try:
                assert decoded(path.read_bytes()).ndim == 3
            except ImageProblem as problem:
                assert str(problem)  # noqa: PT017 - either answer is right


def test_one_picture_is_the_same_in_every_transfer_syntax():
    names = ("implicit", "bigendian", "expb", "padded", "RLE", "jp2klossless")
    expected = decoded(shipped("test_files/MR_small.dcm"))
    for name in names:
        np.testing.assert_array_equal(decoded(shipped(f"test_files/MR_small_{name}.dcm")), expected, err_msg=name)
    rgb = decoded(shipped("test_files/SC_rgb_rle.dcm"))
    for name in ("rle_16bit", "gdcm_KY"):
        np.testing.assert_allclose(decoded(shipped(f"test_files/SC_rgb_{name}.dcm")).astype(int), rgb, atol=1)


# Numbers to grays


@pytest.mark.parametrize(
    "name", ["MR_small", "693_J2KI", "J2K_pixelrep_mismatch", "dicomdirtests/77654033/CR1/6154"], ids=str
)
def test_the_first_window_is_applied_as_pydicom_applies_it(name):
    content = shipped(f"test_files/{name}.dcm" if "/" not in name else f"test_files/{name}")
    dataset = pydicom.dcmread(io.BytesIO(content))
    shown = apply_windowing(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    ends = apply_windowing(np.array([-1e9, 1e9]), dataset)
    expected = 255 * (shown - ends[0]) / (ends[1] - ends[0])
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    np.testing.assert_allclose(gray(content), expected, atol=0.51)


def test_a_ct_without_a_window_shows_the_same_units_in_every_file():
    content = shipped("test_files/CT_small.dcm")
    units = pydicom.dcmread(io.BytesIO(content)).pixel_array.astype(float) - 1024
    np.testing.assert_allclose(gray(content), np.clip((units + 1024) / 4095, 0, 1) * 255, atol=0.51)


def test_without_a_window_black_and_white_are_what_the_bits_hold():
    values = np.array([[0, 100], [2048, 4095]], np.uint16)
    twelve = made(values, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(gray(twelve), np.rint(values / 4095 * 255))
    np.testing.assert_array_equal(gray(made(values)), np.rint(values / 65535 * 255))
    np.testing.assert_array_equal(gray(made(values.astype(np.uint8))), values.astype(np.uint8))
    np.testing.assert_array_equal(gray(made(np.array([[-128, 127]], np.int8))), [[0, 255]])
    with pytest.raises(ImageProblem, match="signed 16-bit values and no window"):
        decoded(made(values.astype(np.int16)))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1000), (0.5, 10)])
def test_each_kind_of_window_is_applied_in_units(function, slope, intercept):
    values = RNG.integers(0, 4096, (9, 11)).astype(np.uint16)
    window = {"WindowCenter": "900.0", "WindowWidth": "1600.0", "VOILUTFunction": function}
    content = made(values, RescaleSlope=str(slope), RescaleIntercept=str(intercept), **window)
    dataset = pydicom.dcmread(io.BytesIO(content))
    shown = apply_windowing(apply_modality_lut(values, dataset), dataset)
    low, high = intercept, 65535 * slope + intercept
    np.testing.assert_allclose(gray(content), 255 * (shown - low) / (high - low), atol=0.51)


def test_monochrome1_is_shown_inverted():
    values = np.array([[0, 255]], np.uint8)
    np.testing.assert_array_equal(gray(made(values, PhotometricInterpretation="MONOCHROME1")), [[255, 0]])
    windowed = made(values, PhotometricInterpretation="MONOCHROME1", WindowCenter="50", WindowWidth="20")
    np.testing.assert_array_equal(gray(windowed), [[255, 0]])


def test_of_several_windows_the_first_is_applied_and_an_empty_one_is_none():
    values = np.array([[40, 60]], np.uint8)
    several = made(values, WindowCenter=["50", "99"], WindowWidth=["10", "99"])
    np.testing.assert_array_equal(gray(several), [[0, 255]])
    for width in ("0", ""):
        np.testing.assert_array_equal(gray(made(values, WindowCenter="50", WindowWidth=width)), values)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_table_goes_before_a_window(bits):
    """Also a table of 8 bits with more than 256 entries, whose positions do not fit into 8 bits."""
    values = RNG.integers(0, 4096, (9, 11)).astype(np.uint16)
    entries = np.rint(np.linspace(0, 1, 1000) ** 2 * (2**bits - 1)).astype(int)
    content = made(values, VOILUTSequence=table(entries, 500, bits), WindowCenter="5", WindowWidth="5")
    expected = entries[np.clip(values.astype(int) - 500, 0, 999)] / (2**bits - 1) * 255
    np.testing.assert_allclose(gray(content), expected, atol=0.51)


def test_a_table_may_begin_at_a_negative_number_of_units():
    values = np.array([[0, 1024, 1100, 2000]], np.uint16)
    entries = np.arange(1200)
    scale = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    content = made(values, VOILUTSequence=table(entries, 2**16 - 100, 12), **scale)
    expected = entries[np.clip(values.astype(int) - 1024 + 100, 0, 1199)] / 4095 * 255
    np.testing.assert_allclose(gray(content), expected, atol=0.51)


def test_the_narrowest_window_divides_black_from_white():
    content = made(np.array([[99, 100, 101]], np.uint8), WindowCenter="100", WindowWidth="1")
    np.testing.assert_array_equal(gray(content), [[0, 255, 255]])


def test_a_modality_table_gives_the_units_of_the_window():
    values = RNG.integers(0, 256, (9, 11)).astype(np.uint8)
    entries = np.arange(256) * 16
    with_window = made(values, ModalityLUTSequence=table(entries, 0, 12), WindowCenter="2048", WindowWidth="1000")
    expected = np.clip((entries[values] - 2047.5) / 999 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(gray(with_window), expected, atol=0.51)
    without = made(values, ModalityLUTSequence=table(entries, 0, 12))
    np.testing.assert_allclose(gray(without), entries[values] / 4095 * 255, atol=0.51)


def test_windows_of_enhanced_files_lie_in_groups_of_frames():
    def group(**attributes):
        dataset = pydicom.Dataset()
        for name, (macro, values) in attributes.items():
            item = pydicom.Dataset()
            for key, value in values.items():
                setattr(item, key, value)
            setattr(dataset, macro, pydicom.Sequence([item]))
            assert name
        return dataset

    values = np.array([[[0, 100]], [[0, 100]], [[0, 100]]], np.uint16)
    shared = group(scale=("PixelValueTransformationSequence", {"RescaleSlope": "2", "RescaleIntercept": "-100"}))
    frames = [
        group(window=("FrameVOILUTSequence", {"WindowCenter": str(center), "WindowWidth": "400"}))
        for center in (0, 100, 9999)
    ]
    content = made(
        values, SharedFunctionalGroupsSequence=pydicom.Sequence([shared]),
        PerFrameFunctionalGroupsSequence=pydicom.Sequence(frames), WindowCenter="7777", WindowWidth="2",
    )  # fmt: skip
    expected = np.clip((np.array([[-100, 100]]) - 99.5) / 399 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(gray(content), expected, atol=0.51)


def test_floats_need_a_window():
    values = RNG.random((5, 6)).astype(np.float32)

    def with_floats(**attributes):
        dataset = pydicom.dcmread(io.BytesIO(made(np.zeros((5, 6), np.uint16), **attributes)))
        del dataset.PixelData
        dataset.FloatPixelData, dataset.BitsAllocated = values.tobytes(), 32
        file = io.BytesIO()
        dataset.save_as(file)
        return file.getvalue()

    np.testing.assert_allclose(gray(with_floats(WindowCenter="0.5", WindowWidth="1")), values * 255, atol=0.51)
    with pytest.raises(ImageProblem, match="floats and no window"):
        decoded(with_floats())


@pytest.mark.parametrize("scale", [("1e300", "1e300"), ("0", "0")])
def test_a_scale_without_finite_units_is_refused(scale):
    slope, intercept = scale
    attributes = {
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "WindowCenter": "1e308",
        "WindowWidth": "1e-308",
    }
    try:
        pixels = gray(made(np.array([[1, 2**16 - 1]], np.uint16), **attributes))
    except ImageProblem as problem:
        assert "not finite" in str(problem)  # noqa: PT017 - either answer is right
    else:
        assert len(np.unique(pixels)) == 1


# Colors


def test_a_palette_is_applied_as_pydicom_applies_it():
    content = shipped("test_files/examples_palette.dcm")
    dataset = pydicom.dcmread(io.BytesIO(content))
    colors = apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_allclose(decoded(content), colors / np.iinfo(colors.dtype).max * 255, atol=0.51)


def test_a_palette_of_8_bits_may_have_more_entries_than_8_bits_can_count():
    values = RNG.integers(0, 1000, (9, 11)).astype(np.uint16)
    colors = RNG.integers(0, 256, (3, 1000), np.uint8)
    tables = {}
    for name, entries in zip(("Red", "Green", "Blue"), colors, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [1000, 0, 8]
        tables[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    content = made(values, PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(decoded(content), colors[:, values].transpose(1, 2, 0))


def segmented(segments, bits, syntax=ExplicitVRLittleEndian):
    """The bytes of a file with a palette of segments, each a list of numbers."""
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    dtype, tables = f"{'>' if syntax == ExplicitVRBigEndian else '<'}u{bits // 8}", {}
    for color in ("Red", "Green", "Blue"):
        tables[f"{color}PaletteColorLookupTableDescriptor"] = [16, 0, bits]
        tables[f"Segmented{color}PaletteColorLookupTableData"] = np.concatenate(segments).astype(dtype).tobytes()
    return made(values, syntax, PhotometricInterpretation="PALETTE COLOR", **tables)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_segments_of_a_palette_are_expanded_as_pydicom_expands_them(bits, syntax):
    place = [0, 5] if syntax == ExplicitVRBigEndian and bits == 8 else [5, 0]
    place = [*place, 0, 0] if bits == 8 else place
    content = segmented([[0, 3, 9, 200, 30], [1, 5, 80], [2, 1, *place], [0, 3, 1, 2, 3]], bits, syntax)
    dataset = pydicom.dcmread(io.BytesIO(content))
    colors = apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_allclose(decoded(content), colors / np.iinfo(colors.dtype).max * 255, atol=0.51)


FIRST, LINEAR = [0, 1, 7], [1, 60_000, 9]
BOMBS = {
    "segments": [FIRST, LINEAR, LINEAR],
    "copied segments": [FIRST, LINEAR, [2, 1, 3, 0]],
    "copied copies": [FIRST, [2, 2, 0, 0]],
    "empty copies": [FIRST, [2, 0, 0, 0]],
    "empty segments": [FIRST, [1, 0, 7]],
}


@pytest.mark.parametrize("name", BOMBS)
def test_segments_that_expand_to_more_than_a_table_are_refused_before_they_are_expanded(monkeypatch, name):
    monkeypatch.setattr(pydicom.pixels, "apply_color_lut", None)
    with pytest.raises(ImageProblem, match=r"a table has an empty segment, or more than 65,536 entries"):
        decoded(segmented(BOMBS[name], 16))


def test_colors_of_16_bits_are_scaled_by_their_white():
    colors = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    np.testing.assert_array_equal(decoded(made(colors)), np.rint(colors / 65535 * 255))
    with pytest.raises(ImageProblem, match=r"colors as CMYK; convert it"):
        decoded(made(colors, PhotometricInterpretation="CMYK"))


# Frames, and files without a header


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_middle_frame_is_read(n):
    frames = np.arange(n, dtype=np.uint8)[:, None, None] * 50 + np.zeros((n, 4, 5), np.uint8)
    np.testing.assert_array_equal(gray(made(frames)), frames[n // 2])
    encoded = [encoded_as("JPEG2000", Image.fromarray(frame), irreversible=False) for frame in frames]
    content = made(frames, JPEG2000Lossless, encapsulate(encoded))
    np.testing.assert_array_equal(gray(content), frames[n // 2])


def encoded_as(format_, image, **options):
    file = io.BytesIO()
    image.save(file, format_, **({"no_jp2": True} if format_ == "JPEG2000" else {}), **options)
    return file.getvalue()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_syntax_of_a_dataset_without_the_header_of_a_file_is_found(syntax):
    values = RNG.integers(0, 65536, (5, 6)).astype(np.uint16)
    whole = made(values, syntax)
    start = 132 + 12 + int.from_bytes(whole[140:144], "little")
    encoder = sktl.PretrainedImageEncoder(image_size=None, image_reader="dicom")
    (sample,) = encoder._as_samples([whole[start:]], reset=False)
    np.testing.assert_array_equal(sample.read()[:, :, 0], np.rint(values / 65535 * 255))


def test_a_header_of_another_format_before_the_dataset_does_not_hide_it():
    """Many scanners write the start of a TIFF file, so that programs for TIFF may read the same pixels."""
    content = made(np.full((4, 4), 77, np.uint8))
    for start in (b"II*\0\x54\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff"):
        np.testing.assert_array_equal(decoded(start.ljust(128, b"\0") + content[128:]), 77)


# Hostile files


def replaced(content, **attributes):
    """The same file with other numbers in its header, whose meaning is not checked."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    for name, value in attributes.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


SMALL = np.zeros((4, 4), np.uint8)
J2K = made(SMALL, JPEG2000Lossless, encapsulate([encoded_as("JPEG2000", Image.fromarray(SMALL))]))
JPEG = made(SMALL, JPEGBaseline8Bit, encapsulate([encoded_as("JPEG", Image.fromarray(SMALL))]))


@pytest.mark.parametrize("content", [made(SMALL), J2K, JPEG], ids=["raw", "JPEG 2000", "JPEG"])
def test_a_size_beyond_the_limit_is_refused_before_memory_is_allocated(content, monkeypatch):
    with pytest.raises(ImageProblem, match="has 65535 x 65535 pixels, more than the limit of 89,478,485"):
        decoded(replaced(content, Rows=65535, Columns=65535))
    monkeypatch.setenv("SKTL_MAX_PIXELS", "15")
    with pytest.raises(ImageProblem, match=r"has 4 x 4 pixels, more than the limit of 15; .*set_pixel_limit"):
        decoded(content)


@pytest.mark.parametrize("content", [made(SMALL), J2K, JPEG], ids=["raw", "JPEG 2000", "JPEG"])
@pytest.mark.parametrize("n", [2**31 - 1, 10**11])
def test_frames_that_the_file_does_not_contain_are_refused(content, n):
    with pytest.raises(ImageProblem, match=r"is not a valid \.dcm file"):
        decoded(replaced(content, NumberOfFrames=str(n)))


@pytest.mark.filterwarnings("ignore:A value of '0':UserWarning")
def test_no_number_of_frames_is_one_and_a_negative_one_is_refused():
    content = made(SMALL + 9)
    for number in ("0", ""):
        np.testing.assert_array_equal(decoded(replaced(content, NumberOfFrames=number)), 9)
    with pytest.raises(ImageProblem, match="'-3' is invalid"):
        decoded(replaced(content, NumberOfFrames="-3"))


@pytest.mark.parametrize("format_", ["JPEG", "JPEG2000"])
def test_a_compressed_frame_of_another_size_is_refused_before_it_is_decoded(format_):
    large = encoded_as(format_, Image.new("L", (3000, 2000)))
    syntax = JPEGBaseline8Bit if format_ == "JPEG" else JPEG2000Lossless
    with pytest.raises(ImageProblem, match="its header says 4 x 4 pixels, its frame 3000 x 2000"):
        decoded(made(SMALL, syntax, encapsulate([large])))
    assert coded_size(large) == (3000, 2000)


def test_run_lengths_of_more_than_the_frame_are_refused():
    segment = b"\x81\0" * (1 << 20)  # 128 zeros for each two bytes
    frame = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + segment
    with pytest.raises(ImageProblem, match="unpacks to more pixels than its header says"):
        decoded(made(SMALL, RLELossless, encapsulate([frame])))


def test_a_file_that_is_deflated_as_a_whole_may_not_unpack_to_gigabytes(monkeypatch):
    monkeypatch.setenv("SKTL_MAX_PIXELS", "1000000")
    meta = shipped("test_files/image_dfl.dcm")
    start = 144 + int.from_bytes(meta[140:144], "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([*(deflate.compress(bytes(1 << 20)) for _ in range(60)), deflate.flush()])
    assert len(bomb) < 1 << 20
    with pytest.raises(ImageProblem, match="unpacks to more than an image of 1,000,000 pixels"):
        decoded(meta[:start] + bomb)
    assert decoded(meta).shape == (512, 512, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_the_device_is_text_in_either_encoding(encoding):
    content = made(np.zeros((4, 4), np.uint8), Manufacturer="Fuji", StationName="A")
    assert device(content.replace(b"Fuji", "Fü".encode(encoding).ljust(4))) == ("Fü", "", "A")
