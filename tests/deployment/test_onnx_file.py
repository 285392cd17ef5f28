"""ONNX models: they are as large as their weights are when they are written, and no larger than ONNX allows."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from sktl._deployment import onnx_file
from sktl._deployment.onnx_file import OnnxFormat, with_half_weights
from sktl._deployment.openvino_files import OpenVinoFormat
from sktl.exceptions import ExportError


def model_of(n_weights):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [n_weights]) for name in "xy"]
    content = bytes(4 * n_weights)
    weights = helper.make_tensor("w", TensorProto.FLOAT, [n_weights], content, raw=True)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("made", [OnnxFormat, OpenVinoFormat])
def test_a_model_is_as_large_as_what_is_written(made, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, "_LARGEST", 3_000)
    path = tmp_path / f"m{made.suffixes[0]}"
    model = model_of(1_000)
    made().write(made().convert(with_half_weights(model)), "{}", path)
    assert path.is_file()
    path.unlink()
    with pytest.raises(ExportError, match=r"less than 2 GiB\. Export to a \.pt2 file or.*float16"):
        made().write(made().convert(model), "{}", path)
    assert not path.exists()
