"""Content that is no image for Pillow is named for what it is, with what to do."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from backbones import Pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sktl
from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.unreadable_formats import _KINDS, _KNOWN, why_no_path

PREPROCESSING = Preprocessing(8, (8, 8))


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(name):
    def write(file):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, b"x")

    return written(write)


def tarred(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("photo.jpg"))


REST = bytes(600)
PNG = written(lambda file: Image.new("RGB", (9, 9)).save(file, "PNG"))
CONTENTS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s1--ab.jpg\n", "git annex get"),
    "gzip": (gzip.compress(b"x"), r"\.gz file.*gunzip.*nibabel"),
    "bzip2": (bz2.compress(b"x"), r"\.bz2 file.*unpack it"),
    "xz": (lzma.compress(b"x"), r"\.xz file.*unpack it"),
    "zstd": (b"(\xb5/\xfd" + REST, r"\.zst file.*unpack it"),
    "7z": (b"7z\xbc\xaf'\x1c" + REST, r"\.7z file.*unpack it"),
    "rar": (b"Rar!\x1a\7\1\0" + REST, r"\.rar file.*unpack it"),
    "tar": (written(tarred), r"\.tar file.*unpack it"),
    "zip": (zipped("photo.jpg"), r"\.zip or \.npz file.*numpy\.load"),
    "npz": (written(lambda file: np.savez(file, a=np.zeros(3))), r"\.npz file.*numpy\.load"),
    "docx": (zipped("[Content_Types].xml"), "office program.*as PNG"),
    "torch": (written(lambda file: torch.save({"a": torch.zeros(3)}, file)), r"PyTorch.*torch\.load"),
    "pickle": (pickle.dumps([PNG]), "is a pickle.*trust its source"),
    "old pickle": (pickle.dumps(np.zeros(3), protocol=2), "is a pickle"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + REST, "HDF5 file.*h5py"),
    "mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(128) + REST, r"\.mat file.*scipy\.io\.loadmat"),
    "mat 7.3": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", r"\.mat file.*h5py"),
    "parquet": (b"PAR1" + REST, r"\.parquet file"),
    "arrow": (b"ARROW1\0\0" + REST, "Arrow file"),
    "JPEG XL": (b"\xff\x0a" + REST, r"\.jxl file.*djxl"),
    "JPEG XL in a container": (b"\0\0\0\x0cJXL \r\n\x87\n" + REST, r"\.jxl file.*djxl"),
    "EXR": (b"v/1\1" + REST, r"\.exr file.*OpenCV"),
    "HDR": (b"#?RADIANCE\n" + REST, r"\.hdr file.*OpenCV"),
    "DDS": (b"DDS " + REST, r"\.dds file"),
    "SVG": (b"\xef\xbb\xbf<?xml version='1.0'?><!-- by me --><!DOCTYPE svg PUBLIC 'x'>\n<svg/>", r"\.svg.*cairosvg"),
    "SVG after a comment": (b"<!-- by me -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", r"\.svg.*cairosvg"),
    "PDF later": (b"\r\njunk\n%PDF-1.4\n" + REST, r"\.pdf.*pdf2image"),
    "HTML": (b"\xef\xbb\xbf<!-- 404 --><html></html>", "HTML page.*download it again"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML document.*download it again"),
    "HEIC": (
        b"\0\0\0\x1cftypheix\0\0\0\0mif1heix" + REST,
        r"not a valid \.heic file: |\.heic file.*pillow-heif",
    ),
    "HEVC": (
        b"\0\0\0\x1cftyphevc\0\0\0\0mif1hevc" + REST,
        r"not a valid \.heic file: |\.heic file.*pillow-heif",
    ),
    "AVIF": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + REST, r"is damaged: .*\.?avif"),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + REST, r"\.cr3 file.*rawpy"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + REST, "camera's RAW file.*rawpy"),
    "RW2": (b"IIU\0\x18\0\0\0" + REST, "camera's RAW file.*rawpy"),
    "DICOM": (bytes(128) + b"DICM" + REST, r"\.dcm file (without an image|.*pip install pydicom)"),
    "DICOM without preamble": (
        b"\x08\0\5\0\x0a\0\0\0ISO_IR 100" + REST,
        r"\.dcm file (without an image|.*pip install pydicom)",
    ),
    "NIfTI": (bytes(344) + b"n+1\0" + REST, r"\.nii file.*nibabel"),
    "WebM": (b"\x1aE\xdf\xa3" + REST, r"\.webm file.*ffmpeg"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST" + REST, r"\.avi file.*ffmpeg"),
    "MPEG": (b"\0\0\1\xb3\x14\0\xf0\x13" + REST, r"\.mpg file.*ffmpeg"),
    "sound": (b"RIFF\0\0\0\0WAVEfmt " + REST, "sound file.*leave it out"),
    "font": (b"\0\1\0\0\0\x11" + REST, "is a font.*leave it out"),
    "macOS": (b"\0\5\x16\7\0\2\0\0Mac OS X" + REST, "that macOS adds.*leave it out"),
    "JSON": (json.dumps({"a": [1, 2]}).encode(), r"but text: '\{\"a\": \[1, 2\]\}'"),
    "CSV that starts like a program": (b"MZ,b\n1,2\n", "but text: 'MZ,b 1,2'"),
    "UTF-16": ("a,b\n1,2".encode("utf-16"), "but text: 'a,b 1,2'"),
    "long text": (b"a b " * 10_000, r"but text: 'a b .*\.\.\.'$"),
    "base64": (base64.b64encode(PNG), r"is base64 text instead.*base64\.b64decode\(x\) \(x = the text of the file\)"),
    "data URI": (
        b"data:image/png;base64," + base64.b64encode(PNG),
        r"is a data URI instead.*base64\.b64decode.*\(x = the text of the file\)",
    ),
    "12-bit JPEG": (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0" + REST, r"\.jpg file.*such as 12-bit"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_is_named_for_what_it_is_in_one_short_sentence(name):
    content, reason = CONTENTS[name]
    with pytest.raises(ImageProblem, match=reason) as raised:
        decode(content, PREPROCESSING)
    assert len(str(raised.value)) < 260
    assert str(raised.value).isprintable()
    assert "0x" not in str(raised.value)


@pytest.mark.parametrize("kind", [*_KINDS, *_KNOWN], ids=lambda kind: kind.what)
def test_each_start_of_the_table_is_recognized(kind):
    for start in kind.starts:
        offset, signature = start if isinstance(start, tuple) else (0, start)
        (failure,) = sktl.check_images([bytes(offset) + signature + REST])
        assert failure.reason.startswith("is ")
        assert "0x" not in failure.reason


@given(start=st.binary(max_size=20), middle=st.binary(max_size=2000))
def test_a_reason_is_bounded_and_printable_whatever_the_content(start, middle):
    for content in (start + 100 * middle, b"<?xml" + middle, b"II*\0" + middle, PNG[:40] + middle):
        try:
            decode(content, PREPROCESSING)
        except ImageProblem as problem:
            assert len(str(problem)) <= 600  # noqa: PT017 - either answer is right
            assert str(problem).isprintable()  # noqa: PT017


# Text in the place of a path

ENCODED = base64.b64encode(np.random.default_rng(0).bytes(3000)).decode()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("A" * 300_000, r"base64\.b64decode\(x\)"),
        (ENCODED.replace("/", "A"), r"base64\.b64decode\(x\)"),
        (base64.b64encode(PNG).decode(), r"base64\.b64decode\(x\)"),
        ("\n" + base64.encodebytes(PNG).decode(), r"base64\.b64decode\(x\)"),
        (base64.urlsafe_b64encode(PNG).decode(), r"base64\.(urlsafe_)?b64decode\(x\)"),
        ("data:image/png;base64," + ENCODED, r'data URI.*base64\.b64decode\(x\.partition\(","\)\[2\]\)'),
    ],
    ids=["letters", "random", "png", "lines", "urlsafe", "data"],
)
def test_text_that_is_no_path_is_named_with_the_remedy_in_a_short_message(text, advice):
    with pytest.raises(sktl.exceptions.InvalidImageError, match=advice) as caught:
        sktl.PretrainedImageEncoder(backbone=Pixels).fit_transform([text] * 8)
    assert len(str(caught.value)) < 8 * 450
    assert caught.value.failures[0].name == text
    assert why_no_path(text) is not None


@pytest.mark.parametrize("path", ["cat.jpg", "a" * 200, "/data/" + "photos/" * 40 + "cat.jpg", "R0lGOD", "", "b64/x y"])
def test_paths_are_not_taken_for_encoded_bytes(path):
    assert why_no_path(path) is None
