"""A saved estimator predicts the same bits when it is loaded, and nothing in the file can do more than that."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from backbones import Pixels
from forging import forged, setting
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from representatives import examples, slow_except, thorough_except
from sklearn.base import clone
from torchvision.models import MobileNet_V3_Small_Weights

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._storage.model_file import open_model
from sktl._training.json_values import decode, encode
from sktl._training.net_callbacks import CosineSchedule
from sktl.exceptions import (
    BackboneError,
    DeviceError,
    InvalidParameterError,
    ModelFileError,
    ModelFileNotFoundError,
    TypicalityError,
    UnknownBackboneError,
    WeightsError,
)

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 20, 24, 3), np.uint8)
Y = np.array(["cat", "dog", "owl"])[np.arange(12) % 3]
TINY = {"backbone": "timm/test_vit", "weights": None, "image_size": 64, "random_state": 0, "max_epochs": 2}
MACHINE = ("device", "cache", "n_jobs", "verbose")


def of_the_model(estimator):
    return {name: value for name, value in estimator.get_params().items() if name not in MACHINE}


def same(found, expected):
    """Whether what two fitted classifiers know and say is equal, to the bit."""
    assert type(found) is type(expected)
    assert of_the_model(found) == of_the_model(expected)
    assert found.classes_.dtype == expected.classes_.dtype
    assert_array_equal(found.classes_, expected.classes_)
    assert_array_equal(found.class_count_, expected.class_count_)
    assert found.recipe_ == expected.recipe_
    assert found.n_iter_ == expected.n_iter_
    assert found.engine_ == expected.engine_
    assert found.feature_stages_ == expected.feature_stages_
    assert_array_equal(found.get_feature_names_out(), expected.get_feature_names_out())
    assert found.invalid_images_ == expected.invalid_images_
    assert list(found.history_[:, "train_loss"]) == list(expected.history_[:, "train_loss"])
    assert found.backbone_.preprocessing == expected.backbone_.preprocessing
    for ask in ("decision_function", "predict", "predict_proba", "transform"):
        assert_array_equal(getattr(found, ask)(X), getattr(expected, ask)(X))
    if expected._typicality is not None:
        assert_array_equal(found.typicality(X), expected.typicality(X))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.module_(images), expected.module_(images))


MODELS = {
    "bundled": {"random_state": 0},
    "random": TINY | {"class_weight": {"cat": 1, "dog": 2.5, "owl": np.float64(1)}, "optimizer": "lbfgs"},
    "last stage": TINY | {"trainable_stages": np.int64(1), "augmentation": None, "weights": None},
    "augmented": TINY | {"trainable_stages": "all", "augmentation": "trivial", "dropout": 0.1},
    "two stages": TINY | {"trainable_stages": 2, "feature_stages": 2, "augmentation": None},
    "all stages": {
        "backbone": "resnet18", "weights": None, "image_size": 32, "trainable_stages": "all", "feature_stages": "all",
        "max_epochs": 1,
    },
    "views": TINY | {"trainable_stages": 2, "augmentation_views": 2, "label_smoothing": 0.1},
    "stopped early": TINY | {"early_stopping": True, "validation_fraction": 0.25},
    "convolutional": {
        "backbone": "mobilenet_v3_small", "weights": None, "image_size": 64, "trainable_stages": 1, "max_epochs": 1,
    },
}  # fmt: skip


# One of each kind of training, with the network and without it.
ALWAYS = [
    ("random", True), ("last stage", False), ("augmented", True), ("two stages", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "include_backbone"),
    slow_except(
        [(name, whole) for name in MODELS for whole in (True, False)],
        *ALWAYS, thorough=[values for values in ALWAYS if values != ("last stage", False)],
    ),
)  # fmt: skip
def test_what_is_loaded_is_what_was_saved(tmp_path, name, include_backbone):
    clf = PretrainedImageClassifier(**MODELS[name]).fit(X, Y)
    clf.save(tmp_path / "model", include_backbone=include_backbone)
    loaded = sktl.load(tmp_path / "model")
    same(loaded, clf)
    same(pickle.loads(pickle.dumps(loaded)), clf)
    same(copy.deepcopy(loaded), clf)
    loaded.save(tmp_path / "again")
    same(sktl.load(tmp_path / "again"), clf)
    if clf.random_state is not None and include_backbone:
        same(clone(loaded).fit(X, Y), clf)
        same(loaded.fit(X, Y), clf)


@pytest.mark.slow  # in every run, `test_start.py` loads a model in another process
def test_another_process_loads_the_same_bits(tmp_path):
    expected = []
    for name, clf in {"bundled": fitted_bundled(), "augmented": fitted_tiny(**MODELS["augmented"])}.items():
        clf.save(tmp_path / name)
        expected.append(clf.decision_function(X).tobytes().hex())
    np.save(tmp_path / "x.npy", X)
    program = (
        "import sys, numpy as np, sktl, os; os.chdir(sys.argv[1]); X = np.load('x.npy')\n"
        "print([sktl.load(name, 'cpu').decision_function(X).tobytes().hex() for name in ('bundled', 'augmented')])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path], check=True, capture_output=True)
    assert done.stdout.decode().strip() == str(expected)


def test_an_output_layer_alone_takes_kilobytes(tmp_path):
    clf = PretrainedImageClassifier(image_size=64, feature_stages=1, random_state=0).fit(X, Y)
    clf.save(tmp_path / "small", include_backbone=False)
    clf.save(tmp_path / "large")
    assert (tmp_path / "small").stat().st_size < 64_000 < 10e6 < (tmp_path / "large").stat().st_size


@pytest.mark.thorough
def test_an_encoder_is_saved_too(tmp_path):
    encoder = PretrainedImageEncoder(backbone="timm/test_vit", weights=None, random_state=3).fit(X)
    encoder.save(tmp_path / "encoder")
    loaded = sktl.load(tmp_path / "encoder")
    assert of_the_model(loaded) == of_the_model(encoder)
    assert_array_equal(loaded.transform(X), encoder.transform(X))
    assert_array_equal(loaded.get_feature_names_out(), encoder.get_feature_names_out())


@pytest.mark.thorough
def test_flattened_images_and_the_names_of_their_columns_are_remembered(tmp_path):
    flat = pd.DataFrame(RNG.random((12, 64)), columns=[f"pixel {i}" for i in range(64)])
    clf = PretrainedImageClassifier(**TINY, image_shape=(8, 8)).fit(flat, Y)
    clf.save(tmp_path / "model")
    loaded = sktl.load(tmp_path / "model")
    assert loaded.n_features_in_ == 64
    assert_array_equal(loaded.feature_names_in_, clf.feature_names_in_)
    assert_array_equal(loaded.predict_proba(flat), clf.predict_proba(flat))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(flat.rename(columns={"pixel 0": "another"}))


def test_labels_may_be_narrower_than_their_array():
    """As those of a part of a split, from which the longest label is absent."""
    y = np.array([*Y, "orangutan"])[:12]
    model = io.BytesIO()
    clf = PretrainedImageClassifier(**TINY).fit(X, y)
    clf.save(model)
    assert sktl.load(model.getvalue()).classes_.dtype == clf.classes_.dtype == y.dtype


@settings(max_examples=examples(25))
@given(
    labels=st.one_of(
        st.lists(st.text(min_size=1).filter(lambda text: not text.endswith("\0")), min_size=2, max_size=4, unique=True),
        st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=4, unique=True),
        st.just([False, True]),
        st.just([1.0, 2.0]),
    ),
    dtype=st.sampled_from([None, object]),
)
def test_labels_keep_values_and_types(tmp_path_factory, labels, dtype):
    path = tmp_path_factory.getbasetemp() / "labels"
    y = np.resize(np.array(labels, dtype=None if isinstance(labels[0], float) else dtype), 12)
    clf = PretrainedImageClassifier(**TINY).fit(X, y)
    clf.save(path)
    loaded = sktl.load(path)
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.classes_.tolist() == clf.classes_.tolist()
    assert [*map(type, loaded.classes_.tolist())] == [*map(type, clf.classes_.tolist())]
    assert_array_equal(loaded.predict(X), clf.predict(X))


KEYS = st.integers(1 - 2**64, 2**64 - 1) | st.text()  # larger integers are refused as keys


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner),
        max_leaves=6,
    )
)
def test_values_survive_json(value):
    found = decode(json.loads(json.dumps(encode(value, "x"), allow_nan=False)))
    assert repr(found) == repr(value)


# ------------------------------------------------------------------------------------------------------------- refused


def fitted_tiny(**parameters):
    return copy.deepcopy(_fitted_tiny(**parameters))


@functools.cache
def _fitted_tiny(**parameters):
    return PretrainedImageClassifier(**TINY | parameters).fit(X, Y)


@functools.cache
def _fitted_bundled():
    return PretrainedImageClassifier(image_size=64, random_state=0).fit(X, Y)


def fitted_bundled():
    return copy.deepcopy(_fitted_bundled())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": Pixels, "weights": "default", "image_size": None}, "backbone=.* is a function or class"),
        ({"augmentation": lambda image: image, "trainable_stages": 1}, "augmentation=.* is a function or class"),
        ({"optimizer": torch.optim.Adam}, "optimizer=.* is a function or class"),
        ({"random_state": np.random.RandomState(0)}, "random_state=.* is a RandomState"),
        (
            {"net_params": {"callbacks": [object.__new__(CosineSchedule)]}},
            "net_params=.* is a ",
        ),
    ],
)
def test_what_cannot_be_saved_without_code_is_named(tmp_path, parameters, message):
    clf = PretrainedImageClassifier(**TINY | parameters)
    if "net_params" in parameters:
        clf.net_params = {"callbacks": []}
        clf.fit(X, Y).net_params = parameters["net_params"]
    else:
        clf.fit(X, Y)
    with pytest.raises(InvalidParameterError, match=f"^{message}.*, which cannot be saved without code. Choose"):
        clf.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_training_did_not_use_is_replaced_before_saving_as_the_error_says(tmp_path):
    clf = fitted_tiny().set_params(augmentation=np.fliplr)  # no stages are trained
    with pytest.raises(InvalidParameterError, match="If training did not use the value, set_params without another fi"):
        clf.save(tmp_path / "model")
    clf.set_params(augmentation="auto").save(tmp_path / "model")
    assert sktl.load(tmp_path / "model").augmentation == "auto"


def test_saving_needs_a_fit_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match="is not fitted yet"):
        PretrainedImageClassifier().save(tmp_path / "model")
    with pytest.raises(ModelFileNotFoundError, match=r"does not exist\. Create it before saving"):
        fitted_tiny().save(tmp_path / "nowhere" / "model")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ModelFileNotFoundError, match="is not a regular file"):
        fitted_tiny().save(tmp_path)
    with pytest.raises(ModelFileNotFoundError, match="is a folder without"):
        sktl.load(tmp_path)


@pytest.mark.parametrize("content", [bytes, io.BytesIO])
def test_a_model_is_loaded_from_memory(content):
    clf = fitted_tiny(trainable_stages=1)
    clf.save(memory := io.BytesIO())
    same(sktl.load(content(memory.getvalue())), clf)


def test_a_class_of_the_users_own_is_refused(tmp_path):
    class Mine(PretrainedImageClassifier):
        pass

    with pytest.raises(InvalidParameterError, match=r"^Mine is a class of your own"):
        Mine(**TINY).fit(X, Y).save(tmp_path / "model")


@pytest.mark.parametrize("changed", [{"image_size": 32}, {"backbone": "timm/test_convnext"}, {"weights": "default"}])
@pytest.mark.parametrize("loaded", [False, True])
def test_parameters_of_the_network_that_were_set_since_the_fit_are_refused(tmp_path, changed, loaded):
    if loaded and "weights" in changed:
        return  # the network came with the file
    clf = fitted_tiny()
    if loaded:
        clf.save(tmp_path / "model")
        clf = sktl.load(tmp_path / "model")
    with pytest.raises(InvalidParameterError, match="have changed since the fit"):
        clf.set_params(**changed).save(tmp_path / "again")


def test_what_was_loaded_with_its_network_is_saved_with_it(tmp_path):
    for stages in (0, 1):
        fitted_tiny(trainable_stages=stages).save(tmp_path / "model")
        with pytest.raises(InvalidParameterError, match="include_backbone=False is not possible"):
            sktl.load(tmp_path / "model").save(tmp_path / "again", include_backbone=False)


def test_without_the_network_a_file_is_refused_where_images_are_prepared_otherwise(tmp_path):
    fitted_tiny().save(tmp_path / "model", include_backbone=False)
    forged(tmp_path / "model", setting("backbone", "preprocessing", "of", "interpolation", value="nearest"))
    with pytest.raises(ModelFileError, match="prepares images differently here"):
        sktl.load(tmp_path / "model")


def test_published_weights_given_as_a_member_of_an_enumeration_are_saved_by_name():
    weights = MobileNet_V3_Small_Weights.IMAGENET1K_V1
    assert encode(weights, "weights") == "MobileNet_V3_Small_Weights.IMAGENET1K_V1"


@pytest.mark.thorough
def test_parameters_of_the_machine_are_not_taken_from_a_file(tmp_path):
    clf = fitted_tiny(cache=tmp_path / "elsewhere", n_jobs=3, device="cpu")
    clf.save(tmp_path / "model")
    loaded = sktl.load(tmp_path / "model")
    assert {name: getattr(loaded, name) for name in MACHINE} == {
        "device": "auto", "cache": "auto", "n_jobs": None, "verbose": 0,
    }  # fmt: skip
    with pytest.raises(DeviceError, match="cuda:9"):
        sktl.load(tmp_path / "model", device="cuda:9")


@pytest.mark.parametrize("name", ["secret.pth", "nothing.pth", "/etc/passwd", "a/b"])
def test_a_file_of_weights_that_only_a_model_names_is_not_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.pth").write_text("SECRET")
    fitted_bundled().save(tmp_path / "model", include_backbone=False)
    forged(tmp_path / "model", setting("parameters", "weights", value=name))
    with pytest.raises(ModelFileError) as found:
        sktl.load(tmp_path / "model")
    # The same error whatever is on the machine.
    assert str(found.value).endswith(
        f"model' cannot be used: it was saved without the network, and names the local file of weights {name!r}. If "
        "you trust it, pass its path as `weights`, or save the model with include_backbone=True."
    )


def test_published_weights_may_be_named_and_must_be_those_of_the_fit(tmp_path):
    clf = fitted_bundled()
    clf.save(tmp_path / "model", include_backbone=False)
    assert_array_equal(sktl.load(tmp_path / "model", weights="default").predict_proba(X), clf.predict_proba(X))
    clf.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"it contains the network, so weights='default' is not used"):
        sktl.load(tmp_path / "model", weights="default")


@pytest.mark.thorough
def test_without_the_network_a_file_is_refused_where_the_weights_are_others(tmp_path):
    network = sktl._backbones.resolve_backbone.resolve_backbone("timm/test_vit", None, 64, 1).build()
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    for stages in (0, 1):
        clf = fitted_tiny(weights=os.fspath(file), trainable_stages=stages)
        clf.save(tmp_path / "model", include_backbone=False)
        same(sktl.load(tmp_path / "model", weights=file), clf.set_params(weights=file))
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        next(iter(state.values())).view(-1)[0] += 1e-6
        safetensors.torch.save_file(state, file)
        with pytest.raises(
            ModelFileError, match=r"saved without the network, and the weights .* differ from the weights"
        ):
            sktl.load(tmp_path / "model", weights=os.fspath(file))
        safetensors.torch.save_file(network.state_dict(), file)


def backbones_of(document):
    """Return where a document names its network."""
    return [(document["parameters"], "backbone"), (document["backbone"], "name")]


def _other_version(document, tensors):
    _other_network(document, tensors)
    document["versions"]["timm"] = "0.0.1"


def _drop_tensor(document, tensors):
    del tensors[next(name for name in tensors if name.startswith("network."))]


def _larger_tensor(document, tensors):
    tensors["output.weight"] = torch.zeros(10**4, 64, dtype=torch.float64)


def _other_network(document, tensors):
    for name, tensor in tensors.items():
        if name.startswith("network.") and tensor.is_floating_point():
            tensor.add_(0.5)


FORGERIES = {
    "estimator": setting("estimator", value="os.system"),
    "no estimator": setting("estimator", value=["PretrainedImageClassifier"]),
    "unknown parameter": setting("parameters", "evil", value=1),
    "illegal parameter": setting("parameters", "dropout", value=7),
    "parameter of the machine": setting("parameters", "cache", value="/tmp/elsewhere"),
    "another value": setting("parameters", "lr", value={"value": "Popen", "of": {"args": "touch marker"}}),
    "another backbone": setting("backbone", "name", value="vit_h_14"),
    "backbone of the parameters": setting("parameters", "backbone", value="resnet18"),
    "unknown backbone": lambda d, t: [d["parameters"].update(backbone="no"), d["backbone"].update(name="no")],
    "huge network": lambda d, t: [d["parameters"].update(backbone="vit_h_14"), d["backbone"].update(name="vit_h_14")],
    "huge images": setting("backbone", "preprocessing", "of", "crop", value={"tuple": [10**6, 10**6]}),
    "other size": setting("backbone", "image_size", value=5600),
    "long labels": setting("classes", "dtype", value="<U20000000"),
    "short labels": setting("classes", "dtype", value="<U2"),
    "no images": setting("backbone", "preprocessing", "of", "crop", value={"tuple": [0, 64]}),
    "mean": setting("backbone", "preprocessing", "of", "mean", value={"tuple": [{"float": "nan"}, 0.0, 0.0]}),
    "labels": setting("classes", "labels", value=["b", "a", "c"]),
    "too few labels": setting("classes", "labels", value=["a", "b"]),
    "labels of another type": setting("classes", "dtype", value="<i8"),
    "type of labels": setting("classes", "dtype", value="<U4,(10000000)f8"),
    "count of classes": setting("classes", "counts", value=[4, 4]),
    "count of images": setting("classes", "counts", value=[4, 4, "4"]),
    "recipe": setting("training", "recipe", value={"value": "ImageFailure", "of": {}}),
    "history": setting("training", "history", value=3),
    "epoch": setting("training", "history", value=[1]),
    "weight decay": setting("training", "recipe", "of", "weight_decay", value="abc"),
    "iterations": setting("training", "n_iter", value="7" * 4000),
    "left out": setting("training", "invalid_images", value=[1]),
    "interpolation": setting("backbone", "preprocessing", "of", "interpolation", value="foo\x1b\n" * 10**5),
    "crop": setting("backbone", "preprocessing", "of", "resize", value=16),
    "weights": setting("backbone", "weights", value=5),
    "engine": setting("engine", value="x\n" * 10**5),
    "columns": setting("flattened", value={"n_features": 2, "names": 5}),
    "not finite": lambda d, t: t["output.weight"].fill_(float("nan")),
    "long backbone": lambda d, t: [part.update({key: "n\x1b\n" * 10**5}) for part, key in backbones_of(d)],
    "long versions": lambda d, t: [_other_network(d, t), d["versions"].update({"x\x1b[31m": "y\n" * 10**5})],
    "missing tensor": _drop_tensor,
    "larger tensor": _larger_tensor,
    "other network": _other_network,
    "other version": _other_version,
    "document": lambda d, t: d.clear(),
}


@pytest.mark.parametrize("forgery", thorough_except(FORGERIES, *[*FORGERIES][::2]))
def test_a_forged_file_is_refused_by_name_and_does_nothing(tmp_path, monkeypatch, forgery):
    fitted_tiny(trainable_stages=1).save(tmp_path / "model")
    forged(tmp_path / "model", FORGERIES[forgery])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="model") as caught:
        sktl.load(tmp_path / "model")
    assert len(str(caught.value)) < 1_200
    assert str(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("forgery", "cause"),
    [
        (setting("parameters", "dropout", value="of the next version"), InvalidParameterError),
        (lambda d, t: [part.update({key: "next"}) for part, key in backbones_of(d)], UnknownBackboneError),
        (
            lambda d, t: [d["backbone"].update(complete=False), d["parameters"].update(weights="away.safetensors")],
            WeightsError,
        ),
    ],
)
@pytest.mark.parametrize("version", ["99.0", sktl.__version__])
def test_what_this_version_does_not_know_is_an_error_of_the_file(tmp_path, forgery, cause, version):
    fitted_tiny().save(tmp_path / "model")
    forged(tmp_path / "model", lambda d, t: [forgery(d, t), d["versions"].update(sktl=version)])
    with pytest.raises(ModelFileError, match="model' cannot be used: ") as caught:
        sktl.load(tmp_path / "model")
    assert isinstance(caught.value.__cause__, cause)
    is_advised = version == "99.0" and cause is not WeightsError
    assert ("by sktl 99.0, and this is" in str(caught.value)) == is_advised


class Endless:
    """A stream of a header, and then of zeros forever."""

    def __init__(self, content, change):
        n_bytes = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + n_bytes])
        change(header)
        text = json.dumps(header).encode()
        self._beginning = io.BytesIO(len(text).to_bytes(8, "little") + text)
        self.n_read = 0

    def read(self, n_bytes):
        part = self._beginning.read(n_bytes) or bytes(n_bytes)
        self.n_read += len(part)
        return part


def _resized(name, axis, length):
    def change(header):
        header[name]["shape"][axis] = length

    return change


def _numbers(header):
    document = json.loads(header["__metadata__"]["document"])
    del document["classes"]
    document["numbers"] = {"n_outputs": 2**40, "is_vector": False}
    text = json.dumps(document)
    header["__metadata__"] |= {"document": text, "document_sha256": hashlib.sha256(text.encode()).hexdigest()}
    header["output.weight"]["shape"][0] = header["output.bias"]["shape"][0] = 2**40


@functools.cache
def _saved_bundled():
    _fitted_bundled().save(memory := io.BytesIO(), include_backbone=False)
    return memory.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        _resized("probe.features", 0, 60_000), _resized("probe.features", 1, 2**30),
        _resized("typicality.folds", 0, 100_000), _resized("typicality.textures", 1, 2**30), _numbers,
    ],
)  # fmt: skip
def test_a_stream_is_not_read_beyond_its_header_if_its_tensors_cannot_be_those_of_a_model(change):
    stream = Endless(_saved_bundled(), change)
    with pytest.raises(ModelFileError):
        sktl.load(stream)
    assert stream.n_read < 10**5


@pytest.mark.parametrize(
    ("forgery", "message"),
    [
        (setting("features", "stages", value=1), "recipe does not match its features"),
        (setting("training", "recipe", "of", "feature_stages", value=3), "recipe does not match its features"),
        (setting("training", "recipe", "of", "n_trainable", value=1), "recipe does not match its features"),
        (setting("features", "groups", value=[["", 64], ["blocks.99", 64]]), "has other blocks here"),
        (
            lambda d, t: [
                d["features"].update(stages=99),
                d["training"]["recipe"]["of"].update(feature_stages=99, n_trainable=99),
            ],
            "has other blocks here",
        ),
    ],
)
def test_features_that_a_network_with_trained_stages_does_not_have_are_refused(tmp_path, forgery, message):
    fitted_tiny(trainable_stages=2, feature_stages=2).save(tmp_path / "model")
    forged(tmp_path / "model", forgery)
    with pytest.raises(ModelFileError, match=message):
        sktl.load(tmp_path / "model")


OF_TYPICALITY = {
    "other features": ("directions", torch.zeros(12, 7, dtype=torch.int8)),
    "another type": ("directions", torch.zeros(12, 1280, dtype=torch.uint8)),
    "fewer memberships": ("memberships", torch.zeros(11, 3, dtype=torch.uint8)),
    "other classes": ("memberships", torch.zeros(12, 4, dtype=torch.uint8)),
    "values of memberships": ("memberships", torch.full((12, 3), 2, dtype=torch.uint8)),
    "another type of textures": ("textures", torch.zeros(12, 160, dtype=torch.uint8)),
    "fewer textures": ("textures", torch.zeros(11, 160, dtype=torch.int8)),
    "textures without columns": ("textures", torch.zeros(12, dtype=torch.int8)),
    "a single texture": ("textures", torch.tensor(1, dtype=torch.int8)),
    "values of folds": ("folds", torch.full((12,), 9, dtype=torch.uint8)),
    "shape of folds": ("folds", torch.zeros(12, 1, dtype=torch.uint8)),
}


@pytest.mark.parametrize("forgery", thorough_except(OF_TYPICALITY, *[*OF_TYPICALITY][::3]))
def test_forged_references_of_typicality_are_refused(tmp_path, forgery):
    fitted_bundled().save(tmp_path / "model", include_backbone=False)
    name, forged_tensor = OF_TYPICALITY[forgery]
    forged(tmp_path / "model", lambda document, tensors: tensors.update({f"typicality.{name}": forged_tensor}))
    with pytest.raises(ModelFileError, match="damaged"):
        sktl.load(tmp_path / "model")


@pytest.mark.thorough
def test_references_of_training_images_are_left_out_on_request(tmp_path):
    clf = fitted_bundled()
    clf.save(tmp_path / "whole", include_backbone=False)
    clf.save(tmp_path / "model", include_backbone=False, include_references=False)
    assert b"typicality" in (tmp_path / "whole").read_bytes()
    assert b"typicality" not in (tmp_path / "model").read_bytes()
    loaded = sktl.load(tmp_path / "model")
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(TypicalityError, match="include_references=True"):
        loaded.typicality(X)


def test_references_without_textures_or_with_others_are_told_apart(tmp_path):
    """Files of versions that did not compare textures contain none."""
    clf = fitted_bundled()
    clf.save(tmp_path / "model", include_backbone=False)
    forged(tmp_path / "model", lambda document, tensors: tensors.pop("typicality.textures"))
    textures = clf._typicality.textures
    without = replace(clf._typicality, textures=textures[:, :0])
    rows = clf.transform(X)
    assert textures.shape[1] == 160
    assert_array_equal(sktl.load(tmp_path / "model").typicality(X), without(without.reduction(rows)))
    few = torch.from_numpy(textures[:, :7].copy())
    forged(tmp_path / "model", lambda document, tensors: tensors.update({"typicality.textures": few}))
    with pytest.raises(BackboneError, match="other blocks"):
        sktl.load(tmp_path / "model").typicality(X)


@pytest.mark.thorough
def test_a_file_without_typicality_predicts_and_says_so_when_it_is_asked_for_typicality(tmp_path):
    clf = fitted_bundled()
    clf.save(tmp_path / "model", include_backbone=False)

    def drop(document, tensors):
        for name in [name for name in tensors if name.startswith("typicality.")]:
            del tensors[name]

    forged(tmp_path / "model", drop)
    loaded = sktl.load(tmp_path / "model")
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(TypicalityError, match=r"version of sktl without typicality\. Fit it again, or save it"):
        loaded.typicality(X)
    loaded.save(tmp_path / "again", include_backbone=False)
    del clf._typicality  # as a pickle of an earlier version
    with pytest.raises(TypicalityError, match="version of sktl without typicality"):
        clf.typicality(X)


def mutation(content, number):
    rng = random.Random(number)
    data = bytearray(content)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(max(1, min(len(data), rng.choice([8, header, len(data)]))))
        kind = rng.randrange(4) if data else 2
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.randbytes(4)
        elif kind == 2:
            data[at:at] = data[at : at + rng.randrange(1, 64)]
        else:
            del data[at : at + rng.choice([1, 4, len(data)])]
    return bytes(data)


@pytest.mark.parametrize(("first", "last"), slow_except([(0, 50), (50, 5_400)], (0, 50)))
def test_mutated_files_are_refused_or_load_the_same(tmp_path, first, last):
    clf = fitted_tiny(trainable_stages=1, max_epochs=1)
    clf.save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    expected = clf.decision_function(X)
    passed = 0
    for number in range(first, last):
        (tmp_path / "model").write_bytes(mutation(content, number))
        try:
            with open_model(tmp_path / "model"):
                passed += 1
            loaded = sktl.load(tmp_path / "model")
        except ModelFileError as error:
            assert "model" in str(error)  # noqa: PT017 - most mutations, and never another error
        else:
            assert_array_equal(loaded.decision_function(X), expected)
    assert passed > (last - first) / 20


@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_is_not_written_under_the_suffix_of_another_format(kind, tmp_path):
    encoder = PretrainedImageEncoder(backbone=Pixels).fit(X[:2])
    with pytest.raises(InvalidParameterError, match=r"has the suffix of pickle, but a model is saved in sktl's own"):
        encoder.save(kind(tmp_path / "model.pkl"))
    assert not [*tmp_path.iterdir()]
