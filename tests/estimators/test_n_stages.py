"""A number of first stages makes the network of an estimator smaller, in memory and in files."""

from __future__ import annotations

import importlib.util
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from backbones import TwoBranches, stochastic_net
from forging import forged, setting
from numpy.testing import assert_allclose, assert_array_equal
from representatives import slow_except
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._estimators.estimator_summary import caption_of, facts_of
from sktl._hub.model_card import model_card
from sktl.exceptions import BackboneError, InvalidParameterError, ModelFileError

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
X = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
y = np.arange(24) % 2
NET = {"backbone": stochastic_net, "random_state": 0}  # a stem and three blocks
SMALL = {"backbone": "timm/test_vit", "weights": None, "image_size": 32, "random_state": 0}  # with six blocks
ESTIMATORS = [PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder]


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_it_is_a_parameter_like_others(kind):
    estimator = kind(n_stages=2, **NET)
    assert clone(estimator).get_params()["n_stages"] == 2
    assert kind().n_stages == "all"
    assert estimator.fit(X, y).backbone_.n_stages == 2
    assert estimator.set_params(n_stages=np.int64(3)).fit(X, y).backbone_.n_stages == 3


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("n_stages", [0, -1, 2.0, "two", None])
def test_other_values_are_refused(kind, n_stages):
    with pytest.raises(InvalidParameterError, match="n_stages"):
        kind(n_stages=n_stages, **NET).fit(X, y)


def test_more_stages_than_there_are_raise_an_error_that_lists_them():
    with pytest.raises(
        InvalidParameterError, match=r"n_stages=9 is more than the 4 stages .*: stem, blocks\.0, blocks"
    ):
        PretrainedImageClassifier(n_stages=9, **NET).fit(X, y)


@pytest.mark.parametrize(("n_stages", "block", "size"), [(1, "stem", 8), (2, "blocks.0", 8), (3, "blocks.1", 12)])
def test_features_are_the_means_of_the_last_stage_that_remains(n_stages, block, size):
    whole = PretrainedImageEncoder(feature_stages="all", **NET).fit(X)
    means = {f"pretrainedimageencoder_{block}_{i}" for i in range(size)}
    of_block = [name in means for name in whole.get_feature_names_out()]
    encoder = PretrainedImageEncoder(n_stages=n_stages, **NET).fit(X)
    assert_array_equal(encoder.transform(X), whole.transform(X)[:, of_block])
    assert encoder.get_feature_names_out().tolist() == [f"pretrainedimageencoder{i}" for i in range(size)]


def test_feature_stages_count_from_the_last_stage_that_remains():
    whole = PretrainedImageEncoder(feature_stages="all", **NET).fit(X)
    encoder = PretrainedImageEncoder(n_stages=3, feature_stages=2, **NET).fit(X)
    names = whole.get_feature_names_out()
    groups = [("blocks.1", 12), ("blocks.1_std", 12), ("blocks.0", 8), ("blocks.0_std", 8)]
    wanted = [f"pretrainedimageencoder_{name}_{i}" for name, n in groups for i in range(n)]
    assert encoder.get_feature_names_out()[12:].tolist() == wanted[12:]
    assert_array_equal(encoder.transform(X), whole.transform(X)[:, [list(names).index(name) for name in wanted]])
    with pytest.raises(
        InvalidParameterError, match=r"feature_stages=4 .* 3 stages .* with n_stages=3: stem, blocks\.0"
    ):
        PretrainedImageEncoder(n_stages=3, feature_stages=4, **NET).fit(X)


def test_the_number_of_all_stages_is_all():
    whole, same = (PretrainedImageClassifier(n_stages=n, **NET).fit(X, y) for n in ("all", 4))
    assert_array_equal(whole.predict_proba(X), same.predict_proba(X))
    assert whole.backbone_ == same.backbone_


TRAINED = [
    {},
    {"trainable_stages": 1, "max_epochs": 1},
    {"trainable_stages": 2, "feature_stages": 2, "max_epochs": 1, "augmentation": None},
    {"trainable_stages": "all", "max_epochs": 1},
    {"early_stopping": True, "validation_fraction": 0.25, "max_epochs": 2},
]


@pytest.mark.parametrize(
    ("which", "include_backbone"),
    slow_except(
        [(i, whole) for i in range(5) for whole in (True, False)],
        (0, True),
        (2, False),
        (3, True),
        thorough=[(3, True)],
    ),
)
def test_what_is_loaded_predicts_the_same_bits(which, include_backbone):
    clf = PretrainedImageClassifier(n_stages=3, **SMALL, **TRAINED[which]).fit(X, y)
    file = io.BytesIO()
    clf.save(file, include_backbone=include_backbone)
    loaded = sktl.load(file.getvalue())
    for other in (loaded, pickle.loads(pickle.dumps(clf)), pickle.loads(pickle.dumps(loaded))):
        assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
        assert (other.n_stages, other.backbone_.first_stages, other.backbone_.n_stages or 3) == (3, 3, 3)
    if include_backbone:
        again = io.BytesIO()
        loaded.save(again)
        assert_array_equal(sktl.load(again.getvalue()).predict_proba(X), clf.predict_proba(X))


