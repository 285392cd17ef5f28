"""The file of a saved model is whole or refused, and never runs anything."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import pickle
import struct
import sys
from functools import partial

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pickles import Plant
from processes import Child, in_child, needs_fork

from sktl._storage import model_file as _model_file
from sktl._storage.model_file import open_model, write_model
from sktl._version import __version__
from sktl.exceptions import (
    InvalidParameterError,
    ModelFileError,
    ModelFileNotFoundError,
    UnknownBackboneError,
    WeightsNotFoundError,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "empty": torch.zeros(0, 4, dtype=torch.float64)}
EXPECTED = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(path, expected=EXPECTED):
    with open_model(path) as file:
        return file.document, file.read(expected)


@settings(max_examples=50)
@given(document=st.dictionaries(st.text(), JSON, max_size=4), values=st.lists(st.floats(width=32), max_size=5))
def test_what_was_written_is_read(tmp_path_factory, document, values):
    path = tmp_path_factory.getbasetemp() / "any.sktl"
    tensors = {"x": torch.tensor(values)}
    write_model(path, document, tensors)
    found, read_tensors = read(path, {"x": ((len(values),), torch.float32)})
    assert found == document
    assert read_tensors["x"].numpy().tobytes() == tensors["x"].numpy().tobytes()


@given(document=st.dictionaries(st.text(), st.text()))
def test_equal_models_are_equal_files(tmp_path_factory, document):
    """For stores that address files by their content. Safetensors writes metadata in random order."""
    folder = tmp_path_factory.mktemp("equal")
    for i in range(3):
        write_model(folder / str(i), document, {"é\n\x7f\u2028": torch.ones(2), **TENSORS})
        write_model(stream := io.BytesIO(), document, {**TENSORS, "é\n\x7f\u2028": torch.ones(2)})
        assert (folder / str(i)).read_bytes() == (folder / "0").read_bytes() == stream.getvalue()


def test_shared_and_strided_tensors_are_written_as_they_look(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    write_model(tmp_path / "x", {}, {"a": base.t(), "b": base[1:]})
    _, found = read(tmp_path / "x", {"a": ((4, 3), torch.float32), "b": ((2, 4), torch.float32)})
    assert torch.equal(found["a"], base.t())
    assert torch.equal(found["b"], base[1:])


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({**EXPECTED, "c": ((1,), torch.float32)}, "it lacks c"),
        ({name: value for name, value in EXPECTED.items() if name != "a"}, "it has an unexpected a"),
        ({**EXPECTED, "a": ((3, 2), torch.float32)}, r"a has shape \(2, 3\), not \(3, 2\)"),
        ({**EXPECTED, "a": ((2, 3), torch.int32)}, r"a has shape .* of torch.int32"),
    ],
)
def test_tensors_that_are_not_those_expected_are_not_read(tmp_path, monkeypatch, expected, reason):
    write_model(tmp_path / "x", {}, TENSORS)
    digest = _model_file._digest
    monkeypatch.setattr(
        _model_file, "_digest", lambda text, found: pytest.fail("read") if found else digest(text, found)
    )
    with pytest.raises(ModelFileError, match=rf"x' is damaged, or not an sktl model: {reason}"):
        read(tmp_path / "x", expected)


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path):
    write_model(tmp_path / "x", {"key": ["value", 1.5]}, TENSORS)
    good = (tmp_path / "x").read_bytes()
    expected = read(tmp_path / "x")[0]
    accepted = 0
    for at in range(len(good)):
        for changed in (good[:at] + bytes([good[at] ^ 0x11]) + good[at + 1 :], good[:at]):
            (tmp_path / "x").write_bytes(changed)
            try:
                found, tensors = read(tmp_path / "x")
            except ModelFileError:
                continue
            accepted += 1  # spaces that fill the header up
            assert found == expected
            assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert accepted < 16


@needs_fork
def test_a_file_that_is_cut_off_is_named_before_its_document_is_used(tmp_path):
    write_model(tmp_path / "x", {}, TENSORS)
    good = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(good[:-1])
    with pytest.raises(ModelFileError, match="it is cut off"), open_model(tmp_path / "x"):
        pytest.fail("it was opened")


def test_a_file_that_is_overwritten_while_it_is_read_is_an_error_and_not_the_end_of_the_process(tmp_path):
    path, large = tmp_path / "x", {"x": torch.zeros(1 << 20)}
    write_model(path, {}, large)

    def overwrite_and_read():
        with open_model(path) as file:
            os.truncate(path, 1 << 14)  # as `cp` does first
            file.read({"x": ((1 << 20,), torch.float32)})

    with pytest.raises(AssertionError, match=r"ModelFileError: .*it ends after"):  # in a child, which may end otherwise
        in_child(overwrite_and_read)


def _metadata(document):
    return {"sktl": "1", "document": document, "document_sha256": _model_file._digest(document, {})}


def test_a_file_that_sktl_did_not_write_is_named(tmp_path):
    path = tmp_path / "x"
    safetensors.torch.save_file(TENSORS, path)
    with pytest.raises(ModelFileError, match="it was not written by sktl's save"):
        read(path)
    for number in ("2", "999", "x" * 100):
        safetensors.torch.save_file(TENSORS, path, {"sktl": number})
        with pytest.raises(ModelFileError, match=rf"has format '{number[:20]}', and .* reads format 1\. Update sktl"):
            read(path)
    for document in ("[]", "{", "[" * 100_000, "3"):
        safetensors.torch.save_file(TENSORS, path, _metadata(document))
        with pytest.raises(ModelFileError, match="is damaged, or not an sktl model"):
            read(path)
    with pytest.raises(ModelFileNotFoundError, match=r"missing' does not exist \(looked in .*Pass a file that `save`"):
        read(tmp_path / "missing")
    with pytest.raises(ModelFileNotFoundError, match=r"is a folder without model\.safetensors\. Pass a"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run `git lfs pull`"),
        (gzip.compress(b"x" * 99, mtime=0), "is compressed by gzip"),
        (gzip.compress(b"x" * 99, mtime=1), "is compressed by gzip"),
        (b"\n<!DOCTYPE html><html>" + b" " * 99, "is a web page"),
        (b"PK\x03\x04" + b"x" * 99, "is a ZIP archive"),
    ],
)
def test_other_content_is_named_for_what_it_is(tmp_path, content, words):
    (tmp_path / "x").write_bytes(content)
    for place in (tmp_path / "x", io.BytesIO(content)):
        with pytest.raises(ModelFileError, match=words):
            read(place)


def test_a_header_that_promises_more_than_the_file_has_allocates_nothing(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelFileError):
        read(tmp_path / "x")
    (tmp_path / "x").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(ModelFileError):
        read(tmp_path / "x")


@pytest.mark.parametrize("write", [lambda plant, path: path.write_bytes(pickle.dumps(plant)), torch.save])
def test_a_pickle_is_refused_and_runs_nothing(tmp_path, write):
    marker = tmp_path / "marker"
    write(Plant(str(marker)), tmp_path / "x")
    with pytest.raises(ModelFileError, match=r"it is a (pickle|ZIP archive; .* a pickle), which could run code"):
        read(tmp_path / "x")
    assert not marker.exists()
    pickle.loads(pickle.dumps(Plant(str(marker)))).close()
    assert marker.exists()  # the plant works


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("broken", ["os.fsync", "os.replace", "safetensors.torch.save_file"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    write_model(tmp_path / "x", {"old": 1}, TENSORS)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="disk full"):
        write_model(tmp_path / "x", {"new": 2}, TENSORS)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert read(tmp_path / "x")[0] == {"old": 1}


def limited(limit, write):
    """Run a function in a process whose files may have so many bytes. Return the error of the system."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large") as caught:
        write()
    return caught.value.errno, caught.value.filename


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("limit", [0, 100])
def test_a_disk_that_is_full_is_an_error_of_the_system_that_names_the_file(tmp_path, limit):
    write = partial(write_model, tmp_path / "x", {"n": 1}, TENSORS)
    assert in_child(limited, limit, write) == (errno.EFBIG, str(tmp_path / "x"))
    assert not list(tmp_path.iterdir())


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="folders in use can be removed")
def test_in_a_working_folder_that_was_removed_the_error_names_the_file(tmp_path):
    def removed():
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(FileNotFoundError) as caught:
            write_model("x.sktl", {}, TENSORS)
        return caught.value.filename

    assert in_child(removed) == "x.sktl"


