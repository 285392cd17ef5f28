"""Every error is one that scikit-learn's users catch, names the culprit, and says what to do."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from backbones import backbone_of, small_conv_net
from opening import open_engine
from PIL import Image
from safetensors.torch import save_file

import sktl
from sktl import PretrainedImageClassifier, exceptions
from sktl._short_text import NO_BARE_FILE
from sktl._utils.devices import halved

X = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
Y = list("abcabcabc")
CPU = torch.device("cpu")
BASES = {"SktlError", "WeightsError"}  # for `except`; what is raised is one of their kinds


def fit(X=X, y=Y, **parameters):
    return PretrainedImageClassifier(**({"backbone": small_conv_net, "cache": False} | parameters)).fit(X, y)


def a_checkpoint_is_damaged(folder, monkeypatch):
    fit(checkpoint=folder, random_state=0, max_epochs=1)
    for file in folder.glob("*.checkpoint"):
        file.write_bytes(b"damaged")
    fit(checkpoint=folder, random_state=0, max_epochs=1)


def weights_are_damaged(folder, monkeypatch):
    (folder / "mine.pth").write_bytes(b"<html>")
    fit(backbone="resnet18", weights=folder / "mine.pth")


def weights_are_of_another_network(folder, monkeypatch):
    save_file({"conv.weight": torch.zeros(3, 3)}, folder / "mine.safetensors")
    fit(backbone="resnet18", weights=folder / "mine.safetensors")


def weights_cannot_be_downloaded(folder, monkeypatch):
    def offline(*arguments, **named):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    fit(backbone="squeezenet1_1")


def a_package_is_missing(name, act):
    def without(folder, monkeypatch):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        act()

    return without


def a_model_is_damaged(folder, monkeypatch):
    (folder / "cats.model").write_bytes(b"damaged")
    sktl.load(folder / "cats.model")


def a_cache_is_a_file(folder, monkeypatch):
    (folder / "my_cache").touch()
    sktl.clear_cache(folder / "my_cache")


def no_hub_answers(folder, monkeypatch):
    sktl.push_to_hub(fit(backbone="efficientnet_lite0"), "anna/cats", endpoint="http://127.0.0.1:1")


def openvino_cannot_run_a_network(folder, monkeypatch):
    pytest.importorskip("openvino", reason="the extra `openvino` installs it")
    network = backbone_of(lambda images: images.mean((2, 3)) * (1 if images.sum() > -1e9 else 2))
    open_engine(network, CPU, engine="openvino")


class DependsOnValues(torch.nn.Module):
    """A network whose code depends on values of tensors."""

    preprocessing = sktl.Preprocessing(16, (16, 16))

    def forward(self, images):
        features = images.mean((2, 3))
        return features if features.sum() > -1e9 else -features


def a_network_cannot_be_traced(folder, monkeypatch):
    fit(backbone=DependsOnValues).export(folder / "cats.pt2")


# What is done wrong, whom the message blames, and what it advises.
WRONG = {
    "InvalidParameterError": (lambda *_: fit(max_epochs=0), "max_epochs", r"must be .*range \[1, inf\)"),
    "HubRequestError": (no_hub_answers, "'anna/cats'", "Check the connection"),
    "InvalidInputError": (lambda *_: fit("cat.jpg", ["a"]), "X is a single path", r"\[x\]"),
    "InvalidImageError": (lambda *_: fit([*X[:8], X[8] / 9.0]), r"X\[8\]", "pass x / white"),
    "BackboneError": (lambda *_: fit(image_size=2), "fails on images of 2 x 2", "Leave image_size=None"),
    "UnknownBackboneError": (lambda *_: fit(backbone="resnet51"), "resnet51", "resnet50"),
    "WeightsNotFoundError": (
        lambda *_: fit(backbone="resnet18", weights="no/mine.pth"), "no/mine.pth", "looked in|Pass",
    ),
    "WeightsCorruptError": (weights_are_damaged, "mine.pth", "again|Download|copy"),
    "WeightsMismatchError": (weights_are_of_another_network, "mine.safetensors", "Pass the backbone"),
    "WeightsUnavailableError": (weights_cannot_be_downloaded, "squeezenet1_1", "weights=<path"),
    "DeviceError": (lambda *_: fit(device="cuda:99"), "cuda:99", 'device="auto"'),
    "DeviceMemoryError": (lambda *_: halved(1, "training", CPU), "device='cpu' in training", "smaller image_size"),
    "EngineError": (openvino_cannot_run_a_network, "engine='openvino'", 'engine="torch"'),
    "EngineNotInstalledError": (
        a_package_is_missing("openvino", lambda: open_engine(backbone_of(torch.sin), CPU, engine="openvino")),
        "engine='openvino'", "pip install",
    ),
    "MissingPackageError": (
        a_package_is_missing("captum", lambda: sktl.SaliencyDisplay.from_estimator(fit(), X[:1])), "captum",
        r"pip install 'sktl\[explain\]'",
    ),
    "ExportError": (a_network_cannot_be_traced, "DependsOnValues", "Fit with another backbone"),
    "ModelFileError": (a_model_is_damaged, "cats.model", "Save the model again"),
    "ModelFileNotFoundError": (lambda *_: sktl.load("no/cats.model"), "no/cats.model", "looked in|Pass"),
    "CacheError": (a_cache_is_a_file, "my_cache' cannot be cleared", "Remove the cause"),
    "CheckpointError": (a_checkpoint_is_damaged, ".checkpoint", "Delete it"),
    "TrainingError": (
        lambda *_: fit(trainable_stages="all", lr=1e30, lr_schedule="constant", max_epochs=3, freeze_epochs=0),
        r"epoch \d, batch \d\.", r"Lower lr=1e\+30, for instance to",
    ),
    "TypicalityError": (
        lambda *_: fit(trainable_stages=1, max_epochs=1).typicality(X), "trainable_stages=1", "Fit another estimator",
    ),
}  # fmt: skip


def kinds(of):
    found = {name: getattr(exceptions, name) for name in exceptions.__all__}
    return {name for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, of)}


@pytest.mark.parametrize("name", sorted(kinds(exceptions.SktlError) - BASES))
def test_every_error_names_the_culprit_and_the_remedy(name, tmp_path, monkeypatch):
    act, culprit, remedy = WRONG[name]
    with pytest.raises(getattr(exceptions, name), match=f"(?s){culprit}.*(?:{remedy})") as caught:
        act(tmp_path, monkeypatch)
    assert type(caught.value).__name__ == name
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", sorted(kinds(exceptions.SktlError) - {"SktlError"}))
def test_every_error_is_one_that_python_has_too(name):
    kind = getattr(exceptions, name)
    assert issubclass(kind, ValueError | RuntimeError | TypeError | OSError | ImportError)
    assert kind.__doc__


@pytest.mark.parametrize("name", sorted(kinds(Warning)))
def test_warnings_are_no_errors_and_can_be_silenced_by_name(name):
    kind = getattr(exceptions, name)
    assert issubclass(kind, UserWarning)
    assert not issubclass(kind, exceptions.SktlError)


def test_all_that_the_module_defines_is_public():
    defined = {
        name for name, kind in vars(exceptions).items() if getattr(kind, "__module__", "") == exceptions.__name__
    }
    assert {name for name in defined if not name.startswith("_")} == set(exceptions.__all__)


def test_a_failure_is_told_in_a_bounded_line_and_keeps_its_name_in_full():
    names = ["x" * 300_000, "a\nb.png", "\udcff\x1b[31m.png", "cat.png"]
    failures = [exceptions.ImageFailure(i, name, "is damaged: " + "y" * 9_999) for i, name in enumerate(names)]
    error = exceptions.InvalidImageError(failures)
    assert [failure.name for failure in error.failures] == names
    assert len(str(error)) < 4_000
    assert str(error).count("\n") == len(names) + 1
    assert r"X[1] ('a\nb.png'): is damaged" in str(error)
    assert "X[3] (cat.png): is damaged" in str(error)
    for failure in failures:
        assert str(failure).isprintable()


VALUES = {
    "pixel limit": lambda value: sktl.set_pixel_limit(value),
    "cache limit": lambda value: sktl.set_cache_limit(value),
    "part of decisions": lambda value: sktl.datasets.apply_decisions("absent.csv", ["a"], part=value),
    "threads": lambda value: sktl.check_images(X, n_jobs=value),
    "shape": lambda value: sktl.check_images(X, image_shape=[value, value]),
    "reader": lambda value: sktl.check_images(X, image_reader=[value]),
    "networks": lambda value: sktl.rank_backbones([value], X, Y),
    "images per part": lambda value: sktl.datasets.write_features(X, "f.parquet", images_per_part=value),
    "samples": lambda value: sktl.datasets.make_cats(value),
    "seed": lambda value: sktl.datasets.make_cats(2, random_state=value),
    "cache": lambda value: sktl.cache_info(value),
}


@pytest.mark.parametrize("value", [object(), [0] * 10**6, [object()]], ids=["object", "long", "list"])
@pytest.mark.parametrize("call", VALUES.values(), ids=VALUES)
def test_messages_are_bounded_and_the_same_in_each_run(call, value):
    with pytest.raises(exceptions.SktlError) as caught:
        call(value)
    assert " at 0x" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("nested", [object(), "x" * 10**6, [0] * 10**6], ids=["object", "text", "list"])
def test_messages_about_choices_are_bounded(nested, tmp_path):
    (tmp_path / "cat").mkdir()
    Image.fromarray(X[0]).save(tmp_path / "cat" / "1.png")
    (tmp_path / "labels.csv").write_text("file,label\ncat/1.png,a\n")
    for call in (
        lambda: sktl.datasets.load_image_folder(tmp_path, nested=nested),
        lambda: sktl.datasets.load_label_table(tmp_path / "labels.csv", kind=nested),
    ):
        with pytest.raises(exceptions.InvalidParameterError) as caught:
            call()
        assert " at 0x" not in str(caught.value)
        assert len(str(caught.value)) < 500


def failures(n, reason):
    return [exceptions.ImageFailure(i, f"{i}.jpg", reason) for i in range(n)]


@pytest.mark.parametrize(("n", "them"), [(1, "it"), (2, "them"), (30, "them")])
def test_an_error_about_images_says_what_to_do(n, them):
    check = "sktl.check_images(X_val) lists all such images before a fit or a search."
    error = exceptions.InvalidImageError(failures(n, "is torn"), "X_val", remedy="pass another folder")
    assert str(error).splitlines()[-1] == f"Replace or remove {them}, or pass another folder. {check}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_of_names_without_folders_full_paths_are_advised():
    bare = failures(3, NO_BARE_FILE)
    advice = "Pass full paths, as sktl.datasets.list_images(folder) returns them."
    assert f"{advice} Replace or remove them, or leave them out." in str(
        exceptions.InvalidImageError(bare, remedy="leave them out")
    )
    assert advice not in str(exceptions.InvalidImageError([*bare, *failures(1, "is torn")]))


@pytest.mark.parametrize(("given", "expected"), [("raise", True), ("skip", False)])
def test_a_fit_names_the_parameter_that_leaves_images_out(given, expected):
    for call in (lambda: fit([b"torn"] * 9, invalid_images=given), lambda: fit([None] * 9, invalid_images=given)):
        with pytest.raises(exceptions.InvalidImageError) as caught:
            call()
        assert ("or pass invalid_images='skip' (except in a cross-validation" in str(caught.value)) == expected
    with pytest.raises(exceptions.InvalidImageError) as caught:
        fit().predict([b"torn"])
    assert "invalid_images" not in str(caught.value)
