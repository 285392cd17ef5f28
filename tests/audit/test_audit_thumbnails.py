"""Thumbnails: what an audit keeps of a file, whichever reader decodes it."""

import io

import numpy as np
import pytest
from PIL import Image

from sktl._audit.thumbnails import thumbnail

MAKER, MODEL, STATION = "Agfa", "DX-D 300", "Room 3"
PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)


def exif():
    found = Image.Exif()
    found[0x010F], found[0x0110] = MAKER, MODEL
    return found


def jpeg():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", exif=exif())
    return file.getvalue()


def heic():
    pillow_heif = pytest.importorskip("pillow_heif", reason="reading HEIC needs pillow-heif, an optional package")
    file = io.BytesIO()
    pillow_heif.encode("RGB", (4, 6), PIXELS.tobytes(), file, exif=exif().tobytes())
    return file.getvalue()


def dicom(**attributes):
    pydicom = pytest.importorskip("pydicom", reason="reading DICOM needs pydicom, an optional package")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 6, 4, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.StationName = MAKER, MODEL, STATION
    dataset.add_new("PixelData", "OB", PIXELS[:, :, 0].tobytes())
    for name, value in attributes.items():
        setattr(dataset, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize(("content", "name"), [(jpeg, "JPEG"), (heic, "HEIC"), (dicom, "DICOM")])
def test_the_header_of_each_format_tells_the_camera(content, name):
    found = thumbnail(content())
    assert (found.format, found.shape, found.n_bytes > 100) == (name, (6, 4), True)
    assert found.camera == (MAKER, MODEL, STATION if name == "DICOM" else "")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # when the file is written
def test_a_header_that_lacks_a_name_or_has_several_is_read():
    found = thumbnail(dicom(Manufacturer=None, ManufacturerModelName=["a", "b"], StationName="x" * 1000))
    assert found.camera[0] == ""
    assert "a" in found.camera[1]
    assert found.camera[2] == "x" * 64


@pytest.mark.filterwarnings("error")
def test_a_header_is_read_without_pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    assert thumbnail(jpeg()).camera[0] == MAKER


def test_aspect_ratios_are_those_of_upright_images():
    turned = Image.Exif()
    turned[0x0112] = 6
    for size in ((40, 20), (4000, 2000)):  # the second is decoded at a reduced scale
        file = io.BytesIO()
        Image.new("RGB", size).save(file, "JPEG", exif=turned)
        found = thumbnail(file.getvalue())
        assert (found.shape, found.aspect) == (size[::-1], 0.5)


@pytest.mark.parametrize(
    ("margins", "box"),
    [
        ((20, 20, 0, 0), (0, 0.1, 1, 0.9)), ((0, 0, 30, 30), (0.15, 0, 0.85, 1)), ((0, 0, 0, 0), None),
        ((20, 20, 20, 20), None), ((20, 0, 0, 0), None), ((20, 50, 0, 0), None), ((100, 100, 0, 0), None),
    ],
)  # fmt: skip
def test_bars_are_on_two_opposite_sides(margins, box):
    top, bottom, left, right = margins
    pixels = np.random.default_rng(0).integers(60, 256, (200, 200, 3), dtype=np.uint8)
    inside = np.zeros((200, 200, 1), dtype=bool)
    inside[top : 200 - bottom, left : 200 - right] = True
    inner = thumbnail(np.where(inside, pixels, 0).astype(np.uint8)).inner
    if box is None:
        assert inner is None
    else:
        assert inner.box == pytest.approx(box, abs=0.006)
        width, height = box[2] - box[0], box[3] - box[1]
        assert inner.aspect == pytest.approx(width / height, abs=0.02)
        assert inner.gray.min() > 60
