"""Exports: what a path means, what the metadata says, and that a file that is not right does not appear."""

from __future__ import annotations

import builtins
import importlib.util
import io
import json
import os
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from backbones import SmallConvNet, pixel_net, small_conv_net
from exported import IMAGES, NEW, SUFFIXES, TARGETS, answers, document_of, fitted, pixels_of, run_file
from PIL import Image
from representatives import slow_except
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._deployment import export as _export
from sktl._deployment.onnx_file import OnnxFormat
from sktl._deployment.openvino_files import OpenVinoFormat
from sktl._deployment.program_file import ProgramFormat
from sktl.exceptions import (
    ExportError,
    InvalidImageError,
    InvalidParameterError,
    MissingPackageError,
    ModelFileNotFoundError,
    SktlError,
    TypicalityError,
)
from sktl.runtime.document import ModelDocument

slow = pytest.mark.slow
FILES = {".onnx": ["m.onnx"], ".xml": ["m.bin", "m.xml"], ".pt2": ["m.pt2"]}


@pytest.fixture(scope="module")
def clf():
    return fitted("classes", feature_stages=2)


@pytest.fixture(scope="module")
def exported(clf, tmp_path_factory):
    """Return a file, which tests only read."""
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    sktl.export(clf, path)
    return path


# ------------------------------------------------------------------------------------------------------------ metadata


@pytest.mark.parametrize("suffix", slow_except([".pt2", ".xml", ".onnx"], ".pt2", ".xml", thorough=[".xml"]))
def test_the_file_holds_all_that_is_needed_to_use_it(clf, suffix, tmp_path):
    path = tmp_path / f"m{suffix}"
    report = clf.export(path)
    assert sorted(os.listdir(tmp_path)) == FILES[suffix]
    assert report.files[0] == str(path)
    assert sorted(map(os.path.basename, report.files)) == FILES[suffix]
    assert report.n_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    found = document_of(path)
    assert found["format"] == 1
    assert (found["kind"], found["names"], found["dtype"]) == ("classes", ["ant", "bee", "cow"], "<U3")
    assert (found["precision"], found["is_vector"], found["image_reader"]) == ("float32", False, None)
    preprocessing = clf.backbone_.preprocessing
    assert found["preprocessing"] == {
        "resize": preprocessing.resize, "crop": list(preprocessing.crop), "interpolation": preprocessing.interpolation,
        "mean": list(preprocessing.mean), "std": list(preprocessing.std),
    }  # fmt: skip
    assert found["card"]["facts"]["Network"] == clf.backbone_.name
    assert {"sktl", "torch"} <= found["versions"].keys()


def test_reference_images_and_their_outputs_are_in_the_metadata(exported):
    document = ModelDocument.from_json(json.dumps(document_of(exported)))
    pixels = document.references.pixels(document.preprocessing.crop)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(run_file(exported, pixels)[0], document.references.outputs, atol=1e-6)
    assert len(np.unique(pixels)) > 50  # they show something


@pytest.mark.thorough
def test_names_of_labels_and_numbers_are_in_the_metadata(tmp_path):
    pd = pytest.importorskip("pandas")
    labels = pd.DataFrame(TARGETS["labels"].astype(bool), columns=["bright", "third"])
    clf = PretrainedImageClassifier(backbone=small_conv_net, random_state=0).fit(IMAGES, labels)
    sktl.export(clf, tmp_path / "m.pt2")
    found = document_of(tmp_path / "m.pt2")
    assert (found["kind"], found["names"], found["dtype"]) == ("labels", ["bright", "third"], "|O")
    numbers = pd.DataFrame(TARGETS["numbers"], columns=["mean", "std"])
    regressor = sktl.PretrainedImageRegressor(backbone=small_conv_net, random_state=0).fit(IMAGES, numbers)
    sktl.export(regressor, tmp_path / "m.pt2")  # replaces the other
    found = document_of(tmp_path / "m.pt2")
    assert (found["kind"], found["names"], found["is_vector"]) == ("numbers", ["mean", "std"], False)


def test_nothing_of_this_machine_is_in_the_file(exported):
    content = exported.read_bytes()
    for text in (os.path.dirname(sktl.__file__), os.path.dirname(torch.__file__), str(exported.parent), os.getcwd()):
        assert text.encode() not in content


