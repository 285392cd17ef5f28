"""The files of an export: they appear complete or not at all, and errors of the system name them."""

from __future__ import annotations

import errno
import os

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from sktl._deployment.export_paths import FORMATS, Target

LARGEST = 20_000  # bytes of a file
DOCUMENT = "x" * 2 * LARGEST


def tiny(name):
    """Return a converted model of a format."""
    if name == "program":
        return torch.export.export(torch.nn.ReLU(), (torch.zeros(1),))
    values = [helper.make_tensor_value_info(own, TensorProto.FLOAT, [50, 200]) for own in ("x", "y")]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [50, 200], range(10_000))
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "tiny", values[:1], values[1:], [weights])
    opset = [helper.make_opsetid("", 20)]
    return FORMATS[name].convert(helper.make_model(graph, ir_version=9, opset_imports=opset))


@pytest.fixture
def full_disk():
    """Let files have no more than `LARGEST` bytes."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_that_names_the_target_and_leaves_nothing(name, tmp_path, full_disk):
    model = tiny(name)
    target = Target.of(tmp_path / f"m{FORMATS[name].suffixes[0]}", None)
    target.path.write_bytes(b"mine")
    with pytest.raises(OSError, match=rf"{target.path.name}'") as caught, target.draft() as path:
        target.write(model, DOCUMENT, path)
    assert caught.value.errno == errno.EFBIG
    assert path.name not in str(caught.value)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(target.path.name, b"mine")]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no folder in which nobody can write")
@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.pt2", "folder/"])
def test_a_folder_in_which_nothing_can_be_written_is_an_error_before_the_draft(name):
    with pytest.raises(OSError, match=name):
        Target.of(f"/proc/self/{name}", None)


@pytest.mark.parametrize("stem", ["a" * 249, "猫" * 83, "é" * 124], ids=["ASCII", "3 bytes", "2 bytes"])
def test_files_have_any_name_that_the_file_system_allows(stem, tmp_path):
    target = Target.of(tmp_path / f"{stem}.onnx", None)
    with target.draft() as path:
        target.write(onnx.ModelProto(), "", path)
    assert os.listdir(tmp_path) == [f"{stem}.onnx"]
