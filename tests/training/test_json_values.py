"""Parameters that are scalars of NumPy do what the Python values do that they stand for, and are saved as these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from backbones import Pixels, small_conv_net
from numpy.testing import assert_array_equal
from representatives import thorough_except
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._images.augmentation import RandomChange
from sktl._images.preprocessing import Preprocessing
from sktl._storage.model_file import SavedDocumentError, open_model, write_model
from sktl._training.json_values import decode, encode, plain
from sktl._training.recipe import Recipe, TailRecipe
from sktl.exceptions import ImageFailure, InvalidParameterError, ModelFileError

X = np.random.default_rng(0).integers(0, 256, (16, 8, 9, 3), np.uint8)
Y = np.arange(16) % 2
STAGES = {"backbone": small_conv_net, "trainable_stages": 1, "augmentation": None, "freeze_epochs": 1}
# Parameters as scalars of NumPy, with what else they need to count.
SCALARS = {
    "max_epochs": (np.uint8(3), {}),
    "lr": (np.float16(0.01), {}),
    "weight_decay": (np.longdouble(0.01), {}),
    "batch_size": (np.int8(5), {}),
    "dropout": (np.float16(0.1), {}),
    "label_smoothing": (np.float32(0.1), {}),
    "optimizer": (np.str_("adamw"), {}),
    "early_stopping": (np.bool_(True), {}),
    "validation_fraction": (np.float32(0.25), {"early_stopping": True}),
    "n_iter_no_change": (np.int8(1), {"early_stopping": True}),
    "random_state": (np.uint32(7), {}),
    "n_jobs": (np.int32(1), {}),
    "verbose": (np.int8(0), {}),
    "cache": (np.bool_(False), {}),
    "class_weight": ({np.int64(0): np.float32(2), np.int64(1): np.int8(1)}, {}),
    "amp": (np.bool_(False), STAGES),
    "compile": (np.bool_(False), STAGES),
    "backbone_lr_ratio": (np.float16(0.3), STAGES),
    "layer_decay": (np.float16(0.7), STAGES),
    "mixup_alpha": (np.float16(0.3), STAGES),
    "trainable_stages": (np.int8(1), STAGES),
    "freeze_epochs": (np.uint8(2), STAGES),
}


def classifier(**parameters):
    return PretrainedImageClassifier(**{"backbone": Pixels, "max_epochs": 2, "random_state": 0, **parameters})


@pytest.mark.parametrize("name", SCALARS)
def test_a_scalar_of_numpy_does_what_the_python_value_does(name):
    value, others = SCALARS[name]
    found = classifier(**{**others, name: value}).fit(X, Y)
    expected = classifier(**{**others, name: plain(value)}).fit(X, Y)
    assert_array_equal(found.decision_function(X), expected.decision_function(X))
    assert found.get_params()[name] is value
    assert repr(found.recipe_) == repr(expected.recipe_)
    clone(found)


@pytest.mark.parametrize("dtype", thorough_except([np.int8, np.uint64], np.uint64))
def test_an_image_size_of_any_width_is_computed_with_and_saved(dtype, tmp_path):
    parameters = {"backbone": "efficientnet_lite0", "weights": np.str_("default"), "random_state": np.int8(3)}
    found = PretrainedImageEncoder(**parameters, image_size=dtype(64)).fit(X)
    expected = PretrainedImageEncoder(**parameters, image_size=64).fit(X)
    assert repr(found.backbone_.preprocessing) == repr(expected.backbone_.preprocessing)
    found.save(tmp_path / "model", include_backbone=False)
    loaded = sktl.load(tmp_path / "model")
    assert (loaded.image_size, type(loaded.image_size)) == (64, int)
    assert_array_equal(loaded.transform(X[:2]), expected.transform(X[:2]))


def test_parameters_that_are_scalars_of_numpy_are_saved(tmp_path):
    parameters = {
        "lr": np.longdouble(0.01), "weight_decay": np.float16(0.5), "batch_size": np.int8(5), "cache": np.bool_(False),
        "optimizer": np.str_("adamw"), "image_size": np.int16(64), "class_weight": {np.int64(0): np.float32(2)},
    }  # fmt: skip
    classifier(backbone="efficientnet_lite0", **parameters).fit(X, Y).save(tmp_path / "model", include_backbone=False)
    loaded = sktl.load(tmp_path / "model").get_params()
    for name in ("lr", "weight_decay", "batch_size", "optimizer", "image_size", "class_weight"):
        value = {0: 2.0} if name == "class_weight" else plain(parameters[name])
        assert (loaded[name], type(loaded[name])) == (value, type(value))


def test_a_search_over_ranges_of_numpy(tmp_path):
    grid = {"max_epochs": np.arange(1, 3, dtype=np.int8), "lr": np.logspace(-3, -2, 2, dtype=np.float32)}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_estimator_.recipe_.max_epochs in (1, 2)


@pytest.mark.parametrize(
    ("name", "value"), [("image_size", np.float64(64)), ("max_epochs", np.float32(3)), ("lr", np.array(0.1))]
)
def test_a_number_of_another_kind_is_refused_by_name(name, value):
    with pytest.raises(sktl.exceptions.InvalidParameterError, match=f"'{name}' parameter"):
        classifier(**{name: value}).fit(X, Y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value["of"].update(momentum=0.9), "its Preprocessing has 'momentum', unlike"),
        (lambda value: value["of"].pop("mean"), "its Preprocessing lacks 'mean', unlike"),
        (
            lambda value: value.update(value="Quantum"),
            "a value of the kind 'Quantum', which this version does not know",
        ),
        (lambda value: value.update(of=[]), "a value of the kind 'Preprocessing', which"),
        (lambda value: value.update(value=[]), r"a value of the kind \[\], which"),
    ],
)
def test_a_value_with_other_fields_than_ours_is_refused_in_plain_words(change, words):
    value = encode(Preprocessing(8, (8, 8)), "")
    assert decode(value) == Preprocessing(8, (8, 8))
    change(value)
    with pytest.raises(SavedDocumentError, match=words) as caught:
        decode(value)
    assert "__init__" not in str(caught.value)


WRITTEN = [
    Preprocessing(8, (8, 8)), Preprocessing((8, 9), (8, 8), "box", (0, 0.5, 1), (1, 2, 3)), RandomChange(0.2),
    ImageFailure(3, "cat.jpg", "is damaged"),
    Recipe("sgd", 0.1, 0, 5, None, "cosine", 0.0, 0, 0),
    TailRecipe("sgd", None, 0.5, 5, 32, None, 0.0, 0.0, 0, probing=Recipe("lbfgs", None, 1.0, 5, None, None, 0, 0, 0),
               augmentation=RandomChange(0.3, trivial=True), n_views=2),
]  # fmt: skip


@pytest.mark.parametrize("value", WRITTEN)
def test_a_field_of_another_type_is_refused_in_one_short_line(value):
    written = encode(value, "")
    assert decode(written) == value
    for name in written["of"]:
        for other in ([], {"dict": []}, {"tuple": ["x", 1]}, 10**100, {"value": "RandomChange", "of": {}}):
            with pytest.raises(SavedDocumentError) as caught:
                decode({**written, "of": {**written["of"], name: other}})
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", [2**64, -(2**64), (1, 2**64), ((2**70,), "a")])
def test_integers_that_may_have_any_hash_are_no_keys(key):
    """A dict compares keys of equal hash each with each, which takes minutes for a file of a megabyte."""
    for name, refused in (("dict", SavedDocumentError), ("written", InvalidParameterError)):
        with pytest.raises(refused, match=r"has the key .*, which is too large"):
            encode({key: 0}, "net_params") if name == "written" else decode({"dict": [[encode(key, ""), 0]]})
    kept = {2**64 - 1: 0, (-(2**63), 1.5): 0, "a": 0, True: 0, None: 0}
    assert decode(encode(kept, "")) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [("verbose", True), ("verbose", 0.0), ("loss", None), ("tol", "1"), ("keeps_best", 1), ("patience", "1\n" * 10**5)],
)
def test_a_field_of_a_similar_type_is_refused_too(name, value):
    written = encode(WRITTEN[4], "")
    written["of"][name] = value
    with pytest.raises(SavedDocumentError, match=rf"^{name}=.* of its Recipe has another type than in this version$"):
        decode(written)


@pytest.mark.parametrize(("name", "kept"), [("max_epochs", 2**63 - 1), ("patience", 2**63 - 1), ("lr", 1 - 2**63)])
def test_integers_that_cannot_be_read_are_not_written(name, kept):
    value = replace(WRITTEN[4], **{name: kept})
    assert decode(encode(value, "")) == value
    with pytest.raises(InvalidParameterError, match=rf"^recipe_\.{name}=-?9223372036854775808 is too large"):
        encode(replace(value, **{name: kept + (1 if kept > 0 else -1)}), "recipe_")


@pytest.mark.parametrize("error", [SavedDocumentError("it has 'momentum'"), TypeError("pop expected"), KeyError("x")])
def test_what_another_version_wrote_is_said_to_be_that_and_not_damaged(error, tmp_path):
    for version, words in {
        "99.1": r"was written by sktl 99\.1, and this version, .*Update sktl",
        sktl.__version__: r"is damaged, or not an sktl model: it(s document is not as| has 'momentum')",
    }.items():
        write_model(tmp_path / "x", {"versions": {"sktl": version}}, {})
        with pytest.raises(ModelFileError, match=words) as caught, open_model(tmp_path / "x"):
            raise error
        assert "pop expected" not in str(caught.value)