@pytest.mark.slow
def test_an_export_repeats_bit_for_bit(clf, exported, tmp_path):
    sktl.export(clf, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_operators_have_the_names_of_the_modules_of_the_network(exported):
    names = [node.name for node in onnx.load(exported).graph.node]
    assert len(set(names)) == len(names)
    assert "features.blocks.0.down/Conv" in names
    assert names[-1] == "activation/Softmax"


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "name"), [("classes", "m.onnx"), pytest.param("number", "m.xml", marks=slow)])
def test_typicality_is_a_second_output_if_wanted(kind, name, tmp_path):
    estimator = fitted(kind, feature_stages=2)
    report = sktl.export(estimator, tmp_path / name, include_references=True, verify=NEW)
    _, p_values = run_file(tmp_path / name, pixels_of(estimator, NEW))
    assert p_values.shape == (len(NEW),)
    # Rounding may move an image past a reference.
    difference = np.abs(p_values - estimator.typicality(NEW)).max()
    assert difference - 1e-6 <= report.typicality_difference <= 2 / (len(IMAGES) + 1) + 1e-6


# --------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.slow
def test_a_folder_gets_openvino_ir(clf, tmp_path):
    for given in (tmp_path, f"{tmp_path}/new/"):
        report = sktl.export(clf, given)
        assert report.format == "openvino"
        found = answers(clf, NEW)
        path = tmp_path / ("new" if "new" in str(given) else "") / "model.xml"
        np.testing.assert_allclose(run_file(path, pixels_of(clf, NEW))[0], found, atol=1e-4)


@pytest.mark.parametrize(
    ("path", "format", "reason"),
    [
        ("m", None, "suffix"), ("m.h5", None, "suffix"), ("m.onnx.gz", None, "suffix"), ("m.bin", None, "suffix"),
        ("m.onnx", "openvino", "is a file of format='onnx'"), ("m.xml", "onnx", "is a file of format='openvino'"),
        ("", None, "not a path"), (3, None, "Pass a path"), (None, None, "Pass a path"), (b"m.onnx", None, "path"),
        ("m.onnx", "ONNX", "format='ONNX' must be"), ("m.onnx", ["onnx"], "must be"), ("m\0.onnx", None, "not a path"),
        (".", "onnx", "is a folder"), ("m\udcff.onnx", None, "not UTF-8"),
    ],
)  # fmt: skip
def test_paths_that_name_no_format_are_errors(clf, path, format, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=reason):
        sktl.export(clf, path, format=format)
    assert not os.listdir(tmp_path)


def test_a_missing_folder_and_what_is_not_a_file_are_errors(clf, tmp_path):
    (tmp_path / "m.bin").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("missing/m.onnx", "missing/folder/", "m.xml", "pipe.onnx"):
        with pytest.raises(ModelFileNotFoundError):
            sktl.export(clf, tmp_path / name if not name.endswith("/") else f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path)) == ["m.bin", "pipe.onnx"]


def test_suffixes_are_those_of_any_case_and_links_are_followed(clf, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.pt2").symlink_to(tmp_path / "real" / "m.PT2")
    sktl.export(clf, tmp_path / "link.pt2")
    assert (tmp_path / "link.pt2").is_symlink()
    assert (tmp_path / "real" / "m.PT2").is_file()


# ------------------------------------------------------------------------------------- files that are not right or new


@pytest.fixture
def wrong(monkeypatch):
    """Let the graph of each export add a little to its outputs."""

    def activation(amount):
        class Wrong(torch.nn.Module):
            def forward(self, outputs):
                return torch.softmax(outputs, dim=1) + amount

        make = _export.PixelGraph.of.__func__

        def of(cls, *arguments):
            graph = make(cls, *arguments)
            graph.activation = Wrong()
            return graph

        monkeypatch.setattr(_export.PixelGraph, "of", classmethod(of))

    return activation


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=slow), pytest.param(".xml", marks=slow)])
def test_a_file_that_computes_something_else_does_not_appear(clf, suffix, tmp_path, wrong):
    wrong(1e-3)
    path = tmp_path / f"m{suffix}"
    for file in FILES[suffix]:
        (tmp_path / file).write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"probabilities differ by up to 1\.0e-03.*at most 0\.0001") as caught:
        sktl.export(clf, path)
    assert isinstance(caught.value, RuntimeError)
    assert sorted(os.listdir(tmp_path)) == FILES[suffix]
    assert all((tmp_path / file).read_bytes() == b"mine" for file in FILES[suffix])


def test_outputs_that_are_not_finite_are_an_error(clf, tmp_path, wrong):
    wrong(float("nan"))
    with pytest.raises(ExportError, match="not finite"):
        sktl.export(clf, f"{tmp_path}/folder/")
    assert not os.listdir(tmp_path)


