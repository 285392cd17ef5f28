"""Identify content that Pillow cannot read by its first bytes, and say what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError, features

from sktl._short_text import one_line


class _Kind(NamedTuple):
    """A kind of content: what it is, what to do, and the bytes it starts with, as (offset, bytes) if not at 0."""

    what: str
    remedy: str
    starts: tuple[bytes | tuple[int, bytes], ...]

    def matches(self, content: bytes) -> bool:
        pairs = (start if isinstance(start, tuple) else (0, start) for start in self.starts)
        return any(content.startswith(signature, offset) for offset, signature in pairs)


def _brands(*names: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the first bytes of ISO base media files of these brands."""
    return tuple((4, b"ftyp" + name) for name in names)


_HEIF = "pip install pillow-heif, or convert it to JPEG"
_RENDER_PDF = "render it to PNG, for instance with pdf2image"
_RENDER_SVG = "render it to PNG, for instance with cairosvg"
_FRAMES = "extract its frames as JPEG, for instance with ffmpeg"
_UNPACK = "unpack it and pass the files in it"
_DICOM = "pip install pydicom, or convert it to PNG"
_NIFTI = "read it with nibabel and pass its slices as arrays"
_RAW = "develop it with rawpy and pass arrays, or convert it to JPEG"
_HDR = "read it with OpenCV, map its range to [0, 1] and pass arrays, or convert it to PNG"
_TABLE = "read the images in it and pass those, as bytes or arrays"
_NO_IMAGE = "leave it out"

