"""A model goes through open files and memory as through a path, with the same checks."""

# ruff: noqa: SIM115 - files are left open on purpose

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import sktl
from sktl._storage.model_file import open_model, write_model
from sktl._storage.tensor_streams import StreamedTensors
from sktl.exceptions import InvalidParameterError, ModelFileError, ModelFileNotFoundError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.bfloat16), "none": torch.zeros(0, 4)}
EXPECTED = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}

PASSED = r"The model that was passed as (bytes|a BytesIO|a Stream)"


def written():
    write_model(file := io.BytesIO(), {"n": 1}, TENSORS)
    return file.getvalue()


def read(place, expected=EXPECTED):
    with open_model(place) as file:
        document, tensors = file.document, file.read(expected)
    assert document == {"n": 1}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


class Stream:
    """A stream that cannot seek, and gives and takes as little at a time as a socket may."""

    def __init__(self, content=b"", size=7):
        self.content, self.size = content, size

    def read(self, n_bytes):
        part, self.content = self.content[: min(n_bytes, self.size)], self.content[min(n_bytes, self.size) :]
        return part

    def write(self, content):
        self.content += bytes(content[: self.size])
        return min(self.size, len(content))


def test_what_was_written_to_an_open_file_is_read_from_it_and_from_its_path(tmp_path):
    for file in (Stream(), io.BytesIO(), tempfile.SpooledTemporaryFile(10), tempfile.TemporaryFile()):
        write_model(file, {"n": 1}, TENSORS)
        if not isinstance(file, Stream):
            file.seek(0)
        read(file)
    with open(tmp_path / "raw", "wb", buffering=0) as file:
        write_model(file, {"n": 1}, TENSORS)
        assert not file.closed
        read(tmp_path / "raw")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, Stream])
def test_what_was_written_is_read_from_memory_and_streams(kind):
    read(kind(written()))


def test_what_was_written_is_read_from_open_files_of_all_kinds(tmp_path):
    (tmp_path / "x").write_bytes(written())
    with gzip.open(tmp_path / "x.gz", "wb") as file:
        write_model(file, {"n": 1}, TENSORS)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("x", "w") as file:
        write_model(file, {"n": 1}, TENSORS)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        opened = [open(tmp_path / "x", "rb"), open(tmp_path / "x", "rb", buffering=0), gzip.open(tmp_path / "x.gz"),
                  archive.open("x")]  # fmt: skip
        for file in opened:
            with file:
                read(file)
                assert not file.closed


def test_models_follow_each_other_in_a_file_from_where_it_stands():
    file = io.BytesIO()
    file.write(b"before")
    for _ in range(2):
        write_model(file, {"n": 1}, TENSORS)
    file.write(b"after")
    file.seek(len(b"before"))
    read(file)
    read(file)
    assert file.read() == b"after"
    with pytest.raises(ModelFileError, match="it has more bytes after its tensors"):
        read(written() + b"after")


def test_every_changed_byte_and_every_cut_is_noticed():
    content = written()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1
        for wrong in (changed, content[:position]):
            for place in (bytes(wrong), Stream(wrong, 100)):
                with pytest.raises(
                    ModelFileError, match=rf"^{PASSED} (is damaged, or not an sktl model: .|has format '0')"
                ):
                    read(place)


