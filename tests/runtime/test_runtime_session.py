"""Files that the export did not write, or that changed since, are errors of ours; a fork opens the model again."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import onnx_models as exported
import pytest
import safetensors.numpy
from onnx import TensorProto, helper
from processes import ROOTS, in_child, needs_fork

from sktl.exceptions import DeviceMemoryError, InvalidParameterError, ModelFileError, ModelFileNotFoundError, SktlError
from sktl.runtime import OnnxClassifier, OnnxEncoder, OnnxRegressor, model_source, open_model
from sktl.runtime.model_source import ModelSource

X = np.random.default_rng(1).integers(0, 256, (3, 40, 30, 3), np.uint8)
GOOD = exported.content(typicality=True)
TEXT = exported.described("classes").to_json()


def changed(change, size=("n", *exported.CROP, 3), typicality=False) -> bytes:
    """Return a model after a change of its graph."""
    model = exported.graph(typicality=typicality, size=size)
    change(model.graph)
    return exported.with_text(model, TEXT)


def external(place: str) -> bytes:
    """Return a model whose weights are outside of the file, in a place that exists."""

    def move(graph):
        weight = graph.initializer[1]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": place, "length": "36"}.items():
            weight.external_data.add(key=key, value=value)
        graph.node[5].op_type = "Gemm"  # which reads it unoptimized

    return changed(move)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", b"0" * 100)
    return file.getvalue()


def not_a_number(graph):
    graph.node[-1].op_type = "Asin"  # of numbers above 1


FOREIGN = {
    "empty": b"",
    "text": b"cats and dogs" * 100,
    "zeros": bytes(1_000),
    "a pickle": pickle.dumps({"weights": [1.0] * 100}),
    "a ZIP archive": zipped(),
    "cut": GOOD[: len(GOOD) // 2],
    "cut at the end": GOOD[:-1],
    "cut at the beginning": GOOD[1:],
    "no document": exported.with_text(exported.graph(), None),
    "a document that is no JSON": exported.with_text(exported.graph(), "{'format': 1}"),
    "a huge document": exported.with_text(exported.graph(), " " * (65 << 20)),
    "weights beside the file": external("weights.bin"),
    "weights in another folder": external("../weights.bin"),
    "weights anywhere": external("/etc/hostname"),
    "an unknown operator": changed(lambda graph: graph.node.add(op_type="Exec", input=["mean"], output=["x"])),
    "the domain of someone": changed(lambda graph: setattr(graph.node[2], "domain", "com.example")),
    "a fixed number of images": changed(lambda graph: None, size=(3, *exported.CROP, 3)),
    "another size": changed(lambda graph: None, size=("n", 30, 24, 3)),
    "any size": changed(lambda graph: None, size=("n", "h", "w", 3)),
    "channels first": changed(lambda graph: None, size=("n", 3, *exported.CROP)),
    "input of floats": changed(lambda graph: setattr(graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT)),
    "another name": changed(lambda graph: setattr(graph.input[0], "name", "pixels")),
    "another input": changed(
        lambda graph: graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    ),
    "another output": changed(
        lambda graph: graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 3]))
    ),
    "no output": changed(lambda graph: graph.ClearField("output")),
    "another kind": exported.with_text(exported.graph("numbers"), TEXT),
    "outputs that are not finite": changed(not_a_number),
    "one row for all images": changed(lambda graph: setattr(graph.node[4].attribute[0], "i", 0)),
    "another network": changed(lambda graph: setattr(graph.initializer[1], "raw_data", bytes(36))),
}  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_the_export_did_not_write_is_an_error_of_ours(content, tmp_path, monkeypatch, capfd):
    (tmp_path / "here").mkdir()
    for place in ("weights.bin", "here/weights.bin"):
        (tmp_path / place).write_bytes((4 * np.eye(3, dtype=np.float32)).tobytes())
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "cats.onnx").write_bytes(content)
    for given in ("cats.onnx", content):
        with pytest.raises(ModelFileError, match=r"[Ee]xport") as caught:
            OnnxClassifier(given)
        assert len(str(caught.value)) < 700
    assert "cats.onnx" in str(caught.value) or "The model" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_differs_from_the_reference_images_is_said():
    with pytest.raises(
        ModelFileError, match=r"differ by 0\.\d+ on its reference images, more than 0\.001\. Update onnx"
    ):
        open_model(FOREIGN["another network"])


def test_a_damaged_byte_is_an_error_of_ours_or_changes_nothing():
    expected = OnnxClassifier(GOOD).predict_proba(X)
    generator = np.random.default_rng(0)
    beginning = GOOD.index(b'{"format"')  # the graph is before its document
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(GOOD)
        damaged[generator.integers(0, beginning)] = generator.integers(0, 256)
        try:
            np.testing.assert_allclose(OnnxClassifier(bytes(damaged)).predict_proba(X), expected, atol=5e-3)
            outcomes.add("nothing")
        except ModelFileError:
            outcomes.add("error")
    assert outcomes == {"nothing", "error"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors.numpy.save({"x": np.zeros(3)}, {"sktl": "1"}), "is a saved model, not an exported one"),
        (b'<?xml version="1.0"?>\n<net name="sktl" version="11">', "is a model in OpenVINO IR. Run it with"),
    ],
)
def test_models_in_other_formats_are_named_and_not_called_damaged(content, words):
    with pytest.raises(ModelFileError, match=words) as caught:
        open_model(content)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("model", [None, 3, ["cats.onnx"], "", "a\0b", io.StringIO("x"), np.zeros(3)])
def test_what_is_not_a_model_at_all_is_an_invalid_parameter(model):
    with pytest.raises(InvalidParameterError, match=r"^model"):
        open_model(model)


def test_a_closed_file_is_an_invalid_parameter(tmp_path):
    (tmp_path / "a").touch()
    with open(tmp_path / "a", "rb") as file:
        pass
    with pytest.raises(InvalidParameterError, match="closed file"):
        open_model(file)


def test_reading_a_file_takes_the_memory_of_its_content(tmp_path):
    (tmp_path / "cats.onnx").write_bytes(GOOD)
    source = ModelSource.of(tmp_path / "cats.onnx")
    tracemalloc.start()
    try:
        content, _ = source.read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert content == GOOD
    assert peak < 2 * len(GOOD) + (1 << 16)


def test_a_lack_of_memory_for_a_file_is_said(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def read(self, size=-1):
            raise MemoryError

    (tmp_path / "cats.onnx").write_bytes(GOOD)
    monkeypatch.setattr(model_source, "open", Full, raising=False)
    with pytest.raises(DeviceMemoryError, match=r"not enough memory for '.*cats\.onnx'\. Free memory"):
        open_model(tmp_path / "cats.onnx")


class Slow(io.RawIOBase):
    """A file that returns a few bytes at a time."""

    def __init__(self, content, kind=bytes):
        self.rest, self.kind = content, kind

    def read(self, n=-1):
        part, self.rest = self.rest[: min(n, 1000)], self.rest[min(n, 1000) :]
        return self.kind(part)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_file_that_returns_a_part_at_a_time_is_read_to_its_end(kind):
    content = exported.content()
    assert ModelSource.of(Slow(content, kind)).place == content


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (bytes.decode, r"is open for text\. Open it as 'rb'"),
        (list, "returns a list instead of bytes"),
        (lambda part: None, "returns no bytes for now"),
    ],
)
def test_what_a_file_returns_must_be_bytes(kind, message):
    with pytest.raises(InvalidParameterError, match=message):
        open_model(Slow(b"x", kind))


def test_a_file_whose_read_takes_no_size_and_released_bytes_are_refused():
    class Whole:
        def read(self):
            return b""

    with pytest.raises(InvalidParameterError, match="`read` takes no number of bytes"):
        open_model(Whole())
    released = memoryview(b"x")
    released.release()
    with pytest.raises(InvalidParameterError, match="is a released memoryview"):
        open_model(released)


def test_paths_that_are_no_files_are_said_without_waiting(tmp_path):
    with pytest.raises(ModelFileNotFoundError, match="does not exist"):
        open_model(tmp_path / "cats.onnx")
    with pytest.raises(ModelFileNotFoundError, match="is not a file"):
        open_model(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileNotFoundError, match="is not a file"):
            open_model(tmp_path / "pipe")


@pytest.mark.parametrize("opener", [OnnxClassifier, OnnxRegressor, OnnxEncoder])
@pytest.mark.parametrize("kind", ["classes", "labels", "numbers", "features"])
def test_a_class_opens_its_kinds_of_models_and_names_what_opens_others(opener, kind):
    if kind in opener.kinds:
        assert type(open_model(exported.content(kind))) is opener is type(opener(exported.content(kind)))
    else:
        with pytest.raises(ModelFileError, match=f"predicts {kind}.*open_model"):
            opener(exported.content(kind))


def test_a_failure_while_running_is_an_error_of_ours(monkeypatch):
    model = OnnxClassifier(GOOD)

    class Failing:
        def run(self, names, inputs):
            raise self.error

    model._session._network = Failing()
    for error, match in ((RuntimeError("bad allocation"), "memory"), (RuntimeError("no kernel"), "no kernel")):
        Failing.error = error
        with pytest.raises(SktlError, match=match):
            model.predict(X)


@pytest.mark.thorough
@needs_fork
def test_a_forked_child_opens_the_model_again(tmp_path):
    path = tmp_path / "cats.onnx"
    path.write_bytes(GOOD)
    for model in (OnnxClassifier(path, n_threads=2), OnnxClassifier(GOOD, n_threads=2)):
        expected = model.predict_proba(X)
        np.testing.assert_array_equal(in_child(model.predict_proba, X), expected)
        np.testing.assert_array_equal(in_child(in_child, model.predict_proba, X), expected)


@pytest.mark.thorough
@needs_fork
def test_a_forked_child_leaves_quietly_whether_it_used_the_model_or_not(tmp_path):
    (tmp_path / "cats.onnx").write_bytes(GOOD)
    program = """
import os, sys
import numpy as np
from sktl.runtime import OnnxClassifier
models = [OnnxClassifier(sys.argv[1], n_threads=4) for _ in range(2)]
X = np.zeros((2, 9, 9, 3), np.uint8)
for used in (False, True):
    pid = os.fork()
    if not pid:
        models[0].predict(X) if used else None
        del models[0]
        sys.exit(3)  # with all destructors
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(*models[0].predict(X))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "cats.onnx"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
    )  # fmt: skip
    assert done.stdout.split() == ["3", "3", "red", "red"], done


@needs_fork
def test_a_child_says_that_the_file_has_changed(tmp_path):
    path = tmp_path / "cats.onnx"
    path.write_bytes(GOOD)
    model = OnnxClassifier(path)
    path.write_bytes(exported.content())

    def message():
        with pytest.raises(ModelFileError) as caught:
            model.predict(X)
        return str(caught.value)

    assert "has changed since it was opened" in in_child(message)
    assert model.predict(X).shape == (3,)  # which is open here