HEIC = _Kind(
    "a .heic file", _HEIF,
    _brands(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"),
)  # fmt: skip
DICOM = _Kind(
    "a .dcm file", _DICOM,
    (
        (128, b"DICM"), b"\2\0\0\0UL", b"\2\0\1\0OB", b"\2\0\2\0UI",
        b"\x08\0\0\0UL", b"\x08\0\0\0\4\0\0\0", b"\x08\0\5\0", b"\x08\0\x08\0",
    ),
)  # fmt: skip
# More specific kinds come first.
_KINDS = (
    _Kind("a Git LFS pointer", "run git lfs pull for the file that it stands for", (b"version https://git-lfs",)),
    _Kind("a git-annex pointer", "run git annex get for the file that it stands for", (b"/annex/objects/",)),
    _Kind("a .cr3 file", _RAW, _brands(b"crx ")),
    HEIC,
    _Kind("a .mov file", _FRAMES, (*_brands(b"qt"), (4, b"moov"), (4, b"mdat"), (4, b"wide"))),
    _Kind("a .mp4 file", _FRAMES, ((4, b"ftyp"),)),
    _Kind("a .mkv or .webm file", _FRAMES, (b"\x1aE\xdf\xa3",)),
    _Kind("a .avi file", _FRAMES, ((8, b"AVI LIST"),)),
    _Kind("a .mpg file", _FRAMES, (b"\0\0\1\xba", b"\0\0\1\xb3")),
    _Kind("a .wmv file", _FRAMES, (b"0&\xb2u\x8ef\xcf\x11",)),
    _Kind("a .flv file", _FRAMES, (b"FLV\1",)),
    _Kind("an .ogg file", _FRAMES, (b"OggS",)),
    _Kind("a sound file", _NO_IMAGE, (b"ID3\2", b"ID3\3", b"ID3\4", b"fLaC", (8, b"WAVE"))),
    DICOM,
    _Kind("a .nii file", _NIFTI, ((344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0"))),
    _Kind("a .nrrd file", "read it with pynrrd and pass its slices as arrays", (b"NRRD000",)),
    _Kind("a .npy file", "load it with numpy.load and pass the arrays", (b"\x93NUMPY",)),
    _Kind("a checkpoint of PyTorch", "load it with torch.load and pass the images in it", ((30, b"archive/data.pkl"),)),
    _Kind("a document of an office program", "save its pictures as PNG", ((30, b"[Content_Types].xml"),)),
    _Kind(
        "a .zip or .npz file", "unpack it and pass its files, or load an .npz file with numpy.load",
        (b"PK\3\4", b"PK\5\6"),
    ),
    _Kind("a pickle", "load it if you trust its source, and pass the images in it", (
        b"\x80\2", b"\x80\3", b"\x80\4\x95", b"\x80\5\x95",
    )),
    _Kind("a .gz file", "unpack it with gunzip, or read a .nii.gz file with nibabel and pass arrays", (b"\x1f\x8b",)),
    _Kind("a .bz2 file", _UNPACK, ((4, b"1AY&SY"),)),
    _Kind("an .xz file", _UNPACK, (b"\xfd7zXZ\0",)),
    _Kind("a .zst file", _UNPACK, (b"(\xb5/\xfd",)),
    _Kind("a .lz4 file", _UNPACK, (b"\4\x22M\x18",)),
    _Kind("a .7z file", _UNPACK, (b"7z\xbc\xaf'\x1c",)),
    _Kind("a .rar file", _UNPACK, (b"Rar!\x1a\7",)),
    _Kind("a .tar file", _UNPACK, ((257, b"ustar"),)),
    _Kind("a .mat file", "read it with scipy.io.loadmat, or h5py from version 7.3 on, and pass arrays", (
        b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file",
    )),
    _Kind("an HDF5 file", "read it with h5py and pass the arrays in it", (b"\x89HDF\r\n\x1a\n", (512, b"\x89HDF\r\n"))),
    _Kind("a netCDF file", "read it with xarray and pass the arrays in it", (b"CDF\1", b"CDF\2", b"CDF\5")),
    _Kind("a GRIB file", "read it with cfgrib and pass arrays", (b"GRIB",)),
    _Kind("a BUFR file", "read it with eccodes and pass arrays", (b"BUFR",)),
    _Kind("a .parquet file", _TABLE, (b"PAR1",)),
    _Kind("an Arrow file", _TABLE, (b"ARROW1", b"FEA1")),
    _Kind("an SQLite file", _TABLE, (b"SQLite format 3\0",)),
    _Kind("a .czi file", "read it with czifile and pass arrays", (b"ZISRAWFILE",)),
    _Kind("an .nd2 file", "read it with nd2 and pass arrays", (b"\xda\xce\xbe\n",)),
    _Kind("a camera's RAW file", _RAW, (
        b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", (6, b"HEAPCCDR"),
    )),
    _Kind("a .jxl file", "convert it to PNG with djxl, or read it with imagecodecs and pass arrays", (
        b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n",
    )),
    _Kind("a .jxr file", "read it with imagecodecs and pass arrays", (b"II\xbc\1",)),
    _Kind("an .exr file", _HDR, (b"v/1\1",)),
    _Kind("an .iim file, a container of other images", "convert it to PNG", (b"\x1c\1", b"\x1c\2", b"\x1c\3")),
    _Kind("an .hdr file", _HDR, (b"#?RADIANCE", b"#?RGBE")),
    _Kind("a .pfm file in color", _HDR, (b"PF\n", b"PF ", b"PF\r")),
    _Kind("a .pam file", "convert it to PNG", (b"P7\n",)),
    _Kind("a .dds file that Pillow cannot read", "convert it to PNG", (b"DDS ",)),
    _Kind("an .xcf file", "export it from GIMP as PNG", (b"gimp xcf",)),
    _Kind("a file that macOS adds to folders", _NO_IMAGE, (b"\0\5\x16\7", b"\0\0\0\1Bud1")),
    _Kind("a shortcut of Windows", "pass the file that it points to", (b"L\0\0\0\1\x14\2\0",)),
    _Kind("a document of an old office program", _NO_IMAGE, (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)),
    _Kind("a font", _NO_IMAGE, (b"\0\1\0\0\0", b"OTTO\0", b"ttcf", b"wOFF", b"wOF2")),
    _Kind("a program", _NO_IMAGE, (b"\x7fELF", b"MZ\x90\0", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe")),
)  # fmt: skip
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Formats that Pillow reads, but not with all kinds of pixels.
_KNOWN = (
    _Kind("a .jpg file", ", such as 12-bit or lossless ones; convert it to PNG", (b"\xff\xd8",)),
    _Kind(
        "a .tiff file",
        ", such as 64-bit floats, 16-bit gray with alpha, compression as WebP, LERC or JPEG XL, and "
        "cameras' RAW files; read it with tifffile, or develop a RAW file with rawpy, and pass arrays",
        TIFF,
    ),
    _Kind("a .psd file", ", such as 16-bit ones; export it as PNG", (b"8BPS",)),
    _Kind("a .png file", "; convert it again", (b"\x89PNG",)),
    _Kind("a .mng or .jng file", "; convert it to PNG", (b"\x8aMNG", b"\x8bJNG")),
    _Kind("a .gif file", "; convert it to PNG", (b"GIF8",)),
    _Kind("a .webp file", "; convert it to PNG", ((8, b"WEBP"),)),
    _Kind("a .jp2 file", "; convert it to PNG", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    _Kind("a .bmp file", "; convert it to PNG", (b"BM",)),
)
# Base64 of the first bytes of JPEG, PNG, GIF, WebP, TIFF and BMP files.
_IMAGES_AS_BASE64 = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk", "_9j_")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}\s*")
_SHORTEST_BASE64 = 32
_INNER = re.compile(r"[\\/](https?|s3|gs|gcs|abfss?|az|hf|ftp|file):/", re.IGNORECASE)
_COLLAPSED = re.compile(r"(https?|s3|gs|gcs|abfss?|az|hf|ftp|file):/[^/]", re.IGNORECASE)
# File systems do not allow longer names, so text with a longer part is not a path.
_LONGEST_FILE_NAME = 255
_SHOWN_TEXT = 40


def is_avif(content: bytes) -> bool:
    """Return True if content is an AVIF file, whose major brand may be one that HEIC files share."""
    return content.startswith((b"ftypavi", b"ftypmif1", b"ftypmsf1"), 4) and b"avif" in content[8:64]


def is_known(content: bytes) -> bool:
    """Return True if content starts like a file that Pillow reads."""
    return _first(_KNOWN, content) is not None


def why_undecodable(content: bytes, error: Exception) -> str:
    """Return why Pillow cannot decode the content, and what to do."""
    if not content:
        return "the file is empty"
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"is too large for Pillow ({one_line(error).partition(',')[0]}); shrink it, or set "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust its source"
        )
    if "MAX_TEXT_" in str(error):
        return f"has more metadata than Pillow accepts ({one_line(error)}); save it again without metadata"
    if is_avif(content):
        if not features.check("avif"):
            return "is an .avif file, which this build of Pillow does not read: pip install --upgrade pillow"
        unknown = isinstance(error, UnidentifiedImageError)
        return f"is damaged: {'Pillow cannot identify this .avif file' if unknown else one_line(error)}"
    if kind := _first(_KINDS, content):
        return f"is {kind.what}, which is not read directly: {kind.remedy}"
    if found := _why_document(content):
        return found
    # libtiff reports damage and compression without built-in support in the same words.
    is_unclear = "unknown raw mode" in str(error) or (content.startswith(TIFF) and "decoder error -2" in str(error))
    if not isinstance(error, UnidentifiedImageError) and not is_unclear:
        return f"is damaged: {one_line(error)}"
    if found := _why_text(content):
        return found
    if kind := _first(_KNOWN, content):
        return f"is {kind.what} that is damaged, or holds pixels that Pillow does not read{kind.remedy}"
    return "is not an image in a format that Pillow reads"


def _first(kinds: tuple[_Kind, ...], content: bytes) -> _Kind | None:
    return next((kind for kind in kinds if kind.matches(content)), None)


def _why_document(content: bytes) -> str | None:
    """Identify content that is PDF or markup, which may start with other bytes; None if it is neither."""
    if b"%PDF-" in content[:1024]:
        return f"is a .pdf file, which is not read directly: {_RENDER_PDF}"
    start = _as_text(content[:4096]).lstrip("\ufeff \t\r\n").lower()
    if not start.startswith("<"):
        return None
    if "<svg" in start:
        return f"is a .svg file, which is not read directly: {_RENDER_SVG}"
    if "<html" in start or start.startswith(("<!doctype html", "<head", "<body", "<script")):
        return "is an HTML page, perhaps from a failed download; download it again"
    if start.startswith("<?xml"):
        return "is an XML document, perhaps from a failed download; download it again"
    return None


def _why_text(content: bytes) -> str | None:
    """Identify content that is text; None if it is not."""
    text = _as_text(content[:1024]).strip("\ufeff \t\r\n")
    if not text or not all(c.isprintable() or c.isspace() for c in text):
        return None
    if found := _encoding_of(text):
        what, decoded = found
        return f"is {what} instead of an image; pass the bytes: {decoded} (x = the text of the file)"
    return f"is not an image in a format that Pillow reads, but text: {one_line(text, _SHOWN_TEXT)!r}"


def _as_text(start: bytes) -> str:
    """Decode the first bytes of content, except a character cut off at the end; empty if they are not text."""
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    try:
        return start.decode(encoding)
    except UnicodeDecodeError as error:
        return start[: error.start].decode(encoding) if error.start > len(start) - 4 else ""


def why_no_path(text: str) -> str | None:
    """Identify text that was passed as a path but is not one, and say what to do; None if it may be a path."""
    if found := _encoding_of(text[:1024].strip()):
        what, decoded = found
        return f"is {what}, not a path; pass the bytes: {decoded}"
    if _COLLAPSED.match(text):
        return "is a URL of which pathlib.Path made a path; pass the URL as a str"
    return "is a path with a URL in it; pass the URL alone, as a str" if _INNER.search(text) else None


def _encoding_of(text: str) -> tuple[str, str] | None:
    """Identify text that looks like the encoded bytes of an image, and return how to decode it; None otherwise."""
    if text[:5].lower() == "data:":
        return "a data URI", 'base64.b64decode(x.partition(",")[2])'
    if len(text) < _SHORTEST_BASE64 or not _BASE64.fullmatch(text):
        return None
    if text.startswith(_IMAGES_AS_BASE64) or max(map(len, re.split(r"[/\s]", text))) > _LONGEST_FILE_NAME:
        decode = "urlsafe_b64decode" if re.search("[-_]", text) else "b64decode"
        return "base64 text", f"base64.{decode}(x)"
    return None