def test_a_stream_that_promises_much_is_read_no_further_than_was_expected():
    huge = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    metadata = {"n": 1}
    stream = Stream(written(), 1 << 20)
    with pytest.raises(ModelFileError, match=r"a has shape \(2, 3\), not \(2,\)"), open_model(stream) as file:
        file.read(EXPECTED | {"a": ((2,), torch.float32)})
    assert len(stream.content) == sum(tensor.nbytes for tensor in TENSORS.values())  # nothing of the tensors
    for header in (struct.pack("<Q", len(huge)) + huge, struct.pack("<Q", 1 << 60) + b"{}"):
        with pytest.raises(ModelFileError):
            read(Stream(header + bytes(1000)))
    # Offsets that say more than shapes are refused.
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 1 << 42]}
    content = json.dumps({"__metadata__": {"sktl": "1"}, "a": entry} | {"b": metadata}).encode()
    with pytest.raises(ModelFileError):
        read(Stream(struct.pack("<Q", len(content)) + content + bytes(1000)))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x00" * 100, b"[" * 100, safetensors.torch.save(TENSORS)])
def test_what_is_no_model_is_refused(content):
    for place in (content, io.BytesIO(content), Stream(content)):
        with pytest.raises(ModelFileError, match=f"^{PASSED} is damaged, or not an sktl model"):
            read(place)


HEADERS = [
    "[]", "null", "{", "[" * 100_000, "9" * 5000, '{"__metadata__": 3}', '{"__metadata__": {"sktl": 1}}', '{"a": null}',
    '{"a": {}}', '{"a": {"dtype": "F99", "shape": []}}', '{"a": {"dtype": "F32", "shape": [-1]}}',
    r'{"__metadata__": {"sktl": "1", "document": "\ud800", "document_sha256": "", "sha256": ""}}', r'{"\udce9": null}',
    '{"a": {"dtype": [], "shape": [1]}}', '{"a": {"dtype": "F32", "shape": 1}}', '{"a": {"dtype": "U8", "shape": [1]}}',
    '{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, null]}}',
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_header_of_another_form_is_refused_in_plain_words(header):
    content = struct.pack("<Q", len(header)) + header.encode()
    for place in (content, Stream(content, 1 << 20)):
        with pytest.raises(ModelFileError, match=r"is damaged, or not an sktl model: its header (is|has|does)"):
            read(place)


@given(order=st.permutations(range(3)), sizes=st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_tensors_are_where_the_header_says_in_whatever_order_it_names_them(order, sizes):
    tensors = {str(i): torch.randn(size) for i, size in enumerate(sizes)}
    content = safetensors.torch.save(tensors)
    length = 8 + int.from_bytes(content[:8], "little")
    described = json.loads(content[8:length])
    header = json.dumps({str(i): described[str(i)] for i in order}).encode()
    file = StreamedTensors(io.BytesIO(struct.pack("<Q", len(header)) + header + content[length:]), whole=True)
    for name, tensor in tensors.items():
        found = file.get_tensor(name)
        assert torch.equal(found, tensor)
        assert found.data_ptr() % 64 == 0 or not sizes[int(name)]


@pytest.mark.parametrize("second", [[0, 4], [4, 12], [8, 12], [3, 7]])
def test_tensors_that_overlap_or_leave_gaps_are_refused(second):
    entries = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps(entries | {"b": {"dtype": "F32", "shape": [1], "data_offsets": second}}).encode()
    with pytest.raises(safetensors.SafetensorError, match="overlap, or do not follow each other"):
        StreamedTensors(io.BytesIO(struct.pack("<Q", len(header)) + header + bytes(20)), whole=False)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="units of the peak differ")
def test_reading_takes_the_memory_of_the_tensors():
    names = list(map(str, range(8)))
    write_model(file := io.BytesIO(), {"n": 1}, {name: torch.zeros(1 << 22) for name in names})
    code = """
import resource, sys, torch
from sktl._storage.model_file import open_model
def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
before = megabytes()
with open_model(sys.stdin.buffer) as file:
    file.read_all()
print(megabytes() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], input=file.getvalue(), capture_output=True, check=True)
    assert float(found.stdout) < 1.3 * 128


class Plant:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_pickle_is_refused_and_runs_nothing(tmp_path):
    torch.save(Plant(str(tmp_path / "marker")), archive := io.BytesIO())
    with zipfile.ZipFile(photos := io.BytesIO(), "w") as file:
        file.writestr("1.jpg", b"x")
    zipfile.ZipFile(empty := io.BytesIO(), "w").close()
    contents = [pickle.dumps(Plant(str(tmp_path / "marker"))), *(f.getvalue() for f in (archive, photos, empty))]
    for content, kind in zip(contents, ["pickle", *["ZIP archive"] * 3], strict=True):
        for place in (content, Stream(content)):
            with pytest.raises(ModelFileError, match=f"it is a {kind}.*, which could run code, and (is|are) not read"):
                read(place)
    assert not any(tmp_path.iterdir())


class Whole:
    """Reads all that it has, as answers of web clients do."""

    def read(self):
        return written()


def opened_for(mode):
    return lambda path: open(path, mode)


def closed(path):
    with open(path, "rb") as file:
        return file


class Generous:
    """Returns a byte more than it was asked for."""

    def __init__(self):
        self.file = io.BytesIO(written())

    def read(self, n_bytes):
        return self.file.read(n_bytes + 1)


READING = {
    "generous": (lambda path: Generous(), "path is a Generous, which does not return the requested number of bytes"),
    "closed": (closed, r"the file '.*x', which is closed\. Pass a path, or open the file as 'rb'"),
    "text": (opened_for("r"), "which is open for text"),
    "codecs": (lambda path: codecs.open(path, "rb", "latin1"), "which is open for text"),
    "named text": (lambda path: tempfile.NamedTemporaryFile("w+"), "which is open for text"),
    "string": (lambda path: io.StringIO("x"), "path is a StringIO, which is open for text"),
    "write only": (opened_for("ab"), "which is not open for reading"),
    "web client": (lambda path: Whole(), "path is a Whole, which does not return the requested number of bytes"),
    "none": (lambda path: None, "path is None. Pass a path, or a file that is open for binary reading"),
    "number": (lambda path: 3, r"path is 3\. Pass a path"),
    "truth": (lambda path: True, r"path is True\. Pass a path"),
    "list": (lambda path: [path], r"path is a list\. Pass a path"),
    "object": (lambda path: object(), r"path is an object\. Pass a path"),
    "empty": (lambda path: "", r"path='' is not a path"),
    "nul": (lambda path: "a\0b", r"path='a\\x00b' is not a path"),
}  # fmt: skip
ONLY_READS = ("write only", "web client", "closed", "generous")
WRITING = {name: case for name, case in READING.items() if name not in ONLY_READS} | {
    "read only": (opened_for("rb"), "which is not open for writing"),
    "only reads": (lambda path: Whole(), "path is a Whole, which is not open for writing"),
    "content": (lambda path: b"x", r"path is a bytes\. Pass a path"),
    "closed": (closed, r"the file '.*x', which is closed\. Pass a path, or open the file as 'wb'"),
}


@pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")
@pytest.mark.parametrize("case", READING)
def test_what_cannot_be_read_from_is_named(tmp_path, case):
    make, words = READING[case]
    (tmp_path / "x").write_bytes(written())
    with pytest.raises(InvalidParameterError, match=words) as caught:
        sktl.load(make(tmp_path / "x"))
    assert " at 0x" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")
@pytest.mark.parametrize("case", WRITING)
def test_what_cannot_be_written_to_is_named_and_left_alone(tmp_path, case):
    make, words = WRITING[case]
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(InvalidParameterError, match=words.replace("reading", "writing").replace("'rb'", "'wb'")):
        write_model(make(tmp_path / "x"), {}, TENSORS)
    assert (tmp_path / "x").read_bytes() == b"before"


@pytest.mark.parametrize("error", [ValueError("token expired."), ConnectionResetError("token expired"), KeyError()])
@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_an_error_of_the_file_object_is_not_called_damage(error, n_before):
    class Failing(io.BytesIO):
        n_reads = 0

        def read(self, size=-1):
            self.n_reads += 1
            if self.n_reads > n_before:
                raise error
            return super().read(size)

    words = r"^The model that was passed as a Failing cannot be read: (token expired|KeyError)\.$"
    with pytest.raises(ModelFileError, match=words) as caught:
        read(Failing(written()))
    assert caught.value.__cause__ is error


def test_a_long_name_is_shown_in_part(tmp_path):
    with pytest.raises(ModelFileNotFoundError, match=r"\.\.\.xxx") as caught:
        sktl.load("x" * 100_000)
    assert len(str(caught.value)) < 500 + len(os.getcwd())


def test_a_disk_that_is_full_is_an_error_of_writing():
    class Full(io.BytesIO):
        def flush(self):
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        write_model(Full(), {}, TENSORS)