@pytest.mark.thorough
def test_the_network_in_memory_and_in_files_is_smaller():
    sizes = []
    for n_stages in ("all", 3):
        clf = PretrainedImageClassifier(n_stages=n_stages, **SMALL).fit(X, y)
        file = io.BytesIO()
        clf.save(file)
        sizes.append(
            (n_parameters(clf.module_.backbone), len(file.getvalue()), len(pickle.dumps(clf.module_.backbone)))
        )
    assert all(small < 0.6 * whole for whole, small in zip(*sizes, strict=True))
    assert not any(name.startswith("blocks.3") for name, _ in clf.module_.backbone.named_parameters())


@pytest.mark.parametrize("include_backbone", [True, False])
def test_a_number_that_was_set_since_the_fit_is_refused(tmp_path, include_backbone):
    clf = PretrainedImageEncoder(n_stages=3, **SMALL).fit(X)
    with pytest.raises(InvalidParameterError, match="n_stages have changed"):
        clf.set_params(n_stages="all").save(tmp_path / "m.sktl", include_backbone=include_backbone)
    clf.set_params(n_stages=3).save(tmp_path / "m.sktl")
    with pytest.raises(InvalidParameterError, match="n_stages have changed"):
        sktl.load(tmp_path / "m.sktl").set_params(n_stages=2).save(tmp_path / "n.sktl")


@pytest.mark.parametrize("value", [0, -1, 2, 4, 99, None, "3", "all", 3.0, [3], True])
def test_a_forged_number_is_refused(tmp_path, value):
    path = tmp_path / "m.sktl"
    PretrainedImageEncoder(n_stages=3, **SMALL).fit(X).save(path)
    forged(path, setting("backbone", "n_stages", value=value))
    with pytest.raises(ModelFileError):
        sktl.load(path)


@pytest.mark.thorough
def test_files_from_before_the_parameter_have_all_stages(tmp_path):
    path = tmp_path / "m.sktl"
    encoder = PretrainedImageEncoder(**SMALL).fit(X)
    encoder.save(path)
    forged(path, lambda document, _: (document["parameters"].pop("n_stages"), document["backbone"].pop("n_stages")))
    assert_array_equal(sktl.load(path).transform(X), encoder.transform(X))


@pytest.mark.thorough
def test_a_search_passes_each_image_through_each_network_once(tmp_path):
    clf = PretrainedImageClassifier(cache=tmp_path, **NET)
    search = GridSearchCV(clf, {"n_stages": [1, 3, "all"], "weight_decay": [0.01, 0.1]}, cv=3).fit(X, y)
    assert sktl.cache_info(tmp_path).misses == 3 * len(X)
    assert search.best_estimator_.backbone_.n_stages == {"all": 4}.get(
        search.best_params_["n_stages"], search.best_params_["n_stages"]
    )


def test_trained_stages_count_from_the_last_stage_that_remains():
    clf = PretrainedImageClassifier(n_stages=3, trainable_stages=1, max_epochs=1, **NET).fit(X, y)
    before, after = clf.backbone_.build().state_dict(), clf.module_.backbone.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("blocks.1.") for name in changed)
    with pytest.raises(InvalidParameterError, match=r"trainable_stages=4 .* 3 stages .* with n_stages=3"):
        clone(clf).set_params(trainable_stages=4).fit(X, y)


@pytest.mark.thorough
def test_a_checkpoint_of_another_number_is_not_resumed(tmp_path):
    parameters = {**SMALL, "trainable_stages": 1, "max_epochs": 1, "checkpoint": tmp_path}
    first = PretrainedImageClassifier(n_stages=3, **parameters).fit(X, y)
    n_files = len(list(tmp_path.iterdir()))
    other = PretrainedImageClassifier(n_stages=2, **parameters).fit(X, y)
    assert len(list(tmp_path.iterdir())) > n_files
    assert other.backbone_.n_stages == 2
    again = PretrainedImageClassifier(n_stages=3, **parameters).fit(X, y)
    assert_array_equal(first.predict_proba(X), again.predict_proba(X))


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize(("name", "n_stages"), [("efficientnet_lite0", 4), ("timm/test_vit", 3)])
def test_engines_agree(name, n_stages):
    torch_, openvino = (
        PretrainedImageEncoder(backbone=name, weights=None, image_size=32, n_stages=n_stages, engine=e, random_state=0)
        .fit(X)
        .transform(X)
        for e in ("torch", "openvino")
    )
    assert_allclose(openvino, torch_, rtol=0, atol=1e-4 * np.abs(torch_).max())


def _card(estimator):
    return model_card(estimator, "t", "load()", metrics={}, license=None, description=None, complete=True)


def test_summaries_and_model_cards_say_it():
    encoder = PretrainedImageEncoder(n_stages=3, **SMALL).fit(X)
    assert caption_of(encoder) == "timm/test_vit, first 3 stages"
    assert caption_of(clone(encoder).set_params(n_stages=1).fit(X)) == "timm/test_vit, first stage"
    assert next(iter(facts_of(encoder))).value == "timm/test_vit, first 3 stages"
    assert "the first stages up to blocks" in _card(encoder)


def test_a_network_that_cannot_be_divided_says_why():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it declares no preprocessing
        with pytest.raises(BackboneError, match="n_stages=1 is not possible"):
            PretrainedImageEncoder(backbone=TwoBranches, n_stages=1).fit(X)