@pytest.mark.parametrize("as_file", [False, True])
def test_what_the_format_cannot_hold_is_an_error_of_writing(tmp_path, monkeypatch, as_file):
    """As a document longer than a header may be, or a full disk."""

    def fail(*args):
        raise safetensors.SafetensorError("too large")

    for name in ("save", "save_file"):
        monkeypatch.setattr(f"safetensors.torch.{name}", fail)
    place = io.BytesIO() if as_file else tmp_path / "x"
    with pytest.raises(OSError, match=r"(BytesIO|x') cannot be written: too large$"):
        write_model(place, {"new": 2}, TENSORS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [InvalidParameterError("lr=\n5"), UnknownBackboneError("lr=\n5"), WeightsNotFoundError("lr=\n5")]
)
@pytest.mark.parametrize("version", ["9.9", "0.0.1", __version__])
def test_values_that_are_invalid_here_are_an_error_of_the_file(tmp_path, error, version):
    write_model(tmp_path / "x", {"versions": {"sktl": version}}, TENSORS)
    with pytest.raises(ModelFileError, match=r"x' cannot be used: lr= 5") as caught, open_model(tmp_path / "x"):
        raise error
    assert caught.value.__cause__ is error
    is_advised = version == "9.9" and not isinstance(error, WeightsNotFoundError)
    assert ("by sktl 9.9, and this is" in str(caught.value)) == ("update" in str(caught.value)) == is_advised


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
@pytest.mark.parametrize("private", [False, True])
def test_a_file_may_be_read_by_whom_the_umask_says(tmp_path, umask, private):
    before = os.umask(umask)
    try:
        for _ in range(2):  # new, and replaced
            write_model(tmp_path / "x", {}, TENSORS, private)
            assert (tmp_path / "x").stat().st_mode & 0o777 == (0o600 if private else 0o666 & ~umask)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_links_are_followed_and_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/x")  # which is not there at first
    for n in range(2):
        write_model(tmp_path / "link", {"n": n}, TENSORS)
        assert (tmp_path / "link").is_symlink()
        assert read(tmp_path / "folder" / "x")[0] == {"n": n}
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match="is not a regular file"):
            write_model(tmp_path / name, {}, TENSORS)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@settings(max_examples=30)
