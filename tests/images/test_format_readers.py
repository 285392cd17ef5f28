"""A file's bytes choose its reader; what decides its pixels is in its key; what is missing is named."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backbones import Pixels
from PIL import Image

import sktl
from sktl._images import format_readers, samples
from sktl._images.content_keys import ContentName, content_key, content_name
from sktl._images.decoding import ImageProblem, decode
from sktl._images.format_readers import READERS, reader_name
from sktl._images.preprocessing import Preprocessing
from sktl.datasets import list_images, load_image_folder

pydicom = pytest.importorskip("pydicom", reason="needs pydicom, an optional package")
pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif, an optional package")
tifffile = pytest.importorskip("tifffile", reason="needs tifffile, an optional package")

PREPROCESSING = Preprocessing(8, (8, 8))
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 16), np.uint8)


def dicom():
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = GRAY.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = GRAY.tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def heic():
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(GRAY)).save(file, quality=-1)
    return file.getvalue()


def tiff():
    file = io.BytesIO()
    tifffile.imwrite(file, GRAY / 255, metadata=None)
    return file.getvalue()


def png():
    file = io.BytesIO()
    Image.fromarray(GRAY).save(file, "PNG")
    return file.getvalue()


FILES = {"dicom": dicom(), "heic": heic(), "tiff": tiff()}


@pytest.fixture
def without(monkeypatch):
    """Let a reader find that its package is not installed."""

    def hide(name):
        monkeypatch.setitem(READERS, name, replace(READERS[name], package="a_package_that_is_not_installed"))

    return hide


@pytest.mark.parametrize("name", FILES)
def test_a_file_belongs_to_the_reader_of_its_format_and_is_read_by_it(name):
    assert reader_name(FILES[name]) == name
    np.testing.assert_allclose(np.asarray(decode(FILES[name], PREPROCESSING))[..., 0].astype(int), GRAY, atol=2)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_package_is_named(name, without):
    package = {"dicom": "pydicom", "heic": "pillow-heif", "tiff": "tifffile"}[name]
    without(name)
    with pytest.raises(ImageProblem, match=rf"Pillow does not read: pip install {package}, or convert"):
        decode(FILES[name], PREPROCESSING)
    assert reader_name(FILES[name]) == name  # it depends on the bytes alone


@pytest.mark.parametrize("name", FILES)
def test_a_package_that_cannot_be_imported_is_not_called_damage(name, monkeypatch):
    monkeypatch.setitem(sys.modules, READERS[name].package, None)
    if name == "dicom":
        monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    with pytest.raises(ImageProblem, match=f"but {READERS[name].package} cannot be imported: "):
        decode(FILES[name], PREPROCESSING)


def test_keys_of_files_that_pillow_reads_are_the_digests_of_their_bytes():
    assert content_key(png()) == hashlib.sha256(b"file" + png()).digest()
    assert content_name(png()) == ContentName(hashlib.sha256(b"file" + png()).digest(), "")


@pytest.mark.parametrize("name", FILES)
def test_versions_of_all_that_decides_the_pixels_are_in_the_key(name, monkeypatch):
    key = content_key(FILES[name])
    assert key == content_key(FILES[name])
    for distribution in READERS[name].deciding:
        with monkeypatch.context() as patch:
            versions = format_readers._version
            patch.setattr(
                format_readers, "_version", lambda d, one=distribution, of=versions: "9.9" if d == one else of(d)
            )
            assert content_key(FILES[name]) != key
    with monkeypatch.context() as patch:
        patch.setattr(format_readers, "READING_RULE", 99)
        assert content_key(FILES[name]) != key
    assert content_key(FILES[name]) == key


def test_the_name_of_a_content_survives_a_cache():
    for content in (*FILES.values(), png()):
        name = content_name(content)
        assert ContentName.decode(name.encode()) == name


def test_features_of_another_version_are_not_found_though_the_file_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "scan.dcm"
    path.write_bytes(FILES["dicom"])
    os.utime(path, (1, 1))  # long ago, so that its stamp is trusted
    encoder = sktl.PretrainedImageEncoder(backbone=Pixels, cache=tmp_path / "cache")
    monkeypatch.setattr(samples.FileStamp, "is_settled", lambda self: True)
    expected = encoder.fit_transform([path])
    assert sktl.cache_info(tmp_path / "cache").misses == 1
    encoder.fit_transform([path])
    assert sktl.cache_info(tmp_path / "cache").hits == 1
    monkeypatch.setattr(format_readers, "_version", lambda name: "9.9")
    np.testing.assert_array_equal(encoder.fit_transform([path]), expected)
    assert sktl.cache_info(tmp_path / "cache").misses == 2


def test_folders_list_what_an_installed_reader_reads(tmp_path, without):
    for name in ("a.dcm", "b.DCM", "c.dicom", "IM000001", "1.2.840.99"):
        (tmp_path / name).write_bytes(FILES["dicom"])
    (tmp_path / "DICOMDIR").write_bytes(FILES["dicom"])
    for name in ("d.heic", "e.HEIF", "f.hif"):
        (tmp_path / name).write_bytes(FILES["heic"])
    (tmp_path / "notes.bin").write_bytes(bytes(200))
    with pytest.warns(sktl.exceptions.ImageFolderWarning, match=r"2 files .*DICOMDIR.*notes\.bin'\.$"):
        found = {os.path.basename(path) for path in list_images(tmp_path)}
    assert found == {"a.dcm", "b.DCM", "c.dicom", "IM000001", "1.2.840.99", "d.heic", "e.HEIF", "f.hif"}
    assert sktl.check_images(sorted(os.path.join(tmp_path, name) for name in found)) == []
    without("dicom")
    with pytest.warns(sktl.exceptions.ImageFolderWarning, match=r"To read \.dcm files: pip install pydicom\."):
        assert {os.path.basename(path) for path in list_images(tmp_path)} == {"d.heic", "e.HEIF", "f.hif"}


def test_a_folder_of_files_whose_reader_is_missing_says_what_to_install(tmp_path, without):
    (tmp_path / "lungs").mkdir()
    (tmp_path / "lungs" / "a.dcm").write_bytes(FILES["dicom"])
    without("dicom")
    for use, folder in ((list_images, tmp_path / "lungs"), (load_image_folder, tmp_path)):
        with pytest.raises(sktl.exceptions.InvalidInputError, match=r"no images .*pip install pydicom\.$"):
            use(folder)


def test_warnings_of_readers_do_not_change_what_is_accepted():
    content = bytearray(FILES["dicom"])
    content += bytes(2)  # a little more than the pixels, about which pydicom warns
    padded = bytes(content)
    expected = np.asarray(decode(FILES["dicom"], PREPROCESSING))
    for action in ("error", "always"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            try:
                np.testing.assert_array_equal(decode(padded, PREPROCESSING), expected)
            except ImageProblem as problem:
                assert "is not a valid" in str(problem)  # noqa: PT017 - the same in both states


def test_optional_packages_are_imported_by_the_first_file_that_needs_them():
    packages = {reader.package for reader in READERS.values()}
    for path in Path(sktl.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not packages & {name.partition(".")[0] for name in named}, path