@pytest.mark.thorough
def test_closed_streams_are_no_reason_to_choose_another_network(clf, tmp_path, monkeypatch):
    for name in ("stdout", "stderr"):
        stream = io.StringIO()
        stream.close()
        monkeypatch.setattr(sys, name, stream)
    assert sktl.export(clf, tmp_path / "m.pt2").n_changed == 0


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param(OnnxFormat, "read", marks=pytest.mark.thorough),
        pytest.param(OpenVinoFormat, "write", marks=slow),
        (ProgramFormat, "write"),
    ],
)
def test_an_interrupted_export_leaves_nothing(clf, kind, step, tmp_path, monkeypatch):
    original = getattr(kind, step)

    def interrupted(self, *arguments):
        original(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, step, interrupted)
    suffix = kind.suffixes[0]
    with pytest.raises(KeyboardInterrupt):
        sktl.export(clf, tmp_path / f"m{suffix}")
    assert not os.listdir(tmp_path)


def test_a_network_that_torch_cannot_export_is_named(tmp_path):
    class ReadsValues(SmallConvNet):
        def forward(self, images):
            return super().forward(images) * (2 if float(images.mean()) > -1e9 else 1)

    def reads_values():
        torch.manual_seed(0)
        return ReadsValues()

    clf = PretrainedImageClassifier(backbone=reads_values, random_state=0, engine="torch")
    clf.fit(IMAGES, TARGETS["classes"])
    for suffix in SUFFIXES:
        with pytest.raises(ExportError, match=r"reads_values.*cannot be exported by torch: ") as caught:
            sktl.export(clf, tmp_path / f"m{suffix}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700
    assert not os.listdir(tmp_path)


def test_missing_packages_are_named(clf, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    for package, suffix, extra in (("onnxscript", ".onnx", "export"), ("openvino", ".xml", "openvino")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, p=package: None if name == p else found(name))
        with pytest.raises(MissingPackageError, match=rf"needs {package}, .*'sktl\[{extra}\]'"):
            sktl.export(clf, tmp_path / f"m{suffix}")
    assert not os.listdir(tmp_path)


def test_a_program_needs_no_other_package(clf, tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **named):
        assert name.partition(".")[0] not in ("onnx", "onnxscript", "onnxruntime", "openvino")
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    sktl.export(fitted("features"), tmp_path / "m.pt2")


# ----------------------------------------------------------------------------------------------------------- arguments


def test_what_is_not_a_fitted_estimator_is_an_error(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(NotFittedError):
        sktl.export(PretrainedImageClassifier(), path)
    for given in (PretrainedImageClassifier, "clf", None, object()):
        with pytest.raises(InvalidParameterError, match="fitted classifier"):
            sktl.export(given, path)
    assert not os.listdir(tmp_path)


def test_the_part_of_another_estimator_that_can_be_exported_is_named(clf, tmp_path):
    search, tuned = GridSearchCV(clf, {}), TunedThresholdClassifierCV(clf)
    pipeline = search.best_estimator_ = Pipeline([("clf", tuned)])
    for given, part in (
        (search, r"best_estimator_\."),
        (pipeline, r"estimator\[-1\]"),
        (make_pipeline(clf, pipeline, "passthrough"), r"step estimator\[0\]\. The file will contain its outputs, and"),
        (make_pipeline(GridSearchCV, "passthrough"), r"a fitted classifier"),
        (tuned, r"estimator_\. The file does not contain best_threshold_: compare"),
        (TransformedTargetRegressor(), r"regressor_\. The file does not contain the inverse function: apply it"),
        (FixedThresholdClassifier(clf), r"estimator_\. The file does not contain threshold: compare"),
    ):
        with pytest.raises(InvalidParameterError, match=f"estimator is a {type(given).__name__}. Pass .*{part}"):
            sktl.export(given, tmp_path / "m.pt2")


def test_methods_of_subclasses_are_not_left_out_silently(clf, tmp_path):
    class Sharper(PretrainedImageClassifier):
        def predict_proba(self, X):
            return super().predict_proba(X) ** 2

    class Later:
        def transform(self, X):
            return 2 * super().transform(X)

    class Doubled(Later, PretrainedImageEncoder):
        pass

    class Named(PretrainedImageClassifier):
        def transform(self, X):  # of a classifier, files contain no features
            return super().transform(X)

        def fit(self, X, y):
            return super().fit(X, y)

    for kind, method, base in ((Sharper, "predict_proba", clf), (Doubled, "transform", fitted("features"))):
        given = kind.__new__(kind)
        vars(given).update(vars(base))
        with pytest.raises(InvalidParameterError, match=rf"{kind.__name__}\.{method} is a method of your own"):
            sktl.export(given, tmp_path / "m.pt2")
    named = Named.__new__(Named)
    vars(named).update(vars(clf))
    sktl.export(named, tmp_path / "m.pt2")


def test_exports_leave_the_global_generator_of_torch_alone(clf, tmp_path):
    before = torch.get_rng_state()
    sktl.export(clf, tmp_path / "m.pt2")
    assert torch.equal(torch.get_rng_state(), before)


WRONG = {
    "precision": ({"precision": "float64"}, "precision='float64' must be"),
    "precision of a type": ({"precision": 16}, "precision=16 must be"),
    "no calibration": ({"precision": "int8"}, "at least 40"),
    "too few": ({"precision": "int8", "calibration": IMAGES}, "has 24 images. Pass at least 40"),
    "ignored": ({"calibration": IMAGES}, "calibration is for"),
    "max_drop": ({"max_drop": -1}, "max_drop"),
    "max_drop of a type": ({"max_drop": "0.1"}, "max_drop"),
    "max_drop that is no number": ({"max_drop": float("nan")}, "max_drop"),
    "max_drop without use": ({"max_drop": 0.01}, 'max_drop is for precision="float16" and'),
    "no images": ({"verify": []}, "^verify is empty"),
    "a single image": ({"precision": "float16", "calibration": "cat.jpg"}, "^calibration is a single path"),
    "include_references": ({"include_references": 1}, "include_references is an int"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_errors_before_anything_is_computed(clf, case, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "traced", None)
    arguments, reason = WRONG[case]
    with pytest.raises((InvalidParameterError, SktlError), match=reason):
        sktl.export(clf, tmp_path / "m.onnx", **arguments)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", ["numbers", "features"])
@pytest.mark.parametrize("n", [1, 3])
def test_equal_images_do_not_show_what_a_lower_precision_costs(kind, n, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "traced", None)
    for arguments in ({"verify": IMAGES[:1] * n}, {"calibration": IMAGES[:1] * n}):
        (argument,) = arguments
        with pytest.raises(InvalidParameterError, match=f"{kind} are the same for all images of {argument}, so"):
            sktl.export(fitted(kind), tmp_path / "m.onnx", precision="float16", **arguments)


def test_a_program_has_one_precision(clf, tmp_path):
    with pytest.raises(InvalidParameterError, match=r"Export to \.onnx or \.xml"):
        sktl.export(clf, tmp_path / "m.pt2", precision="float16")


def test_unusable_images_are_named_by_their_argument(clf, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    Image.fromarray(IMAGES[0]).save(tmp_path / "good.png")
    for argument in ("verify", "calibration"):
        given = {argument: [tmp_path / "good.png", tmp_path / "bad.jpg"]}
        precision = "float16" if argument == "calibration" else "float32"
        with pytest.raises(InvalidImageError, match=rf"{argument}\[1\]"):
            sktl.export(clf, tmp_path / "m.onnx", precision=precision, **given)
    assert not (tmp_path / "m.onnx").exists()


def test_estimators_without_typicality_have_none_to_export(tmp_path):
    tuned = fitted("classes", trainable_stages=2, feature_stages=1)
    for estimator in (tuned, fitted("features")):
        with pytest.raises(TypicalityError):
            sktl.export(estimator, tmp_path / "m.onnx", include_references=True)


def test_what_does_not_travel_is_in_the_report(tmp_path):
    clf = PretrainedImageClassifier(backbone=pixel_net, random_state=0, image_reader=Image.open)
    Image.fromarray(IMAGES[0]).save(tmp_path / "0.png")
    Image.fromarray(IMAGES[1]).save(tmp_path / "1.png")
    clf.fit([tmp_path / "0.png", tmp_path / "1.png"] * 4, ["a", "b"] * 4)
    assert "image_reader does not travel" in sktl.export(clf, tmp_path / "m.pt2").summary()
    flat = PretrainedImageClassifier(backbone=pixel_net, random_state=0, image_shape=(8, 8))
    flat.fit(np.random.default_rng(0).random((8, 64)), ["a", "b"] * 4)
    assert "flattened" in str(sktl.export(flat, tmp_path / "m.pt2"))


def test_the_report_says_what_was_verified(clf, tmp_path):
    report = sktl.export(clf, tmp_path / "m.pt2", verify=NEW)
    assert report.n_images == 8 + len(NEW)
    assert (report.runtime, report.kind, report.n_changed) == ("PyTorch", "classes", 0)
    assert report.difference < 1e-4
    text = report.summary()
    assert f"in PyTorch on {report.n_images} images" in text
    assert "all labels are equal" in text
    with pytest.raises(AttributeError):
        report.drop = 1
    assert replace(report, precision="int8", drop=0.0123).summary().count("1.23 points") == 1
    assert "p-values" not in text
    assert "p-values of typicality differ by at most 0.12." in replace(report, typicality_difference=0.1234).summary()