@given(name=st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"/\0") and name.strip(b".")))
def test_a_file_of_any_name_is_read(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    path = os.fsdecode(os.fsencode(folder) + b"/" + name)
    write_model(path, {}, TENSORS)
    assert set(read(path)[1]) == set(TENSORS)
    os.truncate(path, 9)
    with pytest.raises(ModelFileError, match="is damaged, or not an sktl model"), open_model(path):
        pass


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.EACCES, "Permission denied. Make it readable."), (errno.EMFILE, "Too many open files.")]
)
def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path, monkeypatch, code, reason):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    write_model(tmp_path / "x", {}, TENSORS)
    monkeypatch.setattr(_model_file, "open", refuse, raising=False)
    with pytest.raises(ModelFileError, match=rf"^'.*x' cannot be read: {reason}$"):
        read(tmp_path / "x")


def test_the_model_in_a_folder_is_read(tmp_path):
    write_model(tmp_path / "model.safetensors", {}, TENSORS)
    assert set(read(tmp_path)[1]) == set(TENSORS)


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is in characters")
def test_a_name_of_as_many_bytes_as_the_system_allows_is_written(tmp_path):
    path = tmp_path / ("\N{EURO SIGN}" * 84)
    write_model(path, {}, TENSORS)
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelFileNotFoundError, match=r"nowhere' does not exist\. Create it before saving"):
        write_model(tmp_path / "nowhere" / "x", {}, TENSORS)


@pytest.mark.thorough
@needs_fork
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "x"
    # Torch copies more with threads, which a fork has not.
    big = {"a": torch.arange(30_000.0)}
    write_model(path, {"n": -1}, big)

    def write_for_ever(pipe):
        for n in range(10**9):
            write_model(path, {"n": n}, big)
            os.write(pipe, b".")

    seen = set()
    for i in range(20):
        reader, writer = os.pipe()
        child = Child(write_for_ever, writer)
        for _ in range(1 + i % 5):  # so many writes, and some moment of the next one
            os.read(reader, 1)
        child.kill()
        os.close(reader), os.close(writer)
        document, _ = read(path, {"a": ((30_000,), torch.float32)})
        seen.add(document["n"])
    assert len(seen) > 1


def test_a_released_memoryview_is_refused():
    released = memoryview(b"x")
    released.release()
    with pytest.raises(InvalidParameterError, match="is a released memoryview"), open_model(released):
        pass


@pytest.mark.parametrize("step", [-1, 1, 2, 3])
def test_a_memoryview_of_any_step_is_read(step):
    write_model(memory := io.BytesIO(), {"n": 1}, TENSORS)
    spread = bytearray(abs(step) * memory.tell())
    spread[::step] = memory.getvalue()
    assert read(memoryview(spread)[::step])[0] == {"n": 1}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.xml", b'<?xml version="1.0"?>\n<net name="sktl" version="11">', "OpenVINO model. Run it with OpenVINO, or"),
        ("renamed", b'<?xml version="1.0"?>\n<net name="sktl" version="11">', "OpenVINO model. Run it with OpenVINO"),
        ("m.pt2", b"PK\x03\x04", r"torch\.export model. Run it with torch\.export\.load, or pass the model that was"),
    ],
)
def test_exported_models_are_named_and_not_called_damaged(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name}' is an exported {words}"):
        read(tmp_path / name)
